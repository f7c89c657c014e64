"""Model, data set, D, seed and loss of past runs, from their files or the user's options."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from lensllm.core.past_runs.run import PastRun, is_blank, number

Evaluation = Literal["best", "last"]

# Known names of settings and of logged values, in order of preference.
KEYS = {
    "model": (
        *("model_name_or_path", "base_model_name_or_path", "_name_or_path", "base_model"),
        *("model_name", "model", "model.name", "model.source"),
    ),
    "dataset": ("dataset_name", "dataset", "dataset.name", "data.name"),
    "n_samples": ("n_samples", "train_samples", "num_train_samples", "n_train_samples", "n_train"),
    "seed": ("seed", "random_seed"),
}
LOSSES = (
    *("result/test_loss", "test_loss", "test/loss", "eval_loss", "eval/loss"),
    *("val_loss", "val/loss", "validation_loss", "validation/loss", "valid_loss", "value"),
)
FLOPS = ("result/flops", "total_flos", "train/total_flos")
N_PARAMS = ("n_params", "result/n_params")
PER_BYTE = {"result/test_loss": ("result/test_loss_per_byte",)}  # by the name of the loss taken
SECONDS = (
    *("result/seconds", "train_runtime", "train/train_runtime", "Runtime", "_runtime", "seconds"),
)


@dataclass(frozen=True)
class PastRunOptions:
    """Values of past runs that their files do not record, or where to find them.

    Attributes:
        model_name: Model of all runs.
        dataset_name: Data set of all runs.
        n_samples: D of all runs.
        model_from: Where to find each run's model: the name of a setting or column, or, with a
            group in parentheses, a regular expression over the run's name.
        dataset_from: The same for the data set.
        n_samples_from: The same for D.
        seed_from: The same for the seed, which is 0 if it is not recorded.
        loss: Name of the logged loss; by default the first of `LOSSES` that was logged.
        evaluation: `best`: the smallest loss of all evaluations, as in this project's own trials,
            which keep the weights of the best validation loss; `last`: that of the final weights.
        source: Which program wrote the runs; detected by default.
    """

    model_name: str | None = None
    dataset_name: str | None = None
    n_samples: int | None = None
    model_from: str | None = None
    dataset_from: str | None = None
    n_samples_from: str | None = None
    seed_from: str | None = None
    loss: str | None = None
    evaluation: Evaluation = "best"
    source: str | None = None

    def __post_init__(self) -> None:
        if self.evaluation not in get_args(Evaluation):
            known = ", ".join(get_args(Evaluation))
            raise ValueError(f"Expected `evaluation` among {known}, got {self.evaluation!r}")
        for name in ("model_from", "dataset_from", "n_samples_from", "seed_from"):
            pattern = getattr(self, name)
            if pattern is not None and "(" in pattern:
                try:
                    n_groups = re.compile(pattern).groups
                except re.error as error:
                    raise ValueError(
                        f"Expected a regular expression as `{name}`, got {pattern!r}: {error}"
                    ) from error
                if n_groups != 1:
                    raise ValueError(
                        f"Expected one group in `{name}`, got {n_groups} in {pattern!r}: write "
                        "(?:...) for parentheses that are none"
                    )


@dataclass(frozen=True)
class Taken:
    """One run with the values taken from it and where they come from.

    Attributes:
        run: The run.
        found: `model`, `dataset`, `n_samples`, `seed`, `test_loss`, `test_loss_per_byte`, `flops`,
            `seconds`, `n_params`, `family` as far as they are known, and `untrained_loss` if it was
            evaluated before the first step.
        sources: Where each value was found, or how it was computed.
        notes: Remarks about the run.
        problem: Why it is not a point of a curve; empty if it is one.
    """

    run: PastRun
    found: dict[str, Any]
    sources: dict[str, str]
    notes: tuple[str, ...]
    problem: str


_REPEAT = (
    "it has the model, data set, D, seed and loss of another run: a trial that was logged again"
)


# Relative difference of two losses that single precision, rounded once or twice, can cause.
_SINGLE = 1e-6


class _UntoldError(Exception):
    """A run does not record a needed value; the message says what to do."""


def take(runs: Sequence[PastRun], options: PastRunOptions | None = None) -> list[Taken]:
    """Determine model, data set, D, seed and loss of runs.

    Args:
        runs: The runs.
        options: The user's options for them.
    """
    found = [_take(run, options or PastRunOptions()) for run in runs]
    return _without_repeats(found)


def _without_repeats(taken: Sequence[Taken]) -> list[Taken]:
    """The same runs, of which those are marked that have the point and the loss of an earlier one.

    A repeated sweep logs the trials of the store again, with the losses that they had, of which a
    tracker may have kept only single precision.
    """
    known: dict[tuple[Any, ...], list[float]] = {}
    runs = []
    for item in taken:
        if item.problem:
            runs.append(item)
            continue
        losses = known.setdefault(tuple(item.found[name] for name in KEYS), [])
        loss = item.found["test_loss"]
        again = any(math.isclose(loss, other, rel_tol=_SINGLE) for other in losses)
        runs.append(replace(item, problem=_REPEAT) if again else item)
        losses.append(loss)
    return runs


def _take(run: PastRun, options: PastRunOptions) -> Taken:
    if run.problem:
        return Taken(run, {}, {}, run.notes, run.problem)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    notes, problems = list(run.notes), []
    for name in KEYS:
        try:
            values[name], sources[name] = _quantity(run, name, options, notes)
        except _UntoldError as error:
            problems.append(str(error))
    try:
        column = _loss_name(run, options)
        values["test_loss"], sources["test_loss"] = _loss(run, column, options.evaluation, notes)
        values["untrained_loss"] = number(run.untrained.get(column))
    except _UntoldError as error:
        column = ""
        problems.append(str(error))
    amounts = {"flops": FLOPS, "seconds": SECONDS, "n_params": N_PARAMS}
    for name, keys in {**amounts, "test_loss_per_byte": PER_BYTE.get(column, ())}.items():
        found = (number(item[0]) for key in keys if (item := run.setting(key)))
        values[name] = next((x for x in found if math.isfinite(x) and x > 0), math.nan)
    family = run.setting("family")
    values["family"] = family[0] if family and isinstance(family[0], str) else None
    return Taken(run, values, sources, tuple(notes), "; ".join(problems))


def _quantity(
    run: PastRun, name: str, options: PastRunOptions, notes: list[str]
) -> tuple[Any, str]:
    """A value of `KEYS` and its source: the user's options, then settings, then counts."""
    fixed = {
        "model": ("model_name", options.model_name),
        "dataset": ("dataset_name", options.dataset_name),
        "n_samples": ("n_samples", options.n_samples),
    }
    option, told = fixed.get(name, ("", None))
    if told is not None:
        return _checked(name, told, option), f"{option}={told}"
    wanted = getattr(options, f"{name}_from")
    if wanted is not None:
        value, source = _from(run, wanted, f"{name}_from")
        return _checked(name, value, source), source
    for key in KEYS[name]:
        found = run.setting(key)
        if found is not None:
            return _checked(name, *found), found[1]
    if name == "n_samples" and run.n_samples is not None:
        notes += [run.n_samples.caveat] if run.n_samples.caveat else []
        return run.n_samples.n_samples, run.n_samples.how
    if name == "seed":
        return 0, "not told"
    raise _UntoldError(
        f"its {_WORDS[name]} is not told: give {option}=... or {name}_from=COLUMN_OR_PATTERN"
    )


_WORDS = {"model": "model", "dataset": "data set", "n_samples": "D", "seed": "seed"}


def _from(run: PastRun, wanted: str, option: str) -> tuple[Any, str]:
    """The value of a setting, or of a pattern over the run's name."""
    if "(" in wanted:
        match = re.search(wanted, run.name)
        if match is None or match[1] is None:
            raise _UntoldError(f"{option}={wanted} does not match its name")
        return match[1], f"{option}={wanted}"
    found = run.setting(wanted)
    if found is None:
        raise _UntoldError(f"{option}={wanted} is no setting or column of it")
    return found


def _checked(name: str, value: Any, source: str) -> Any:
    """A name, or a whole number ≥ 0."""
    if name in ("model", "dataset"):
        if not isinstance(value, str) or not value.strip():
            raise _UntoldError(f"expected a name as {_WORDS[name]} ({source}), got {value!r}")
        # Candidates that are folders are named after the folder.
        return Path(value).name if value.startswith(("/", "./", "../", "~")) else value.strip()
    amount = number(value)
    if not (amount >= 0 and amount % 1 == 0):
        raise _UntoldError(
            f"expected a whole number >= 0 as {_WORDS[name]} ({source}), got {value!r}"
        )
    return int(amount)


def _loss_name(run: PastRun, options: PastRunOptions) -> str:
    """The name of the logged loss."""
    columns = list(dict.fromkeys(key for row in run.history for key in row))
    for name in (options.loss,) if options.loss else LOSSES:
        if name in columns:
            return name
    what = f"loss {options.loss!r}" if options.loss else "evaluation loss"
    numeric = [c for c in columns if any(math.isfinite(number(r.get(c))) for r in run.history)]
    raise _UntoldError(
        f"no {what} was logged: name one of {', '.join(numeric) or 'nothing'} by loss=NAME"
    )


def _loss(run: PastRun, column: str, evaluation: Evaluation, notes: list[str]) -> tuple[float, str]:
    """The loss of the best or the last evaluation, and its name with how it was chosen."""
    rows = [row for row in run.history if not is_blank(row.get(column))]
    finite = [row for row in rows if math.isfinite(number(row[column]))]
    if not finite or (evaluation == "last" and finite[-1] is not rows[-1]):
        where = "the last evaluation" if finite else f"any of {len(rows)} evaluations"
        raise _UntoldError(f"{column} is not finite at {where}: it diverged")
    if len(finite) < len(rows):
        notes.append(f"{column} is not finite at {len(rows) - len(finite)} of {len(rows)}")
    losses = [number(row[column]) for row in finite]
    i = losses.index(min(losses)) if evaluation == "best" else len(losses) - 1
    if losses[i] <= 0:
        raise _UntoldError(f"expected a loss > 0, got {column} = {losses[i]:g}: is it no loss?")
    step = f" (step {number(finite[i]['step']):g})" if "step" in finite[i] else ""
    which = f"{evaluation} of {len(finite)}" if len(finite) > 1 else "the only one"
    return losses[i], f"{column}: {which}{step}"
