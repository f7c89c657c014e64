"""Estimates from configs against what PyTorch's own allocator counted."""

import gc
import json
import sys

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from lensllm.finetune import AdapterConfig, ModelSource
from lensllm.finetune.encoding import target_loss
from lensllm.finetune.memory import (
    estimate_memory,
    free_memory,
    largest_micro_batch,
    peak_memory_bytes,
    restart_peak,
)


def measured_peak(source, rows, n_source, n_target, path, *, autocast, checkpointing):
    """Most bytes that were allocated at once while two steps were trained."""
    gc.collect()
    length = n_source if source.is_encoder_decoder else n_source + n_target - 1
    ids = torch.Generator().manual_seed(0)  # of many tokens: experts differ by token
    vocabulary = source.config.vocab_size
    batch = {
        "input_ids": torch.randint(vocabulary, (rows, length), generator=ids),
        "attention_mask": torch.ones(rows, length, dtype=torch.long),
        "labels": torch.randint(vocabulary, (rows, n_target), generator=ids),
    }
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        model = source._auto_class.from_config(source.config)
        model = (source.finetune or AdapterConfig()).prepare(model).train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, fused=True)
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast, cache_enabled=False):
                total, n_targets = target_loss(model, batch)
            (total / n_targets).backward()
            optimizer.step()
            optimizer.zero_grad()
    profiler.export_chrome_trace(str(path))
    events = [e for e in json.loads(path.read_text())["traceEvents"] if e["name"] == "[memory]"]
    events.sort(key=lambda event: event["ts"])
    first = events[0]["args"]
    before = first["Total Allocated"] - first["Bytes"]
    return max(event["args"]["Total Allocated"] for event in events) - before


@pytest.mark.parametrize(
    ("name", "method", "precision", "checkpointing"),
    [
        ("gpt2-96x3", "full", "32-true", False),
        ("llama-128x4", "lora", "32-true", False),
        ("llama-64x3", "full", "bf16-mixed", False),
        ("t5-96x2", "full", "32-true", False),
        ("llama-128x4", "full", "32-true", True),
        ("gpt2-96x3", "lora", "32-true", True),
    ],
)
def test_estimated_memory_is_what_training_then_takes(
    tmp_path, name, method, precision, checkpointing
):
    source = ModelSource(name, finetune=AdapterConfig(method))
    estimate = estimate_memory(
        source, 16, 41, 24, precision=precision, gradient_checkpointing=checkpointing
    )
    measured = measured_peak(
        source, 16, 41, 24, tmp_path / "trace.json",
        autocast=precision != "32-true", checkpointing=checkpointing,
    )  # fmt: skip
    assert estimate.device == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["t5", "switch_transformers"])
def test_deep_encoder_decoders_and_experts_take_what_is_estimated(
    tmp_path, tokenizer, kind, checkpointing
):
    """A token goes to one expert of a layer, whose gradients and moments are all kept."""
    experts = {"num_experts": 8} if kind == "switch_transformers" else {}
    config = AutoConfig.for_model(
        kind, vocab_size=len(tokenizer), d_model=96, d_kv=24, d_ff=192, num_layers=6,
        num_decoder_layers=6, num_heads=4, decoder_start_token_id=0, **experts,
    )  # fmt: skip
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(tmp_path)
    source = ModelSource(str(tmp_path))
    estimate = estimate_memory(source, 16, 41, 24, gradient_checkpointing=checkpointing)
    measured = measured_peak(
        source, 16, 41, 24, tmp_path / "trace.json", autocast=False, checkpointing=checkpointing
    )
    assert estimate.device == pytest.approx(measured, rel=0.1)


def test_parts_of_the_estimate_are_counted_by_hand():
    source = ModelSource("opt-64x2")
    estimate = estimate_memory(source, 4, 10, 6)
    assert estimate.weights == estimate.gradients == 4 * source.n_params
    assert estimate.optimizer == 8 * source.n_params
    assert estimate.loss == 2 * 4 * 4 * 6 * source.config.vocab_size
    twice = estimate_memory(source, 8, 10, 6)
    assert twice.activations == pytest.approx(2 * estimate.activations, rel=0.01)
    half = estimate_memory(ModelSource("opt-64x2", dtype="bfloat16"), 4, 10, 6)
    assert half.weights == estimate.weights / 2


def test_the_micro_batch_is_the_largest_that_fits():
    source = ModelSource("gpt2-96x3")
    room = 60e6
    micro = largest_micro_batch(source, 64, 41, 24, room)
    assert 1 < micro < 64
    assert estimate_memory(source, micro, 41, 24).device <= 0.9 * room
    assert estimate_memory(source, micro + 1, 41, 24).device > 0.9 * room
    assert largest_micro_batch(source, 8, 41, 24, 1e12) == 8


def test_what_does_not_fit_says_what_would(tmp_path):
    with pytest.raises(ValueError, match=r"room for gpt2-96x3 in 0\.0 GB.*finetune=lora"):
        largest_micro_batch(ModelSource("gpt2-96x3"), 16, 41, 24, 5e6)


def test_free_memory_is_that_of_this_machine():
    assert 1e8 < free_memory() < 1e14


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel keeps the peak since the start")
def test_the_peak_is_counted_anew():
    restart_peak()
    before = peak_memory_bytes()
    large = torch.ones(200 * 2**20 // 4)
    assert peak_memory_bytes() > before + 190 * 2**20
    del large
    restart_peak()
    assert peak_memory_bytes() < before + 20 * 2**20
