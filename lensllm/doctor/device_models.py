"""Models with random weights, and data of long texts, with which devices are checked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from lensllm.data.pairs import TextData, make_text_data
from lensllm.doctor.tiny_trial import tiny_data
from lensllm.finetune.encoding import Example
from lensllm.finetune.models import ModelSource
from lensllm.finetune.trial import make_encoder
from lensllm.zoo import ZOO_DIR

VOCABULARY_OF = "llama-64x3"


class RandomSource(ModelSource):
    """A Llama with random weights, which are made where they are needed and never on disk."""

    commit = None  # its folder holds no weights to check

    def load_model(self) -> Any:
        """Make the weights; the same ones each time."""
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(self.config, dtype=getattr(torch, self.dtype))


def random_name(width: int, n_layers: int) -> str:
    """Name of a random model.

    Example:
        >>> random_name(64, 2)
        'random-64x2'
    """
    return f"random-{width}x{n_layers}"


def random_source(folder: Path, width: int, n_layers: int, **options: Any) -> RandomSource:
    """A source of random weights, with the tokenizer of a model of the zoo.

    Args:
        folder: Where the folder of its configuration is made, or was.
        width: Size of the hidden states.
        n_layers: Layers.
        **options: Further attributes of the source.
    """
    place = folder / random_name(width, n_layers)
    if not place.is_dir():
        zoo = ZOO_DIR / VOCABULARY_OF
        config = json.loads((zoo / "config.json").read_text(encoding="utf-8"))
        config |= {
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": n_layers,
            "num_attention_heads": max(1, width // 64),
            "num_key_value_heads": max(1, width // 64),
            "head_dim": min(64, width),
            "max_position_embeddings": 1024,
        }
        shutil.copytree(zoo, place, ignore=shutil.ignore_patterns("*.safetensors"))
        (place / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return RandomSource(str(place), **options)


def long_data(n_sentences: int = 12) -> TextData:
    """Pairs of the tiny data with several sentences in each, of some 200 tokens."""
    tiny = tiny_data()

    def joined(pairs: Any) -> list[tuple[str, str]]:
        cuts = [pairs[i : i + n_sentences] for i in range(0, len(pairs), n_sentences)]
        return [(" ".join(a for a, _ in cut), " ".join(b for _, b in cut)) for cut in cuts]

    splits = joined(tiny.train), joined(tiny.validation), joined(tiny.test)
    return make_text_data("long", *splits, max_input_tokens=256, max_target_tokens=256)


def encoded(source: ModelSource, data: TextData, n_samples: int | None = None) -> list[Example]:
    """The first training pairs as a model sees them."""
    encoder = make_encoder(source, source.load_tokenizer(), data, "{input}\n")
    return encoder.encode(list(data.train[:n_samples]))


def longest(source: ModelSource, data: TextData) -> tuple[int, int]:
    """Tokens of the longest input and of the longest target."""
    examples = encoded(source, data)
    return max(len(e.source) for e in examples), max(len(e.target) for e in examples)
