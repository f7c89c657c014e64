"""Runs of Hugging Face's Trainer, and of programs built on it: `trainer_state.json`.

The Trainer writes this file into every checkpoint, and into the output folder if a program calls
`save_state()`. `training_args.bin` is a pickle and is not read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lensllm.core.past_runs.run import Count, PastRun, flat, number, read_json, run_name

STATE = "trainer_state.json"
# Files that may record the model or D; for adapters, that of the base model comes first.
_BESIDE = ("train_results.json", "all_results.json", "adapter_config.json", "config.json")
_UNTOLD = "gradient accumulation and devices"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


def read_trainer_runs(path: Path) -> list[PastRun]:
    """The run of one state file, or all runs below a folder, each from its latest whole state."""
    if path.is_file():
        return [_read_run(path.parent, [path], path.parent)]
    runs: dict[Path, list[Path]] = {}
    for state in sorted(path.rglob(STATE)):
        folder = state.parent
        runs.setdefault(folder.parent if _step(state) else folder, []).append(state)
    return [_read_run(folder, states, path) for folder, states in runs.items()]


def _step(state: Path) -> int:
    """The step of a state in a checkpoint; 0 for one outside checkpoints."""
    found = _CHECKPOINT.fullmatch(state.parent.name)
    return int(found[1]) if found else 0


def _read_run(folder: Path, states: list[Path], root: Path) -> PastRun:
    """The run from the state outside the checkpoints if complete, else from the latest one."""
    name, notes = run_name(folder, root), []
    for path in sorted(states, key=lambda state: (_step(state) > 0, -_step(state))):
        try:
            state = read_json(path)
            history = [row for row in state["log_history"] if isinstance(row, dict)]
            settings = flat(state.get("trial_params") or {})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            is_json = isinstance(error, ValueError)
            notes.append(str(error) if is_json else f"Expected a state of the Trainer in {path}")
            continue
        settings["total_flos"] = state.get("total_flos")
        if number(state.get("global_step")) < number(state.get("max_steps")):
            notes.append(f"ended at step {state['global_step']} of {state['max_steps']}")
        return PastRun(
            name,
            path,
            {STATE: settings, **_settings(folder, path, notes)},
            tuple(row for row in history if row.get("step") != 0),
            next((row for row in history if row.get("step") == 0), {}),
            estimated_n_samples(state, history, number(state.get("train_batch_size")), _UNTOLD),
            tuple(notes),
        )
    return PastRun(name, states[0], problem="; ".join(notes))


def _settings(folder: Path, state: Path, notes: list[str]) -> dict[str, dict[str, Any]]:
    """Settings from the files beside a run or in its checkpoint, by file name."""
    found = {}
    for name in _BESIDE:
        for path in (folder / name, state.parent / name):
            if name not in found and path.is_file():
                try:
                    found[name] = flat(read_json(path))
                except ValueError as error:
                    notes.append(str(error))
    return found


def estimated_n_samples(
    state: Mapping[str, Any], history: Sequence[Mapping[str, Any]], batch: float, untold: str
) -> Count | None:
    """D from the counts of a Trainer.

    At its end, a Trainer logs samples and steps per second. Their ratio is the number of samples
    per step, over all devices and with gradient accumulation: D = samples per step · steps ÷
    epochs. Before the end, the known batch size is used as the samples per step.

    Args:
        state: `global_step`, `epoch`, `max_steps`.
        history: Logged values; the final speeds under `train_...`.
        batch: Samples per step if known from elsewhere, else `nan`.
        untold: Unknown factors of the samples per step besides this batch.

    Returns:
        D; `None` if the counts are missing.
    """
    steps, epochs = number(state.get("global_step")), number(state.get("epoch"))
    if not (0 < steps < math.inf and 0 < epochs < math.inf):
        return None
    speeds: Mapping[str, Any] = next((r for r in reversed(history) if "train_runtime" in r), {})
    seconds = number(speeds.get("train_runtime"))
    per_second = number(speeds.get("train_samples_per_second"))
    counted = seconds * number(speeds.get("train_steps_per_second"))
    # Speeds have three decimals, so steps per second are known to within half a thousandth.
    for known in (number(state.get("max_steps")), steps):
        if abs(known - counted) <= 1 + 0.0005 * seconds:
            counted = known
    if 0 < counted < math.inf and 0 < per_second < math.inf:
        n_samples = per_second * seconds / counted * steps / epochs
        error = math.ceil(n_samples * 0.0005 / per_second - 0.5)
        caveat = f"the Trainer rounds its speeds: D is told to within {error}" if error > 0 else ""
        return Count(round(n_samples), "samples per step × steps ÷ epochs", caveat)
    if not 0 < batch < math.inf:
        return None
    return Count(
        round(batch * steps / epochs),
        f"steps × batch ÷ epochs = {steps:g} × {batch:g} ÷ {epochs:g}",
        f"D is too small by the factor of {untold}, not told, and up to a batch too large",
    )
