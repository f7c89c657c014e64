"""The stopping rule while a run trains: a Lightning callback."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from lensllm.core.trials import TrialResult
from lensllm.prehoc.probes import planned_steps
from lensllm.prehoc.stopping import StopAdvice, StoppingRule

Rivals = Callable[[float], Sequence[float]]


class ProbeStopping(Callback):
    """Asks the rule after every validation, and ends the run when the rule says so.

    Args:
        rule: The rule. With rivals its law is in units of the variance of their losses and the
            run's; without, in nats², and only price and depth stop a run.
        rivals: Function from a cost (share of the planned steps) to the losses of the other
            candidates at that cost, `trace_rivals` for instance.
        monitor: Name of the validation loss.

    Attributes:
        decisions: (cost, decision) after every validation; the last one says why the run stopped.
    """

    def __init__(
        self, rule: StoppingRule, rivals: Rivals | None = None, monitor: str = "val_loss"
    ) -> None:
        self.rule = rule
        self.rivals = rivals
        self.monitor = monitor
        self.decisions: list[tuple[float, StopAdvice]] = []

    @property
    def decision(self) -> StopAdvice | None:
        """The latest decision; `None` before the first validation."""
        return self.decisions[-1][1] if self.decisions else None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Judge the run at the share of its steps that it has taken."""
        loss = float(trainer.callback_metrics[self.monitor])
        cost = trainer.global_step / float(trainer.estimated_stepping_batches)
        rivals = list(self.rivals(cost)) if self.rivals is not None else []
        unit = float(np.var([loss, *rivals])) if rivals else 1.0
        decision = self.rule.decide(cost, loss, rivals, unit)
        self.decisions.append((cost, decision))
        if decision.stop:
            trainer.should_stop = True


def trace_rivals(results: Iterable[TrialResult]) -> Rivals:
    """Losses of finished runs of other candidates at the cost that a run has reached.

    Args:
        results: Runs on the same data set, size and seed, with traces.

    Returns:
        A function of the cost; runs without an evaluation by then are left out.
    """
    traces = [
        (np.array([step for step, _ in r.trace]) / planned_steps(r), [loss for _, loss in r.trace])
        for r in results
        if r.trace
    ]

    def at(cost: float) -> list[float]:
        seen = [(np.flatnonzero(shares <= cost * (1 + 1e-9)), losses) for shares, losses in traces]
        return [losses[places[-1]] for places, losses in seen if len(places)]

    return at
