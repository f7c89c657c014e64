"""Where candidates come from, and how they are loaded safely."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from lensllm.core.trials import digest_of
from lensllm.finetune.adapter_folders import adapter_base, merge_adapter
from lensllm.finetune.adapters import FULL, AdapterConfig
from lensllm.finetune.failures import is_out_of_memory, with_retries
from lensllm.finetune.hub import hub_commit, weights_refusal
from lensllm.finetune.model_files import (
    check_model_folder,
    integer_weights,
    refuse_code,
    text_fingerprint,
    weight_files,
    weights_fingerprint,
)
from lensllm.finetune.shapes import shrunk, used_parameters
from lensllm.zoo import ZOO_DIR, zoo_models

logger = logging.getLogger(__name__)

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


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
        label: Settings that tell it from other arms of the same model, as its name ends with.

    Raises:
        ValueError: The dtype is unknown.
    """

    source: str
    name: str = ""
    revision: str | None = None
    dtype: str = "float32"
    gated: bool = False
    notes: str = ""
    finetune: AdapterConfig | None = None
    label: str = ""

    def __post_init__(self) -> None:
        dtype = getattr(torch, self.dtype, None)
        if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ValueError(f"Expected a torch `dtype` such as float32, got {self.dtype!r}")
        if self.source.startswith("~"):
            object.__setattr__(self, "source", str(Path(self.source).expanduser()))
        if not self.name:
            object.__setattr__(self, "name", self.name_of(1))

    def name_of(self, n_parts: int) -> str:
        """The source, of a folder the last parts of its path, and how it is fine-tuned."""
        is_path = Path(self.source).is_dir() and self.source not in zoo_models()
        name = "/".join(Path(self.source).resolve().parts[-n_parts:]) if is_path else self.source
        return name + self.suffix

    @property
    def suffix(self) -> str:
        """What the name of an arm has after that of its model."""
        return (self.finetune or FULL).suffix + (f" {self.label}" if self.label else "")

    @property
    def base_model(self) -> str:
        """Name of the model itself, without how it is fine-tuned."""
        return self.name.removesuffix(self.suffix)

    @property
    def _folder(self) -> Path:
        return ZOO_DIR / self.source if self.source in zoo_models() else Path(self.source)

    @cached_property
    def base(self) -> ModelSource | None:
        """The model that an adapter's folder belongs to; `None` for a model of its own.

        Raises:
            ValueError: The adapter is incomplete, or its base is not available.
        """
        if (self._folder / "config.json").is_file():
            return None
        found = adapter_base(self._folder)
        if found is None:
            return None
        if (self.finetune or FULL).method == "qlora":
            raise ValueError(
                f"Expected finetune=lora or full for the adapter in {self._folder}, got qlora: it "
                "cannot be added to weights of four bits; merge it first with peft's "
                "`merge_and_unload` and save the result"
            )
        return replace(self, source=found, name=f"{self.name}'s base")

    @cached_property
    def commit(self) -> str | None:
        """Commit of a model of the Hub; `None` for a zoo or local folder, checked to be safe.

        Raises:
            ValueError: The folder holds no safetensors or asks for code of its own, or the id is
                neither an available model nor in the local cache.
        """
        if self.base is not None:
            return self.base.commit
        if self._folder.is_dir():
            self._say_shadowed()
            check_model_folder(self._folder)
            return None
        return hub_commit(self.source, self.revision, self.gated)

    def _say_shadowed(self) -> None:
        """Report that a local folder is used whose name could also be a Hub id."""
        if self.source in zoo_models() or not _HUB_ID.fullmatch(self.source):
            return
        is_path = "/" in self.source and self.revision is None  # models/mine, unless it is cached
        if not (is_path and try_to_load_from_cache(self.source, "config.json") is None):
            logger.warning(
                "%s is taken from the folder %s here, not from the Hub%s: write ./%s to mean the "
                "folder, or run from another folder",
                self.source,
                self._folder.resolve(),
                "" if self.revision is None else f" (its revision {self.revision} is ignored)",
                self.source,
            )

    @property
    def location(self) -> str:
        """Folder of a zoo or local model, otherwise the Hub id; checked as `commit` is.

        For an adapter, that of its base.
        """
        if self.base is not None:
            return self.base.location
        return str(self._folder) if self.commit is None else self.source

    @cached_property
    def config(self) -> Any:
        """The model's `transformers` configuration; loads no weights."""
        location = self.location
        load = partial(AutoConfig.from_pretrained, location, revision=self._revision)
        try:
            config = with_retries(partial(load, trust_remote_code=False), self.name)
        except Exception as error:  # of any kind: the file can hold anything
            raise ValueError(
                f"Expected a config.json of {location} that transformers can read, got: "
                f"{type(error).__name__}: {error}"
            ) from error
        refuse_code(config.to_dict(), self.source)
        return config

    @property
    def _revision(self) -> str | None:
        """The commit on the Hub: a branch may have moved since it was looked up."""
        return self.commit

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
            n_layers: Number of layers (of encoder and decoder each), with only those experts that a
                token is routed to. By default all layers with all experts.

        Raises:
            UnevenLayersError: Its layers are of different kinds, and only some are asked for.
        """
        config = self.config if n_layers is None else shrunk(self.config, n_layers)
        with torch.device("meta"):
            try:
                model = self._auto_class.from_config(config, dtype=getattr(torch, self.dtype))
            except Exception as error:  # of any kind: the file can hold anything
                raise ValueError(
                    f"Expected a config.json from which the model of {self.location} can be "
                    f"built, got: {type(error).__name__}: {error}"
                ) from error
            method = self.finetune or FULL
            return model if method.is_full else replace(method, method="lora").prepare(model)

    @cached_property
    def _sizes(self) -> tuple[int, int, float]:
        """Number of parameters, of trainable ones, and of those active for one token."""
        model = self.meta_model()
        parameters = list(model.parameters())
        trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        return sum(p.numel() for p in parameters), trained, used_parameters(model)

    @property
    def n_params(self) -> int:
        """Number of parameters, shared ones counted once; computed without any weights."""
        return self._sizes[0]

    @property
    def n_trainable(self) -> int:
        """Number of parameters that are trained; computed without any weights."""
        return self._sizes[1]

    @property
    def flops_per_token(self) -> tuple[float, float]:
        """FLOPs of one token in training, and in evaluation.

        2 per parameter in the forward pass, 2 in the backward pass, and 2 more for the gradient of
        each that is trained. Only experts that a token is routed to count.
        """
        used = self._sizes[2]
        trained = used if (self.finetune or FULL).is_full else float(self.n_trainable)
        return 4.0 * used + 2.0 * trained, 2.0 * used

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with the weights: a hash of them, or the Hub commit.

        For an adapter it depends on its own weights and on its base's.
        """
        if self.base is not None:
            return digest_of([weights_fingerprint(self._folder), self.base.fingerprint])
        return weights_fingerprint(self._folder) if self.commit is None else self.commit[:16]

    @cached_property
    def text_fingerprint(self) -> str:
        """16 hexadecimal digits that change with a folder's config, tokenizer or chat template.

        It covers every file that loading may read beside the weights. On the Hub it is the commit,
        as in `fingerprint`.
        """
        if self.base is not None:
            return digest_of([text_fingerprint(self._folder), self.base.text_fingerprint])
        return text_fingerprint(self._folder) if self.commit is None else self.commit[:16]

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding: token ids are below it."""
        return int(self.config.get_text_config().vocab_size)

    def padding(self, pad_token_id: int | None) -> int:
        """An id for padding, which is masked: 0 where the tokenizer's own has no embedding."""
        return pad_token_id if pad_token_id is not None and pad_token_id < self.vocab_size else 0

    @property
    def _auto_class(self) -> Any:
        return AutoModelForSeq2SeqLM if self.is_encoder_decoder else AutoModelForCausalLM

    def load_model(self) -> PreTrainedModel:
        """Load the weights, from safetensors only, in `dtype`.

        Raises:
            ValueError: There are no safetensors at that revision, they are not available, they lack
                a parameter (for which transformers would draw random numbers), or they have layers
                that the config does not; or an adapter does not fit its base.
        """
        if self.base is not None:
            return merge_adapter(self.base.load_model(), self._folder)
        options = (self.finetune or FULL).loading_options()
        try:
            load = partial(
                self._auto_class.from_pretrained,
                self.location,
                revision=self._revision,
                dtype=getattr(torch, self.dtype),
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **options,
            )
            model, found = with_retries(load, self.name)
        except (OSError, SafetensorError) as error:
            raise ValueError(weights_refusal(self.source, self.revision, error)) from error
        except Exception as error:  # of any kind: the file can hold anything
            if is_out_of_memory(error):
                raise
            raise ValueError(
                f"Expected a config.json that describes the weights of {self.location}, got: "
                f"{type(error).__name__}: {error}"
            ) from error
        loaded = {name for name, _ in model.named_parameters()}
        self._check_numbers(loaded)
        self._check_unused(loaded, found["unexpected_keys"])
        missing = loaded.intersection(found["missing_keys"])
        missing.update(name for name, *_ in found["mismatched_keys"])
        if missing:
            raise ValueError(
                f"Expected weights of all parameters in {self.location}, found none that fit "
                f"{len(missing)} of {len(loaded)}, such as {min(missing)}: are its config.json and "
                "its weights of the same model?"
            )
        return model

    def _check_numbers(self, loaded: set[str]) -> None:
        """Refuse parameters that lie in the files as integers: they would be read as noise."""
        for path in [] if self.commit is not None else weight_files(self._folder):
            for name, dtype in integer_weights(path).items():
                if name in loaded:
                    raise ValueError(
                        f"Expected weights in full precision in {path}, got {name} as {dtype}: "
                        "take the model that it was quantised from"
                    )

    def _check_unused(self, loaded: set[str], unused: Sequence[str]) -> None:
        """Refuse layers of the checkpoint that the model lacks; report other unused tensors."""
        # A checkpoint may name the parts of the model without the prefix that the model gives them.
        kinds = {_kind(name) for name in loaded}
        endings = {kind[i + 1 :] for kind in kinds for i, c in enumerate(kind) if c == "."}
        layers = sorted(name for name in unused if _kind(name) in kinds | endings)
        if layers:
            raise ValueError(
                f"Expected a config.json of the same model as the weights in {self.location}, "
                f"found {len(layers)} weights that are not part of the model, such as "
                f"{layers[0]}: put the model's own config.json (its number of layers, say) beside "
                "them"
            )
        if unused:
            logger.warning(
                "%s: %d weights of the checkpoint are not used by its %s, such as %s",
                self.name,
                len(unused),
                self._auto_class.__name__,
                min(unused),
            )

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the tokenizer; where it has no padding token, the end token serves as one.

        Raises:
            ValueError: The model has no tokenizer. For many architectures transformers would then
                make one that cannot encode text.
        """
        has_own = self.base is not None and (self._folder / "tokenizer_config.json").is_file()
        location = str(self._folder) if has_own else self.location
        revision = None if has_own else self._revision
        try:
            load = partial(AutoTokenizer.from_pretrained, location, revision=revision)
            tokenizer = with_retries(partial(load, trust_remote_code=False), self.name)
            one, other = tokenizer(["a", "b"], add_special_tokens=False)["input_ids"]
            problem = "one that cannot tell a from b" if one == other else ""
        except Exception as error:  # of any kind: its files can hold anything
            problem = str(error) if isinstance(error, OSError | ValueError) else repr(error)
        if problem:
            raise ValueError(
                f"Expected a tokenizer with {location}, got: {problem}; save the model's own "
                "beside it with `tokenizer.save_pretrained`"
            )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer


def _kind(name: str) -> str:
    """Name of a parameter without numbers: the same for all layers."""
    return re.sub(r"\d+", "#", name)
