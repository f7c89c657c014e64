from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
import pytest

from lensllm.curvature import provider as provider_module
from lensllm.curvature.provider import NTKProvider, SpectrumProvider, cached_json
from lensllm.finetune.adapters import AdapterConfig

from .conftest import build, loop_gradients, make_batch


@dataclass
class Source:
    """Stands in for a model source, so that no tokenizer is needed."""

    source: str = "tiny"
    name: str = "tiny"
    fingerprint: str = "w"
    text_fingerprint: str = "c"
    dtype: str = "float32"
    is_encoder_decoder: bool = False
    finetune: AdapterConfig | None = None
    loads: list[int] = field(default_factory=list)

    def load_model(self):
        self.loads.append(1)
        return build("gpt2")


@dataclass
class Data:
    fingerprint: str = "d"
    train: tuple[int, ...] = tuple(range(5))


@pytest.fixture
def probe(monkeypatch):
    monkeypatch.setattr(
        provider_module, "probe_batch", lambda source, data, split, n, *_: make_batch(False, n)
    )


def test_curve_is_that_of_the_kernel_and_is_computed_once(probe, tmp_path):
    source = Source()
    given = NTKProvider([source], Data(), tmp_path / "ntk", learning_rate=1e-3, n_probe=4)
    record = given("tiny")
    rows, outputs = loop_gradients(build("gpt2"), make_batch(False, 4))
    theta, start = (rows @ rows.T).double().numpy(), outputs.double().numpy()
    values, vectors = np.linalg.eigh(theta)
    for t in (0.0, 30.0, 400.0):
        left = vectors @ np.diag(np.exp(-1e-3 * values * t)) @ vectors.T @ start
        assert record.curve(t) == pytest.approx(np.mean(left**2), rel=1e-4)
    assert record.flops > 0
    again = NTKProvider([source], Data(), tmp_path / "ntk", learning_rate=2e-3, n_probe=4)("tiny")
    assert len(source.loads) == 1
    assert again.flops == record.flops
    assert again.curve(10.0) == pytest.approx(float(record.curve(20.0)))


@pytest.mark.parametrize(
    "change", [{"n_probe": 3}, {"seed": 1}, {"subset": "last_blocks"}, {"n_dims": 64}]
)
def test_other_settings_are_other_results(probe, tmp_path, change):
    source = Source()
    settings = {"learning_rate": 1e-3, "n_probe": 4}
    NTKProvider([source], Data(), tmp_path, **settings)("tiny")
    NTKProvider([source], Data(), tmp_path, **{**settings, **change})("tiny")
    assert len(source.loads) == 2
    assert len(list(tmp_path.glob("ntk-*.json"))) == 2


def test_candidates_have_the_names_that_a_campaign_gives_them(tmp_path):
    given = (["gpt2-48x2"], Data(), tmp_path)
    assert list(NTKProvider(*given, 1e-3, finetune=AdapterConfig("lora")).sources) == [
        "gpt2-48x2+lora"
    ]
    assert list(SpectrumProvider(given[0], tmp_path).sources) == ["gpt2-48x2"]


def test_kernel_over_fresh_adapters(probe, tmp_path):
    """Adapters begin as B A with B = 0, so that A has no gradient and rank bounds nothing else."""
    source = Source(finetune=AdapterConfig("lora", rank=2))
    given = {"folder": tmp_path, "learning_rate": 1e-3, "n_probe": 4, "subset": "lora"}
    first = NTKProvider([source], Data(), **given)("tiny").curve
    (stored,) = tmp_path.glob("ntk-*.json")
    record = json.loads(stored.read_text())
    model = AdapterConfig("lora", rank=2).prepare(build("gpt2"))
    n_adapters = sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
    assert record["result"]["n_params"] == n_adapters
    assert first.eigenvalues[0] > 0
    stored.unlink()
    again = NTKProvider([source], Data(), **given)("tiny").curve
    assert again.eigenvalues == pytest.approx(first.eigenvalues)
    wider = Source(finetune=AdapterConfig("lora", rank=3))
    NTKProvider([wider], Data(), **given)("tiny")
    assert len(list(tmp_path.glob("ntk-*.json"))) == 2


def test_other_weights_or_data_are_other_results(probe, tmp_path):
    for source, data in (
        (Source(), Data()),
        (Source(fingerprint="x"), Data()),
        (Source(), Data(fingerprint="x")),
        (Source(text_fingerprint="x"), Data()),
    ):
        NTKProvider([source], data, tmp_path, 1e-3, n_probe=2)("tiny")
    assert len(list(tmp_path.iterdir())) == 4


def test_a_spoilt_file_is_reported_and_computed_anew(tmp_path, caplog):
    calls = []

    def compute():
        calls.append(1)
        return {"x": 1.0}

    assert cached_json(tmp_path, "kind", "m", {"k": 1}, compute) == {"x": 1.0}
    path = next(tmp_path.iterdir())
    assert json.loads(path.read_text())["of"] == "m"
    edited = json.dumps({**json.loads(path.read_text()), "result": {"x": 9.0}})
    for text in ("{", json.dumps({"key": {"k": 2}, "result": {"x": 9.0}}), edited):
        path.write_text(text)
        assert cached_json(tmp_path, "kind", "m", {"k": 1}, compute) == {"x": 1.0}
        assert path.name in caplog.text
    assert len(calls) == 4
    kept = [p.name.removeprefix(path.name) for p in tmp_path.iterdir()]
    assert sorted(kept) == ["", ".set-aside", ".set-aside-2", ".set-aside-3"]


def test_nothing_half_is_left_when_it_fails(tmp_path):
    with pytest.raises(ValueError, match="Out of range float"):
        cached_json(tmp_path, "kind", "m", {}, lambda: {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_unusable_input_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`n_probe` > 0, got 0"):
        NTKProvider([Source()], Data(), tmp_path, 1e-3, n_probe=0)
    with pytest.raises(ValueError, match="`learning_rate` > 0, got -1"):
        NTKProvider([Source()], Data(), tmp_path, -1.0)
    with pytest.raises(ValueError, match="among tiny, got 'llama-7b'"):
        SpectrumProvider([Source()], tmp_path)("llama-7b")
