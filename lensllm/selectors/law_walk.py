"""Accept, then stop, for many candidates at once: one batch of fits a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lensllm.laws import LawFits, LensLLMLaw

# As many points as parameters leave no residual, and no point would ever be within τ times that.
SMALLEST_STD = 1e-3

Points = Mapping[int, float]
Fit = Callable[[Sequence[LensLLMLaw], Sequence[Points]], LawFits]


@dataclass
class LawWalk:
    """Where the walk down from the largest size has come to for one candidate.

    Attributes:
        law: The law whose fit is tested.
        sizes: Sizes D > 0 of the candidate, ascending.
        seen: Its losses by size; `nan` for a diverged trial, which is passed over.
        zero: Its loss at D = 0 where that is a point of every fit, else `nan`.
        accepted: Sizes accepted so far, descending.
        ask: Size to be tested next that was not seen; `None` where there is none.
        ended: Whether nothing is left to test.
    """

    law: LensLLMLaw
    sizes: tuple[int, ...]
    seen: Points
    zero: float = math.nan
    accepted: list[int] = field(default_factory=list)
    ask: int | None = None
    ended: bool = False
    _place: int = 0

    @property
    def points(self) -> dict[int, float]:
        """The points of the law: those accepted, and D = 0 where that is one."""
        points = {n: self.seen[n] for n in self.accepted}
        return {**points, 0: self.zero} if math.isfinite(self.zero) else points

    def advance(self, n_first: int) -> int | None:
        """Accept what needs no test; the size to be tested next, or `None` at the end."""
        while not self.ended and self._place < len(self.sizes):
            n = self.sizes[-1 - self._place]
            if n not in self.seen:
                self.ask = n
                break
            if math.isfinite(self.seen[n]):
                if len(self.accepted) >= n_first:
                    return n
                self.accepted.append(n)
            self._place += 1
        self.ended = True
        return None

    def decide(self, n: int, accept: bool) -> None:
        """Take the answer of the test of size n."""
        if accept:
            self.accepted.append(n)
            self._place += 1
        else:
            self.ended = True


def walk_together(
    walks: Sequence[LawWalk],
    fit: Fit,
    n_first: int,
    tau: float,
    known: dict[object, bool] | None = None,
) -> None:
    """Walk all candidates to their ends, all tests of a step in one batch of fits.

    A size is accepted while |log residual| ≤ τ · max(standard deviation of the log residuals of the
    points accepted so far, `SMALLEST_STD`).

    Args:
        walks: The walks; changed in place.
        fit: Fits laws to points.
        n_first: Points that are accepted untested.
        tau: τ.
        known: Answers of earlier tests, looked up and added to: a campaign repeats its walks
            whenever it has seen one more size.
    """
    known = {} if known is None else known
    while pending := [(w, n) for w in walks if (n := w.advance(n_first)) is not None]:
        keys = [_question(walk, n) for walk, n in pending]
        fresh = [pair for pair, key in zip(pending, keys, strict=True) if key not in known]
        if fresh:
            answers = _accepts(fresh, fit, tau)
            known.update({_question(*p): a for p, a in zip(fresh, answers, strict=True)})
        for (walk, n), key in zip(pending, keys, strict=True):
            walk.decide(n, known[key])


def _question(walk: LawWalk, n: int) -> object:
    """What decides a test; the law's curve is one object a candidate."""
    law, points = walk.law, tuple(walk.points.items())
    return (id(law.ntk_loss), law.n_steps, law.ntk_scale, points, n, walk.seen[n])


def _accepts(pairs: Sequence[tuple[LawWalk, int]], fit: Fit, tau: float) -> list[bool]:
    """Whether each size is near enough to the law of its walk's accepted points."""
    fits = fit([walk.law for walk, _ in pairs], [walk.points for walk, _ in pairs])
    predicted = fits.predict([float(n) for _, n in pairs]).diagonal()
    answers = []
    for (walk, n), value, residuals in zip(pairs, predicted, fits.log_residuals, strict=True):
        std = float(np.std(residuals[np.isfinite(residuals)]))
        error = abs(math.log(walk.seen[n] / value)) if math.isfinite(value) else 0.0
        answers.append(error <= tau * max(std, SMALLEST_STD))
    return answers
