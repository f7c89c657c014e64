"""Choose a model with a training loop of one's own in plain PyTorch.

    python examples/ask_tell_pytorch.py

The task: reverse a short word, spelled letter by letter. Two models of the zoo; it takes
about a minute on one CPU core.
"""

import random

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lensllm import Study
from lensllm.zoo import ZOO_DIR

random.seed(0)
WORDS = ["".join(random.choices("abcdefgh", k=5)) for _ in range(1000)]
TEXTS = [f"{' '.join(word)} > {' '.join(reversed(word))}" for word in WORDS]
TRAIN, TEST = TEXTS[:800], TEXTS[800:]


def batches(tokenizer, texts):
    """Batches of 16 texts of which all tokens are predicted."""
    for start in range(0, len(texts), 16):
        batch = tokenizer(texts[start : start + 16], return_tensors="pt", padding=True)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        yield {**batch, "labels": labels}


def fine_tune(name, n_samples):
    """The test loss after one epoch on the first `n_samples` texts."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(ZOO_DIR / name)
    model = AutoModelForCausalLM.from_pretrained(ZOO_DIR / name, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    for batch in batches(tokenizer, TRAIN[:n_samples]):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        losses = [model(**batch).loss.item() for batch in batches(tokenizer, TEST)]
    return sum(losses) / len(losses)


study = Study(["gpt2-48x2", "opt-64x2"], n_samples_full=len(TRAIN), budget="60%")
while (trial := study.ask()) is not None:
    loss = fine_tune(trial.model, trial.n_samples)
    study.tell(trial, loss)
    print(f"{trial.model} on {trial.n_samples}: {loss:.3f}")
print(study.leaderboard()[["model", "predicted_loss", "lower80", "upper80", "p_best"]].round(3))
print(f"Fine-tune {study.best}: {study.selection.verdict.kind}")
