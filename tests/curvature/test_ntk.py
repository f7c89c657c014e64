from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from lensllm.curvature import ntk as ntk_module
from lensllm.curvature.groups import Slice, ntk_memory
from lensllm.curvature.ntk import empirical_ntk, gram
from lensllm.curvature.parameters import select_parameters
from lensllm.curvature.probe import check_probe, differentiable
from lensllm.curvature.projection import CountSketch

from .conftest import TOKENS, build, loop_gradients, make_batch


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


def per_example_gradients(model, batch, names=None):
    """Gradients that the kernel is made of, one row an example, all at once."""
    own = dict(model.named_parameters())
    group = [
        Slice(n, 0, len(own[n]), own[n].numel(), True) for n in names or select_parameters(model)
    ]
    probe = ntk_module._Probe(model, own, check_probe(batch), len(batch["labels"]))
    with differentiable(model), torch.no_grad():
        gradients, values = probe.differentiate(group, probe.data)
    return torch.cat(gradients, dim=1), values


@pytest.mark.parametrize("side", ["left", "right"])
def test_gradients_equal_a_loop_without_padding(architecture, side):
    model = build(architecture)
    if model.config.is_encoder_decoder and side == "left":
        pytest.skip("encoder-decoder batches are padded on the right")
    batch = make_batch(model.config.is_encoder_decoder, side=side)
    expected, outputs = loop_gradients(model, batch)
    found, values = per_example_gradients(model, batch)
    assert relative(values, outputs) < 1e-5
    for row, oracle in zip(found, expected, strict=True):
        assert relative(row, oracle) < 1e-5


def test_kernel_equals_the_loop_is_symmetric_and_positive(architecture):
    model = build(architecture)
    batch = make_batch(model.config.is_encoder_decoder, n=7)
    expected, outputs = loop_gradients(model, batch)
    oracle = (expected.double() @ expected.double().T).numpy()
    found = empirical_ntk(model, batch, chunk_size=3)
    np.testing.assert_allclose(found.kernel, oracle, rtol=1e-5, atol=1e-5 * oracle.max())
    np.testing.assert_allclose(found.outputs, outputs.numpy(), rtol=1e-5)
    np.testing.assert_array_equal(found.kernel, found.kernel.T)
    assert np.linalg.eigvalsh(found.kernel).min() > -1e-6 * found.kernel.max()
    assert found.n_params == sum(p.numel() for p in model.parameters())


def test_a_boolean_mask_would_be_caught(monkeypatch):
    """Eager attention adds a boolean mask as 0 and 1 without an error: the oracle sees it."""
    model = build("gpt2")
    batch = make_batch(False)
    expected, _ = loop_gradients(model, batch)
    right = ntk_module.model_inputs

    def boolean(*args):
        inputs = right(*args)
        return {**inputs, "attention_mask": inputs["attention_mask"] == 0}

    monkeypatch.setattr(ntk_module, "model_inputs", boolean)
    found, _ = per_example_gradients(model, batch)
    assert relative(found, expected) > 1e-2


def test_dropout_checkpointing_and_attention_are_set_aside_and_restored():
    model = build("gpt2")
    batch = make_batch(False)
    expected = empirical_ntk(model, batch).kernel
    model.train()
    model.transformer.h[1].eval()
    model.activation_checkpointing_enable()
    assert model.transformer.drop.p > 0
    np.testing.assert_allclose(empirical_ntk(model, batch).kernel, expected, rtol=1e-6)
    assert model.training
    assert not model.transformer.h[1].training
    assert model.is_activation_checkpointing
    assert model.config._attn_implementation == "sdpa"
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_groups_and_slices_under_a_memory_bound_change_nothing(name):
    model = build(name)
    batch = make_batch(model.config.is_encoder_decoder)
    expected = empirical_ntk(model, batch)
    assert expected.n_passes == 1
    biggest = max(p.numel() for p in model.parameters())
    bound = 4 * (5 + 2 * 2) * biggest // 3
    found = empirical_ntk(model, batch, memory_bytes=bound, chunk_size=2)
    assert found.n_passes >= math.ceil(3 * found.n_params / biggest)
    assert found.flops > 3 * expected.flops
    np.testing.assert_allclose(found.kernel, expected.kernel, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("bound", [2**31, 60_000, 20_000])
def test_memory_is_known_before_it_is_run(bound):
    model, n, c = build("gpt2"), 5, 2
    batch = make_batch(False)
    plan = ntk_memory(model, n, memory_bytes=bound, chunk_size=c)
    found = empirical_ntk(model, batch, memory_bytes=bound, chunk_size=c)
    assert plan.n_passes == found.n_passes
    assert plan.model_bytes == 4 * found.n_params
    widest = max(p.numel() for p in model.parameters())
    if bound == 2**31:
        assert plan.gradient_bytes == 4 * (n + 2 * c) * found.n_params
    else:
        assert plan.gradient_bytes <= bound + 4 * 2 * widest
    meta = build("gpt2").to("meta")
    meta.tie_weights()
    assert ntk_memory(meta, n, memory_bytes=bound, chunk_size=c) == plan


def test_memory_of_a_projection_has_no_row_an_example():
    model, sketch = build("gpt2"), CountSketch(8)
    n_params = sum(p.numel() for p in model.parameters())
    plan = ntk_memory(model, 500, sketch=sketch, chunk_size=1)
    assert (plan.n_passes, plan.gradient_bytes) == (1, 4 * (2 * n_params + 500 * 8))


def test_a_bound_of_nothing_goes_row_by_row():
    model = build("gpt2")
    batch = make_batch(False, n=2)
    names = ("transformer.wte.weight", "transformer.ln_f.weight")
    rows, _ = loop_gradients(model, batch, names)
    found = empirical_ntk(model, batch, names, memory_bytes=1)
    assert found.n_passes == 61 + 16
    np.testing.assert_allclose(found.kernel, rows @ rows.T, rtol=1e-5)


def test_tied_embeddings_count_with_both_uses():
    tied = build("gpt2")
    assert tied.lm_head.weight is tied.transformer.wte.weight
    batch = make_batch(False)
    names = ("transformer.wte.weight",)
    expected, _ = loop_gradients(tied, batch, names)
    found, _ = per_example_gradients(tied, batch, names)
    assert relative(found, expected) < 1e-5
    # The head's use alone reaches every vocabulary row; an untied embedding only the rows read.
    assert int((found[0].reshape(61, 16).abs().sum(1) > 0).sum()) == 61


def test_last_blocks_are_a_part_of_the_kernel(architecture):
    model = build(architecture)
    batch = make_batch(model.config.is_encoder_decoder)
    names = select_parameters(model, "last_blocks", n_blocks=1)
    assert 0 < len(names) < len(list(model.parameters()))
    rows, _ = loop_gradients(model, batch, names)
    found = empirical_ntk(model, batch, names).kernel
    np.testing.assert_allclose(found, rows @ rows.T, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5", "bart"])
def test_lora_parameters(name):
    from peft import LoraConfig, get_peft_model

    targets = {"gpt2": ["c_attn"], "t5": ["q", "v"]}.get(name, ["q_proj", "v_proj"])
    base = build(name)
    model = get_peft_model(base, LoraConfig(r=2, target_modules=targets, init_lora_weights=False))
    batch = make_batch(base.config.is_encoder_decoder)
    names = select_parameters(model, "lora")
    for key, param in model.named_parameters():
        assert param.requires_grad == (key in names)
    model.eval()
    expected, _ = loop_gradients(model, batch, names)
    found, _ = per_example_gradients(model, batch, names)
    assert relative(found, expected) < 1e-5


def test_dtypes():
    batch = make_batch(False)
    exact = empirical_ntk(build("gpt2").double(), batch).kernel
    rows, _ = loop_gradients(build("gpt2").double(), batch)
    np.testing.assert_allclose(exact, rows @ rows.T, rtol=1e-12)
    half = empirical_ntk(build("gpt2").bfloat16(), batch)
    assert half.kernel.dtype == np.float64
    assert np.abs(half.kernel - exact).max() < 0.1 * exact.max()


def test_count_sketch_is_unbiased_with_the_stated_error():
    rng = np.random.default_rng(0)
    x, y = torch.tensor(rng.normal(size=(2, 300)))
    p, n_draws = 32, 4000
    estimates = []
    for seed in range(n_draws):
        target = torch.zeros(2, p, dtype=torch.float64)
        CountSketch(p, seed).add(target, torch.stack([x, y])[:, :200], 0)
        CountSketch(p, seed).add(target, torch.stack([x, y])[:, 200:], 1)
        estimates.append(float(target[0] @ target[1]))
    exact = float(x @ y)
    variance = float(x @ x * (y @ y) + exact**2 - 2 * (x**2 * y**2).sum()) / p
    assert abs(np.mean(estimates) - exact) < 4 * math.sqrt(variance / n_draws)
    assert np.var(estimates) == pytest.approx(variance, rel=0.1)
    assert variance <= 2 * float(x @ x * (y @ y)) / p


def test_sketched_kernel_is_within_its_error_and_seeded():
    model = build("gpt2")
    batch = make_batch(False, n=6)
    exact = empirical_ntk(model, batch).kernel
    sketch = CountSketch(512, seed=3)
    found = empirical_ntk(model, batch, sketch=sketch)
    scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    assert found.relative_error == pytest.approx(0.0625)
    assert 0 < (np.abs(found.kernel - exact) / scale).max() < 5 * found.relative_error
    again = empirical_ntk(model, batch, sketch=sketch, chunk_size=2)
    np.testing.assert_allclose(again.kernel, found.kernel, rtol=1e-5)
    other = empirical_ntk(model, batch, sketch=CountSketch(512, seed=4)).kernel
    assert np.abs(other - found.kernel).max() > 1e-4


def test_gram_equals_the_product():
    rows = torch.randn(130, 7, dtype=torch.float64)
    torch.testing.assert_close(gram(rows, block=32), rows @ rows.T)


def test_unusable_input_is_refused():
    model = build("gpt2")
    batch = make_batch(False)
    with pytest.raises(ValueError, match="labels is missing"):
        empirical_ntk(model, {k: v for k, v in batch.items() if k != "labels"})
    empty = {**batch, "labels": batch["labels"].clone()}
    empty["labels"][3] = -100
    with pytest.raises(ValueError, match="got none in example 3"):
        empirical_ntk(model, empty)
    bad = {**batch, "input_ids": torch.zeros(5, 13), "attention_mask": torch.ones(5, 12)}
    with pytest.raises(ValueError, match=r"\(5, 13\), \(5, 12\)"):
        empirical_ntk(model, bad)
    with pytest.raises(ValueError, match=r"got \['nothing'\]"):
        empirical_ntk(model, batch, ["nothing"])
    with pytest.raises(ValueError, match="got 0, 1"):
        empirical_ntk(model, batch, chunk_size=0, memory_bytes=1)
    with pytest.raises(ValueError, match="found none: wrap it with"):
        select_parameters(model, "lora")
    with pytest.raises(ValueError, match=r"between 1 and 2, .* got 3"):
        select_parameters(model, "last_blocks", n_blocks=3)
    with pytest.raises(ValueError, match="got 'some'"):
        select_parameters(model, "some")
    with pytest.raises(ValueError, match="got -1"):
        CountSketch(-1)
    model.lm_head.weight.data[5] = math.nan
    with pytest.raises(ValueError, match="Expected finite gradients"):
        empirical_ntk(model, batch)


def test_a_pad_token_in_the_config_does_not_stop_it():
    """With pad_token_id set, GPT-2's own mask handling cannot be vectorised."""
    model = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, n_positions=32, **TOKENS))
    assert model.config.pad_token_id == 0
    assert empirical_ntk(model, make_batch(False)).kernel.shape == (5, 5)
