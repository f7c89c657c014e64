# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Your law and your selector
# A scaling law and a selector of one's own, tried on recorded curves. Both are a few lines; the page Extend shows how to use
# them from the command.

# %%
from dataclasses import dataclass

import numpy as np

import lensllm
from lensllm.core.events import RANKED_BY, Event
from lensllm.core.points import losses_by_size
from lensllm.laws.base import split
from lensllm.selectors.base import ask_for

# %% [markdown]
# ## A law
# $L(D) = B / \log(e + D)^{\beta} + E$ falls ever more slowly. A law says how its falling part depends on $D$ and on its
# shape (here the exponent $\beta$), and how to get from the coordinates of the fit to its parameters.

# %%


@dataclass(frozen=True)
class LogarithmicLaw(lensllm.ScalingLaw):
    """L = B / log(e + D)^β + E."""

    @property
    def param_names(self):
        return ("scale", "beta", "irreducible_loss")

    @property
    def shape_names(self):
        return ("beta",)

    def __call__(self, n_samples, params):
        scale, beta, floor = split(params)
        return scale * np.log(np.e + np.asarray(n_samples, dtype=float)) ** -beta + floor

    def shape_bounds(self, log_n_min, log_n_max):
        full = (*np.shape(log_n_min), 1)
        return np.full(full, 0.01), np.full(full, 8.0)

    def log_shape(self, log_n, shape, gradient=True):
        log_log = np.log(np.log(np.e + np.exp(log_n)))
        values = -shape[..., 0, None] * log_log
        return values, -np.broadcast_to(log_log, values.shape)[None] if gradient else np.empty(0)

    def params_of(self, coordinates, log_reference):
        c, share, beta = np.moveaxis(coordinates, -1, 0)
        reach = np.log(np.e + np.exp(log_reference)) ** beta
        return np.stack([share * np.exp(c) * reach, beta, (1 - share) * np.exp(c)], axis=-1)

    def prior_shape(self):
        return np.array([0.0]), np.array([np.log(3.0)])  # of log β

    def free_to_shape(self, free):
        return np.exp(free)


# %% [markdown]
# Does it predict better than the rectified law? Fit both to the points up to D = 3 200 of every recorded curve on docstrings
# and wiki, and compare the error at the largest size.

# %%
curves = lensllm.load_zoo().curves
curves = curves[curves["dataset"].isin(["docstrings", "wiki"]) & (curves["n_samples"] > 0)]
laws = {"rectified": lensllm.RectifiedLaw(), "logarithmic": LogarithmicLaw()}
errors = {name: [] for name in laws}
for _, curve in curves.groupby(["dataset", "model", "seed"]):
    seen, last = curve[curve["n_samples"] <= 3200], curve.loc[curve["n_samples"].idxmax()]
    for name, law in laws.items():
        fit = lensllm.fit_law(law, seen["n_samples"], seen["test_loss"])
        errors[name].append(np.log(fit.predict(last["n_samples"]) / last["test_loss"]))
for name, values in errors.items():
    print(f"{name:12s} RMSE on log loss {np.sqrt(np.mean(np.square(values))):.4f}")

# %% [markdown]
# ## A selector
# `ask` says which trials to run next, and `rank` orders the candidates. This one drops the worse half of the candidates
# after every size, as successive halving does.


# %%
@dataclass(frozen=True)
class DropHalf(lensllm.Selector):
    """All candidates at the smallest size, the better half at the next one, and so on."""

    def ask(self, task, curves, budget):
        order = [entry.model for entry in self.rank(task, curves).ranking]
        seen = sorted(set(curves["n_samples"]))
        sizes = [n for n in task.sizes if n > 0 and n not in seen and budget.allows(n)]
        keep = order[: max(1, len(order) // 2 ** len(seen))]
        pairs = [(model, sizes[0]) for model in keep] if sizes and len(keep) > 1 else []
        cost = sum(task.costs[pair] for pair in pairs)
        return ask_for(task, curves, pairs if cost <= budget.remaining else [])

    def rank(self, task, curves):
        losses = losses_by_size(curves, task.measure)
        last = {name: max(losses.get(name, {0: np.inf}).items()) for name in task.names}
        order = sorted(task.names, key=lambda name: (-last[name][0], last[name][1]))
        entries = [lensllm.RankedModel(name, float(i)) for i, name in enumerate(order)]
        return lensllm.Selection.of(self.name, task, entries, Event(RANKED_BY, reason="survival"))


# %% [markdown]
# Judged against others on the recorded curves, with 10 and 20 % of the cost of full fine-tuning:

# %%
rivals = [DropHalf(), lensllm.SubTuning(), lensllm.ModelSize(), lensllm.RandomChoice()]
judged = lensllm.evaluate(
    lensllm.load_zoo(), rivals, budget_ratios=(), budget_fractions=(0.1, 0.2), datasets=["docstrings"]
)
table = judged.scores.groupby("selector", sort=False)[["regret", "cost_fraction"]].mean()
table.round(3)
