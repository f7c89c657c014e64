"""One candidate's curvature, before and after fine-tuning on subsets of growing size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning.callbacks import Callback

from lensllm.core.trials import Trial, TrialResult
from lensllm.curvature.bound import BoundTerms, HessianDecay, fit_hessian_decay
from lensllm.curvature.hessian import HessianTerms, displacements, hessian_terms
from lensllm.curvature.ntk_loss import NTKLoss
from lensllm.curvature.probe import (
    IGNORED,
    check_probe,
    differentiable,
    functional_logits,
    mean_log_prob,
    model_inputs,
)
from lensllm.curvature.provider import probe_batch

if TYPE_CHECKING:
    from lensllm.execution.finetune import FineTuneRunner


@dataclass(frozen=True)
class SizeAnalysis:
    """Results at one size.

    Attributes:
        result: The fine-tuning trial.
        training_loss: L̂ of the fine-tuned model on (a part of) its subset, nats per target token.
        terms: Hessian terms on a sample of test examples.
        bound: Terms of the bound.
    """

    result: TrialResult
    training_loss: float
    terms: HessianTerms
    bound: BoundTerms


@dataclass(frozen=True)
class CurvatureAnalysis:
    """Results for one candidate.

    Attributes:
        model: Name of the candidate.
        curve: F(Θ, t) at the pre-trained weights.
        ntk_flops: FLOPs of its NTK.
        sizes: One entry per size, ascending.
        decay: Decay of the Hessian terms; `None` for a single size.
    """

    model: str
    curve: NTKLoss
    ntk_flops: float
    sizes: tuple[SizeAnalysis, ...]
    decay: HessianDecay | None

    def spectrum_table(self) -> pd.DataFrame:
        """One row per eigenvalue of the NTK, and the share of the residual up to it."""
        curve = self.curve
        return pd.DataFrame(
            {
                "number": np.arange(1, curve.n_examples + 1),
                "eigenvalue": curve.eigenvalues,
                "captured": curve.captured,
            }
        )

    def loss_table(self, n_steps: int = 100) -> pd.DataFrame:
        """F(t) from t = 0 to where the slowest direction is learned, evenly in log t."""
        rates = self.curve.rates[self.curve.rates > 0]
        steps = np.geomspace(0.01 / rates.max(), 3 / rates.min(), n_steps)
        steps = np.concatenate([[0.0], steps])
        return pd.DataFrame({"n_steps": steps, "ntk_loss": self.curve(steps)})

    def layer_table(self) -> pd.DataFrame:
        """One row per size and layer: h_i, its errors, and how far the layer moved."""
        rows = []
        for entry in self.sizes:
            terms = entry.terms
            for i, layer in enumerate(terms.layers):
                rows.append(
                    {
                        "model": self.model,
                        "n_samples": entry.result.trial.n_samples,
                        "layer": layer,
                        "hessian_max": terms.maximum[i],
                        "hessian_max_error": terms.maximum_error[i],
                        "hessian_mean": terms.mean[i],
                        "hessian_mean_error": terms.mean_error[i],
                        "total_mean": terms.total[i].mean(),
                        "distance": terms.distance[i],
                        "lanczos_change": np.median(terms.change[i]),
                    }
                )
        return pd.DataFrame(rows)

    def size_table(self) -> pd.DataFrame:
        """One row per size: losses, the bound's terms, and F at the early-stopping step."""
        return pd.DataFrame(
            [
                {
                    "model": self.model,
                    "n_samples": entry.result.trial.n_samples,
                    "test_loss": entry.result.test_loss,
                    "training_loss": entry.training_loss,
                    "empirical_term": entry.bound.empirical_term,
                    "hessian_term": entry.bound.hessian_term,
                    "rate_of_remainder": entry.bound.rate_of_remainder,
                    "max_loss": entry.bound.max_loss,
                    "best_step": entry.result.best_step,
                    "ntk_loss": float(self.curve(entry.result.best_step)),
                }
                for entry in self.sizes
            ]
        )


class _KeepModel(Callback):
    """Keeps the model that a trial was tested with, the one with its best weights."""

    model: Any = None

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        """Take it."""
        self.model = pl_module.model


def fine_tune(runner: FineTuneRunner, model: str, n_samples: int) -> tuple[TrialResult, Any]:
    """Run one trial and keep its weights; its result goes to the runner's store.

    Args:
        runner: A `lensllm.execution.finetune.FineTuneRunner`.
        model: Name of the candidate.
        n_samples: Size D > 0.

    Returns:
        The result and the fine-tuned model, in eval mode.

    Raises:
        ValueError: The size is not positive, or training diverged.
    """
    from lensllm.finetune.trial import run_trial

    if n_samples <= 0:
        raise ValueError(
            f"Expected `n_samples` > 0, got {n_samples}: there is no fine-tuning at D = 0"
        )
    keep = _KeepModel()

    def make_trainer(callbacks: Sequence[Any], **options: Any) -> Any:
        return runner.make_trainer(callbacks=[*callbacks, keep], **options)

    trial = runner.complete(Trial(model, runner.data.name, n_samples, runner.seed))
    result = run_trial(
        trial,
        runner.sources[model],
        runner.data,
        runner.settings,
        runner.optimizer_of(runner.sources[model]),
        runner.make_scheduler,
        make_trainer,
    )
    runner.store.add(result)
    if result.status != "completed":
        raise ValueError(
            f"Expected a trial that completes, got {result.status} for {model!r} at n_samples = "
            f"{n_samples}: lower optimizer.lr"
        )
    return result, keep.model.eval()


def analyze_size(
    runner: FineTuneRunner,
    model: str,
    n_samples: int,
    *,
    n_hessian: int = 16,
    n_training: int = 256,
    n_steps: int = 30,
    epsilon: float = 0.1,
    progress: Callable[[int, int], None] | None = None,
) -> SizeAnalysis:
    """Fine-tune on one subset, and take the Hessian terms at the weights found.

    Args:
        runner: See `fine_tune`.
        model: Name of the candidate.
        n_samples: Size D > 0.
        n_hessian: Test examples of the sample.
        n_training: Training examples on which L̂ is measured, at most.
        n_steps: Lanczos steps, see `lensllm.curvature.lanczos`.
        epsilon: ε of the bound.
        progress: Called with (examples done, examples in all).
    """
    source, data = runner.sources[model], runner.data
    text = (runner.seed, runner.settings.prompt, runner.settings.truncation_side)
    result, tuned = fine_tune(runner, model, n_samples)
    moves = displacements(tuned, source.load_model())
    sample = probe_batch(source, data, "test", min(n_hessian, len(data.test)), *text)
    terms = hessian_terms(tuned, moves, sample, n_steps=n_steps, progress=progress)
    train = probe_batch(source, data, "train", min(n_samples, n_training), *text)
    losses, counts = example_losses(tuned, train)
    bound = BoundTerms(
        n_samples,
        training_loss=float((losses * counts).sum() / counts.sum()),
        hessian=tuple(map(float, terms.maximum)),
        max_loss=float(max(terms.losses.max(), losses.max())),
        epsilon=epsilon,
    )
    return SizeAnalysis(result, bound.training_loss, terms, bound)


def example_losses(model: Any, batch: Any, chunk_size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Loss per target token of each example, and its number of target tokens."""
    own = next(model.parameters())
    data = {name: value.to(own.device) for name, value in check_probe(batch).items()}
    losses = []
    with differentiable(model), torch.no_grad():
        for rows in torch.arange(len(data["labels"])).split(chunk_size):
            part = {name: value[rows] for name, value in data.items()}
            inputs = model_inputs(model, part, own.dtype)
            logits = functional_logits(model, {}, inputs, part["labels"].shape[1])
            losses.append(-mean_log_prob(logits, part["labels"]))
    counts = (data["labels"] != IGNORED).sum(dim=1)
    return torch.cat(losses).double().cpu().numpy(), counts.cpu().numpy()


def analyze(
    runner: FineTuneRunner,
    ntk: Callable[[str], Any],
    model: str,
    n_samples: Sequence[int],
    *,
    n_hessian: int = 16,
    n_training: int = 256,
    n_steps: int = 30,
    epsilon: float = 0.1,
    progress: Callable[[str], None] | None = None,
) -> CurvatureAnalysis:
    """Analyse one candidate: its NTK, then fine-tuning and Hessian terms at each size.

    Args:
        runner: See `fine_tune`.
        ntk: Maps the candidate's name to an object with `curve` and `flops`, such as
            `lensllm.curvature.provider.NTKProvider`.
        model: Name of the candidate.
        n_samples: Sizes D > 0.
        n_hessian: See `analyze_size`.
        n_training: See `analyze_size`.
        n_steps: See `analyze_size`.
        epsilon: See `analyze_size`.
        progress: Called with what is done next.

    Raises:
        ValueError: No size is given, or one of them is unusable.
    """
    sizes = sorted(set(n_samples))
    if not sizes:
        raise ValueError("Expected at least one size in `n_samples`, got none")
    tell = progress or (lambda text: None)
    tell(f"{model}: NTK")
    record = ntk(model)
    found = []
    for n in sizes:
        tell(f"{model}: fine-tuning and Hessian terms at D = {n}")
        found.append(
            analyze_size(
                runner,
                model,
                n,
                n_hessian=n_hessian,
                n_training=n_training,
                n_steps=n_steps,
                epsilon=epsilon,
            )
        )
    decay = None
    if len(found) > 1:
        decay = fit_hessian_decay(
            sizes,
            [entry.bound.hessian for entry in found],
            max(entry.bound.max_loss for entry in found),
        )
    return CurvatureAnalysis(model, record.curve, record.flops, tuple(found), decay)


def transitions(analysis: CurvatureAnalysis, curves: pd.DataFrame) -> dict[str, float]:
    """Where the phase transition of one candidate lies, by each criterion.

    Args:
        analysis: The analysis.
        curves: Tidy table of the candidate's curve on the same data set, at least four sizes.

    Returns:
        `rectified`, (D_l)^(1/β) of the rectified law; `lensllm`, F^(1/β) of the LensLLM law with
        κ = 1; `hessian`, the theoretical one (`nan` for a single size or where nothing is
        overtaken); and the values that they are based on: `pre_learned_size` D_l, `beta`,
        `ntk_loss_fitted` F as the LensLLM law fits it, `ntk_loss_zero` F(0) and `ntk_loss_observed`
        F at the early-stopping step of the largest size analysed; `rectified_rmse_log` and
        `lensllm_rmse_log`.

    Raises:
        ValueError: The curve has too few sizes.
    """
    from lensllm.laws import LensLLMLaw, RectifiedLaw, fit_law

    rows = curves[(curves["model"] == analysis.model) & np.isfinite(curves["test_loss"])]
    sizes, losses = rows["n_samples"].to_numpy(float), rows["test_loss"].to_numpy(float)
    rectified = fit_law(RectifiedLaw(), sizes, losses, use_zero=True)
    lens = fit_law(LensLLMLaw(analysis.curve), sizes, losses, use_zero=True)
    steps = analysis.sizes[-1].result.best_step
    return {
        "rectified": float(rectified.law.transition_size(rectified.params)),
        "lensllm": float(lens.law.transition_size(lens.params)),
        "hessian": float("nan") if analysis.decay is None else analysis.decay.transition_size(),
        "pre_learned_size": rectified.named_params["pre_learned_size"],
        "beta": rectified.named_params["beta"],
        "ntk_loss_fitted": float(analysis.curve(lens.named_params["n_steps"])),
        "ntk_loss_zero": float(analysis.curve(0.0)),
        "ntk_loss_observed": float(analysis.curve(steps)),
        "rectified_rmse_log": rectified.rmse_log,
        "lensllm_rmse_log": lens.rmse_log,
    }
