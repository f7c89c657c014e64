"""A command with placeholders for the model, the files and the seed of a trial."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lensllm.system.atomic import digest_of_file
from lensllm.system.harmless import redact

PLACEHOLDERS = (
    "model",
    "train_file",
    "validation_file",
    "test_file",
    "n_samples",
    "seed",
    "output_dir",
    "config_dir",
)
# File name endings of scripts and settings, which a command reads and does not write.
SCRIPTS = (".py", ".sh", ".r", ".jl", ".yaml", ".yml", ".json", ".toml", ".ini", ".cfg")
# A name in braces is a placeholder, in doubled braces a literal; all other braces are text.
_BRACES = re.compile(r"\{(\{\w+\})\}|\{(\w+)\}")


@dataclass(frozen=True)
class CommandTemplate:
    """The words of a command, and the configuration files that it reads.

    Attributes:
        words: The program and its arguments, with placeholders.
        config_files: Text files with placeholders; a trial finds its own copies of them in
            `{config_dir}`.

    Raises:
        ValueError: There is no word, a placeholder is unknown, `{model}` or a placeholder for the
            subset is missing, or a configuration file cannot be read.

    Example:
        >>> template = CommandTemplate(["train", "{model}", "--n={n_samples}", "{{text}}"])
        >>> template.fill({"model": "gpt2", "n_samples": "200"})
        ['train', 'gpt2', '--n=200', '{text}']
    """

    words: Sequence[str]
    config_files: Sequence[str | Path] = ()

    def __post_init__(self) -> None:
        if isinstance(self.words, str) or not self.words:
            raise ValueError(
                "Expected a list of words as runner.command, such as "
                f'\'[python,train.py,"{{model}}","{{train_file}}"]\', got {self.words!r}: no '
                "shell takes it apart"
            )
        object.__setattr__(self, "words", tuple(str(word) for word in self.words))
        names = [Path(path).name for path in self.config_files]
        if len(set(names)) != len(names):
            raise ValueError(
                f"Expected runner.config_files of different names, got {', '.join(names)}"
            )
        used = set(self._used())
        if "model" not in used:
            raise ValueError(
                "Expected {model} in runner.command or runner.config_files, found it in neither: "
                "all candidates would be the same"
            )
        if not used & {"train_file", "n_samples"}:
            raise ValueError(
                "Expected {train_file} or {n_samples} in runner.command or runner.config_files, "
                "found neither: trials of all sizes would be the same"
            )
        if self.config_files and "config_dir" not in used:
            raise ValueError(
                "Expected {config_dir} in runner.command, since there are runner.config_files, "
                f"such as {{config_dir}}/{names[0]}; found none"
            )

    def uses(self, name: str) -> bool:
        """Whether a placeholder occurs in the words or the files."""
        return name in set(self._used())

    def fill(self, values: Mapping[str, str]) -> list[str]:
        """The words of one trial."""
        return [_fill(word, values) for word in self.words]

    def write_configs(self, folder: Path, values: Mapping[str, str]) -> None:
        """The configuration files of one trial, in a folder."""
        for path in map(Path, self.config_files):
            (folder / path.name).write_text(_fill(_text(path), values), encoding="utf-8")

    def decisive(self, depends_on: Sequence[str | Path] = ()) -> dict[str, Any]:
        """The words and the contents of the files, on which a trial's outcome depends.

        Args:
            depends_on: Further files.

        Raises:
            ValueError: One of those cannot be read.
        """
        files = {word: Path(word) for word in self._named_files()}
        files |= {str(path): Path(path) for path in (*self.config_files, *depends_on)}
        try:
            digests = {name: digest_of_file(path) for name, path in files.items()}
        except OSError as error:
            raise ValueError(
                f"Expected files that can be read in runner.depends_on, got: {error}"
            ) from error
        return {"command": redact(list(self.words)), "files": redact(digests)}

    def _named_files(self) -> Iterator[str]:
        """The program, if it is a path, and the scripts and settings named in the words."""
        parts = [part for word in self.words for part in (word, word.partition("=")[2])]
        scripts = [part for part in parts if Path(part).suffix.lower() in SCRIPTS]
        for part in (self.words[0], *scripts):
            if Path(part).is_file() and not _BRACES.search(part):
                yield part

    def _used(self) -> Iterator[str]:
        """Placeholders that are used.

        Raises:
            ValueError: One is unknown; the message suggests the nearest name.
        """
        texts = [("runner.command", word) for word in self.words]
        texts += [(str(path), _text(Path(path))) for path in self.config_files]
        for where, text in texts:
            for found in _BRACES.finditer(text):
                name = found[2]
                if name is None:
                    continue
                if name not in PLACEHOLDERS:
                    raise ValueError(_unknown(name, where))
                yield name


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"Expected a text file in runner.config_files, got {path}: {error}"
        ) from error


def _fill(text: str, values: Mapping[str, str]) -> str:
    return _BRACES.sub(lambda found: found[1] or values[found[2]], text)


def _unknown(name: str, where: str) -> str:
    near = difflib.get_close_matches(name, PLACEHOLDERS, n=1, cutoff=0.5)
    known = ", ".join(f"{{{known}}}" for known in PLACEHOLDERS)
    way = f"did you mean {{{near[0]}}}?" if near else f"there are {known}"
    return (
        f"Expected a placeholder that a trial can fill in {where}, got {{{name}}}: {way} Text in "
        f"braces is written {{{{{name}}}}}"
    )
