"""Where a program leaves a trial's loss or other measure: in a JSON file, or in its output."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lensllm.core.measures import LOSS, Measure

WHICH = ("last", "best")


@dataclass(frozen=True)
class ProgramResult:
    """The result of a program.

    Attributes:
        value: Its loss or other measure; not finite if training diverged.
        n_steps: Optimizer steps, if known.
        best_step: The step of that value, if known.
        trace: (step, value) of all its evaluations, if known.
    """

    value: float
    n_steps: int = 0
    best_step: int = 0
    trace: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class ResultSource:
    """Where the loss, or another measure, of a trial is read from.

    Attributes:
        file: A JSON file in the program's output folder. A `trainer_state.json` of the Hugging Face
            Trainer is also looked for in the last checkpoint if the folder itself has none.
        key: Key of the value in that file; dots separate the keys of nested objects.
        which: Of several evaluations in a `trainer_state.json`, the `last` or the `best`, which has
            the best value, for a program that restores its best weights.
        pattern: A regular expression with a group named `loss` or `value`; its last match in a line
            of the program's output is used, and no file is read. `None` reads the file.

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
        if not {"loss", "value"}.intersection(groups):
            raise ValueError(
                "Expected a group named loss or value in runner.result.pattern, such as "
                f"'eval_loss=(?P<loss>\\S+)', got {self.pattern!r}"
            )

    def decisive(self) -> dict[str, Any]:
        """The settings that a trial's outcome depends on."""
        if self.pattern is not None:
            return {"pattern": self.pattern}
        return {name: value for name, value in asdict(self).items() if name != "pattern"}

    def read(self, output_dir: Path, log: Path, measure: Measure = LOSS) -> ProgramResult:
        """The result of a program that has ended.

        Args:
            output_dir: The output folder that it was given.
            log: The file of its output.
            measure: What the value is of.

        Raises:
            ValueError: There is no result; the message says what was found instead.
        """
        if self.pattern is not None:
            return self._match(log, measure)
        path = self._path(output_dir)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ValueError(f"it wrote no {self.file} into its output folder") from error
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"its {self.file} cannot be read: {error}") from error
        if isinstance(content, dict) and isinstance(content.get("log_history"), list):
            return self._evaluation(content, measure)
        found = self._inside(content)
        return ProgramResult(_number(found, f"{self.key} in {self.file}", measure))

    def _match(self, log: Path, measure: Measure) -> ProgramResult:
        pattern, last = re.compile(self.pattern or ""), None
        group = "loss" if "loss" in pattern.groupindex else "value"
        with log.open(encoding="utf-8", errors="replace") as stream:
            for line in stream:  # a carriage return ends one as well
                for match in pattern.finditer(line):
                    last = match[group]
        if last is None:
            raise ValueError("its output has no match of runner.result.pattern")
        try:
            number = _number(float(last), "the match of runner.result.pattern", measure)
        except ValueError as error:
            expected = "a loss" if measure.is_loss else measure.name
            raise ValueError(f"its output has {last!r} where {expected} was expected") from error
        return ProgramResult(number)

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

    def _evaluation(self, state: Mapping[str, Any], measure: Measure) -> ProgramResult:
        """One of the evaluations that the Hugging Face Trainer has logged."""
        entries: Sequence[Any] = state["log_history"]
        trace = tuple(
            (int(entry.get("step", 0)), _number(entry[self.key], self.key, measure))
            for entry in entries
            if isinstance(entry, Mapping) and self.key in entry
        )
        if not trace:
            raise ValueError(f"its {self.file} has no evaluation with {self.key}")
        finite = [point for point in trace if math.isfinite(point[1])]
        best = min(finite, key=lambda point: measure.error(point[1]), default=trace[-1])
        step, value = trace[-1] if self.which == "last" else best
        return ProgramResult(value, int(state.get("global_step", trace[-1][0])), step, trace)


def _number(value: Any, what: str, measure: Measure) -> float:
    """A value within the measure's bound (a loss is above 0), or one that is not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"Expected a number as {what}, got {value!r}")
    if not math.isfinite(value):
        return float(value)
    if measure.is_loss and value <= 0:
        raise ValueError(f"Expected a loss above 0 as {what}, got {value!r}")
    measure.check(value)
    return float(value)
