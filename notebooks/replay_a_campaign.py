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
# # Replay a campaign
# The loop of lensllm on the zoo's recorded curves: ask, run, rank. Swap `ReplayRunner` for
# `FineTuneRunner` and the same selector spends real FLOPs.

# %%
from lensllm.evaluation import load_zoo
from lensllm.selectors import AcceptThenStop, run_campaign
from lensllm.selectors.campaign import make_budget

runner = load_zoo().runner("docstrings")
task = runner.task()
selection, curves = run_campaign(AcceptThenStop(), runner, make_budget(task, fraction=0.15))
selection.best

# %% [markdown]
# What was it right about? `truth()` has the recorded losses at full size.

# %%
truth = runner.truth()
for entry in selection.ranking:
    print(f"{entry.model:12s} predicted {entry.predicted_loss:.3f}  true {truth[entry.model]:.3f}")
