"""Accept, then stop, for many candidates at once: one batch of fits per step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lensllm.laws import LawFits, LensLLMLaw

# With as many points as parameters the residuals are 0, and no further point would ever be within
# τ times their standard deviation.
SMALLEST_STD = 1e-3

Points = Mapping[int, float]
Fit = Callable[[Sequence[LensLLMLaw], Sequence[Points]], LawFits]


@dataclass
class LawWalk:
    """The state of one candidate's walk from the largest size down to smaller ones.

    Attributes:
        law: The law whose fit is tested.
        sizes: Sizes D > 0 of the candidate, ascending.
        seen: Its losses by size; `nan` for a diverged trial, which is skipped.
        zero: Its loss at D = 0 if that is included in every fit, else `nan`.
        accepted: Sizes accepted so far, descending.
        ask: Size to be tested next that was not measured; `None` if there is none.
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
        """The points that the law is fitted to: the accepted ones, and D = 0 if it is included."""
        points = {n: self.seen[n] for n in self.accepted}
        return {**points, 0: self.zero} if math.isfinite(self.zero) else points

    def advance(self, n_first: int) -> int | None:
        """Accept the sizes that need no test; return the next size to test, `None` at the end."""
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
        """Record the result of the test of size n."""
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
    """Complete the walks of all candidates, with one batch of fits for all tests of a step.

    A size is accepted while |log residual| ≤ τ · max(standard deviation of the log residuals of the
    points accepted so far, `SMALLEST_STD`).

    Args:
        walks: The walks; changed in place.
        fit: Fits laws to points.
        n_first: Points that are accepted untested.
        tau: τ.
        known: A cache of test results, which is read and extended: a campaign repeats its walks
            after every newly measured size.
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
    """The cache key of a test; each candidate's law has one curve object."""
    law, points = walk.law, tuple(walk.points.items())
    return (id(law.ntk_loss), law.n_steps, law.ntk_scale, points, n, walk.seen[n])


def _accepts(pairs: Sequence[tuple[LawWalk, int]], fit: Fit, tau: float) -> list[bool]:
    """Whether each size passes the test against the law of its walk's accepted points."""
    fits = fit([walk.law for walk, _ in pairs], [walk.points for walk, _ in pairs])
    predicted = fits.predict([float(n) for _, n in pairs]).diagonal()
    answers = []
    for (walk, n), value, residuals in zip(pairs, predicted, fits.log_residuals, strict=True):
        std = float(np.std(residuals[np.isfinite(residuals)]))
        error = abs(math.log(walk.seen[n] / value)) if math.isfinite(value) else 0.0
        answers.append(error <= tau * max(std, SMALLEST_STD))
    return answers
