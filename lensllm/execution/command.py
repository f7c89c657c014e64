"""Command: trials that are run by the user's own training program."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from lensllm.core.measures import LOSS, Measure, measure_named
from lensllm.core.task import Candidate, NoCandidateError, Task, size_ladder
from lensllm.core.trials import (
    MAX_LOSS,
    MeasureValue,
    Status,
    Trial,
    TrialResult,
    TrialStore,
)
from lensllm.data.pairs import TextData
from lensllm.execution.command_folder import trial_folder, write_files
from lensllm.execution.command_models import as_program_models
from lensllm.execution.command_result import ProgramResult, ResultSource
from lensllm.execution.command_template import CommandTemplate
from lensllm.execution.stored import StoredRunner
from lensllm.selectors.ask_tell import proportional_costs
from lensllm.system.atomic import StorageError
from lensllm.system.harmless import safe_name
from lensllm.system.programs import last_lines, run_program

# Increase this number when the same settings lead to another outcome.
RECIPE = 1


class CommandRunner(StoredRunner):
    """Runs trials with a training program that does not depend on lensllm.

    For each trial the program gets a folder of its own, with the subset and the other splits as
    JSON Lines of `input` and `target`. The subset is the same as in lensllm's own trials: the first
    n pairs of one seeded permutation. The program's output goes to `logs` in the store's folder. If
    the program fails or ends without a result, the result has the status `failed`; it is not
    stored, and the trial runs again the next time it is asked for. A program that exceeds its time
    limit is ended, and the result has the status `timed_out`.

    FLOPs are not known. A trial costs D times its model's parameters if those of all candidates are
    known, else D; or D times `seconds_per_sample`. `TrialResult.seconds` is its wall time.

    Args:
        command: The program and its arguments, with placeholders in braces: see `PLACEHOLDERS` of
            `lensllm.execution.command_template`.
        sources: The candidates, see `as_program_models`.
        data: The data set.
        store: Where finished trials are kept and found.
        result: Where the loss, or the measure, of a trial is read from.
        config_files: Configuration files of the program, with the same placeholders.
        depends_on: Further files whose contents affect results, such as modules that the program
            imports. The program, scripts and settings named in the command are included anyway.
        n_samples_full: Size D_full at which candidates are compared; all training pairs by default.
        sizes: Sizes that trials can have; `size_ladder(n_samples_full)` without 0 by default, since
            few programs can train on nothing.
        seed: Seed of the trials of a campaign.
        seconds_per_sample: Seconds per sample, one number or one per candidate; `None`: see above.
        trial_time_limit: See `StoredRunner`.
        keep_output: Whether the output folder of a finished trial is kept, in `output` of the
            store's folder.
        measure: What the value is by which candidates are compared, see `measure_named`: any name,
            with its best possible value and direction.

    Attributes:
        failures: Candidates that cannot be run, with the reason; see `inspect`.

    Raises:
        ValueError: A number is out of range; see also `CommandTemplate` and `StoredRunner`.
    """

    def __init__(
        self,
        command: Sequence[str],
        sources: Sequence[Any] | Mapping[str, Any],
        data: TextData,
        store: TrialStore,
        result: ResultSource | None = None,
        config_files: Sequence[str | Path] = (),
        depends_on: Sequence[str | Path] = (),
        n_samples_full: int | None = None,
        sizes: Sequence[int] | None = None,
        seed: int = 0,
        seconds_per_sample: float | Mapping[str, float] | None = None,
        trial_time_limit: float | str | None = None,
        keep_output: bool = False,
        measure: str | Mapping[str, Any] | Measure = "loss",
    ) -> None:
        models = as_program_models(sources)
        super().__init__(models, data, store, n_samples_full, sizes, seed, trial_time_limit)
        self.template = CommandTemplate(command, config_files)
        self.result = result or ResultSource()
        if self.result.pattern is None and not self.template.uses("output_dir"):
            raise ValueError(
                f"Expected {{output_dir}} in runner.command, where {self.result.file} is looked "
                "for, found none: add it, or read the loss from the output by runner.result.pattern"
            )
        self.depends_on = tuple(depends_on)
        self.template.decisive(self.depends_on)  # reports unreadable files at once
        self.seconds_per_sample = _seconds(seconds_per_sample, list(self.sources))
        self.keep_output = keep_output
        self.measure = _measure(measure)
        self.failures: dict[str, str] = {}

    def _ladder(self) -> tuple[int, ...]:
        return size_ladder(self.n_samples_full)[1:]

    def inspect(self, n_processes: int = 1, n_gpus: int = 1) -> dict[str, str]:
        """Check that the program and the candidates' folders exist, before anything is spent.

        Returns:
            Candidates that cannot be run, with the reason; `task` leaves them out.

        Raises:
            ValueError: The program does not exist.
            StorageError: The store cannot be written.
        """
        self.store.check_writable()
        program = self.template.words[0]
        if shutil.which(program) is None:
            raise ValueError(
                f"Expected a program that can be run as the first word of runner.command, got "
                f"{program!r}, which is not found; preflight=false does not look for it"
            )
        for name, source in self.sources.items():
            try:
                _ = source.location
            except ValueError as error:
                self.failures[name] = str(error)
        return self.failures

    def complete(self, trial: Trial) -> Trial:
        """Fill in the settings that determine the outcome and so the trial's key in the store.

        Raises:
            ValueError: The trial is not one of this runner's, or a file that it depends on cannot
                be read.
        """
        self._check(trial)
        source = self.sources[trial.model]
        decisive = {
            "recipe": RECIPE,
            "data": self.data.fingerprint,
            "model": source.location if source.folder is None else source.fingerprint,
            "result": self.result.decisive(),
            **self.template.decisive(self.depends_on),
        }
        if self.measure != LOSS:  # else the keys of trials with a loss would change
            measure = self.measure
            decisive["measure"] = [measure.name, measure.bound, measure.direction]
        return replace(trial, settings=decisive)

    def run(self, trial: Trial) -> TrialResult:
        """Run one trial, or return its stored result.

        While another campaign on the same store runs the trial, this waits.

        Raises:
            ValueError: The trial is not one of this runner's.
            StorageError: Its result, or a file that it needs, cannot be written.
        """
        self._check(trial)
        try:
            return self._in_unit(self._stored_or_new(self.complete(trial)))
        except StorageError:
            raise
        except (ValueError, OSError) as error:  # before the program ran
            return TrialResult.failure(trial, str(error), 0.0, "bad_model")

    def _in_unit(self, result: TrialResult) -> TrialResult:
        """A result with its cost, which is not stored, since its unit depends on the campaign."""
        trial = result.trial
        return replace(result, flops=trial.n_samples * self._rates[trial.model])

    def task(self) -> Task:
        """The selection task, with the costs of trials.

        Raises:
            NoCandidateError: No candidate can be run; with all reasons.
        """
        names = [name for name in self.sources if name not in self.failures]
        if not names:
            raise NoCandidateError(self.data.name, self.failures)
        sizes = tuple(size for size in self.sizes if size < self.n_samples_full)
        return Task(
            self.data.name,
            tuple(candidate for candidate in self._candidates if candidate.name in names),
            self.n_samples_full,
            dict.fromkeys(names, sizes),
            {
                (name, n): n * self._rates[name]
                for name in names
                for n in (*sizes, self.n_samples_full)
            },
            seed=self.seed,
            failures=dict(self.failures),
            measure=self.measure,
            cost_unit=self._cost_unit,
        )

    @cached_property
    def _candidates(self) -> list[Candidate]:
        sources = self.sources.values()
        return [Candidate(source.name, source.n_params, source.family) for source in sources]

    @cached_property
    def _rates(self) -> dict[str, float]:
        """Cost per sample of each candidate, in `_cost_unit`."""
        if self.seconds_per_sample is not None:
            return self.seconds_per_sample
        costs = proportional_costs(self._candidates, [1], {})
        return {name: cost for (name, _), cost in costs.items()}

    @property
    def _cost_unit(self) -> str:
        if self.seconds_per_sample is not None:
            return "seconds"
        known = all(math.isfinite(candidate.n_params) for candidate in self._candidates)
        return "samples x parameters" if known else "samples"

    def _run_new(self, trial: Trial) -> TrialResult:
        """Run the program, and store its result."""
        source = self.sources[trial.model]
        log = self.store.folder / "logs" / f"{_label(trial)}.log"
        started = time.perf_counter()
        with trial_folder(self.store.folder, trial) as folder:
            words = write_files(folder, trial, self.data, source, self.template)
            status: Status = "completed"
            limit, reason = self.time_left, ""
            code = run_program(words, log, limit)
            try:
                if code is None:
                    status, reason = "timed_out", f"ran longer than {limit:.0f} s"
                    found = ProgramResult(math.nan)
                elif code != 0:
                    how = f"signal {-code}" if code < 0 else f"exit code {code}"
                    raise ValueError(f"{words[0]} ended with {how}")
                else:
                    found = self.result.read(folder / "output", log, self.measure)
                    is_large = self.measure.is_loss and found.value > MAX_LOSS
                    if is_large or not math.isfinite(found.value):
                        status = "diverged"
                        reason = f"its {self.measure.name} is {found.value:g}"
            except ValueError as error:
                reason = _with_output(str(error), log)
                return TrialResult.failure(trial, reason, error_code="program_failed")
            seconds = time.perf_counter() - started
            reason = _with_output(reason, log) if reason else ""
            result = self._result(trial, found, seconds, status, reason)
            if self.keep_output:
                kept = self.store.folder / "output" / _label(trial)
                shutil.rmtree(kept, ignore_errors=True)
                kept.parent.mkdir(exist_ok=True)
                shutil.move(folder / "output", kept)
            self.store.add(result)
        return result

    def _result(
        self, trial: Trial, found: ProgramResult, seconds: float, status: Status, reason: str
    ) -> TrialResult:
        source = self.sources[trial.model]
        is_loss = self.measure.is_loss
        value = found.value if status == "completed" else math.nan
        measures = {self.measure.name: MeasureValue(value)} if math.isfinite(value) else {}
        return TrialResult(
            trial,
            status,
            test_loss=value if is_loss else math.nan,
            measures={} if is_loss else measures,
            n_params=0 if math.isnan(source.n_params) else int(source.n_params),
            n_steps=found.n_steps,
            best_step=found.best_step,
            flops=math.nan,
            train_flops=math.nan,
            seconds=seconds,
            family=source.family,
            data=self.data.summary(),
            trace=found.trace if is_loss else (),
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
            reason=reason,
        )


def _measure(given: str | Mapping[str, Any] | Measure) -> Measure:
    """The measure that a program reports, whose losses are of one unit, whichever that is."""
    measure = measure_named(given)
    return LOSS if measure.is_loss else measure


def _with_output(reason: str, log: Path) -> str:
    """Why a trial has no loss, with the end of its output."""
    return f"{reason}; its output ends with: {last_lines(log)} (log: {log})"


def _label(trial: Trial) -> str:
    """A readable and unique file name for the trial."""
    return f"{safe_name(f'{trial.model}-D{trial.n_samples}-s{trial.seed}')}-{trial.key}"


def _seconds(
    given: float | Mapping[str, float] | None, names: Sequence[str]
) -> dict[str, float] | None:
    """Seconds per sample of each candidate."""
    if given is None:
        return None
    rates = dict(given) if isinstance(given, Mapping) else dict.fromkeys(names, given)
    if set(rates) != set(names):
        raise ValueError(
            f"Expected runner.seconds_per_sample of each of {', '.join(names)}, got those of "
            f"{', '.join(rates)}"
        )
    for name, rate in rates.items():
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < math.inf:
            raise ValueError(f"Expected runner.seconds_per_sample > 0 of {name}, got {rate!r}")
    return {name: float(rates[name]) for name in names}
