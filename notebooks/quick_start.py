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
# # Quick start
# Which of several language models should be fine-tuned? Here the trials are looked up in curves that come with the
# project, so that a campaign takes a second. With real fine-tuning the answer has the same form.

# %%
import tempfile

import lensllm

result = lensllm.select(
    runner="replay", replay={"dataset": "docstrings"}, budget="10%", output=tempfile.mkdtemp()
)
print(result.answer)

# %% [markdown]
# Eight small models compete for the task of summarising a docstring, with 12 800 samples in full, and a tenth of what
# fine-tuning all of them would cost. With your own data and models it is
# `lensllm.select("pairs.jsonl", models=["gpt2", "./my-model"], budget="2h")`, and everything below is the same.
#
# The leaderboard has a prediction for each candidate, with an 80 % interval and the probability of being the best:

# %%
columns = ["candidate", "predicted_loss", "lower80", "upper80", "p_best", "largest_n_samples"]
result.leaderboard()[columns].round(3)

# %% [markdown]
# What was measured, and what is predicted:

# %%
# %matplotlib inline
result.plot()

# %% [markdown]
# Is it sure? The verdict says, and names what to try next.

# %%
verdict = result.verdict
print(verdict.kind, "between", ", ".join(verdict.contenders))
print("next trial:", verdict.next_trial)

# %% [markdown]
# Was it right? The recorded losses at full size:

# %%
recorded = lensllm.load_zoo().curves
recorded = recorded.query("dataset == 'docstrings' and n_samples == 12800 and seed == 0")
recorded.set_index("model")["test_loss"].sort_values().round(3)

# %% [markdown]
# Next: your own data, on the page Get started.
