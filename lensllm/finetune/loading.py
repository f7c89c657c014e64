"""Batches of encoded examples: bucketed by length, cut into micro-batches, resumable anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from lensllm.finetune.encoding import (
    IGNORED,
    Collator,
    EncodingCounts,
    Example,
    LengthBucketSampler,
)
from lensllm.finetune.settings import TrainingSettings


@dataclass(frozen=True)
class Part:
    """One micro-batch of a whole batch.

    Attributes:
        indices: Its examples; a repeated one that does not count where there were too few.
        counts: Whether its examples count in the loss.
        batch: Examples of the whole batch.
        n_parts: Micro-batches of the whole batch, over all processes.
        is_first: Whether it is the first of its process, which carries the token count of the whole
            batch.
    """

    indices: tuple[int, ...]
    counts: bool
    batch: tuple[int, ...]
    n_parts: int
    is_first: bool


def parts_of(batch: Sequence[int], n_parts: int, world_size: int = 1) -> list[Part]:
    """Cut a batch into exactly `n_parts` micro-batches, assigned to the processes in turn.

    A batch of fewer examples than that (the last one of an epoch) is filled up with repeated
    examples that do not count, so that every batch takes the same number of steps in every process.
    """
    cuts = [batch[i::n_parts] for i in range(n_parts)]
    return [
        Part(tuple(cut) or (batch[0],), bool(cut), tuple(batch), n_parts, i < world_size)
        for i, cut in enumerate(cuts)
    ]


class PartSampler(Sampler[Part]):
    """Micro-batches of another sampler's batches, for one of several processes.

    Args:
        batches: Sampler of whole batches.
        n_parts: Micro-batches that one process makes of a batch.
        rank: Number of this process.
        world_size: Number of processes.

    Attributes:
        start: Micro-batches that the next iterator skips, so that a resumed epoch continues after
            them.
    """

    def __init__(
        self, batches: LengthBucketSampler, n_parts: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.batches = batches
        self.n_parts = n_parts
        self.rank = rank
        self.world_size = world_size
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; Lightning calls it."""
        self.batches.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.batches) * self.n_parts

    def __iter__(self) -> Iterator[Part]:
        skipped, self.start = self.start, 0
        for batch in self.batches:
            parts = parts_of(batch, self.n_parts * self.world_size, self.world_size)
            for part in parts[self.rank :: self.world_size]:
                if skipped > 0:
                    skipped -= 1
                else:
                    yield part


class _Parts:
    """Examples that a `Part` picks; a data set as `DataLoader` understands it."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitems__(self, part: Part) -> tuple[Part, Sequence[Example]]:
        return part, self.examples


class PartCollator:
    """Collates a micro-batch, with what its whole batch holds.

    Args:
        collate: Collator of examples.
    """

    def __init__(self, collate: Collator) -> None:
        self.collate = collate

    def __call__(self, given: tuple[Part, Sequence[Example]]) -> dict[str, Tensor]:
        """Collate.

        Returns:
            What `Collator` returns, and `loss_scale`: the factor by which the summed loss has to be
            multiplied so that the mean over all micro-batches and processes is the mean over the
            target tokens of the whole batch. `n_tokens` is the whole batch's on a process's first
            micro-batch of it and 0 on the others, so that every process counts all tokens.
        """
        part, examples = given
        batch = self.collate([examples[i] for i in part.indices])
        if not part.counts:
            batch["labels"] = torch.full_like(batch["labels"], IGNORED)
            batch["n_bytes"] = torch.zeros_like(batch["n_bytes"])
        whole = [examples[i] for i in part.batch]
        n_targets = sum(len(example.target) for example in whole)
        n_tokens = sum(example.n_tokens for example in whole) if part.is_first else 0
        batch["loss_scale"] = torch.tensor(part.n_parts / n_targets)
        batch["n_tokens"] = torch.tensor(n_tokens)
        return batch


def make_loader(
    examples: Sequence[Example],
    collator: Collator,
    batch_size: int,
    *,
    seed: int = 0,
    shuffle: bool = False,
    n_parts: int = 1,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader:
    """A loader of batches of similar length.

    Args:
        examples: Encoded pairs.
        collator: Collator of examples.
        batch_size: Examples of a whole batch, over all micro-batches and processes.
        seed: Seed of the order.
        shuffle: Whether the order is random.
        n_parts: Micro-batches that a process makes of a batch.
        rank: Number of this process.
        world_size: Number of processes.
    """
    lengths = [example.n_tokens for example in examples]
    sampler = LengthBucketSampler(lengths, batch_size, seed, shuffle=shuffle)
    if n_parts * world_size == 1:
        return DataLoader(examples, batch_sampler=sampler, collate_fn=collator)
    return DataLoader(
        _Parts(examples),
        batch_sampler=PartSampler(sampler, n_parts, rank, world_size),
        collate_fn=PartCollator(collator),
    )


@dataclass(frozen=True)
class EncodedData:
    """The three splits, encoded for one model; the training split as the subset of one trial.

    Attributes:
        train: Examples to train on.
        validation: Examples for early stopping.
        test: Examples for the test loss.
        counts: What was cut and dropped in all three.
    """

    train: Sequence[Example]
    validation: Sequence[Example]
    test: Sequence[Example]
    counts: EncodingCounts = field(default_factory=EncodingCounts)


class TrialData(pl.LightningDataModule):
    """The encoded splits as loaders, made in the process that needs them.

    Args:
        encoded: The splits.
        collator: Collator of examples.
        settings: Batch sizes.
        seed: Seed of the order of the training split.
    """

    def __init__(
        self, encoded: EncodedData, collator: Collator, settings: TrainingSettings, seed: int
    ) -> None:
        super().__init__()
        self.encoded = encoded
        self.collator = collator
        self.settings = settings
        self.seed = seed

    def _loader(self, examples: Sequence[Example], batch_size: int, **options: Any) -> Any:
        trainer = self.trainer
        options |= {"rank": trainer.global_rank, "world_size": trainer.world_size}
        return make_loader(examples, self.collator, batch_size, seed=self.seed, **options)

    def train_dataloader(self) -> Any:
        """The subset, shuffled, in micro-batches."""
        n_parts = self.settings.n_parts(self.trainer.world_size)
        return self._loader(
            self.encoded.train, self.settings.batch_size, shuffle=True, n_parts=n_parts
        )

    def val_dataloader(self) -> Any:
        """The validation split, from short to long."""
        return self._loader(self.encoded.validation, self.settings.evaluation_batch_size)

    def test_dataloader(self) -> Any:
        """The test split, from short to long."""
        return self._loader(self.encoded.test, self.settings.evaluation_batch_size)
