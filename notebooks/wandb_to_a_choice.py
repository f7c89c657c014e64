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
# # From your W&B runs to a choice
# You have fine-tuned some models on parts of your data already, and the runs are in Weights & Biases. Are they enough to
# say which model to train on everything?
#
# In W&B, the table of runs has a button that exports it as CSV. This cell writes such a file, so that the notebook runs
# anywhere: its losses are those of real runs of four small models on 200 to 1 600 samples.

# %%
import tempfile
from pathlib import Path

import pandas as pd

import lensllm

folder = Path(tempfile.mkdtemp())
recorded = lensllm.load_zoo().curves
names = ["gpt2-96x3", "llama-64x3", "neox-80x3", "opt-64x2"]
wanted = recorded[
    (recorded["dataset"] == "docstrings")
    & recorded["model"].isin(names)
    & recorded["n_samples"].between(200, 1600)
    & (recorded["seed"] == 0)
]
export = pd.DataFrame(
    {
        "Name": [f"{row.model}-D{row.n_samples}" for row in wanted.itertuples()],
        "State": "finished",
        "Runtime": wanted["seconds"].round().astype(int),
        "model_name_or_path": wanted["model"],
        "learning_rate": 1e-3,
        "eval/loss": wanted["test_loss"],
        "train/global_step": wanted["n_samples"] // 16 * 3,
    }
)
export.to_csv(folder / "wandb_export.csv", index=False)
export.head(3)

# %% [markdown]
# `read_curves` finds the model and the loss by itself. The number of samples is in the names of the runs only, so it is
# told where.

# %%
curves = lensllm.read_curves(
    folder / "wandb_export.csv", dataset_name="docstrings", n_samples_from=r"-D(\d+)$"
)
curves.pivot(index="model", columns="n_samples", values="test_loss").round(3)

# %% [markdown]
# The question is a `Task`: who will be the best on 12 800 samples? Costs are taken as proportional to the number of samples
# where nothing better is known.

# %%
from lensllm.selectors.ask_tell import proportional_costs

full, sizes = 12_800, (200, 400, 800, 1600, 3200, 6400)
candidates = tuple(lensllm.Candidate(name) for name in names)
task = lensllm.Task(
    "docstrings",
    candidates,
    full,
    dict.fromkeys(names, sizes),
    proportional_costs(candidates, (*sizes, full), {}),
)
selection = lensllm.Adaptive().rank(task, curves)
pd.DataFrame(
    {
        "predicted loss": entry.predicted_loss,
        "lower": entry.lower80,
        "upper": entry.upper80,
        "P(best)": entry.p_best,
    }
    for entry in selection.ranking
).set_axis([entry.model for entry in selection.ranking]).round(3)

# %%
verdict = selection.verdict
print("verdict:", verdict.kind, "| contenders:", ", ".join(verdict.contenders))

# %% [markdown]
# If the runs are not enough, `ask` says which ones to add. Suppose that all runs together, those above included, may cost
# 45 % of fine-tuning the four models on everything.

# %%
spent = sum(task.costs[row.model, row.n_samples] for row in curves.itertuples())
budget = lensllm.Budget(flops=0.45 * task.full_cost, spent=spent)
print(f"spent so far: {spent / task.full_cost:.0%}")
for trial in lensllm.Adaptive().ask(task, curves, budget).trials:
    print("next:", trial.model, "on", trial.n_samples, "samples")

# %% [markdown]
# The recorded losses at 12 800 samples say who was right:

# %%
at_full = recorded[(recorded["dataset"] == "docstrings") & (recorded["n_samples"] == full)]
at_full.groupby("model")["test_loss"].mean()[names].sort_values().round(3)
