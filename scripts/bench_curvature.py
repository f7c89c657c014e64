"""Time and memory of the NTK and of Hessian-vector products: python scripts/bench_curvature.py.

The NTK of 256 examples against a plain loop of `autograd.grad` (one unpadded example at a time, the
gradients stacked, one product); Hessian-vector products against `curvlinops`, where that is
importable, on a model without layer norm (there its Hessian is wrong, see docs/results/lensllm.md).
Both sides run in turn in one process; peak memory is taken in a fresh process a side. `--large`
adds the peak of the NTK of 0.3 billion parameters, exact and projected, beside `ntk_memory`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from lensllm.curvature.groups import NTKMemory, ntk_memory
from lensllm.curvature.hessian import LossHessian
from lensllm.curvature.ntk import empirical_ntk, gram
from lensllm.curvature.parameters import layers
from lensllm.curvature.projection import CountSketch

TOKENS = {"vocab_size": 2048, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SHAPES: dict[str, Callable[[], Any]] = {
    "gpt2-48x2": lambda: GPT2LMHeadModel(
        GPT2Config(n_embd=48, n_layer=2, n_head=3, n_positions=128, **TOKENS)
    ),
    "llama-128x4": lambda: LlamaForCausalLM(
        LlamaConfig(
            hidden_size=128,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=341,
            max_position_embeddings=128,
            tie_word_embeddings=True,
            **TOKENS,
        )
    ),
    "t5-96x2": lambda: T5ForConditionalGeneration(
        T5Config(
            d_model=96,
            d_ff=384,
            d_kv=24,
            num_heads=4,
            num_layers=2,
            decoder_start_token_id=0,
            **TOKENS,
        )
    ),
    # Llama's own activation has no forward-mode derivative, which curvlinops needs.
    "llama-128x4-gelu": lambda: LlamaForCausalLM(
        LlamaConfig(
            hidden_size=128,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=341,
            hidden_act="gelu_new",
            **TOKENS,
        )
    ),
    # The largest that two cores take in a few minutes: 0.3 billion parameters.
    "llama-1024x20": lambda: LlamaForCausalLM(
        LlamaConfig(
            hidden_size=1024,
            num_hidden_layers=20,
            num_attention_heads=16,
            intermediate_size=3072,
            max_position_embeddings=128,
            **TOKENS,
        )
    ),
    # On the meta device only, to say what 1.24 billion parameters would take.
    "llama-2048x16": lambda: LlamaForCausalLM(
        LlamaConfig(
            vocab_size=128256,
            hidden_size=2048,
            num_hidden_layers=16,
            num_attention_heads=32,
            num_key_value_heads=8,
            intermediate_size=8192,
            tie_word_embeddings=True,
        )
    ),
}
PARTS = ("ntk", "memory", "hvp")
SHORT = (8, 13, 4, 7)  # input and target tokens, from the first to below the second, of --large


def make_model(name: str) -> Any:
    """A random model of one of the shapes."""
    torch.manual_seed(0)
    return SHAPES[name]().eval()


def make_batch(
    model: Any, n: int, lengths: tuple[int, int, int, int] = (16, 49, 6, 25)
) -> dict[str, Tensor]:
    """Examples with 16 to 48 input and 6 to 24 target tokens, as `dataset=docstrings` has them."""
    rng = np.random.default_rng(0)
    low, high, first, last = lengths
    pairs = [
        (
            rng.integers(3, 2048, rng.integers(low, high)),
            rng.integers(3, 2048, rng.integers(first, last)),
        )
        for _ in range(n)
    ]
    is_seq2seq = model.config.is_encoder_decoder
    rows = [s if is_seq2seq else np.concatenate([s, t[:-1]]) for s, t in pairs]
    ids = np.zeros((n, max(map(len, rows))), dtype=np.int64)
    labels = np.full((n, 24), -100)
    mask = np.zeros_like(ids)
    for i, (row, (_, target)) in enumerate(zip(rows, pairs, strict=True)):
        place = slice(0, len(row)) if is_seq2seq else slice(ids.shape[1] - len(row), None)
        ids[i, place], mask[i, place] = row, 1
        labels[i, slice(0, len(target)) if is_seq2seq else slice(24 - len(target), None)] = target
    arrays = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return {name: torch.tensor(value) for name, value in arrays.items()}


def example_loss(model: Any, batch: Mapping[str, Tensor], i: int) -> Tensor:
    """Mean loss of one example without its padding, by the model's ordinary forward pass."""
    ids = batch["input_ids"][i][batch["attention_mask"][i].bool()][None]
    target = batch["labels"][i][batch["labels"][i] != -100]
    if model.config.is_encoder_decoder:
        start = model.prepare_decoder_input_ids_from_labels(target[None])
        logits = model(input_ids=ids, decoder_input_ids=start, use_cache=False).logits[0]
    else:
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=len(target)).logits[0]
    return nn.functional.cross_entropy(logits, target)


def loop_ntk(model: Any, batch: Mapping[str, Tensor]) -> np.ndarray:
    """The plain way: a backward pass an example, all gradients held."""
    params = list(model.parameters())
    rows = []
    for i in range(len(batch["labels"])):
        grads = torch.autograd.grad(example_loss(model, batch, i), params)
        rows.append(torch.cat([grad.flatten() for grad in grads]))
    jacobian = torch.stack(rows)
    return (jacobian @ jacobian.T).numpy()


def arithmetic(model: Any, batch: Mapping[str, Tensor]) -> None:
    """What no exact method saves: the passes in large batches, and the products of one triangle."""
    params = list(model.parameters())
    for rows in torch.arange(len(batch["labels"])).split(64):
        part = {name: value[rows] for name, value in batch.items() if name != "labels"}
        labels = batch["labels"][rows]
        if model.config.is_encoder_decoder:
            part["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(labels)
        logits = model(**part, use_cache=False).logits[:, -labels.shape[1] :]
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        torch.autograd.grad(loss, params)
    gram(torch.zeros(len(batch["labels"]), sum(p.numel() for p in params)))


def seconds(function: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def ratio_line(name: str, slower: list[float], faster: list[float]) -> str:
    """The line that tools read."""
    ratios = np.array(slower) / np.array(faster)
    return f"ratio {name} {np.median(ratios):.3g} [{ratios.min():.3g} {ratios.max():.3g}]"


def bench_ntk(name: str, n: int, repeats: int) -> list[str]:
    """Loop, lensllm and the arithmetic alone, in turn."""
    model = make_model(name)
    batch = make_batch(model, n)
    sides: dict[str, Callable[[], Any]] = {
        "loop": lambda: loop_ntk(model, batch),
        "lensllm": lambda: empirical_ntk(model, batch).kernel,
        "arithmetic": lambda: arithmetic(model, batch),
    }
    plain, ours = sides["loop"](), sides["lensllm"]()
    error = np.linalg.norm(ours - plain) / np.linalg.norm(plain)
    times: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(repeats):
        for side, function in sides.items():
            times[side].append(seconds(function))
    medians = {side: float(np.median(values)) for side, values in times.items()}
    print(
        f"NTK {name} n = {n}: loop {medians['loop']:.2f} s, lensllm {medians['lensllm']:.2f} s, "
        f"arithmetic {medians['arithmetic']:.2f} s, relative difference {error:.1e}"
    )
    return [
        ratio_line(f"ntk_time_{name}", times["loop"], times["lensllm"]),
        ratio_line(f"ntk_time_limit_{name}", times["loop"], times["arithmetic"]),
    ]


def peak_megabytes(side: str, name: str, n: int, bound: float, dims: int = 0) -> list[float]:
    """Of one side in a fresh process: peak memory above model and imports in MiB, and seconds."""
    command = [sys.executable, __file__, "--peak", side, "--model", name]
    command += ["--n", str(n), "--bound", str(bound), "--dims", str(dims)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()[-2:]]


def run_peak(side: str, name: str, n: int, bound: float, dims: int) -> None:
    """Print the growth of the peak of this process in MiB, and the seconds it took."""
    model = make_model(name)
    large = name in ("llama-1024x20", "llama-2048x16")
    batch = make_batch(model, n, SHORT) if large else make_batch(model, n)
    example_loss(model, batch, 0).backward()
    model.zero_grad()
    before, start = high_water_mark(reset=True), time.perf_counter()
    if side == "loop":
        loop_ntk(model, batch)
    else:
        empirical_ntk(model, batch, **ntk_settings(bound, dims, chunk_size=1 if large else 8))
    print(high_water_mark() - before, time.perf_counter() - start)


def ntk_settings(bound: float, dims: int, chunk_size: int) -> dict[str, Any]:
    """Keywords of `empirical_ntk` and `ntk_memory`; the bound in MiB."""
    sketch = CountSketch(dims) if dims else None
    return {"memory_bytes": bound * 2**20, "chunk_size": chunk_size, "sketch": sketch}


def high_water_mark(*, reset: bool = False) -> float:
    """Peak resident memory of this process in MiB since the last reset (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return float(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 2**10  # type: ignore[index]


def bench_memory(name: str, n: int) -> list[str]:
    """Peak memory of the loop, of the default, and under a bound of 128 MiB."""
    loop = peak_megabytes("loop", name, n, 0)[0]
    lines = []
    for bound in (2048.0, 128.0):
        ours = peak_megabytes("lensllm", name, n, bound)[0]
        plan = ntk_memory(make_model(name), n, **ntk_settings(bound, 0, 8))
        print(
            f"peak memory above the model, {name}, n = {n}: loop {loop:.0f} MiB, lensllm "
            f"{ours:.0f} MiB under a bound of {bound:g} MiB for gradients ({describe(plan)})"
        )
        lines.append(ratio_line(f"ntk_memory_{name}_bound{bound:g}", [loop], [ours]))
    return lines


def describe(plan: NTKMemory) -> str:
    """The memory formula's terms in words."""
    return (
        f"formula: model {plan.model_bytes / 2**20:.0f}, gradients "
        f"{plan.gradient_bytes / 2**20:.0f} MiB, {plan.n_passes} passes"
    )


def bench_large() -> None:
    """Peak memory at 0.3 billion parameters beside the formula, and the formula at 1.2 billion."""
    for n, bound, dims in ((16, 4096.0, 0), (32, 4096.0, 4096)):
        peak, wall = peak_megabytes("lensllm", "llama-1024x20", n, bound, dims)
        with torch.device("meta"):
            model = make_model("llama-1024x20")
        plan = ntk_memory(model, n, **ntk_settings(bound, dims, 1))
        way = f"projected to {dims}" if dims else "exact"
        print(
            f"peak memory above the model, llama-1024x20, n = {n}, {way}, bound {bound:g} MiB: "
            f"{peak:.0f} MiB in {wall:.0f} s ({describe(plan)})"
        )
    for dims in (0, 4096):
        with torch.device("meta"):
            model = make_model("llama-2048x16")
        plan = ntk_memory(model, 256, **ntk_settings(16384.0, dims, 1))
        n_params = sum(p.numel() for p in model.parameters())
        way = f"projected to {dims}" if dims else "exact"
        print(f"not run: {n_params / 1e9:.2f} B parameters, n = 256, {way} ({describe(plan)})")


class Wrapped(nn.Module):
    """A model whose input is a mapping and whose output are the logits of the targets."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, data: Mapping[str, Tensor]) -> Tensor:
        """Logits in the layout of `CrossEntropyLoss`."""
        ids = data["input_ids"]
        return self.model(input_ids=ids, use_cache=False).logits[:, -24:].transpose(1, 2)


def bench_hvp(repeats: int) -> list[str]:
    """One product, and twenty of one Hessian, of the first block of a Llama, without padding."""
    try:
        from curvlinops import HessianLinearOperator
    except ImportError:
        print("curvlinops is not installed: no comparison of Hessian-vector products")
        return []
    model = make_model("llama-128x4-gelu")
    model.set_attn_implementation("eager")
    rng = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 2048, (8, 64), generator=rng)
    labels = torch.randint(3, 2048, (8, 24), generator=rng)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    groups = {"block": layers(model)["model.layers.0"]}
    wrapped = Wrapped(model)
    params = [dict(model.named_parameters())[name] for name in groups["block"]]
    vector = torch.randn(sum(p.numel() for p in params), generator=rng)

    def ours(n: int) -> Tensor:
        hessian = LossHessian(model, batch, groups)
        return [hessian.product("block", vector) for _ in range(n)][-1]

    def theirs(n: int) -> Tensor:
        operator = HessianLinearOperator(
            wrapped,
            nn.CrossEntropyLoss(),
            params,
            [({"input_ids": ids}, labels)],
            check_deterministic=False,
            batch_size_fn=lambda data: len(data["input_ids"]),
        )
        return [operator @ vector for _ in range(n)][-1]

    error = float((ours(1) - theirs(1)).norm() / theirs(1).norm())
    lines = []
    for n in (1, 20):
        pairs = [
            (seconds(lambda n=n: theirs(n)), seconds(lambda n=n: ours(n))) for _ in range(repeats)
        ]
        slow, fast = map(list, zip(*pairs, strict=True))
        print(
            f"{n} HVP: curvlinops {1e3 * np.median(slow):.0f} ms, lensllm "
            f"{1e3 * np.median(fast):.0f} ms, relative difference {error:.1e}"
        )
        lines.append(ratio_line(f"hvp_{n}", slow, fast))
    return lines


def main() -> None:
    """Run everything, or one side's peak memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--large", action="store_true", help="also the 0.3 billion parameters")
    parser.add_argument("--peak", choices=["loop", "lensllm"], help=argparse.SUPPRESS)
    parser.add_argument("--model", default="gpt2-48x2", help=argparse.SUPPRESS)
    parser.add_argument("--bound", type=float, default=2048.0, help=argparse.SUPPRESS)
    parser.add_argument("--dims", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        run_peak(given.peak, given.model, given.n, given.bound, given.dims)
        return
    print(f"load of the machine (1 minute): {os.getloadavg()[0]:.1f}")
    lines: list[str] = []
    for name in ("gpt2-48x2", "llama-128x4", "t5-96x2") if "ntk" in given.parts else ():
        lines += bench_ntk(name, given.n, given.repeats)
    if "memory" in given.parts:
        lines += bench_memory("llama-128x4", given.n)
    if "hvp" in given.parts:
        lines += bench_hvp(given.repeats)
    if given.large:
        bench_large()
    print(f"load of the machine (1 minute): {os.getloadavg()[0]:.1f}")
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
