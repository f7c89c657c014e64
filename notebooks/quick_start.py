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
import lensllm

benchmark = lensllm.load_zoo()
runner = benchmark.runner("docstrings")
task = runner.task()
for candidate in task.candidates:
    print(f"{candidate.name:12s} {candidate.n_params / 1e6:.2f} M parameters")

# %% [markdown]
# The question: which of these eight small models is the best after fine-tuning on 12 800 samples? A campaign may spend
# 10 % of what fine-tuning all of them would cost.

# %%
budget = lensllm.make_budget(task, fraction=0.1)
selection, curves = lensllm.run_campaign(lensllm.Adaptive(), runner, budget)
print("Fine-tune", selection.best.model)
print("verdict:", selection.verdict.kind, "between", ", ".join(selection.verdict.contenders))
print(f"spent: {selection.cost_fraction:.1%} of fine-tuning all")

# %% [markdown]
# The ranking has a prediction for each candidate, with an 80 % interval and the probability of being the best. The recorded
# losses at full size say what is true.

# %%
truth = runner.truth()
print("model        predicted      80 % interval   P(best)    true")
for entry in selection.ranking:
    interval = f"{entry.lower80:.3f} to {entry.upper80:.3f}"
    line = f"{entry.model:12s} {entry.predicted_loss:9.3f} {interval:>18s}"
    print(line, f"{entry.p_best:9.2f} {truth[entry.model]:7.3f}")

# %% [markdown]
# What was measured, and what is still to come, in one figure: dots are the trials of the campaign, crosses the predictions,
# and circles the recorded losses at full size.

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(7, 4))
for entry in selection.ranking:
    points = curves[(curves["model"] == entry.model) & (curves["n_samples"] > 0)]
    points = points.sort_values("n_samples")
    (line,) = axes.plot(points["n_samples"], points["test_loss"], "o-", label=entry.model)
    full, color = task.n_samples_full, line.get_color()
    axes.vlines(full, entry.lower80, entry.upper80, color=color, alpha=0.4)
    axes.plot(full, entry.predicted_loss, "x", color=color)
    axes.plot(full, truth[entry.model], "o", mfc="none", color=color)
axes.set(xscale="log", xlabel="fine-tuning samples D", ylabel="test loss (nats per token)")
axes.legend(fontsize=8)
figure.tight_layout()

# %% [markdown]
# Next: the same with your own data, on the page Get started.
