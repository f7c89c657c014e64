"""How the zoo is made: corpus, tokenizer, model shapes and the pre-training loop."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedTokenizerFast,
)

from lensllm.data.docstrings import (
    all_docstrings,
    documented_items,
    hash_text,
    source_files,
    split_of,
)
from lensllm.system.atomic import write_whole

SPECIAL_TOKENS = ("<pad>", "<s>", "</s>")
CONTEXT = 128
DOCUMENT_CHARACTERS = 20_000
PAIR_CHARACTERS = 160


@dataclass(frozen=True)
class ZooModel:
    """One model of the zoo and its pre-training.

    Attributes:
        name: Name of its folder.
        architecture: Hugging Face `model_type`: gpt2, opt, gpt_neox, llama, t5 or bart.
        width: Hidden size.
        n_layers: Layers (of the encoder and of the decoder each).
        n_heads: Attention heads.
        prose: Share of pre-training chunks that are documentation.
        pairs: Share of chunks that are written like the task: a docstring's beginning, a line
            break, its summary. What `prose` and `pairs` leave is source code.
        n_steps: Optimizer steps.
        learning_rate: Peak learning rate η of AdamW.
        batch_size: Chunks of `CONTEXT` tokens per step.
        seed: Seed of the weights and of the order of chunks.
    """

    name: str
    architecture: str
    width: int
    n_layers: int
    n_heads: int
    prose: float
    n_steps: int
    learning_rate: float = 2e-3
    batch_size: int = 16
    seed: int = 0
    pairs: float = 0.0

    def __post_init__(self) -> None:
        if min(self.prose, self.pairs) < 0 or self.prose + self.pairs > 1:
            raise ValueError(
                f"Expected `prose` and `pairs` >= 0 with a sum up to 1 for {self.name}, "
                f"got {self.prose} and {self.pairs}"
            )
        if self.width % self.n_heads:
            raise ValueError(
                f"Expected `n_heads` to divide the width of {self.name}, "
                f"got {self.width} and {self.n_heads}"
            )


def pretraining_texts(
    packages: Sequence[str], pretrain_share: float, seed: int
) -> dict[str, list[str]]:
    """Documentation and source code of the modules that no fine-tuning pair comes from.

    Args:
        packages: Import names, as in `dataset=docstrings`.
        pretrain_share: Share of modules for pre-training, as in `dataset=docstrings`.
        seed: Seed of that split.

    Returns:
        Lists of documents: `prose` (docstrings), `pairs` (the first `PAIR_CHARACTERS` characters
        of a docstring's signature and body, then its summary) and `code` (source files, the first
        `DOCUMENT_CHARACTERS` characters of each).
    """
    texts: dict[str, list[str]] = {"prose": [], "pairs": [], "code": []}
    shares = {"pretrain": pretrain_share, "rest": 1.0 - pretrain_share}
    for package in packages:
        for module, path in source_files(package):
            if split_of(module, shares, seed) == "pretrain":
                source = path.read_text(encoding="utf-8", errors="ignore")
                texts["code"].append(re.sub(r"\n\s*\n+", "\n", source[:DOCUMENT_CHARACTERS]))
                texts["prose"].extend(all_docstrings(source))
                texts["pairs"].extend(
                    f"{f'{item.signature}: {item.body}'[:PAIR_CHARACTERS]}\n{item.summary}"
                    for item in documented_items(package, module, source)
                )
    for documents in texts.values():
        unique = {document for document in documents if len(document) >= 60 and document.isascii()}
        documents[:] = sorted(unique, key=hash_text)
    return texts


def train_tokenizer(texts: Mapping[str, Sequence[str]], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer (lossless on any text), trained on equal parts of the texts."""
    share = min(sum(map(len, documents)) for documents in texts.values())
    sample: list[str] = []
    for documents in texts.values():
        total = 0
        for document in documents:
            if total >= share:
                break
            sample.append(document)
            total += len(document)
    model = ByteLevelBPETokenizer()
    model.train_from_iterator(
        sample, vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS), show_progress=False
    )
    pad, bos, eos = SPECIAL_TOKENS
    return PreTrainedTokenizerFast(
        tokenizer_object=model._tokenizer,
        pad_token=pad,
        bos_token=bos,
        eos_token=eos,
        model_max_length=CONTEXT,
    )


def build_model(spec: ZooModel, vocab_size: int) -> Any:
    """A randomly initialised model of the wanted shape, without dropout."""
    width, layers, heads = spec.width, spec.n_layers, spec.n_heads
    common: dict[str, Any] = {
        "vocab_size": vocab_size,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    decoder = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    shapes: dict[str, dict[str, Any]] = {
        "gpt2": {
            "n_embd": width,
            "n_layer": layers,
            "n_head": heads,
            "n_positions": CONTEXT,
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
        },
        "opt": {
            **decoder,
            "ffn_dim": 4 * width,
            "word_embed_proj_dim": width,
            "dropout": 0.0,
            "max_position_embeddings": CONTEXT,
        },
        "gpt_neox": {
            **decoder,
            "intermediate_size": 4 * width,
            "max_position_embeddings": CONTEXT,
        },
        "llama": {
            **decoder,
            "intermediate_size": 8 * width // 3,
            "max_position_embeddings": CONTEXT,
            "tie_word_embeddings": True,
        },
        "t5": {
            "d_model": width,
            "d_ff": 4 * width,
            "d_kv": width // heads,
            "num_heads": heads,
            "num_layers": layers,
            "num_decoder_layers": layers,
            "dropout_rate": 0.0,
            "decoder_start_token_id": 0,
        },
        "bart": {
            "d_model": width,
            "encoder_layers": layers,
            "decoder_layers": layers,
            "encoder_attention_heads": heads,
            "decoder_attention_heads": heads,
            "encoder_ffn_dim": 4 * width,
            "decoder_ffn_dim": 4 * width,
            "dropout": 0.0,
            "max_position_embeddings": CONTEXT,
            "decoder_start_token_id": 2,
            "forced_eos_token_id": None,
            "scale_embedding": True,
        },
    }
    if spec.architecture not in shapes:
        raise ValueError(
            f"Expected an architecture among {', '.join(shapes)}, got {spec.architecture!r}"
        )
    config = AutoConfig.for_model(spec.architecture, **common, **shapes[spec.architecture])
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    torch.manual_seed(spec.seed)
    return auto.from_config(config)


def token_chunks(tokenizer: PreTrainedTokenizerFast, documents: Sequence[str]) -> Tensor:
    """All documents, each ended by the end token, as one stream cut into chunks.

    Returns:
        Token ids of shape (n_chunks, CONTEXT).
    """
    end = tokenizer.eos_token_id
    stream: list[int] = []
    for ids in tokenizer(list(documents), add_special_tokens=False)["input_ids"]:
        stream.extend([*ids, end])
    n_chunks = len(stream) // CONTEXT
    return torch.tensor(stream[: n_chunks * CONTEXT]).view(n_chunks, CONTEXT)


def language_model_loss(model: Any, chunks: Tensor, split: int) -> Tensor:
    """Next-token loss of a decoder, or prefix loss of an encoder-decoder.

    Args:
        model: The model.
        chunks: Token ids of shape (batch, CONTEXT).
        split: Where an encoder-decoder's input ends and its target begins.

    Returns:
        Mean cross-entropy per predicted token in nats.
    """
    if model.config.is_encoder_decoder:
        return model(input_ids=chunks[:, :split], labels=chunks[:, split:].contiguous()).loss
    return model(input_ids=chunks, labels=chunks).loss


def pretrain(spec: ZooModel, model: Any, chunks: Mapping[str, Tensor]) -> dict[str, Any]:
    """Pre-train in place: AdamW, linear warm-up, cosine decay, gradients clipped to norm 1.

    Args:
        spec: Settings.
        model: The model, changed in place.
        chunks: `prose`, `pairs` and `code` chunks, each of shape (n_chunks, CONTEXT); the last 2 %
            of each are held out.

    Returns:
        Held-out losses, tokens seen and seconds.
    """
    generator = np.random.default_rng(spec.seed)
    held_out = {name: rows[-max(8, len(rows) // 50) :] for name, rows in chunks.items()}
    training = {name: rows[: len(rows) - len(held_out[name])] for name, rows in chunks.items()}
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=spec.learning_rate, weight_decay=0.01, fused=True
    )
    warmup = min(200, spec.n_steps // 10 + 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            min(1.0, (step + 1) / warmup)
            * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / spec.n_steps))))
        ),
    )
    prose_of_rest = min(1.0, spec.prose / (1.0 - spec.pairs)) if spec.pairs < 1 else 0.0
    start = time.perf_counter()
    model.train()
    for step in range(spec.n_steps):
        n_pairs = int(generator.binomial(spec.batch_size, spec.pairs)) if spec.pairs else 0
        rest = spec.batch_size - n_pairs
        n_prose = int(generator.binomial(rest, prose_of_rest))
        counts = {"pairs": n_pairs, "prose": n_prose, "code": rest - n_prose}
        rows = [
            training[name][generator.integers(len(training[name]), size=count)]
            for name, count in counts.items()
            if count
        ]
        split = int(generator.integers(CONTEXT // 4, 3 * CONTEXT // 4))
        loss = language_model_loss(model, torch.cat(rows), split)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            elapsed = time.perf_counter() - start
            print(
                f"{spec.name}: step {step}/{spec.n_steps}, loss {loss.item():.3f}, {elapsed:.0f} s"
            )
    model.eval()
    with torch.no_grad():
        losses = {
            f"held_out_{name}_loss": language_model_loss(model, rows[:128], CONTEXT // 2).item()
            for name, rows in held_out.items()
        }
    return {
        **losses,
        "n_tokens": spec.n_steps * spec.batch_size * CONTEXT,
        "seconds": round(time.perf_counter() - start, 1),
    }


def save(
    spec: ZooModel,
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    record: Mapping[str, Any],
    folder: Path,
) -> None:
    """Write the model (safetensors, half precision), its tokenizer and `pretraining.json`."""
    target = folder / spec.name
    model.half().save_pretrained(target)
    tokenizer.save_pretrained(target)
    n_params = sum(parameter.numel() for parameter in model.parameters())
    text = json.dumps({**asdict(spec), "n_params": n_params, **record}, indent=1)
    write_whole(target / "pretraining.json", text + "\n")
