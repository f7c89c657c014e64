"""One trial, or a sweep of them."""

from __future__ import annotations

import json
from pathlib import Path

from omegaconf import DictConfig

from lensllm.commands.config import TrainConfig
from lensllm.commands.entry import entry_point, instantiate_finetune_runner, output_dir
from lensllm.system.atomic import write_whole
from lensllm.system.harmless import redact
from lensllm.system.interrupts import is_first_rank


@entry_point("train", TrainConfig)
def main(cfg: DictConfig) -> float:
    """Fine-tune one model on one subset, store the result, and return its `objective`."""
    from lensllm.core.trials import Trial
    from lensllm.reports.console import say

    runner = instantiate_finetune_runner(cfg)
    (name,) = runner.sources
    runner.store.check_writable()
    result = runner.attempt(Trial(name, runner.data.name, cfg.n_samples, cfg.seed))
    if not is_first_rank():  # only one of several processes of a trial prints
        return float(getattr(result, cfg.objective))
    path = Path(output_dir()) / "result.json"
    write_whole(path, json.dumps(redact(result.to_json()), indent=1) + "\n")
    lost = result.data.get("lost_target_bytes", 0.0)
    measured = "".join(
        f", {name} {found.value:.4f} (standard error {found.standard_error:.4f}, "
        f"{found.n_examples} examples)"
        for name, found in result.measures.items()
    )
    pairs = [cfg.n_samples, *(result.data.get(key) for key in ("validation_pairs", "n_test"))]
    of_pairs = "" if None in pairs else f" of {sum(pairs)}"  # trials of other versions have fewer
    say(
        f"{name} on {runner.data.name}, D = {cfg.n_samples}, seed {cfg.seed}: {result.status}, "
        f"test loss {result.test_loss:.4f} nats per token ({result.test_loss_per_byte:.4f} per "
        f"byte){measured}, {result.flops:.3g} FLOPs, {result.seconds:.1f} s; {result.cut_inputs} "
        f"inputs and {result.cut_targets} targets cut, {result.dropped_pairs} pairs dropped"
        f"{of_pairs} (validation and test included)"
        + (f"; {lost:.2%} of the targets' bytes have no token" if lost else "")
    )
    return float(getattr(result, cfg.objective))
