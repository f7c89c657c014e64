"""Search settings of one model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from lensllm.commands.config import SearchConfig
from lensllm.commands.entry import entry_point, instantiate_finetune_runner, output_dir
from lensllm.system.harmless import write_csv

if TYPE_CHECKING:
    from lensllm.core.trials import TrialResult

_COLUMNS = ("status", "validation_loss", "test_loss", "flops", "seconds", "reason")


@entry_point("search", SearchConfig)
def main(cfg: DictConfig) -> None:
    """Run the trials that Optuna asks for, print the best settings, and write all of them."""
    import pandas as pd

    from lensllm.core.trials import Trial
    from lensllm.execution.search import Range, search
    from lensllm.reports.console import say

    def run(values: Mapping[str, Any]) -> TrialResult:
        own = cfg.copy()
        for name, value in values.items():
            OmegaConf.update(own, name, value)
        runner = instantiate_finetune_runner(own)
        (model,) = runner.sources
        result = runner.run(Trial(model, runner.data.name, cfg.n_samples, cfg.seed))
        loss = getattr(result, cfg.objective)
        outcome = f"{result.status}, {cfg.objective} {loss:.4f} {result.reason}"
        say(f"{_words(values)}: {outcome.rstrip()}")
        return result

    spans: Any = OmegaConf.to_container(cfg.space)
    space = [Range(**span) for span in spans]
    found = search(run, space, cfg.objective, cfg.n_trials, cfg.n_random, cfg.search_seed)
    rows = [{**values, **{name: getattr(got, name) for name in _COLUMNS}} for values, got in found]
    write_csv(pd.DataFrame(rows), output_dir() / "search.csv")
    finished = [row for row in rows if row["status"] == "completed"]
    if not finished:
        raise ValueError(
            f"Expected a trial that completes, got none of {len(rows)}; the last one: "
            f"{rows[-1]['status']} {rows[-1]['reason']}"
        )
    best = min(finished, key=lambda row: row[cfg.objective])
    say(f"best: {_words({span.name: best[span.name] for span in space})}")
    say(f"trials: {output_dir() / 'search.csv'}")


def _words(values: Mapping[str, Any]) -> str:
    """Settings as overrides of a command."""
    return " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in values.items()
    )
