"""Where a training program leaves the loss of a trial: in a JSON file, or in its output."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

WHICH = ("last", "best")


@dataclass(frozen=True)
class ProgramResult:
    """The result of a program.

    Attributes:
        loss: Its loss; not finite if training diverged.
        n_steps: Optimizer steps, if known.
        best_step: The step of that loss, if known.
        trace: (step, loss) of all its evaluations, if known.
    """

    loss: float
    n_steps: int = 0
    best_step: int = 0
    trace: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class ResultSource:
    """Where the loss of a trial is read from.

    Attributes:
        file: A JSON file in the program's output folder. A `trainer_state.json` of the Hugging Face
            Trainer is also looked for in the last checkpoint if the folder itself has none.
        key: Key of the loss in that file; dots separate the keys of nested objects.
        which: Of several evaluations in a `trainer_state.json`, the `last` or the `best`, which has
            the smallest loss, for a program that restores its best weights.
        pattern: A regular expression with a group named `loss`; its last match in a line of the
            program's output is used, and no file is read. `None` reads the file.

    Raises:
        ValueError: `which` or the pattern is invalid.
    """

    file: str = "trainer_state.json"
    key: str = "eval_loss"
    which: str = "last"
    pattern: str | None = None

    def __post_init__(self) -> None:
        if self.which not in WHICH:
            raise ValueError(
                f"Expected runner.result.which among {', '.join(WHICH)}, got {self.which!r}"
            )
        if not self.file or not self.key:
            raise ValueError("Expected names as runner.result.file and runner.result.key, got none")
        if self.pattern is None:
            return
        try:
            groups = re.compile(self.pattern).groupindex
        except re.error as error:
            raise ValueError(
                f"Expected a regular expression as runner.result.pattern, got {self.pattern!r}: "
                f"{error}"
            ) from error
        if "loss" not in groups:
            raise ValueError(
                "Expected a group named loss in runner.result.pattern, such as "
                f"'eval_loss=(?P<loss>\\S+)', got {self.pattern!r}"
            )

    def decisive(self) -> dict[str, Any]:
        """The settings that a trial's outcome depends on."""
        if self.pattern is not None:
            return {"pattern": self.pattern}
        return {name: value for name, value in asdict(self).items() if name != "pattern"}

    def read(self, output_dir: Path, log: Path) -> ProgramResult:
        """The result of a program that has ended.

        Args:
            output_dir: The output folder that it was given.
            log: The file of its output.

        Raises:
            ValueError: There is no result; the message says what was found instead.
        """
        if self.pattern is not None:
            return self._match(log)
        path = self._path(output_dir)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ValueError(f"it wrote no {self.file} into its output folder") from error
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"its {self.file} cannot be read: {error}") from error
        if isinstance(content, dict) and isinstance(content.get("log_history"), list):
            return self._evaluation(content)
        return ProgramResult(_number(self._inside(content), f"{self.key} in {self.file}"))

    def _match(self, log: Path) -> ProgramResult:
        pattern, last = re.compile(self.pattern or ""), None
        with log.open(encoding="utf-8", errors="replace") as stream:
            for line in stream:  # a carriage return ends one as well
                for match in pattern.finditer(line):
                    last = match["loss"]
        if last is None:
            raise ValueError("its output has no match of runner.result.pattern")
        try:
            return ProgramResult(_number(float(last), "the match of runner.result.pattern"))
        except ValueError as error:
            raise ValueError(f"its output has {last!r} where a loss was expected") from error

    def _path(self, output_dir: Path) -> Path:
        path = output_dir / self.file
        if path.is_file():
            return path
        checkpoints = {
            int(folder.name.rpartition("-")[2]): folder / self.file
            for folder in output_dir.glob("checkpoint-*")
            if folder.name.rpartition("-")[2].isdecimal() and (folder / self.file).is_file()
        }
        return checkpoints[max(checkpoints)] if checkpoints else path

    def _inside(self, content: Any) -> Any:
        for name in self.key.split("."):
            if not isinstance(content, Mapping) or name not in content:
                names = ", ".join(map(str, content)) if isinstance(content, Mapping) else "none"
                raise ValueError(
                    f"its {self.file} has no {self.key}; where {name} was expected it has "
                    f"{names or 'nothing'}"
                )
            content = content[name]
        return content

    def _evaluation(self, state: Mapping[str, Any]) -> ProgramResult:
        """One of the evaluations that the Hugging Face Trainer has logged."""
        entries: Sequence[Any] = state["log_history"]
        trace = tuple(
            (int(entry.get("step", 0)), _number(entry[self.key], self.key))
            for entry in entries
            if isinstance(entry, Mapping) and self.key in entry
        )
        if not trace:
            raise ValueError(f"its {self.file} has no evaluation with {self.key}")
        finite = [point for point in trace if math.isfinite(point[1])]
        best = min(finite, key=lambda point: point[1], default=trace[-1])
        step, loss = trace[-1] if self.which == "last" else best
        return ProgramResult(loss, int(state.get("global_step", trace[-1][0])), step, trace)


def _number(value: Any, what: str) -> float:
    """A loss, above 0 or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"Expected a number as {what}, got {value!r}")
    if value <= 0 and math.isfinite(value):
        raise ValueError(f"Expected a loss above 0 as {what}, got {value!r}")
    return float(value)
