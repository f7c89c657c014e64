"""LensLLM: accept, then stop, with the NTK law instead of the line."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from lensllm.core.events import RANKED_BY, Event
from lensllm.core.points import losses_by_size, require_sizes, sizes_up_to, too_small
from lensllm.core.selection import Selection
from lensllm.core.task import Budget, Task
from lensllm.laws import LawFit, LawFits, LensLLMLaw, NTKLossCurve, fit_laws
from lensllm.selectors.base import Decision, Selector, affordable_size, ask_for
from lensllm.selectors.forecast import Forecast, rank_forecasts
from lensllm.selectors.law_extrapolation import law_forecasts
from lensllm.selectors.law_walk import LawWalk, Points, walk_together

MODES = ("prediction", "phase")
SCALES = tuple(float(x) for x in 10.0 ** np.arange(-2.0, 5.0))


@dataclass(frozen=True)
class LensLLM(Selector):
    r"""Algorithm 1 of Zeng et al., ICML 2025 (arXiv:2505.03793).

    For each candidate, fit L = B / (κ F(Θ, t) + D^β) + E to the γ largest sizes; accept the next
    smaller size while its absolute log residual is at most τ · (standard deviation of the log
    residuals of the points accepted so far, see `lensllm.selectors.law_walk`), else stop;
    extrapolate the law of the accepted points to D_full. If γ is smaller than the law's number of
    parameters, the walk begins with as many points as parameters. D = 0 is included in every fit,
    since F describes the pre-trained model; `use_zero=False` leaves it out.

    Attributes:
        ntk: F(Θ, t) of each candidate: a mapping by name, or a function of the name that returns a
            curve, or an object with `curve` and `flops`, such as
            `lensllm.curvature.provider.NTKProvider`.
        gamma: γ ≥ 3, points accepted untested.
        tau: τ > 0, the threshold.
        mode: `prediction` fits t; `phase` takes the early-stopping step of the largest accepted
            size, which the curves must contain (`best_step`).
        ntk_scale: κ; 1 as in the paper, `None` to fit one κ over all candidates of the task (the
            member of `SCALES` with the smallest sum of the fits' objectives).
        use_zero: Whether D = 0 is included in the fits.
        objective: See `lensllm.laws.fit_law`.
        delta: δ of the Huber objective.
        n_starts: Starting points of each fit.
        seed: Seed of starts and draws.
    """

    ntk: Mapping[str, NTKLossCurve] | Callable[[str], Any] | None = None
    gamma: int = 3
    tau: float = 5.0
    mode: str = "prediction"
    ntk_scale: float | None = 1.0
    use_zero: bool = True
    objective: str = "huber"
    delta: float = 1e-3
    n_starts: int = 8
    seed: int = 0
    _curves: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _known: dict[object, bool] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.gamma < 3:
            raise ValueError(f"Expected `gamma` >= 3, got {self.gamma}")
        if not self.tau > 0:
            raise ValueError(f"Expected `tau` > 0, got {self.tau:g}")
        if self.mode not in MODES:
            raise ValueError(f"Expected `mode` to be {' or '.join(MODES)}, got {self.mode!r}")
        if self.ntk_scale is not None and not self.ntk_scale > 0:
            raise ValueError(f"Expected `ntk_scale` > 0 or none, got {self.ntk_scale:g}")

    @property
    def name(self) -> str:
        """`lensllm`, with `_phase` in that mode and `_kappa` if κ is fitted."""
        phase = "_phase" if self.mode == "phase" else ""
        return "lensllm" + phase + ("_kappa" if self.ntk_scale is None else "")

    @property
    def n_first(self) -> int:
        """Points at D > 0 that are accepted untested."""
        return max(self.gamma, self.n_needed)

    @property
    def n_needed(self) -> int:
        """Points at D > 0 without which the law has more parameters than points."""
        n_params = 4 if self.mode == "prediction" else 3
        return n_params - int(self.use_zero)

    def preparation_cost(self, task: Task) -> float:
        """FLOPs of the NTKs of all candidates."""
        return sum(float(getattr(self._record(m), "flops", 0.0)) for m in task.names)

    def ask(self, task: Task, curves: pd.DataFrame, budget: Budget) -> Decision:
        """D = 0 and the first points of every candidate, then the next one of each open walk.

        Raises:
            BudgetTooSmallError: The budget does not pay for the NTKs and the first trials.
        """
        ntks = self.preparation_cost(task)
        if not budget.flops > ntks:
            advice = "raise the budget, or lower selector.ntk.n_probe"
            raise too_small(task, budget, "the NTKs of the candidates", ntks, advice=advice)
        left, zero = Budget(budget.flops - ntks, budget.max_n_samples), self.use_zero
        largest = affordable_size(task, left, cumulative=True, include_zero=zero)
        what = f"the LensLLM law (beside {ntks:.3g} FLOPs for the NTKs)"
        require_sizes(task, left, largest, self.n_needed + zero, what, include_zero=zero)
        losses = losses_by_size(curves, task.measure)
        pairs: list[tuple[str, int]] = []
        walking: dict[str, tuple[int, ...]] = {}
        for model in task.names:
            seen, sizes = losses.get(model, {}), sizes_up_to(task, model, largest)
            first = [n for n in sizes[-self.n_first :] if n not in seen]
            if self.use_zero and 0 in task.available[model] and 0 not in seen:
                first.append(0)
            pairs += [(model, n) for n in first]
            if sizes and not first:
                walking[model] = sizes
        if walking:
            walks = self._walks(walking, losses, curves, self._scale(task, curves))
            pairs += [(model, walk.ask) for model, walk in walks.items() if walk.ask is not None]
        return ask_for(task, curves, pairs)

    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        """Rank by the laws of the accepted points at D_full, smallest first."""
        losses = losses_by_size(curves, task.measure)
        scale = self._scale(task, curves)
        usable = {m: tuple(n for n in sorted(losses.get(m, {})) if n > 0) for m in task.names}
        walks = self._walks({m: n for m, n in usable.items() if n}, losses, curves, scale)
        forecasts: dict[str, Forecast | str] = dict.fromkeys(task.names, "no usable trial")
        fitted = "fitted" if self.ntk_scale is None else ""
        notes = [Event("ntk_scale", value=scale, reason=fitted)]
        if walks:
            fits = self._fit([w.law for w in walks.values()], [w.points for w in walks.values()])
            rng = np.random.default_rng(self.seed)
            forecasts |= zip(walks, law_forecasts(fits, task.n_samples_full, rng), strict=True)
            notes += [
                _describe(model, walk.accepted, fit)
                for (model, walk), fit in zip(walks.items(), fits, strict=True)
                if isinstance(forecasts[model], Forecast)
            ]
        rule = {"gamma": self.gamma, "tau": self.tau, "kappa": scale}
        basis = Event(RANKED_BY, reason="lensllm", message=self.mode, numbers=rule)
        return rank_forecasts(self.name, task, forecasts, basis, notes)

    def _record(self, model: str) -> Any:
        """The provider's result for one candidate, computed once."""
        if model not in self._curves:
            if self.ntk is None:
                raise ValueError(
                    "Expected `ntk`, the curve F(t) of each candidate, got none: give an "
                    "NTKProvider with the models and the data, or a mapping of curves"
                )
            if isinstance(self.ntk, Mapping):
                if model not in self.ntk:
                    raise ValueError(f"Expected the NTK curve of {model!r}, got none in `ntk`")
                self._curves[model] = self.ntk[model]
            else:
                self._curves[model] = self.ntk(model)
        return self._curves[model]

    def _law(self, model: str, curves: pd.DataFrame, n_samples: int, scale: float) -> LensLLMLaw:
        """The law of one candidate, with t fixed in phase mode."""
        record = self._record(model)
        curve = getattr(record, "curve", record)
        steps = None if self.mode == "prediction" else _observed_step(curves, model, n_samples)
        return LensLLMLaw(curve, n_steps=steps, ntk_scale=scale)

    def _zero(self, seen: Points) -> float:
        """Loss at D = 0; `nan` if it is not included or not measured."""
        return seen.get(0, math.nan) if self.use_zero else math.nan

    def _fit(self, laws: Sequence[LensLLMLaw], points: Sequence[Points]) -> LawFits:
        """Fit each law to its points."""
        sizes = sorted({n for part in points for n in part})
        losses = [[part.get(n, math.nan) for n in sizes] for part in points]
        return fit_laws(
            list(laws),
            np.array(sizes, dtype=float),
            np.array(losses),
            objective=self.objective,
            delta=self.delta,
            use_zero=True,
            n_starts=self.n_starts,
            seed=self.seed,
            on_error="skip",
        )

    def _walks(
        self,
        sizes: Mapping[str, tuple[int, ...]],
        losses: Mapping[str, Points],
        curves: pd.DataFrame,
        scale: float,
    ) -> dict[str, LawWalk]:
        """The walks of some candidates, as far as points are measured and accepted."""
        walks = {
            model: LawWalk(
                self._law(model, curves, own[-1], scale),
                own,
                losses[model],
                self._zero(losses[model]),
            )
            for model, own in sizes.items()
        }
        walk_together(list(walks.values()), self._fit, self.n_first, self.tau, self._known)
        return walks

    def _scale(self, task: Task, curves: pd.DataFrame) -> float:
        """κ: given, or the one of `SCALES` that fits all points of all candidates best."""
        if self.ntk_scale is not None:
            return self.ntk_scale
        points = {}
        for model, seen in losses_by_size(curves, task.measure).items():
            finite = {n: loss for n, loss in seen.items() if n > 0 and math.isfinite(loss)}
            zero = self._zero(seen)
            if finite and model in task.names:
                points[model] = {**finite, 0: zero} if math.isfinite(zero) else finite
        if not points:
            return 1.0
        laws = [
            self._law(model, curves, max(part), scale)
            for scale in SCALES
            for model, part in points.items()
        ]
        values = self._fit(laws, [*points.values()] * len(SCALES)).value
        return SCALES[int(np.argmin(np.nansum(values.reshape(len(SCALES), -1), axis=1)))]


def _observed_step(curves: pd.DataFrame, model: str, n_samples: int) -> float:
    """Early-stopping step of one candidate at one size, the mean over seeds."""
    steps = math.nan
    if "best_step" in curves.columns:
        rows = curves[(curves["model"] == model) & (curves["n_samples"] == n_samples)]
        steps = float(rows["best_step"].mean()) if len(rows) else math.nan
    if not steps > 0:
        raise ValueError(
            f"Expected the early-stopping step `best_step` > 0 of {model!r} at n_samples = "
            f"{n_samples}, got {steps:g}: fine-tune for real, or use selector.mode=prediction"
        )
    return steps


def _describe(model: str, accepted: Sequence[int], fit: LawFit) -> Event:
    """The event with the fitted law, and whether the term with F matters."""
    term = fit.transition_size ** fit.named_params["beta"]
    numbers = {
        "n_points": len(accepted),
        "smallest": min(accepted),
        "largest": max(accepted),
        "ntk_term": term,
        "ntk_share": term / (term + min(accepted) ** fit.named_params["beta"]),
    }
    return Event("lensllm_law", model, numbers=numbers)
