"""The whole path of fine-tuning on one device, checked in minutes: losses, memory, speed, recovery.

On a GPU its losses are compared with those of the CPU; on a CPU the same code runs with small
models, which keeps it alive where there is no GPU.
"""

from __future__ import annotations

import importlib.util
import math
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from lensllm.curvature.ntk import empirical_ntk
from lensllm.curvature.probe import mean_log_prob
from lensllm.doctor.device_memory import check_estimate, check_recovery, check_search
from lensllm.doctor.device_models import encoded, random_name, random_source
from lensllm.doctor.device_speed import check_speed
from lensllm.doctor.findings import Finding, Level
from lensllm.doctor.tiny_trial import N_SAMPLES, SETTINGS, Place, run_at, tiny_data
from lensllm.finetune.adapters import AdapterConfig
from lensllm.finetune.encoding import Collator
from lensllm.finetune.models import ModelSource
from lensllm.system.quiet import quiet_libraries
from lensllm.zoo import zoo_models

LOSS_TOLERANCE = {"32-true": 2e-3, "bf16-mixed": 3e-2}  # relative, against float32
NTK_TOLERANCE = 1e-3
RESUME_TOLERANCE = 1e-3  # on a GPU, whose sums have no fixed order; on a CPU bits are the same
FEW_SAMPLES = 48  # for models with random weights: three steps


@dataclass(frozen=True)
class Profile:
    """What a trial is run with.

    Attributes:
        trainer: The option of `trainer=`; `float32` for one without half precision.
        settings: Changes of the settings of training.
        method: How it is fine-tuned.
        looser: Factor on the bound of its loss.
    """

    trainer: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    method: str = "full"
    looser: float = 1.0

    @property
    def precision(self) -> str:
        """Lightning's name of the precision."""
        return "32-true" if self.trainer == "float32" else "bf16-mixed"


_A100 = {"gradient_checkpointing": True, "micro_batch_size": "auto"}
PROFILES = {
    "float32": Profile("float32"),
    "trainer=gpu": Profile("gpu"),
    "trainer=a100": Profile("a100", _A100),
    "trainer=a100 lora": Profile("a100", _A100, "lora"),
}
ON_GPU = {"trainer=gpu compile": Profile("gpu", {"compile": True})}
IN_FOUR_BITS = {"trainer=gpu qlora": Profile("gpu", {}, "qlora", looser=5.0)}


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
        random_profiles: What the models with random weights are trained with.
    """

    zoo: tuple[str, ...]
    shapes: tuple[tuple[int, int], ...]
    n_ntk: int
    batch_size: int
    n_rounds: int
    profiles: tuple[str, ...]
    random_profiles: tuple[str, ...]


SMALL = Scale(
    ("gpt2-48x2",), ((64, 2),), 8, 8, 1, ("trainer=a100", "trainer=a100 lora"), ("trainer=gpu",)
)
FULL = Scale(  # random models of 0.1 and 1 B parameters
    tuple(zoo_models()), ((768, 14), (2048, 18)), 256, 32, 3, tuple(PROFILES), tuple(PROFILES)[1:]
)

Check = Callable[[], tuple[bool, str, dict[str, float]]]


def topics(place: Place, scale: Scale) -> list[str]:
    """What the checks of a device are about, in their order."""
    return [f"{place.device} {name}" for name, _ in _checks(place, scale, Path())]


def device_findings(place: Place, scale: Scale, first: int = 0) -> Iterator[Finding]:
    """The checks of one device, in a process that has not used CUDA yet.

    Args:
        place: The device.
        scale: How large the checks are.
        first: Position of the check to begin with.
    """
    quiet_libraries()
    if place.is_gpu:  # the Trainer of transformers would share a batch between all that it sees
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
        os.environ["CUDA_VISIBLE_DEVICES"] = seen.partition(",")[0]
    with tempfile.TemporaryDirectory() as folder:
        for name, check in _checks(place, scale, Path(folder))[first:]:
            yield _finding(f"{place.device} {name}", check)


def _finding(topic: str, check: Check) -> Finding:
    start = time.monotonic()
    try:
        is_good, text, numbers = check()
    except Exception as error:
        words = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return Finding(topic, "broken", words, "report it with doctor.json")
    level: Level = "ok" if is_good else "broken"
    told: dict[str, float | None] = {"seconds": time.monotonic() - start}
    told |= {key: x if math.isfinite(x) else None for key, x in numbers.items()}
    return Finding(topic, level, text, "" if is_good else "out of bounds", told)


def _checks(place: Place, scale: Scale, folder: Path) -> list[tuple[str, Check]]:
    """The checks with their names: what matters most comes first, where time may be short."""
    small, *_ = scale.shapes

    def random(shape: tuple[int, int], check: Callable[..., Any], *more: Any) -> Check:
        return lambda: check(place, random_source(folder, *shape), *more)

    checks: list[tuple[str, Check]] = []
    for i, name in enumerate(scale.zoo):
        found = {key: PROFILES[key] for key in scale.profiles} | (
            _only_on_gpus(place) if i == 0 else {}
        )
        for words, profile in found.items():
            checks.append((f"{words} {name}", partial(_profile, place, name, profile)))
    batch = scale.batch_size
    checks += [
        ("micro-batches", random(small, check_search, batch)),
        ("out of memory", random(small, check_recovery, batch)),
        ("resuming", partial(_resuming, place, scale.zoo[0], folder)),
    ]
    for shape in scale.shapes:
        name = random_name(*shape)
        checks.append((f"speed {name}", random(shape, check_speed, batch, scale.n_rounds)))
        if place.is_gpu:
            checks.append((f"memory {name}", random(shape, check_estimate, batch)))
        if shape == small:
            checks.append((f"NTK {name}", random(shape, _ntk, scale.n_ntk)))
        for words in scale.random_profiles:
            other = Place() if shape == small else place  # 1 B takes minutes on a CPU
            check = partial(_random_profile, place, other, folder, shape, PROFILES[words])
            checks.append((f"{words} {name}", check))
    return checks


def _only_on_gpus(place: Place) -> dict[str, Profile]:
    if not place.is_gpu:
        return {}
    has_four_bits = importlib.util.find_spec("bitsandbytes") is not None
    return ON_GPU | (IN_FOUR_BITS if has_four_bits else {})


def _profile(place: Place, name: str, profile: Profile) -> tuple[bool, str, dict[str, float]]:
    """A trial of a model of the zoo under one profile, against float32 on the CPU."""
    source = ModelSource(name, finetune=AdapterConfig(profile.method))  # type: ignore[arg-type]
    reference = "full" if profile.method == "full" else "lora"
    return _compared(place, source, profile, N_SAMPLES, Place(), _loss_of(name, reference))


def _random_profile(
    place: Place, other: Place, folder: Path, shape: tuple[int, int], profile: Profile
) -> tuple[bool, str, dict[str, float]]:
    """The same of a model with random weights, against float32 at another place."""
    method = AdapterConfig(profile.method)  # type: ignore[arg-type]
    source = random_source(folder, shape[0], shape[1], finetune=method)
    expected = _random_loss(other, folder, shape, profile.method)
    return _compared(place, source, profile, FEW_SAMPLES, other, expected)


@lru_cache
def _loss_of(name: str, method: Any) -> float:
    """The loss of a model of the zoo in float32 on the CPU."""
    source = ModelSource(name, finetune=AdapterConfig(method))
    return run_at(Place(), source, tiny_data()).test_loss


@lru_cache
def _random_loss(place: Place, folder: Path, shape: tuple[int, int], method: Any) -> float:
    source = random_source(folder, *shape, finetune=AdapterConfig(method))
    return run_at(place, source, tiny_data(), n_samples=FEW_SAMPLES).test_loss


def _compared(
    place: Place,
    source: ModelSource,
    profile: Profile,
    n_samples: int,
    other: Place,
    expected: float,
) -> tuple[bool, str, dict[str, float]]:
    """The loss of a trial under a profile, against one in float32."""
    there = replace(place, precision=profile.precision, tf32=profile.trainer != "float32")
    settings = replace(SETTINGS, **profile.settings)
    found = run_at(there, source, tiny_data(), settings, n_samples).test_loss
    off, bound = abs(found / expected - 1.0), LOSS_TOLERANCE[profile.precision] * profile.looser
    text = f"loss {found:.4f}, float32 on {other.device} {expected:.4f} (bound {bound:.1%})"
    return off <= bound, text, {"loss": found, "expected": expected, "off": off, "bound": bound}


class _Kill(pl.Callback):
    """Kills its process at a step."""

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Count."""
        if trainer.global_step == 6:
            os.kill(os.getpid(), signal.SIGKILL)


def _run_until_killed(place: Place, name: str, checkpoint: Path) -> None:
    """The main function of a process that is killed in its trial."""
    quiet_libraries()
    options: dict[str, Any] = {"checkpoint": checkpoint, "checkpoint_seconds": 0.0}
    run_at(place, ModelSource(name), tiny_data(), callbacks=(_Kill(),), **options)


def _resuming(place: Place, name: str, folder: Path) -> tuple[bool, str, dict[str, float]]:
    """A trial whose process is killed goes on, to the loss of one that was not."""
    checkpoint = folder / "trial.ckpt"
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_run_until_killed, args=(place, name, checkpoint), daemon=True)
    process.start()
    process.join()
    was_killed, had = process.exitcode == -signal.SIGKILL, checkpoint.is_file()
    whole = run_at(place, ModelSource(name), tiny_data())
    found = run_at(place, ModelSource(name), tiny_data(), checkpoint=checkpoint)
    off = abs(found.test_loss / whole.test_loss - 1.0)
    bound = RESUME_TOLERANCE if place.is_gpu else 0.0
    text = f"killed at step 6 of {whole.n_steps}, went on, loss off by {off:.1e}"
    numbers = {"loss": found.test_loss, "expected": whole.test_loss, "off": off}
    return was_killed and had and off <= bound, text, numbers


def _ntk(place: Place, source: ModelSource, n_examples: int) -> tuple[bool, str, dict[str, float]]:
    """The empirical NTK against a plain loop over examples, whose gradients are on the CPU."""
    collator = Collator(0, is_encoder_decoder=source.is_encoder_decoder)
    batch = collator(encoded(source, tiny_data(), n_examples))
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
    alone = f"one by one {plain:.1f} s (from {rows})"
    text = f"{n_examples} examples in {ours:.1f} s, {alone}, off by {off:.1e}"
    return off <= NTK_TOLERANCE, text, {"seconds_ntk": ours, "seconds_plain": plain, "off": off}
