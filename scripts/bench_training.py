"""Tokens a second of a trial, against a plain PyTorch loop and the Hugging Face Trainer.

All three train the same model on the same batches, in the same order and precision, with AdamW,
clipping and a linear schedule; evaluations are left out. They run in turn in one process, and CPU
time of the process is counted: other work on the machine then matters less. The plain loop is also
timed part by part. Peak memory is taken in a fresh process a side.

    python scripts/bench_training.py [--model llama-128x4] [--rounds 5] [--examples 320]
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from lensllm.commands.entry import quiet_libraries
from lensllm.finetune import LanguageModelModule, ModelSource, TrainingSettings, warmup_schedule
from lensllm.finetune.encoding import IGNORED, Collator, Example, target_loss
from lensllm.finetune.loading import EncodedData, TrialData, make_loader
from lensllm.finetune.memory import peak_memory_bytes

LR, CLIP, BATCH = 1e-3, 1.0, 16
SIDES = ("lensllm", "plain", "transformers")


def make_examples(n_examples: int, vocab_size: int, seed: int = 0) -> list[Example]:
    """Random tokens, of lengths as the zoo's tasks have them."""
    rng = np.random.default_rng(seed)
    return [
        Example(
            tuple(rng.integers(3, vocab_size, rng.integers(20, 42)).tolist()),
            tuple(rng.integers(3, vocab_size, rng.integers(8, 25)).tolist()),
            50,
        )
        for _ in range(n_examples)
    ]


def loader(examples: list[Example]) -> DataLoader:
    """The batches of the first epoch of a trial."""
    return make_loader(examples, Collator(0, is_encoder_decoder=False), BATCH, seed=0, shuffle=True)


def train_lensllm(model: Any, examples: list[Example]) -> float:
    """One epoch by the trial's own module, loaders and trainer."""
    make_optimizer = partial(torch.optim.AdamW, lr=LR, weight_decay=0.01, fused=True)
    module = LanguageModelModule(model, make_optimizer, warmup_schedule)
    data = EncodedData(examples, [], [])
    settings = TrainingSettings(batch_size=BATCH)
    loaders = TrialData(data, Collator(0, is_encoder_decoder=False), settings, seed=0)
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=1, gradient_clip_val=CLIP, logger=False,
        enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False,
        limit_val_batches=0, use_distributed_sampler=False,
    )  # fmt: skip
    start = time.process_time()
    trainer.fit(module, loaders)
    return time.process_time() - start


def train_plain(
    model: Any, examples: list[Example], parts: dict[str, float] | None = None
) -> float:
    """The same epoch by a loop of ten lines; `parts` collects where its time goes."""
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2]},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    parts = {} if parts is None else parts
    start = last = time.process_time()

    def lap(name: str) -> None:
        nonlocal last
        now = time.process_time()
        parts[name] = parts.get(name, 0.0) + now - last
        last = now

    optimizer = torch.optim.AdamW(groups, lr=LR, weight_decay=0.01, fused=True)
    batches = loader(examples)
    schedule = warmup_schedule(optimizer, len(batches))
    for batch in batches:
        lap("data")
        total, n_targets = target_loss(model, batch)
        loss = total / n_targets
        lap("forward")
        optimizer.zero_grad()
        loss.backward()
        lap("backward")
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        schedule.step()
        lap("optimizer")
    return time.process_time() - start


def train_transformers(model: Any, examples: list[Example]) -> float:
    """The same epoch by the Hugging Face Trainer, whose model sees labels in every column."""

    def collate(batch: list[Example]) -> dict[str, torch.Tensor]:
        given = Collator(0, is_encoder_decoder=False)(batch)
        ids, mask, labels = given["input_ids"], given["attention_mask"], given["labels"]
        # The Trainer's models shift labels themselves: put the last target's token back.
        ids = torch.cat([ids, labels[:, -1:]], dim=1)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        whole = torch.full_like(ids, IGNORED)
        whole[:, -labels.shape[1] :] = labels
        return {"input_ids": ids, "attention_mask": mask, "labels": whole}

    class SameBatches(Trainer):
        def get_train_dataloader(self) -> DataLoader:
            batches = loader(examples)
            return DataLoader(examples, batch_sampler=batches.batch_sampler, collate_fn=collate)

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=BATCH, num_train_epochs=1, learning_rate=LR,
            weight_decay=0.01, max_grad_norm=CLIP, warmup_steps=round(0.1 * len(examples) / BATCH),
            use_cpu=True, report_to=[], save_strategy="no", logging_strategy="no",
            disable_tqdm=True, optim="adamw_torch_fused",
        )  # fmt: skip
        trainer = SameBatches(model=model, args=arguments, train_dataset=examples)
        start = time.process_time()
        trainer.train()
        return time.process_time() - start


TRAIN: dict[str, Callable[..., float]] = {
    "lensllm": train_lensllm,
    "plain": train_plain,
    "transformers": train_transformers,
}


def peak_megabytes(side: str, arguments: argparse.Namespace) -> float:
    """Peak memory of a process that trains by one side alone."""
    command = [sys.executable, __file__, "--side", side, "--model", arguments.model]
    command += ["--examples", str(arguments.examples)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Print the table, where the time goes, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="llama-128x4", help="zoo model or folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--examples", type=int, default=320)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    quiet_libraries()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    source = ModelSource(arguments.model)
    examples = make_examples(arguments.examples, source.config.vocab_size)
    if arguments.side:
        TRAIN[arguments.side](source.load_model(), examples)
        print(peak_memory_bytes() / 2**20)
        return
    n_tokens = sum(example.n_tokens for example in examples)
    parts: dict[str, float] = {}
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for round_ in range(arguments.rounds + 1):
        for side in SIDES if round_ % 2 else SIDES[::-1]:
            extra = (parts,) if side == "plain" and round_ else ()
            spent = TRAIN[side](source.load_model(), examples, *extra)
            if round_:  # the first round warms up
                seconds[side].append(spent)
    print(
        f"{source.name}, {len(examples)} examples, {n_tokens} tokens, batches of {BATCH}, float32"
    )
    for side in SIDES:
        rate = n_tokens / statistics.median(seconds[side])
        peak = peak_megabytes(side, arguments)
        print(f"{side:13s} {rate:8.0f} tokens a CPU second, peak {peak:6.0f} MiB of the process")
    whole = sum(parts.values())
    shares = ", ".join(f"{name} {spent / whole:.1%}" for name, spent in parts.items())
    print(f"the plain loop's time: {shares}")
    for side in SIDES[1:]:
        ratios = [b / a for a, b in zip(seconds["lensllm"], seconds[side], strict=True)]
        low, high = min(ratios), max(ratios)
        print(f"ratio training_{side} {statistics.median(ratios):.3f} [{low:.3f} {high:.3f}]")


if __name__ == "__main__":
    main()
