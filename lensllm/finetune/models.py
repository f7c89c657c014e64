"""Where candidates come from, and how they are loaded safely."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from lensllm.finetune.adapters import FULL, FineTuning, split_method
from lensllm.finetune.hub import hub_commit, weights_refusal
from lensllm.zoo import ZOO_DIR, zoo_models

_TEXT_FILES = ("config.json", "special_tokens_map.json", "vocab.json", "merges.txt", "spiece.model")
# Names that transformers' configs have for the number of layers.
DEPTHS = (
    "num_hidden_layers",
    "num_layers",
    "num_decoder_layers",
    "encoder_layers",
    "decoder_layers",
)
# Steps between layers with experts (Switch); at 0 there are none.
ROUTED = ("encoder_sparse_step", "decoder_sparse_step")
_PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class ModelSource:
    """A pre-trained causal or encoder-decoder language model, not loaded yet.

    Attributes:
        source: Name of a zoo model, path of a local model folder, or Hugging Face Hub id.
        name: Name in trials and curves; by default the source itself (for a folder, its name).
        revision: Branch, tag or commit on the Hub.
        dtype: Data type to train in, as torch names it (`float32`, `bfloat16`).
        gated: Whether its licence has to be accepted on the Hub first.
        notes: Class, size, licence and what else one should know; shown, never used.
        finetune: Which parameters are trained; `None` leaves it to the runner.

    Raises:
        ValueError: The dtype is unknown.
    """

    source: str
    name: str = ""
    revision: str | None = None
    dtype: str = "float32"
    gated: bool = False
    notes: str = ""
    finetune: FineTuning | None = None

    def __post_init__(self) -> None:
        dtype = getattr(torch, self.dtype, None)
        if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ValueError(f"Expected a torch `dtype` such as float32, got {self.dtype!r}")
        if not self.name:
            is_path = Path(self.source).is_dir() and self.source not in zoo_models()
            name = Path(self.source).resolve().name if is_path else self.source
            name += (self.finetune or FULL).suffix
            object.__setattr__(self, "name", name)

    @property
    def _folder(self) -> Path:
        return ZOO_DIR / self.source if self.source in zoo_models() else Path(self.source)

    @cached_property
    def commit(self) -> str | None:
        """Commit of a model of the Hub; `None` for a zoo or local folder, checked to be safe.

        Raises:
            ValueError: The folder holds no safetensors or asks for code of its own, or the id is
                neither a model in reach nor in the local cache.
        """
        if self._folder.is_dir():
            check_model_folder(self._folder)
            return None
        return hub_commit(self.source, self.revision, self.gated)

    @property
    def location(self) -> str:
        """Folder of a zoo or local model, otherwise the Hub id; checked as `commit` is."""
        return str(self._folder) if self.commit is None else self.source

    @cached_property
    def config(self) -> Any:
        """The model's `transformers` configuration; loads no weights."""
        config = AutoConfig.from_pretrained(
            self.location, revision=self.revision, trust_remote_code=False
        )
        _refuse_remote_code(config.to_dict(), self.source)
        return config

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether the model has an encoder of its own for the input."""
        return bool(self.config.is_encoder_decoder)

    @property
    def family(self) -> str:
        """Architecture of the model, as `transformers` names it."""
        return str(self.config.model_type)

    def meta_model(self, n_layers: int | None = None) -> Any:
        """The model without any weights, adapters included: shapes alone.

        Args:
            n_layers: Layers (of encoder and decoder each), as a token goes through them: without
                the experts that it is not sent to. As many as it has, and all of them, by default.
        """
        config = self.config if n_layers is None else copy.deepcopy(self.config)
        for name in DEPTHS if n_layers is not None else ():
            if isinstance(getattr(config, name, None), int):
                setattr(config, name, n_layers)
        if n_layers is not None and getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:n_layers]
        for name in ROUTED if n_layers is not None else ():
            if hasattr(config, name):
                setattr(config, name, 0)
        with torch.device("meta"):
            model = self._auto_class.from_config(config, dtype=getattr(torch, self.dtype))
            method = self.finetune or FULL
            return model if method.is_full else replace(method, method="lora").prepare(model)

    @cached_property
    def n_params(self) -> int:
        """Number of parameters, shared ones counted once; computed without any weights."""
        return sum(parameter.numel() for parameter in self.meta_model().parameters())

    @cached_property
    def n_trainable(self) -> int:
        """Number of parameters that are trained; computed without any weights."""
        if (self.finetune or FULL).is_full:
            return self.n_params
        return sum(p.numel() for p in self.meta_model().parameters() if p.requires_grad)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with the weights: a hash of them, or the Hub commit."""
        if self.commit is not None:
            return self.commit[:16]
        digest = hashlib.sha256()
        for path in sorted(self._folder.glob("*.safetensors")):
            with path.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()[:16]

    @cached_property
    def text_fingerprint(self) -> str:
        """16 hexadecimal digits that change with a folder's config or tokenizer; Hub: as above."""
        if self.commit is not None:
            return self.commit[:16]
        digest = hashlib.sha256()
        for path in sorted(self._folder.iterdir()):
            if path.name in _TEXT_FILES or path.name.startswith("tokenizer"):
                digest.update(f"{path.name}\0".encode() + path.read_bytes())
        return digest.hexdigest()[:16]

    @property
    def _auto_class(self) -> Any:
        return AutoModelForSeq2SeqLM if self.is_encoder_decoder else AutoModelForCausalLM

    def load_model(self) -> PreTrainedModel:
        """Load the weights, from safetensors only, in `dtype`.

        Raises:
            ValueError: There are no safetensors at that revision, they cannot be had, or they lack
                a parameter, for which transformers would draw random numbers.
        """
        options = (self.finetune or FULL).loading_options()
        try:
            model, found = self._auto_class.from_pretrained(
                self.location,
                revision=self.revision,
                dtype=getattr(torch, self.dtype),
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **options,
            )
        except (OSError, SafetensorError) as error:
            raise ValueError(weights_refusal(self.source, self.revision, error)) from error
        loaded = {name for name, _ in model.named_parameters()}
        missing = loaded.intersection(found["missing_keys"])
        missing.update(name for name, *_ in found["mismatched_keys"])
        if missing:
            raise ValueError(
                f"Expected weights of all parameters in {self.location}, found none that fit "
                f"{len(missing)} of {len(loaded)}, such as {min(missing)}: are its config.json and "
                "its weights of the same model?"
            )
        return model

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the tokenizer; where it has no padding token, the end token serves as one.

        Raises:
            ValueError: The model comes without one. Of many kinds transformers then makes one that
                knows no text.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                self.location, revision=self.revision, trust_remote_code=False
            )
            one, other = tokenizer(["a", "b"], add_special_tokens=False)["input_ids"]
            problem = "one that cannot tell a from b" if one == other else ""
        except (OSError, ValueError) as error:
            problem = str(error)
        if problem:
            raise ValueError(
                f"Expected a tokenizer with {self.location}, got: {problem}; save the model's own "
                "beside it with `tokenizer.save_pretrained`"
            )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer


def as_sources(
    given: Sequence[ModelSource | str] | Mapping[str, ModelSource | str],
    finetune: FineTuning = FULL,
) -> list[ModelSource]:
    """Candidates as a user gives them: sources, or texts that name one.

    Args:
        given: A sequence or a mapping (whose keys are ignored) of sources or texts. `gpt2+lora` is
            `gpt2` with adapters.
        finetune: How candidates are fine-tuned that do not say it themselves; also the rank and so
            on of texts that name the same method.

    Returns:
        Sources; a name says how its candidate is fine-tuned, unless in full.
    """
    items = given.values() if isinstance(given, Mapping) else given
    return [_as_source(item, finetune) for item in items]


def _as_source(item: ModelSource | str, default: FineTuning) -> ModelSource:
    if isinstance(item, str):
        text, method = split_method(item)
        if method is None:
            return _as_source(ModelSource(item), default)
        named = default if method == default.method else FineTuning(method)  # type: ignore[arg-type]
        return ModelSource(text, finetune=named)
    if item.finetune is not None or default == FULL:
        return item
    return replace(item, name=item.name + default.suffix, finetune=default)


def check_model_folder(folder: Path) -> None:
    """Refuse a folder that is not a model, holds pickled weights only, or wants its own code run.

    Raises:
        ValueError: With what was expected, what came and what to do.
    """
    config = folder / "config.json"
    if not config.is_file():
        raise ValueError(f"Expected a model folder with config.json, found none in {folder}")
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"Expected a JSON object in {config}, got {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"Expected a JSON object in {config}, got a {type(settings).__name__}")
    _refuse_remote_code(settings, str(folder))
    if not any(folder.glob("*.safetensors")):
        pickled = [path.name for path in folder.iterdir() if path.suffix in _PICKLE_SUFFIXES]
        found = f"the pickle checkpoint {pickled[0]}" if pickled else "no weights"
        raise ValueError(
            f"Expected safetensors weights in {folder}, found {found}: convert the model with "
            "save_pretrained in an environment that you trust"
        )


def _refuse_remote_code(config: dict[str, Any], source: str) -> None:
    if config.get("auto_map"):
        raise ValueError(
            f"Expected a model that transformers implements, got {source}, whose config.json asks "
            "for code of its own (`auto_map`): lensllm never sets trust_remote_code"
        )
