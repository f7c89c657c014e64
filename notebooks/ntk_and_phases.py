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
# # Reading NTK and phases
# Two things that papers say can be known before training: how fast a model will learn, from its gradients (the NTK), and
# whether its final loss can be predicted at all (the phases of pre-hoc risk).

# %% [markdown]
# ## The NTK of a small model
# The kernel is taken on 32 examples of a task, at the weights before fine-tuning. Here the task is to write words in
# capitals.

# %%
import tempfile

import matplotlib.pyplot as plt
import numpy as np

from lensllm.curvature.provider import NTKProvider
from lensllm.data import make_text_data
from lensllm.finetune import ModelSource

words = "river stone cloud forest bread music winter garden silver letter candle mirror".split()
pairs = [(f"{a} and {b}", f"{a} {b}".upper()) for a in words for b in words if a != b]
data = make_text_data("capitals", pairs[:100], pairs[100:115], pairs[115:], 24, 24)
names = ["gpt2-48x2", "opt-64x2"]
provider = NTKProvider(
    [ModelSource(name) for name in names], data, tempfile.mkdtemp(), learning_rate=1e-3, n_probe=32
)
kernels = {name: provider(name).curve for name in names}

# %% [markdown]
# $F(\Theta, t)$ is the part of the loss that would be left after $t$ steps of gradient descent if the kernel did not change.
# Directions with large eigenvalues are learned at once, those with small ones slowly.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
steps = np.geomspace(0.1, 1e4, 100)
for name, curve in kernels.items():
    left.semilogy(np.arange(1, 33), curve.eigenvalues, "o-", ms=3, label=name)
    right.plot(steps, curve(steps), label=name)
left.set(xlabel="number", ylabel="eigenvalue of the NTK")
right.set(xscale="log", xlabel="steps t", ylabel="F(Θ, t)")
right.legend()
figure.tight_layout()
for name, curve in kernels.items():
    print(f"{name:10s} F(0) = {curve(0.0):.1f}, largest eigenvalue {curve.eigenvalues[0]:.0f}")

# %% [markdown]
# In LensLLM's law, F takes the place of the rectified law's $D_l$. With a fitted number of steps it can have any value below
# F(0), so that the kernel adds an upper limit and no more:

# %%
import lensllm

recorded = lensllm.load_zoo().curves.query("dataset == 'wiki' and seed == 0 and n_samples > 0")
for name in names:
    points = recorded[recorded["model"] == name]
    fit = lensllm.fit_law(lensllm.RectifiedLaw(), points["n_samples"], points["test_loss"])
    print(f"{name:10s} D_l = {fit.named_params['pre_learned_size']:.1f}, "
          f"power phase from D = {fit.transition_size:.0f}")

# %% [markdown]
# ## Phases
# A simulated process, whose parts are known: most of the final loss is decided in the course of training, and a probe shows
# it. The risk of predicting the final loss falls as a power of the probe's cost, down to what nothing can tell.

# %%
from lensllm.prehoc.phases import locate
from lensllm.prehoc.process import SyntheticProcess
from lensllm.prehoc.risk import decompose

costs = np.geomspace(0.01, 1.0, 12)
process = SyntheticProcess(static_variance=0.02, reducible=0.2, intrinsic=0.02)
runs = process.draw(costs, n_models=12, n_seeds=6, rng=np.random.default_rng(0), task="simulated")
found = decompose(runs, "simulated", n_draws=100)
phase = locate(found)
print("verdict:", phase.verdict)
print("shares (known before, shown by probes, by nothing):", np.round(phase.shares, 2))
true = [process.static_variance, process.reducible, process.intrinsic]
print("true shares:", np.round(np.array(true) / process.outcome_variance, 2))

# %%
figure, axes = plt.subplots(figsize=(6, 3.4))
axes.plot(costs, found.squared_errors[found.best].mean(axis=0), "o", label="error of predictions")
axes.plot(costs, process.law(costs), color="black", label="true risk")
axes.axhline(process.intrinsic, color="0.6", ls="--", label="what no probe removes")
axes.set(xscale="log", yscale="log", xlabel="cost of the probe, share of the run")
axes.set(ylabel="risk (nats²)")
axes.legend()
figure.tight_layout()
