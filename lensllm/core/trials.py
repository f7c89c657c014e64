"""Trials, their results, and the store of finished trials."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from lensllm.core.measures import Measure
from lensllm.system.atomic import StorageError, check_writable, is_full, set_aside, write_whole
from lensllm.system.claims import Claims

logger = logging.getLogger(__name__)

Status = Literal["completed", "diverged", "failed", "timed_out"]
# Why a trial failed: out of memory (with one example at once), the Hub or the network, a full disk,
# a candidate or data that cannot be used, a process that died, the user's program,
# or anything else.
ErrorCode = Literal[
    "",
    "out_of_memory",
    "hub_error",
    "disk_full",
    "bad_model",
    "process_died",
    "program_failed",
    "error",
]
FORMAT_VERSION = 2
OLDER_FORMATS = (1,)  # without a digest; read without this check
# A run with a larger loss, in nats per target token, has diverged.
MAX_LOSS = 1e6
_NUMBERS = ("value", "standard_error")  # of a `MeasureValue`
_MAX_WHOLE = 2**63 - 1  # what a column of a table holds
_NO_TRIAL = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    OSError,
    RecursionError,
    OverflowError,
)


@dataclass(frozen=True)
class Trial:
    """One fine-tuning run: model, data set, number of samples, seed and settings.

    Attributes:
        model: Name of the candidate.
        dataset: Name of the data set.
        n_samples: Fine-tuning samples D; 0 evaluates the pre-trained model itself.
        seed: Seed of the subset, the order of batches and the dropout.
        settings: Everything else that determines the outcome (optimizer, batch size, fingerprints
            of the data and of the weights, ...). Values are JSON scalars or mappings of them. Empty
            in the trials that a selector asks for; the runner fills it in.
    """

    model: str
    dataset: str
    n_samples: int
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("n_samples", "seed"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"Expected `{name}` to be a whole number >= 0, got {value!r}")
        for name in ("model", "dataset"):
            if not getattr(self, name):
                raise ValueError(f"Expected `{name}` to name a {name}, got an empty string")

    @property
    def key(self) -> str:
        """Content hash of all fields, 16 hexadecimal digits of a SHA-256."""
        return digest_of(vars(self))  # `asdict` would copy the settings, at three times the time

    @property
    def point(self) -> tuple[str, int]:
        """Candidate and D, which tell the trials of one campaign apart."""
        return self.model, self.n_samples

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True)
class MeasureValue:
    """The value of one measure of a trial on the test set.

    Attributes:
        value: The value, in the measure's own unit and direction.
        standard_error: Its standard error over test examples; `nan` if it is not known.
        n_examples: Test examples that it is over; 0 if unknown.
        scores: Values of the single test examples, packed (see `lensllm.core.example_losses`);
            empty where the measure is not a mean over examples.
    """

    value: float
    standard_error: float = math.nan
    n_examples: int = 0
    scores: str = ""


@dataclass(frozen=True)
class TrialResult:
    """The result and the cost of one trial.

    Attributes:
        trial: The trial.
        status: `completed`; `diverged` if the loss became infinite or NaN, or ended above
            `MAX_LOSS`; `timed_out` if it was ended at its time limit; `failed` if the candidate
            could not be run. A failed trial is never stored: it is run again the next time it is
            asked for.
        test_loss: Cross-entropy per target token of the test set in nats; `nan` unless completed.
        test_loss_per_byte: The same sum divided by the UTF-8 bytes of the target text.
        test_loss_se: Standard error of `test_loss` over test examples (see
            `lensllm.core.example_losses`); `nan` if it was not measured.
        test_loss_per_byte_se: The same for `test_loss_per_byte`.
        validation_loss: Smallest validation loss during training, in nats per target token.
        n_params: Number of parameters of the model.
        n_tokens: Tokens (source and target) that training processed.
        n_steps: Optimizer steps taken.
        best_step: The step whose weights were kept.
        flops: 6 · parameters · training tokens + 2 · parameters · evaluation tokens; with adapters
            (4 · parameters + 2 · trained parameters) · training tokens in place of the first term.
        train_flops: The first of the two terms.
        seconds: Wall time of the whole trial.
        compute_seconds: That of training and evaluation, without loading and encoding; `nan` if it
            was not measured.
        peak_memory_bytes: Peak memory of the device, or of the process (CPU), while it ran.
        family: Family of the model, if known.
        cut_inputs: Number of inputs, over all splits, that were too long and were truncated.
        cut_targets: Number of targets, over all splits, that were too long and were truncated.
        dropped_pairs: Number of pairs, over all splits, left out since their target has no token.
        data: Fingerprint and sizes of the data set's splits, and leaks between them.
        trace: (step, validation loss) pairs during training.
        examples: Losses of the test examples, packed (see `lensllm.core.example_losses`).
        measures: Further measures of the test set by name, see `lensllm.core.measures`.
        versions: Versions of the packages that ran it.
        finished_at: UTC time in ISO 8601.
        reason: Why it failed, in one line.
        error_code: The same as a code; empty unless it failed.
    """

    trial: Trial
    status: Status
    test_loss: float
    test_loss_per_byte: float = math.nan
    test_loss_se: float = math.nan
    test_loss_per_byte_se: float = math.nan
    validation_loss: float = math.nan
    n_params: int = 0
    n_tokens: int = 0
    n_steps: int = 0
    best_step: int = 0
    flops: float = 0.0
    train_flops: float = 0.0
    seconds: float = 0.0
    compute_seconds: float = math.nan
    peak_memory_bytes: int = 0
    family: str = ""
    cut_inputs: int = 0
    cut_targets: int = 0
    dropped_pairs: int = 0
    data: Mapping[str, Any] = field(default_factory=dict)
    trace: tuple[tuple[int, float], ...] = ()
    examples: Mapping[str, str] = field(default_factory=dict)
    measures: Mapping[str, MeasureValue] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    finished_at: str = ""
    reason: str = ""
    error_code: ErrorCode = ""

    @classmethod
    def failure(
        cls,
        trial: Trial,
        reason: str,
        flops: float = math.nan,
        error_code: ErrorCode = "error",
    ) -> TrialResult:
        """The result of a trial that could not be completed.

        Args:
            trial: The trial.
            reason: Why it failed, in one line.
            flops: Its cost until then; `nan` if unknown.
            error_code: Why it failed, as a code.
        """
        return cls(trial, "failed", math.nan, flops=flops, reason=reason, error_code=error_code)

    def value(self, measure: Measure) -> float:
        """Its value of one measure; `nan` unless completed and measured."""
        if measure.is_loss:
            return float(getattr(self, measure.column))
        found = self.measures.get(measure.name)
        return math.nan if found is None else found.value

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; numbers that are not finite become null.

        `digest` is a SHA-256 of all other fields, so that a record that was changed after it was
        written is detected.
        """
        record = {"format": FORMAT_VERSION, "key": self.trial.key, **_finite(asdict(self))}
        return {**record, "digest": digest_of(record, 64)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> TrialResult:
        """The inverse of `to_json`.

        Raises:
            ValueError: The record is not a trial's, its key or digest does not match its content,
                or a number is out of range.
        """
        version = record.get("format")
        if version not in (FORMAT_VERSION, *OLDER_FORMATS) or "trial" not in record:
            raise ValueError(f"Expected a trial of format {FORMAT_VERSION}")
        if version == FORMAT_VERSION:
            content = {name: value for name, value in record.items() if name != "digest"}
            if record.get("digest") != digest_of(content, 64):
                raise ValueError(
                    "Expected the digest of its content, got another one: it was changed after it "
                    "was written"
                )
        trial = Trial(**record["trial"])
        if record.get("key") != trial.key:
            raise ValueError(
                f"Expected the key {trial.key} of its content, got {record.get('key')!r}"
            )
        kinds = {item.name: item.type for item in fields(cls)}
        values = {name: record[name] for name in kinds if name in record and name != "trial"}
        for name, value in values.items():
            if value is None and kinds[name] == "float":
                values[name] = math.nan
        values["trace"] = tuple(
            (int(step), math.nan if loss is None else float(loss))
            for step, loss in values.get("trace", ())
        )
        values["measures"] = {
            name: _measure_value(name, found) for name, found in values.get("measures", {}).items()
        }
        _check_values(values)
        return cls(trial=trial, **values)


class TrialStore:
    """A folder with one JSON file per finished trial.

    A result is written to a temporary file and renamed, so a killed process leaves either the
    complete result or none, and several processes can write to one folder. A file that is not a
    trial, or was changed since it was written, is reported by name and otherwise ignored; when its
    trial has been run again, it is renamed to `*.set-aside`.

    Args:
        folder: Folder of the trials; created when the first result is added.

    Attributes:
        claims: Which process is running which trial.

    Example:
        >>> import tempfile
        >>> store = TrialStore(tempfile.mkdtemp())
        >>> trial = Trial("gpt2", "docstrings", n_samples=200)
        >>> store.add(TrialResult(trial, "completed", test_loss=3.5))
        >>> store.get(trial).test_loss
        3.5
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"Expected a folder for the trial store, got the file {self.folder}")
        self.claims = Claims(self.folder / ".claims")
        self._reported: set[Path] = set()

    def _path(self, trial: Trial) -> Path:
        return self.folder / f"{trial.key}.json"

    def check_writable(self) -> None:
        """Check that results can be stored, before anything is spent.

        Raises:
            StorageError: They cannot; the message has the folder, the reason, and what to do.
        """
        check_writable(self.folder)

    def add(self, result: TrialResult) -> None:
        """Store a result; an earlier result of the same trial is replaced.

        On a disk that is full it takes the room that its trial's claim has kept.

        Raises:
            ValueError: The trial has failed, and failed trials are not stored.
            StorageError: The file cannot be written.
        """
        if result.status == "failed":
            raise ValueError(f"Expected a finished trial to store, got one that failed: {result}")
        text = json.dumps(result.to_json(), indent=1, sort_keys=True, allow_nan=False)
        path = self._path(result.trial)
        if path.exists() and self.get(result.trial) is None:
            try:
                logger.warning("Set aside %s as %s", path, set_aside(path).name)
            except OSError as error:
                raise StorageError(
                    f"Expected to rename {path}, which is not a finished trial, got: {error}"
                ) from error
        try:
            write_whole(path, text + "\n")
        except StorageError as error:
            if not (is_full(error) and self.claims.give_room(result.trial.key)):
                raise
            write_whole(path, text + "\n")

    def get(self, trial: Trial) -> TrialResult | None:
        """The stored result of a trial, or `None` if there is none."""
        path = self._path(trial)
        return self._read(path) if path.is_file() else None

    def results(self) -> Iterator[TrialResult]:
        """All stored results, in the order of their keys."""
        if not self.folder.is_dir():
            return
        for path in sorted(self.folder.iterdir()):
            name = path.name
            if path.is_file() and not name.startswith(".") and ".set-aside" not in name:
                result = self._read(path)
                if result is not None:
                    yield result

    def curves(self) -> pd.DataFrame:
        """All stored results as one tidy table (see `lensllm.core.curves`), one row per trial."""
        return results_table(self.results())

    def _read(self, path: Path) -> TrialResult | None:
        try:
            result = TrialResult.from_json(json.loads(path.read_text(encoding="utf-8")))
            if path.name != f"{result.trial.key}.json":
                raise ValueError(f"Expected the name {result.trial.key}.json")
        except _NO_TRIAL as error:
            if path not in self._reported:
                self._reported.add(path)
                logger.warning("Left alone %s, which is not a finished trial: %s", path, error)
            return None
        return result


def results_table(results: Iterable[TrialResult], examples: bool = False) -> pd.DataFrame:
    """One row per result: the trial's fields, then the result's scalar fields, then its measures.

    A measure has the columns `<name>`, `<name>_se` and `<name>_n`. The other columns have their
    types even without any results, as after a campaign of a selector that asks for no trials.

    Args:
        results: The results, of which one at a time is held in memory.
        examples: Whether to add columns of the packed losses and scores of test examples.
    """
    others = ("trial", "trace", "versions", "measures", *(() if examples else ("examples",)))
    scalars = [item.name for item in fields(TrialResult) if item.name not in others]
    columns = ["model", "dataset", "n_samples", "seed", *scalars, "key"]
    rows = [
        {
            **{name: getattr(result.trial, name) for name in columns[:4]},
            **{name: getattr(result, name) for name in scalars},
            "key": result.trial.key,
            **_measure_columns(result, examples),
        }
        for result in results
    ]
    columns += sorted({name for row in rows for name in row}.difference(columns))
    kinds = {item.name: item.type for item in (*fields(Trial), *fields(TrialResult))}
    numbers = {name: kinds[name] for name in columns if kinds.get(name) in ("int", "float")}
    table = pd.DataFrame.from_records(rows, columns=columns).astype(numbers)
    order = ["dataset", "model", "seed", "n_samples", "key"]
    return table.sort_values(order, kind="stable").reset_index(drop=True)


def _measure_columns(result: TrialResult, examples: bool) -> dict[str, Any]:
    """The columns of a result's measures, see `lensllm.core.measures.Measure`."""
    found: dict[str, Any] = {}
    for name, item in result.measures.items():
        found |= {name: item.value, f"{name}_se": item.standard_error}
        found |= {f"{name}_n": item.n_examples or math.nan}
        found |= {f"{name}_scores": item.scores} if examples else {}
    return found


def _measure_value(name: str, record: Mapping[str, Any]) -> MeasureValue:
    """The stored value of a measure; null stands for `nan`."""
    numbers = {key: math.nan if record[key] is None else float(record[key]) for key in _NUMBERS}
    n_examples, scores = record["n_examples"], record["scores"]
    if not isinstance(n_examples, int) or n_examples < 0 or not isinstance(scores, str):
        raise ValueError(f"Expected a value of the measure {name!r}, got {record!r:.100}")
    return MeasureValue(**numbers, n_examples=n_examples, scores=scores)


def _check_values(values: Mapping[str, Any]) -> None:
    """Raise a ValueError if a field of a stored result has the wrong type or range."""
    finished = [status for status in get_args(Status) if status != "failed"]
    if values.get("status") not in finished:
        raise ValueError(
            f"Expected a status among {', '.join(finished)}, got {values.get('status')!r}"
        )
    kinds = {item.name: item.type for item in fields(TrialResult)}
    for name, value in values.items():
        expected = _expected(str(kinds[name]), value)
        if expected:
            raise ValueError(f"Expected {expected} in {name!r}, got {repr(value)[:80]}")
    loss = values.get("test_loss", math.nan)
    is_measured = any(math.isfinite(item.value) for item in values.get("measures", {}).values())
    if values["status"] == "completed" and not (loss <= MAX_LOSS or (is_measured and loss != loss)):
        raise ValueError(
            f"Expected a loss of at most {MAX_LOSS:g} nats per target token in 'test_loss' of a "
            f"trial that completed, got {loss!r}"
        )


def _expected(kind: str, value: Any) -> str:
    """What a field of this type holds, if the value is none; empty if it is one."""
    if kind in ("int", "float"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "a number"
        if kind == "int" and not (0 <= value <= _MAX_WHOLE and value % 1 == 0):
            return "a whole number >= 0"
        if not (value != value or 0 <= value <= sys.float_info.max):  # nan, or in range
            return "a finite number >= 0"
    if kind in ("str", "ErrorCode") and not isinstance(value, str):
        return "a text"
    if kind.startswith("Mapping") and not isinstance(value, Mapping):
        return "keys and values"
    return ""


def digest_of(value: Any, n_digits: int = 16) -> str:
    """Hexadecimal digits of a SHA-256 of a value of JSON types: equal values, equal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:n_digits]


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values, equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _finite(value: Any) -> Any:
    """Replace floats that are not finite by None, through mappings and sequences."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
