"""Candidates of the user's own training program: what it is given, and what is known of costs."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from lensllm.core.trials import digest_of
from lensllm.system.atomic import digest_of_file
from lensllm.zoo import ZOO_DIR, zoo_models

# A name is put into a command and into configuration files, where these have other meanings.
_UNSAFE = re.compile(r"[\x00-\x1f\"'\\]")


@dataclass(frozen=True)
class ProgramModel:
    """A model as it is named to a training program; nothing of it is loaded.

    Attributes:
        source: Name of a zoo model, path of a local folder, or anything else the program accepts.
        name: Name in trials and curves; by default the source itself (for a folder, its name).
        n_params: Number of parameters; for a local folder that of its safetensors, else `nan`.
        family: Model family; for a local folder that of its `config.json`.

    Raises:
        ValueError: The source could be read as an option or as more than a text, or `n_params` is
            not above 0.
    """

    source: str
    name: str = ""
    n_params: float = math.nan
    family: str = ""

    def __post_init__(self) -> None:
        if not self.source or self.source.startswith("-") or _UNSAFE.search(self.source):
            raise ValueError(
                "Expected the name or folder of a model without quotes and backslashes that does "
                f"not begin with a dash, got {self.source!r}"
            )
        folder = self.folder
        if not self.name:
            is_own = folder is not None and self.source not in zoo_models()
            object.__setattr__(self, "name", folder.name if is_own and folder else self.source)
        if folder is not None and math.isnan(self.n_params):
            object.__setattr__(self, "n_params", _n_params(folder))
        if folder is not None and not self.family:
            object.__setattr__(self, "family", _family(folder))
        if not (math.isnan(self.n_params) or 0 < self.n_params < math.inf):
            raise ValueError(
                f"Expected n_params > 0 of the candidate {self.name!r}, got {self.n_params:g}"
            )

    @property
    def folder(self) -> Path | None:
        """The folder of a zoo model or a local one."""
        path = ZOO_DIR / self.source if self.source in zoo_models() else Path(self.source)
        return path.resolve() if path.is_dir() else None

    @property
    def location(self) -> str:
        """The value passed to the program: a folder's path, otherwise the source itself.

        Raises:
            ValueError: The source is written as a path, and there is no such folder.
        """
        folder = self.folder
        if folder is None and self.source.startswith((".", "/", "~")):
            raise ValueError(f"Expected a model folder at {self.source}, found none")
        return self.source if folder is None else str(folder)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all files of a folder; empty if the model is a name."""
        folder = self.folder
        if folder is None:
            return ""
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return digest_of({str(path.relative_to(folder)): digest_of_file(path) for path in files})


def as_program_models(given: Sequence[Any] | Mapping[str, Any]) -> list[ProgramModel]:
    """Candidates as a user gives them: texts, or mappings with the attributes of `ProgramModel`.

    Args:
        given: A sequence or a mapping, whose keys are ignored.

    Raises:
        ValueError: One is neither, or has settings that would not reach the program.
    """
    return [_as_model(item) for item in (given.values() if isinstance(given, Mapping) else given)]


def _as_model(item: Any) -> ProgramModel:
    if isinstance(item, str):
        return ProgramModel(item)
    if not isinstance(item, Mapping):
        raise ValueError(
            "Expected names, folders or {source: ..., n_params: ...} as candidates.models with "
            f"runner=command, got a {type(item).__name__}: its settings (dtype, revision, "
            "finetune) are those of the program"
        )
    known = [field.name for field in fields(ProgramModel)]
    for key in item:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            way = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise ValueError(f"Expected a setting of a candidate, got {key!r}: {way}")
    if "source" not in item:
        raise ValueError(f"Expected a source in the candidate {dict(item)}, got none")
    return ProgramModel(**item)


def _n_params(folder: Path) -> float:
    """Number of parameters in a folder's safetensors, from their headers; `nan` without any.

    Raises:
        ValueError: One of them is not a safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="numpy") as weights:
                names = weights.keys()
                total += sum(math.prod(weights.get_slice(name).get_shape()) for name in names)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"Expected a safetensors file at {path}, got: {error}") from error
    return float(total) or math.nan


def _family(folder: Path) -> str:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return str(config.get("model_type", ""))
    except (OSError, ValueError, AttributeError):
        return ""
