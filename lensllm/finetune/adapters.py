"""Which parameters of a candidate are trained: all of them, or low-rank adapters."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch

Method = Literal["full", "lora", "qlora"]
METHODS: tuple[str, ...] = get_args(Method)


@dataclass(frozen=True)
class AdapterConfig:
    """How a candidate is fine-tuned; it is part of the candidate, so that methods can compete.

    LoRA (Hu et al. 2022, arXiv:2106.09685) leaves a weight W as it is and trains B and A in
    W + (alpha / rank) B A. QLoRA (Dettmers et al. 2023, arXiv:2305.14314) does so over weights
    that are kept in four bits.

    Attributes:
        method: `full`, `lora` or `qlora`.
        rank: Rank of the adapters.
        alpha: Scale of the adapters is alpha / rank.
        dropout: Dropout before the adapters.
        target_modules: Names of the layers that get adapters, as in PEFT; `all-linear` for every
            linear layer but the output head and the output projections of state-space layers.
        learning_rate: Learning rate of this candidate; `None` for the optimizer's own. Adapters
            often want a larger one than full fine-tuning.

    Raises:
        ValueError: The method is unknown, or a number is out of its range.
    """

    method: Method = "full"
    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: str | Sequence[str] = "all-linear"
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"Expected finetune among {', '.join(METHODS)}, got {self.method!r}")
        for name in ("rank", "alpha", "learning_rate"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"Expected finetune.{name} > 0, got {value}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"Expected finetune.dropout in [0, 1), got {self.dropout}")

    @property
    def is_full(self) -> bool:
        """Whether all parameters are trained."""
        return self.method == "full"

    @property
    def suffix(self) -> str:
        """Suffix of the candidate's name; empty for full fine-tuning."""
        return "" if self.is_full else f"+{self.method}"

    def settings(self) -> dict[str, Any]:
        """Settings that enter a trial's key; empty for full fine-tuning.

        The learning rate is not included, since it is among the optimizer's settings.
        """
        if self.is_full:
            return {}
        values = asdict(self)
        del values["learning_rate"]
        if not isinstance(self.target_modules, str):
            values["target_modules"] = sorted(self.target_modules)
        return {"finetune": values}

    def prepare(self, model: Any) -> Any:
        """Put adapters into the model, in place, and freeze everything else.

        Args:
            model: A model of `transformers`; it keeps its class and its `forward`.

        Returns:
            The same model; untouched for full fine-tuning.

        Raises:
            ValueError: No layer has one of the names in `target_modules`.
        """
        if self.is_full:
            return model
        from peft import LoraConfig, inject_adapter_in_model

        if self.method == "qlora":
            from peft import prepare_model_for_kbit_training

            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
            _keep_layout(model)
        modules = self.target_modules
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=modules if isinstance(modules, str) else list(modules),
            exclude_modules=_read_by_kernels(model) if modules == "all-linear" else None,
        )
        return inject_adapter_in_model(config, model)

    def loading_options(self) -> dict[str, Any]:
        """Keyword arguments for `from_pretrained`: the four-bit weights of QLoRA.

        Raises:
            ValueError: The package that QLoRA needs is not installed.
        """
        if self.method != "qlora":
            return {}
        if importlib.util.find_spec("bitsandbytes") is None:
            raise ValueError(
                "Expected the package bitsandbytes for finetune=qlora, found none: `pip install "
                "bitsandbytes`, or take finetune=lora"
            )
        from transformers import BitsAndBytesConfig

        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        return {"quantization_config": quantization}


FULL = AdapterConfig()


def _read_by_kernels(model: torch.nn.Module) -> list[str] | None:
    """Linear layers of state-space models whose weights are used without calling the layer.

    An adapter on the output of a Mamba mixer would have no effect there; peft refuses it.
    """
    found = [
        f"{name}.out_proj"
        for name, module in model.named_modules()
        if hasattr(module, "conv1d") and hasattr(module, "out_proj")
    ]
    return found or None


def _keep_layout(model: torch.nn.Module) -> None:
    """Keep the layout of four-bit weights when a CPU evaluates them.

    For a special kernel of some CPUs bitsandbytes would repack them at the first evaluation. That
    kernel refuses layers whose width is not a multiple of 32.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def trained_names(model: torch.nn.Module) -> set[str]:
    """Names of trainable parameters and of buffers, including all names of shared ones."""
    named = model.named_parameters(remove_duplicate=False)
    trained = {name for name, parameter in named if parameter.requires_grad}
    return trained | {name for name, _ in model.named_buffers(remove_duplicate=False)}


def split_method(text: str) -> tuple[str, str | None]:
    """Source and fine-tuning method of a candidate given as a string.

    Example:
        >>> split_method("gpt2+lora"), split_method("gpt2")
        (('gpt2', 'lora'), ('gpt2', None))
    """
    source, plus, method = text.rpartition("+")
    return (source, method) if plus and method in METHODS else (text, None)
