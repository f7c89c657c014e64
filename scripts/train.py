"""Run one trial (`python train.py`), or a sweep of them (`python train.py -m`)."""

from __future__ import annotations

import lensllm.guarded  # noqa: F401 - first: Ctrl-C then holds while the rest is imported

import json
from pathlib import Path

from omegaconf import DictConfig

from lensllm.config import TrainConfig
from lensllm.entry import entry_point, instantiate_runner, output_dir
from lensllm.harmless import redact


@entry_point("train", TrainConfig)
def main(cfg: DictConfig) -> float:
    """Fine-tune one model on one subset, store the result, and return its `objective`."""
    from pytorch_lightning.utilities import rank_zero_only

    from lensllm.reporting.console import say
    from lensllm.trials import Trial

    runner = instantiate_runner(cfg)
    (name,) = runner.sources
    runner.store.check_writable()
    result = runner.attempt(Trial(name, runner.data.name, cfg.n_samples, cfg.seed))
    if rank_zero_only.rank > 0:  # one of several processes that train together tells
        return float(getattr(result, cfg.objective))
    path = Path(output_dir()) / "result.json"
    path.write_text(json.dumps(redact(result.to_json()), indent=1) + "\n", encoding="utf-8")
    lost = result.data.get("lost_target_bytes", 0.0)
    say(
        f"{name} on {runner.data.name}, D = {cfg.n_samples}, seed {cfg.seed}: {result.status}, "
        f"test loss {result.test_loss:.4f} nats per token ({result.test_loss_per_byte:.4f} per "
        f"byte), {result.flops:.3g} FLOPs, {result.seconds:.1f} s; {result.cut_inputs} inputs and "
        f"{result.cut_targets} targets cut, {result.dropped_pairs} pairs dropped"
        + (f"; {lost:.2%} of the targets' bytes have no token" if lost else "")
    )
    return float(getattr(result, cfg.objective))


if __name__ == "__main__":
    main()
