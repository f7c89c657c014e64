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
# # Reproduce the papers
# The tables of the papers are made by `make tables`. This notebook shows the two ideas behind them on few curves: fits of
# scaling laws, and selection by extrapolation.
#
# If the benchmark of the Rectified Scaling Law paper (Lin et al., ICML 2024) is on this machine, it is used; otherwise the
# project's own recorded curves are. `lensllm download` fetches it, and `LENSLLM_BENCHMARK_DIR` says where it is.

# %%
import os
from pathlib import Path

import lensllm
from lensllm.studies.papers.published import published

folder = Path(os.environ.get("LENSLLM_BENCHMARK_DIR", "outputs/benchmark"))
here = any((at / "flan.csv").is_file() for at in (folder, folder / "rsl"))
benchmark = lensllm.load_rsl(folder) if here else lensllm.load_zoo()
dataset = "gigaword" if here else "docstrings"
print("benchmark:", benchmark.name, "| data set:", dataset)

# %% [markdown]
# ## Fits of the laws (Table 3)
# RMSE on log loss over all models, with all sizes D > 0. The paper's figures for Gigaword are 0.00515 for the rectified law
# and 0.01057 for the vanilla law.

# %%
import numpy as np

curves = benchmark.curves.query("dataset == @dataset and n_samples > 0 and seed == 0")
wide = curves.pivot(index="model", columns="n_samples", values="test_loss")
laws = {"rectified": lensllm.RectifiedLaw(), "vanilla": lensllm.VanillaLaw()}
for name, law in laws.items():
    fits = lensllm.fit_laws(law, wide.columns.to_numpy(float), wide.to_numpy())
    errors = np.log(law(wide.columns.to_numpy(float), fits.params)) - np.log(wide.to_numpy())
    print(f"{name:10s} {np.sqrt(np.nanmean(errors**2, axis=1)).mean():.5f}")

# %% [markdown]
# ## Selection (Table 1)
# Every method is given all sizes up to D_full divided by a ratio, and predicts which model will be the best. Percent of the
# Pearson correlation between scores and true losses:

# %%
selectors = [lensllm.AcceptThenStop(), lensllm.SubTuning(), lensllm.ModelSize(), lensllm.ZeroShot()]
ratios = (8, 16, 32, 64) if here else (4, 8, 16)
judged = lensllm.evaluate(benchmark, selectors, budget_ratios=ratios, datasets=[dataset])
table = judged.scores.pivot_table(index="selector", columns="budget_ratio", values="pearson")
(100 * table).round(1)

# %% [markdown]
# The paper's figures for Gigaword:

# %%
paper = published("rsl_selection").query("dataset == 'gigaword' and metric == 'pearson'")
paper.set_index("selector")[[f"ratio_{ratio}" for ratio in (8, 16, 32, 64)]]

# %% [markdown]
# ## Why the rectified law
# A straight line on logarithmic axes through the flat first part of a curve promises too little. The rectified law sees the
# bend coming, if the points show it.

# %%
import matplotlib.pyplot as plt

model = wide.index[0]
sizes = wide.columns.to_numpy(float)
losses = wide.loc[model].to_numpy()
seen = sizes <= sizes[-4]
figure, axes = plt.subplots(figsize=(6, 3.6))
axes.plot(sizes, losses, "o", mfc="none", color="0.4", label="recorded")
axes.plot(sizes[seen], losses[seen], "o", color="black", label="fitted")
grid = np.geomspace(sizes[0], sizes[-1], 200)
for name, law in {"rectified": laws["rectified"], "power law": lensllm.VanillaLaw(with_alpha=False)}.items():
    axes.plot(grid, lensllm.fit_law(law, sizes[seen], losses[seen]).predict(grid), label=name)
axes.set(xscale="log", yscale="log", title=f"{model} on {dataset}")
axes.set(xlabel="fine-tuning samples D", ylabel="test loss")
axes.legend()
figure.tight_layout()
