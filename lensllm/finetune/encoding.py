"""From text pairs to token ids and batches, for decoder-only and encoder-decoder models."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Sampler
from transformers import PreTrainedTokenizerBase

from lensllm.finetune.cutting import cut_target
from lensllm.finetune.templates import render_chat

# Raised when the same text and settings give other tokens or bytes than before; in the key of all
# that is stored of encoded pairs. 2: cut targets have no end token.
ENCODING_VERSION = 2
IGNORED = -100
PROMPT = "{input}\n"


@dataclass(frozen=True)
class Example:
    """One encoded pair.

    Attributes:
        source: Token ids that the model is given.
        target: Token ids that it is to predict; the end token is the last one of a target that
            was not cut.
        n_bytes: UTF-8 bytes of the target text that those tokens stand for.
    """

    source: tuple[int, ...]
    target: tuple[int, ...]
    n_bytes: int

    @property
    def n_tokens(self) -> int:
        """Source and target tokens."""
        return len(self.source) + len(self.target)


@dataclass
class EncodingCounts:
    """What became of the pairs that were encoded.

    Attributes:
        pairs: Pairs that were encoded.
        cut_inputs: Inputs that were too long.
        cut_targets: Targets that were too long, with the end token.
        dropped: Pairs whose target has no token, or none after cutting.
    """

    pairs: int = 0
    cut_inputs: int = 0
    cut_targets: int = 0
    dropped: int = 0


class PairEncoder:
    """Encodes text pairs for one model.

    A decoder-only model reads the prompt and goes on with the target; an encoder-decoder reads the
    prompt in its encoder. Only target tokens are ever predicted. Special tokens are set where the
    tokenizer sets them by itself, and a target ends with the end token.

    A target that is cut has no end token: its text goes on, and no model is asked to predict an end
    that is not there. The limit is in tokens, since tokens are what memory and context are made
    of, so that models with different tokenizers are scored on beginnings of different lengths of a
    target that is cut. Each loss per byte is divided by the bytes of its own beginning, to the
    byte (`cut_target`). Losses of the very same text need a limit that cuts nothing: `counts` says
    whether it did.

    Args:
        tokenizer: The model's tokenizer.
        is_encoder_decoder: Which of the two.
        max_input_tokens: Longer inputs are cut at their end; the prompt around them is kept.
        max_target_tokens: Longer targets, the end token counted, are cut at their end.
        context: Most tokens that the model can take in one sequence; `None` for no limit. Inputs
            are cut further where it is reached, and an encoder-decoder's targets.
        prompt: Text around the input; it has to contain `{input}` once. `chat` takes the
            tokenizer's own chat template, with the input as what the user says.

    Attributes:
        counts: What was cut and dropped so far.

    Raises:
        ValueError: The prompt lacks `{input}`, the tokenizer has no chat template, or the context
            leaves no room for an input.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        is_encoder_decoder: bool,
        max_input_tokens: int,
        max_target_tokens: int,
        context: int | None = None,
        prompt: str = PROMPT,
    ) -> None:
        self.tokenizer = tokenizer
        self.counts = EncodingCounts()
        start, end = self._added_tokens()
        if prompt == "chat":
            prompt, start, end = _chat_prompt(tokenizer), [], []
        if prompt.count("{input}") != 1:
            raise ValueError(f"Expected a prompt that contains {{input}} once, got {prompt!r}")
        before, after = prompt.split("{input}")
        self._before = [*start, *self._ids([before])[0]]
        self._after = [*self._ids([after])[0], *(end if is_encoder_decoder else [])]
        self._end = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
        self.max_target_tokens = max_target_tokens
        self.max_input_tokens = max_input_tokens
        if context is not None:
            room = context - len(self._before) - len(self._after)
            if is_encoder_decoder:
                self.max_target_tokens = min(max_target_tokens, context)
            else:
                room -= max_target_tokens
            if room < 1:
                raise ValueError(
                    f"Expected dataset.max_target_tokens and the prompt to leave room for an input "
                    f"in the context of {context} tokens of {tokenizer.name_or_path}, got "
                    f"max_target_tokens = {max_target_tokens}: lower it"
                )
            self.max_input_tokens = min(max_input_tokens, room)

    def signature(self) -> dict[str, Any]:
        """What decides how a pair is encoded, beside the tokenizer: the rendered prompt, limits."""
        return {
            "version": ENCODING_VERSION,
            "before": self._before,
            "after": self._after,
            "end": self._end,
            "max_input_tokens": self.max_input_tokens,
            "max_target_tokens": self.max_target_tokens,
        }

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]

    def _added_tokens(self) -> tuple[list[int], list[int]]:
        """Special tokens that the tokenizer puts before and after a text by itself."""
        bare = self._ids(["x"])[0]
        full = self.tokenizer("x", verbose=False)["input_ids"]
        start = next(
            (i for i in range(len(full)) if list(full[i : i + len(bare)]) == bare), len(full)
        )
        return list(full[:start]), list(full[start + len(bare) :])

    def encode(self, pairs: Sequence[tuple[str, str]]) -> list[Example]:
        """Encode pairs of texts; those whose target has no token left are dropped, and counted.

        Raises:
            ValueError: Neither prompt nor input leaves a token to go on from.
        """
        if not pairs:
            return []
        sources = self._ids([source for source, _ in pairs])
        targets = self._ids([target for _, target in pairs])
        room = self.max_target_tokens
        examples = []
        for (given, text), source, target in zip(pairs, sources, targets, strict=True):
            if not (self._before or source or self._after):
                raise ValueError(
                    f"Expected at least one token before the target, got input {given!r}: give "
                    "it a text, or the prompt one around it"
                )
            self.counts.pairs += 1
            self.counts.cut_inputs += len(source) > self.max_input_tokens
            n_bytes, end = len(text.encode()), self._end
            if len(target) + len(end) > room:
                self.counts.cut_targets += 1
                end = []
            if len(target) > room:
                target, n_bytes = cut_target(self.tokenizer, text, target, room)
            if not target:
                self.counts.dropped += 1
                continue
            cut = source[: self.max_input_tokens]
            examples.append(
                Example(
                    (*self._before, *cut, *self._after),
                    (*target, *end),
                    n_bytes,
                )
            )
        return examples


def _chat_prompt(tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokenizer's chat template around one turn of a user."""
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            f"Expected a tokenizer with a chat template for training.prompt=chat, "
            f"{tokenizer.name_or_path} has none: give the prompt as a text with {{input}}"
        )
    turns = [{"role": "user", "content": "{input}"}]
    return render_chat(tokenizer, turns)


def context_length(config: Any) -> int | None:
    """Most positions that a model was built for; `None` where positions are relative (T5)."""
    for name in ("max_position_embeddings", "n_positions"):
        value = getattr(config, name, None)
        if isinstance(value, int) and not hasattr(config, "relative_attention_num_buckets"):
            return value
    return None


class Collator:
    """Pads examples to one batch that `forward_logits` understands.

    Decoder-only batches are padded on the left, so that the targets of all examples end in the last
    column and the output head runs on those columns alone; encoder-decoder batches are padded on
    the right.

    Args:
        pad_token_id: Token id of padding.
        is_encoder_decoder: Which of the two.
    """

    def __init__(self, pad_token_id: int, *, is_encoder_decoder: bool) -> None:
        self.pad_token_id = pad_token_id
        self.is_encoder_decoder = is_encoder_decoder

    def __call__(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Collate.

        Returns:
            `input_ids`, `attention_mask` of shape (batch, length); `labels` of shape
            (batch, target length) with `IGNORED` in padding; `n_bytes` of shape (batch,);
            `n_tokens`, the real tokens of the batch, a scalar.
        """
        side = "right" if self.is_encoder_decoder else "left"
        rows = [
            example.source if self.is_encoder_decoder else (*example.source, *example.target[:-1])
            for example in examples
        ]
        inputs = [torch.tensor(row) for row in rows]
        masks = [torch.ones(len(row), dtype=torch.long) for row in rows]
        labels = [torch.tensor(example.target) for example in examples]

        def pad(parts: list[Tensor], value: int) -> Tensor:
            return pad_sequence(parts, batch_first=True, padding_value=value, padding_side=side)

        return {
            "input_ids": pad(inputs, self.pad_token_id),
            "attention_mask": pad(masks, 0),
            "labels": pad(labels, IGNORED),
            "n_bytes": torch.tensor([example.n_bytes for example in examples]),
            "n_tokens": torch.tensor(sum(example.n_tokens for example in examples)),
        }


def forward_logits(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """Logits at the target positions.

    Args:
        model: A causal or encoder-decoder model of `transformers`.
        batch: What `Collator` returns.

    Returns:
        Logits of shape (batch, target length, vocabulary), aligned with `batch["labels"]`.
    """
    labels, mask = batch["labels"], batch["attention_mask"]
    inputs: dict[str, Any] = {"input_ids": batch["input_ids"], "attention_mask": mask}
    if model.config.is_encoder_decoder:
        # Shifting by the model's own rule puts its start token first and drops the last label.
        shifted = model.prepare_decoder_input_ids_from_labels(labels)
        return model(**inputs, decoder_input_ids=shifted, use_cache=False).logits
    accepted = inspect.signature(model.forward).parameters
    if "position_ids" in accepted:
        inputs["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0)
    if "logits_to_keep" in accepted:
        inputs["logits_to_keep"] = labels.shape[1]
    logits = model(**inputs, use_cache=False).logits
    return logits[:, -labels.shape[1] :]


def target_loss(model: Any, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy of the target tokens, and their number.

    Args:
        model: See `forward_logits`.
        batch: See `forward_logits`.

    Returns:
        Two scalars: the sum in nats, in float32 or better, and the number of target tokens.
    """
    total, _ = _cross_entropy(model, batch, "sum")
    return total, (batch["labels"] != IGNORED).sum()


def example_losses(model: Any, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy of the target tokens of each example, and their number.

    Args:
        model: See `forward_logits`.
        batch: See `forward_logits`.

    Returns:
        Two tensors of shape (batch,): sums in nats, and target tokens.
    """
    losses, labels = _cross_entropy(model, batch, "none")
    return losses.reshape(labels.shape).sum(dim=1), (labels != IGNORED).sum(dim=1)


def _cross_entropy(model: Any, batch: Mapping[str, Tensor], reduction: str) -> tuple[Any, Tensor]:
    """Cross-entropy of the target tokens in nats, in float32 or better, and the labels."""
    logits = forward_logits(model, batch)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    labels = batch["labels"]
    losses = torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]),
        labels.reshape(-1),
        ignore_index=IGNORED,
        reduction=reduction,
    )
    return losses, labels


class LengthBucketSampler(Sampler[list[int]]):
    """Batches of examples of similar length, in an order that (seed, epoch) decides.

    Args:
        lengths: Length of every example.
        batch_size: Examples a batch; the last one of an epoch may hold fewer.
        seed: Seed of the order.
        shuffle: Whether to shuffle; without it, batches go from short to long.
        window: Batches within whose examples lengths are sorted.

    Attributes:
        start: Batches that the next iterator leaves out: a resumed epoch goes on behind them.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        seed: int = 0,
        *,
        shuffle: bool = True,
        window: int = 50,
    ) -> None:
        if batch_size <= 0:
            raise ValueError(f"Expected `batch_size` > 0, got {batch_size}")
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.window = window
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        skipped, self.start = self.start, 0
        yield from itertools.islice(self._batches(), skipped, None)

    def _batches(self) -> Iterator[list[int]]:
        if not self.shuffle:
            order = np.argsort(self.lengths, kind="stable")
            yield from (list(part) for part in self._cut(order))
            return
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.lengths))
        span = self.window * self.batch_size
        batches: list[np.ndarray] = []
        for start in range(0, len(order), span):
            part = order[start : start + span]
            batches += self._cut(part[np.argsort(self.lengths[part], kind="stable")])
        yield from (list(batches[i]) for i in rng.permutation(len(batches)))

    def _cut(self, order: np.ndarray) -> list[np.ndarray]:
        return [
            order[start : start + self.batch_size]
            for start in range(0, len(order), self.batch_size)
        ]
