"""From text pairs to token ids and batches, for decoder-only and encoder-decoder models."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Sampler
from transformers import PreTrainedTokenizerBase

from lensllm.data.conversations import Conversation
from lensllm.finetune.cutting import cut_target
from lensllm.finetune.segments import Segments, SegmentTokenizer
from lensllm.finetune.special_tokens import added_tokens, target_frame, turn_ending
from lensllm.finetune.templates import chat_frame, chat_pieces
from lensllm.finetune.truncation import TruncationSide, check_side, cut_input, shortened

# Incremented when the same text and settings give other tokens or bytes than before; part of the
# key of all stored encoded pairs. 2: cut targets have no end token. 3: prompt and target are
# tokenised as one text, special tokens in users' text as text; targets of encoder-decoders have the
# tokens that their tokenizer sets around targets; turns of chats end as in the template.
ENCODING_VERSION = 3
IGNORED = -100
Padding = Literal["left", "right", "none"]
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
    """Counts of pairs that were encoded, cut and dropped, and of bytes that were lost.

    Attributes:
        pairs: Pairs that were encoded.
        cut_inputs: Inputs that were too long.
        cut_targets: Targets that were too long, with the end token.
        dropped: Pairs whose target has no token, or none after cutting; with
            `truncation_side="drop"` those that are too long as well.
        target_bytes: UTF-8 bytes of all targets.
        lost_bytes: Those of them for which the vocabulary has no token.
    """

    pairs: int = 0
    cut_inputs: int = 0
    cut_targets: int = 0
    dropped: int = 0
    target_bytes: int = 0
    lost_bytes: int = 0

    @property
    def lost_share(self) -> float:
        """Share of the targets' bytes for which the vocabulary has no token."""
        return self.lost_bytes / max(1, self.target_bytes)


class PairEncoder:
    """Encodes text pairs for one model.

    A decoder-only model reads the prompt and continues with the target, as one text (see
    `SegmentTokenizer`); an encoder-decoder reads the prompt in its encoder. Only target tokens are
    ever predicted. Special tokens are set where the tokenizer sets them by itself, and a target
    ends with the end token, or with what ends a turn in the tokenizer's chat template. Text of the
    data is never encoded as a special token.

    A target that is cut has no end token: its text goes on, and no model is asked to predict an end
    that is not there. The limit is in tokens, the unit of memory and context, so models with
    different tokenizers are scored on prefixes of different lengths of a target that is cut. Each
    loss per byte is divided by the exact number of bytes of its own prefix (`cut_target`). To
    compare losses on the same text, choose a limit that cuts nothing; `counts` says whether any
    target was cut. Bytes that became the unknown token, or no token, are not counted in the
    divisor.

    Args:
        tokenizer: The model's tokenizer.
        is_encoder_decoder: Whether the model is an encoder-decoder.
        max_input_tokens: Longer inputs are cut at their end; the prompt around them is kept.
        max_target_tokens: Longer targets, the end token counted, are cut at their end.
        context: Most tokens that the model can take in one sequence; `None` for no limit. Inputs
            are cut further where it is reached, and an encoder-decoder's targets.
        prompt: Text around the input; it has to contain `{input}` once. `chat` takes the
            tokenizer's own chat template, with the input as what the user says, and the turns of
            a conversation as turns.
        truncation_side: Where longer inputs are cut; `drop` leaves pairs out that are too long.

    Attributes:
        counts: What was cut, dropped and lost so far.

    Raises:
        ValueError: The prompt lacks `{input}`, the tokenizer has no chat template or requires the
            target's language, or the context leaves no room for an input.
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
        truncation_side: TruncationSide = "right",
    ) -> None:
        check_side(truncation_side)
        self.truncation_side = truncation_side
        self.tokenizer = tokenizer
        self.counts = EncodingCounts()
        self._frame(prompt, is_encoder_decoder)
        self.max_target_tokens = max_target_tokens
        self.max_input_tokens = max_input_tokens
        self._room = float("inf")
        if context is not None:
            room = context - len(self._start) - len(self._stop)
            if is_encoder_decoder:
                self.max_target_tokens = min(max_target_tokens, context)
            else:
                room -= max_target_tokens
            self._room = room
            n_prompt = len(self._before) + len(self._after)
            if room - n_prompt < 1:
                raise ValueError(
                    f"Expected dataset.max_target_tokens and the prompt to leave room for an input "
                    f"in the context of {context} tokens of {tokenizer.name_or_path}, got "
                    f"max_target_tokens = {max_target_tokens}: lower it"
                )
            self.max_input_tokens = min(max_input_tokens, room - n_prompt)

    def _frame(self, prompt: str, is_encoder_decoder: bool) -> None:
        """What stands around inputs and targets."""
        start, stop = added_tokens(self.tokenizer, "text")
        ending: list[int] = []
        if self.tokenizer.eos_token_id is not None:
            ending = [int(self.tokenizer.eos_token_id)]
        self._opening: list[int] = []
        if is_encoder_decoder:
            self._opening, found = target_frame(self.tokenizer)
            ending = found or ending
        self._is_chat = prompt == "chat"
        self._of_roles: dict[tuple[str, ...], SegmentTokenizer] = {}
        if self._is_chat:
            before, after, rest = chat_frame(self.tokenizer)
            start = stop = []
            ending = turn_ending(self.tokenizer, rest) or ending
        elif prompt.count("{input}") != 1:
            raise ValueError(f"Expected a prompt that contains {{input}} once, got {prompt!r}")
        else:
            before, after = prompt.split("{input}")
        self._segments = SegmentTokenizer(
            self.tokenizer, before, after, is_joint=not is_encoder_decoder
        )
        self._start, self._stop = start, stop if is_encoder_decoder else []
        self._before, self._after = self._segments.ids(before), self._segments.ids(after)
        self._end = ending
        # mBART puts the language behind the end token, and starts the decoder with it.
        self._starts_with_its_end = ending[-1:] not in ([], [self.tokenizer.eos_token_id])
        self._starts_with_its_end &= is_encoder_decoder

    def signature(self) -> dict[str, Any]:
        """What decides how a pair is encoded, beside the tokenizer: the rendered prompt, limits."""
        return {
            "version": ENCODING_VERSION,
            "before": [*self._start, *self._before],
            "after": [*self._after, *self._stop],
            "opening": self._opening,
            "end": self._end,
            "max_input_tokens": self.max_input_tokens,
            "max_target_tokens": self.max_target_tokens,
            # `right` is omitted, so that keys of trials older than this option stay the same
            **({"side": self.truncation_side} if self.truncation_side != "right" else {}),
        }

    def encode(self, pairs: Sequence[tuple[str, str]]) -> list[Example]:
        """Encode pairs of texts; those whose target has no token left are dropped, and counted.

        Raises:
            ValueError: Prompt and input together give no token to predict from.
        """
        if not pairs:
            return []
        side, room = self.truncation_side, self.max_target_tokens
        pairs = [
            (
                a if self._roles(a) else shortened(a, self.max_input_tokens, side),
                shortened(b, room, "right"),
            )
            for a, b in pairs
        ]
        found = map(self._example, pairs, self._segments_of(pairs))
        return [example for example in found if example is not None]

    @property
    def opening(self) -> tuple[int, ...]:
        """Tokens that every target of an encoder-decoder starts with, such as its language."""
        return tuple(self._opening)

    @property
    def ending(self) -> tuple[int, ...]:
        """Tokens that every target ends with which is not cut."""
        return tuple(self._end)

    def prompts(self, inputs: Sequence[str]) -> list[tuple[int, ...]]:
        """What a model is given before it answers: `Example.source`, without knowing the target.

        A prompt that ends within a token is cut where a target that starts with a letter begins.
        """
        side = self.truncation_side
        pairs = [
            (a if self._roles(a) else shortened(a, self.max_input_tokens, side), "a")
            for a in inputs
        ]
        found = self._segments_of(pairs) if pairs else []
        return [self._source(segments)[0] for segments in found]

    def _roles(self, given: str) -> tuple[str, ...]:
        """Who speaks in a conversation that the chat template writes; empty for other inputs."""
        if not (self._is_chat and isinstance(given, Conversation)):
            return ()
        return tuple(turn["role"] for turn in given.turns)

    def _segments_of(self, pairs: Sequence[tuple[str, str]]) -> list[Segments]:
        """Segments of pairs, in their order; conversations with the same roles share a frame."""
        rows: dict[tuple[str, ...], list[int]] = {}
        for i, (given, _) in enumerate(pairs):
            rows.setdefault(self._roles(given), []).append(i)
        found: dict[int, Segments] = {}
        for roles, mine in rows.items():
            tokenise = self._segments if not roles else self._conversation(roles)
            found |= zip(mine, tokenise([pairs[i] for i in mine]), strict=True)
        return [found[i] for i in range(len(pairs))]

    def _conversation(self, roles: tuple[str, ...]) -> SegmentTokenizer:
        """What tokenises conversations of certain roles as the chat template writes them."""
        if roles not in self._of_roles:
            before, *between, after = chat_pieces(self.tokenizer, roles)
            self._of_roles[roles] = SegmentTokenizer(
                self.tokenizer,
                before,
                after,
                is_joint=self._segments.is_joint,
                between=between,
            )
        return self._of_roles[roles]

    def _example(self, pair: tuple[str, str], found: Segments) -> Example | None:
        """One pair, cut to its limits; `None` where nothing of its target is left."""
        source, is_long = self._source(found)
        if not source:
            raise ValueError(
                f"Expected at least one token before the target, got input {pair[0]!r}: give it a "
                "text, or the prompt one around it"
            )
        self.counts.pairs += 1
        self.counts.cut_inputs += is_long
        n_cut = self.counts.cut_targets
        target, n_bytes, end = self._target(pair[1], found)
        is_long = is_long or self.counts.cut_targets > n_cut
        if not target or (is_long and self.truncation_side == "drop"):
            self.counts.dropped += 1
            return None
        return Example(source, (*self._opening, *target, *end), n_bytes)

    def _source(self, found: Segments) -> tuple[tuple[int, ...], bool]:
        """Tokens before the target, and whether the input among them was cut."""
        before, after = [*self._start, *found.before], [*found.after, *self._stop]
        room = int(min(self.max_input_tokens, self._room - len(found.before) - len(found.after)))
        given = cut_input(found.given, room, self.truncation_side)
        return (*before, *given, *after), len(found.given) > room

    def _target(self, text: str, found: Segments) -> tuple[list[int], int, list[int]]:
        """Tokens of a target, their bytes and the tokens that end it, where it is not cut."""
        target, n_bytes, lost = found.target, len(text.encode()), found.lost_bytes
        self.counts.target_bytes += n_bytes
        self.counts.lost_bytes += lost
        room = self.max_target_tokens - len(self._opening)
        end = self._end
        if len(target) + len(end) > room:
            self.counts.cut_targets += 1
            end = self._end if self._starts_with_its_end else []
            room -= len(end)
        if len(target) > room:
            target, n_bytes = cut_target(self.tokenizer, text, target, room, found.offsets)
            if lost:
                kept = text.encode()[:n_bytes].decode(errors="ignore")
                (cut,) = self._segments([("", kept)])
                lost = cut.lost_bytes
        return target, n_bytes - lost, end


def context_length(config: Any) -> int | None:
    """Most positions that a model was built for; `None` where positions are relative (T5)."""
    config = config.get_text_config()  # of a multimodal model
    for name in ("max_position_embeddings", "n_positions"):
        value = getattr(config, name, None)
        has_limit = isinstance(value, int) and value > 0  # XLNet's is -1
        if has_limit and not hasattr(config, "relative_attention_num_buckets"):
            return value
    return None


class Collator:
    """Pads examples to one batch that `forward_logits` understands.

    Decoder-only batches are padded on the left, so that the targets of all examples end in the last
    column and the output head runs on those columns alone; encoder-decoder batches are padded on
    the right, and so are those of decoders that do not tolerate padding before their text.

    Args:
        pad_token_id: Token id of padding.
        is_encoder_decoder: Whether the model is an encoder-decoder.
        padding: Where to pad; by default as above. With `none` examples have to come one by one.
    """

    def __init__(
        self, pad_token_id: int, *, is_encoder_decoder: bool, padding: Padding | None = None
    ) -> None:
        self.pad_token_id = pad_token_id
        self.is_encoder_decoder = is_encoder_decoder
        self.padding = padding or ("right" if is_encoder_decoder else "left")

    def __call__(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Collate.

        Returns:
            `input_ids`, `attention_mask` of shape (batch, length); `labels` of shape
            (batch, target length) with `IGNORED` in padding, of a decoder's last columns; where it
            is padded on the left, `position_ids`; `n_bytes` of shape (batch,); `n_tokens`, the real
            tokens of the batch, a scalar.
        """
        side = "left" if self.padding == "left" else "right"
        rows = [
            example.source if self.is_encoder_decoder else (*example.source, *example.target[:-1])
            for example in examples
        ]
        inputs = [torch.tensor(row) for row in rows]
        masks = [torch.ones(len(row), dtype=torch.long) for row in rows]
        mask = pad_sequence(masks, batch_first=True, padding_side=side)
        return {
            "input_ids": pad_sequence(
                inputs, batch_first=True, padding_value=self.pad_token_id, padding_side=side
            ),
            "attention_mask": mask,
            **({"position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0)} if side == "left" else {}),
            "labels": pad_sequence(
                [torch.tensor(row) for row in self._labels(examples, side)],
                batch_first=True,
                padding_value=IGNORED,
                padding_side=side,
            ),
            "n_bytes": torch.tensor([example.n_bytes for example in examples]),
            "n_tokens": torch.tensor(sum(example.n_tokens for example in examples)),
        }

    def _labels(self, examples: Sequence[Example], side: str) -> list[tuple[int, ...]]:
        """Labels of each example, those of a decoder aligned with the last columns."""
        if self.is_encoder_decoder or side == "left":
            return [example.target for example in examples]
        shortest = min(len(example.source) for example in examples)
        starts = [(IGNORED,) * (len(example.source) - shortest) for example in examples]
        return [(*start, *e.target) for start, e in zip(starts, examples, strict=True)]


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
        shifted = decoder_inputs(model, labels)
        return model(**inputs, decoder_input_ids=shifted, use_cache=False).logits
    accepted = inspect.signature(model.forward).parameters
    if "position_ids" in accepted and "position_ids" in batch:
        inputs["position_ids"] = batch["position_ids"]
    if "logits_to_keep" in accepted:
        inputs["logits_to_keep"] = labels.shape[1]
    logits = model(**inputs, use_cache=False).logits
    return logits[:, -labels.shape[1] :]


def decoder_inputs(model: Any, labels: Tensor) -> Tensor:
    """What the decoder of an encoder-decoder is given when it is to predict labels.

    The model's own rule is used where it has one: it puts a start token first (for mBART the last
    label) and drops the last label.

    Raises:
        ValueError: The model has no rule, and its config no `decoder_start_token_id`.
    """
    if hasattr(model, "prepare_decoder_input_ids_from_labels"):
        return model.prepare_decoder_input_ids_from_labels(labels)
    start = model.config.decoder_start_token_id
    if start is None:
        raise ValueError(
            f"Expected `decoder_start_token_id` in the config.json of {type(model).__name__}, got "
            "none: set it to the token that the model's targets start behind"
        )
    first = torch.full_like(labels[:, :1], start)
    rest = labels[:, :-1]
    return torch.cat([first, rest.masked_fill(rest == IGNORED, 0)], dim=1)


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
    """Batches of examples of similar length, in an order determined by (seed, epoch).

    Args:
        lengths: Length of every example.
        batch_size: Examples per batch; the last one of an epoch may hold fewer.
        seed: Seed of the order.
        shuffle: Whether to shuffle; without it, batches go from short to long.
        window: Number of batches whose examples are sorted by length together.

    Attributes:
        start: Batches that the next iterator skips, so that a resumed epoch continues after them.
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
