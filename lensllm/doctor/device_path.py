"""The whole path of fine-tuning on one device, checked in minutes: losses, memory, speed, recovery.

On a GPU its losses are compared with those of the CPU; on a CPU the same code runs with small
models, which keeps it alive where there is no GPU.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from transformers import AutoModelForCausalLM

from lensllm.core.trials import TrialResult
from lensllm.curvature.ntk import empirical_ntk
from lensllm.curvature.probe import mean_log_prob
from lensllm.data.pairs import TextData, make_text_data
from lensllm.doctor.findings import Finding, Level
from lensllm.doctor.tiny_trial import SETTINGS, Pace, Place, run_at, tiny_data
from lensllm.finetune.adapters import AdapterConfig
from lensllm.finetune.encoding import Collator, target_loss
from lensllm.finetune.loading import make_loader
from lensllm.finetune.memory import estimate_memory, largest_micro_batch
from lensllm.finetune.models import ModelSource
from lensllm.finetune.settings import TrainingSettings
from lensllm.finetune.trial import TrialFailedError, make_encoder
from lensllm.zoo import ZOO_DIR, zoo_models

LOSS_TOLERANCE = {"32-true": 2e-3, "bf16-mixed": 3e-2}  # relative, against float32 on the CPU
MEMORY_TOLERANCE = 0.25
NTK_TOLERANCE = 1e-3
RESUME_TOLERANCE = 1e-3  # on a GPU, whose sums have no fixed order; on a CPU bits are the same
VOCABULARY_OF = "llama-64x3"


@dataclass(frozen=True)
class Scale:
    """How large the checks are.

    Attributes:
        zoo: Models of the zoo.
        shapes: Width and layers of models with random weights, from small to large.
        n_ntk: Examples of the NTK.
        batch_size: Examples of a step of the models with random weights.
        n_rounds: How often each side of the comparison of speed is measured.
        profiles: What the models of the zoo are trained with.
    """

    zoo: tuple[str, ...]
    shapes: tuple[tuple[int, int], ...]
    n_ntk: int
    batch_size: int
    n_rounds: int
    profiles: tuple[str, ...]


PROFILES = ("float32", "bf16", "bf16 checkpointing", "bf16 lora")
SMALL = Scale(("gpt2-48x2",), ((64, 2),), 8, 8, 1, PROFILES[2:])
FULL = Scale(tuple(zoo_models()), ((768, 14), (2048, 18)), 256, 32, 3, PROFILES)  # 0.1 and 1 B


class RandomSource(ModelSource):
    """A Llama with random weights, which are made where they are needed and never on disk."""

    commit = None  # its folder holds no weights to check

    def load_model(self) -> Any:
        """Make the weights; the same ones each time."""
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(self.config, dtype=getattr(torch, self.dtype))


def random_source(folder: Path, width: int, n_layers: int) -> RandomSource:
    """A source of random weights, with the tokenizer of a model of the zoo."""
    config = json.loads((ZOO_DIR / VOCABULARY_OF / "config.json").read_text(encoding="utf-8"))
    config |= {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": n_layers,
        "num_attention_heads": max(1, width // 64),
        "num_key_value_heads": max(1, width // 64),
        "head_dim": min(64, width),
        "max_position_embeddings": 1024,
    }
    place = folder / f"random-{width}x{n_layers}"
    shutil.copytree(ZOO_DIR / VOCABULARY_OF, place, ignore=shutil.ignore_patterns("*.safetensors"))
    (place / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return RandomSource(str(place))


def long_data(n_sentences: int = 12) -> TextData:
    """Pairs of the tiny data with several sentences in each, of some 200 tokens."""
    tiny = tiny_data()

    def joined(pairs: Any) -> list[tuple[str, str]]:
        cuts = [pairs[i : i + n_sentences] for i in range(0, len(pairs), n_sentences)]
        return [(" ".join(a for a, _ in cut), " ".join(b for _, b in cut)) for cut in cuts]

    splits = joined(tiny.train), joined(tiny.validation), joined(tiny.test)
    return make_text_data("long", *splits, max_input_tokens=256, max_target_tokens=256)


def device_findings(place: Place, scale: Scale, minutes: float) -> Iterator[Finding]:
    """All checks of one device, as long as there is time to begin one.

    Args:
        place: The device.
        scale: How large the checks are.
        minutes: Time after which no further check begins.
    """
    until = time.monotonic() + 60.0 * minutes
    with tempfile.TemporaryDirectory() as folder:
        for name, check in _checks(place, scale, Path(folder)):
            topic = f"{place.device} {name}"
            if time.monotonic() > until:
                yield Finding(topic, "note", "not run: the time is up", "minutes=20 takes longer")
                continue
            start = time.monotonic()
            try:
                is_good, text, numbers = check()
            except Exception as error:
                words = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                yield Finding(topic, "broken", words, "report it with doctor.json")
                continue
            level: Level = "ok" if is_good else "broken"
            told: dict[str, float | None] = {"seconds": time.monotonic() - start}
            told |= {key: x if math.isfinite(x) else None for key, x in numbers.items()}
            yield Finding(topic, level, text, "" if is_good else "out of bounds", told)


Check = Callable[[], tuple[bool, str, dict[str, float]]]


def _checks(place: Place, scale: Scale, folder: Path) -> Iterator[tuple[str, Check]]:
    for name in scale.zoo:
        for profile in scale.profiles:
            yield f"{profile} {name}", partial(_profile, place, name, profile)
    if place.is_gpu:
        yield "bf16 compile", partial(_profile, place, scale.zoo[0], "bf16 compile")
        if importlib.util.find_spec("bitsandbytes") is not None:
            yield "bf16 qlora", partial(_profile, place, scale.zoo[0], "bf16 qlora")
    yield "micro-batches", partial(_micro_batches, place, scale.zoo[0])
    yield "out of memory", partial(_out_of_memory, place, scale.zoo[0])
    yield "resuming", partial(_resuming, place, scale.zoo[0], folder)
    for width, n_layers in scale.shapes:
        source = random_source(folder, width, n_layers)
        yield f"speed {source.name}", partial(_speed, place, source, scale)
        if place.is_gpu:
            yield f"memory {source.name}", partial(_memory, place, source, scale)
        if width == scale.shapes[0][0]:
            yield f"NTK {source.name}", partial(_ntk, place, source, scale.n_ntk)


def _profile(place: Place, name: str, profile: str) -> tuple[bool, str, dict[str, float]]:
    """A trial under one profile of `trainer=`, against float32 on the CPU."""
    words = profile.split()
    method = next((word for word in words if word in ("lora", "qlora")), "full")
    source = ModelSource(name, finetune=AdapterConfig(method))  # type: ignore[arg-type]
    settings = replace(
        SETTINGS,
        compile="compile" in words,
        gradient_checkpointing="checkpointing" in words,
    )
    precision = "bf16-mixed" if "bf16" in words else "32-true"
    there = replace(place, precision=precision, tf32="bf16" in words)
    reference = ModelSource(name, finetune=AdapterConfig("lora" if method != "full" else "full"))
    expected = run_at(Place(), reference, tiny_data()).test_loss
    found = run_at(there, source, tiny_data(), settings).test_loss
    off = abs(found / expected - 1.0)
    bound = LOSS_TOLERANCE[precision] * (5.0 if method == "qlora" else 1.0)
    text = f"loss {found:.4f}, float32 on the CPU {expected:.4f} (bound {bound:.1%})"
    return off <= bound, text, {"loss": found, "loss_on_cpu": expected, "off": off}


def _same(found: TrialResult, whole: TrialResult, bound: float) -> tuple[bool, dict[str, float]]:
    off = abs(found.test_loss / whole.test_loss - 1.0)
    return off <= bound, {"loss": found.test_loss, "expected": whole.test_loss, "off": off}


def _micro_batches(place: Place, name: str) -> tuple[bool, str, dict[str, float]]:
    """The micro-batch that the estimate finds under a cap of memory, which a GPU then enforces."""
    source, data = ModelSource(name), tiny_data()
    cap = 0.9 * estimate_memory(source, SETTINGS.batch_size, 40, 40).device
    micro = largest_micro_batch(source, SETTINGS.batch_size, 40, 40, cap)
    whole = run_at(place, source, data)
    found = run_at(place, source, data, replace(SETTINGS, micro_batch_size=micro))
    is_good, numbers = _same(found, whole, LOSS_TOLERANCE["32-true"])
    fits = not place.is_gpu or found.peak_memory_bytes <= cap
    text = f"{micro} of {SETTINGS.batch_size} below {cap / 1e6:.0f} MB, loss {found.test_loss:.4f}"
    return is_good and fits and micro < SETTINGS.batch_size, text, numbers | {"micro": micro}


class _Limit(pl.Callback):
    """Lets memory run out beyond so many examples at once."""

    def __init__(self, most: int) -> None:
        self.most = most

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the batch."""
        if len(batch["input_ids"]) > self.most:
            raise torch.OutOfMemoryError("a limit of the check")


def _out_of_memory(place: Place, name: str) -> tuple[bool, str, dict[str, float]]:
    """A trial for which memory runs out has smaller micro-batches and the same loss."""
    source, data = ModelSource(name), tiny_data()
    whole = run_at(place, source, data)
    found = run_at(place, source, data, callbacks=(_Limit(5),))
    is_good, numbers = _same(found, whole, LOSS_TOLERANCE["32-true"])
    micro = found.data["micro_batch_size"]
    text = f"went on with {micro} of {SETTINGS.batch_size}, loss {found.test_loss:.4f}"
    return is_good and micro == 4, text, numbers


class _Stop(pl.Callback):
    """Ends a trial at a step, as a crash would."""

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Count."""
        if trainer.global_step == 6:
            raise RuntimeError("a stop of the check")


def _resuming(place: Place, name: str, folder: Path) -> tuple[bool, str, dict[str, float]]:
    """A trial that is stopped and resumed has the loss of one that was not."""
    source, data = ModelSource(name), tiny_data()
    options: dict[str, Any] = {"checkpoint": folder / "trial.ckpt", "checkpoint_seconds": 0.0}
    whole = run_at(place, source, data)
    with contextlib.suppress(TrialFailedError):
        run_at(place, source, data, callbacks=(_Stop(),), **options)
    had = options["checkpoint"].is_file()
    found = run_at(place, source, data, **options)
    bound = RESUME_TOLERANCE if place.is_gpu else 0.0
    is_good, numbers = _same(found, whole, bound)
    return had and is_good, f"from a checkpoint, loss off by {numbers['off']:.1e}", numbers


def _speed(place: Place, source: ModelSource, scale: Scale) -> tuple[bool, str, dict[str, float]]:
    """Tokens a second of a trial and of a plain loop, and FLOPs against a matrix product."""
    data = long_data()
    settings = TrainingSettings(batch_size=scale.batch_size, max_epochs=1, n_evaluations=1)
    there = replace(place, precision="bf16-mixed", tf32=True)
    rates: dict[str, list[float]] = {"trial": [], "plain": []}
    n_samples = min(len(data.train), 6 * scale.batch_size)
    for _ in range(scale.n_rounds):
        pace = Pace()
        run_at(there, source, data, settings, n_samples, (pace,))
        rates["trial"].append(pace.tokens_per_second)
        rates["plain"].append(_plain(place, source, data, scale.batch_size, n_samples))
    trial, plain = (statistics.median(rates[side]) for side in ("trial", "plain"))
    share = trial * source.flops_per_token[0] / _matrix_flops(place)
    text = (
        f"{source.n_params / 1e6:.1f} M parameters, {trial:.0f} tokens/s, a plain loop "
        f"{plain:.0f}, {share:.0%} of the FLOPs of a matrix product"
    )
    numbers = {"tokens_per_second": trial, "plain": plain, "utilisation": share}
    return trial > 0.5 * plain, text, numbers


def _plain(
    place: Place, source: ModelSource, data: TextData, batch_size: int, n_samples: int
) -> float:
    """Tokens a second of a loop of ten lines over the same number of steps, without the first."""
    device = torch.device(place.device)
    model = source.load_model().to(device).train()
    encoder = make_encoder(source, source.load_tokenizer(), data, "{input}\n")
    examples = encoder.encode(list(data.train[:n_samples]))
    collator = Collator(0, is_encoder_decoder=source.is_encoder_decoder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    n_tokens, start = 0, math.nan
    for batch in make_loader(examples, collator, batch_size, seed=0, shuffle=True):
        given = {name: value.to(device) for name, value in batch.items() if torch.is_tensor(value)}
        with torch.autocast(device.type, torch.bfloat16):
            total, n_targets = target_loss(model, given)
        optimizer.zero_grad()
        (total / n_targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if place.is_gpu:
            torch.cuda.synchronize()
        if math.isnan(start):
            start = time.perf_counter()
        else:
            n_tokens += int(given["attention_mask"].sum())
    return n_tokens / (time.perf_counter() - start)


def _matrix_flops(place: Place, size: int = 1024) -> float:
    """FLOPs a second of a product of square matrices in bfloat16."""
    size = 8 * size if place.is_gpu else size
    a = torch.randn(size, size, device=place.device, dtype=torch.bfloat16)
    for n_times in (1, 5):  # the first warms up
        start = time.perf_counter()
        for _ in range(n_times):
            a @ a
        if place.is_gpu:
            torch.cuda.synchronize()
        seconds = (time.perf_counter() - start) / n_times
    return 2.0 * size**3 / seconds


def _memory(place: Place, source: ModelSource, scale: Scale) -> tuple[bool, str, dict[str, float]]:
    """The estimated peak of a training step against the allocator's."""
    data = long_data()
    settings = TrainingSettings(batch_size=scale.batch_size, max_epochs=1, n_evaluations=1)
    there = replace(place, precision="bf16-mixed", tf32=True)
    measured = run_at(there, source, data, settings, 2 * scale.batch_size).peak_memory_bytes
    encoder = make_encoder(source, source.load_tokenizer(), data, "{input}\n")
    examples = encoder.encode(list(data.train))
    longest = max(len(e.source) for e in examples), max(len(e.target) for e in examples)
    precision = {"precision": "bf16-mixed"}
    estimate = estimate_memory(source, scale.batch_size, *longest, **precision).device  # type: ignore[arg-type]
    text = f"{measured / 1e9:.2f} GB at the peak, estimated {estimate / 1e9:.2f} GB"
    numbers = {"measured": float(measured), "estimated": estimate}
    return abs(estimate / measured - 1.0) <= MEMORY_TOLERANCE, text, numbers


def _ntk(place: Place, source: ModelSource, n_examples: int) -> tuple[bool, str, dict[str, float]]:
    """The empirical NTK against a plain loop over examples, whose gradients are on the CPU."""
    data = tiny_data()
    encoder = make_encoder(source, source.load_tokenizer(), data, "{input}\n")
    collator = Collator(0, is_encoder_decoder=source.is_encoder_decoder)
    batch = collator(encoder.encode(list(data.train[:n_examples])))
    given = {
        name: batch[name].to(place.device) for name in ("input_ids", "attention_mask", "labels")
    }
    model = source.load_model().to(place.device).eval()
    start = time.perf_counter()
    kernel = torch.as_tensor(empirical_ntk(model, given).kernel)
    ours = time.perf_counter() - start
    rows = min(n_examples, 16)  # gradients of more examples of 0.1 B are too many to keep
    start = time.perf_counter()
    gradients = []
    for i in range(rows):
        one = {name: value[i : i + 1] for name, value in given.items()}
        logits = model(input_ids=one["input_ids"], attention_mask=one["attention_mask"]).logits
        output = mean_log_prob(logits[:, -one["labels"].shape[1] :], one["labels"]).sum()
        found = torch.autograd.grad(output, list(model.parameters()), allow_unused=True)
        gradients.append(torch.cat([g.flatten().cpu() for g in found if g is not None]))
    plain = (time.perf_counter() - start) * n_examples / rows
    matrix = torch.stack(gradients)
    expected = (matrix @ matrix.T).double()
    off = float((kernel[:rows, :rows] - expected).norm() / expected.norm())
    text = f"{n_examples} examples in {ours:.1f} s, one by one {plain:.1f} s, off by {off:.1e}"
    return off <= NTK_TOLERANCE, text, {"seconds_ntk": ours, "seconds_plain": plain, "off": off}
