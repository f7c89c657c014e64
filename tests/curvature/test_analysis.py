from __future__ import annotations

import copy
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from lensllm.core.trials import Trial, TrialResult, TrialStore
from lensllm.curvature import NTKLoss
from lensllm.curvature import analysis as analysis_module
from lensllm.curvature.analysis import analyze, example_losses, fine_tune
from lensllm.curvature.hessian import displacements
from lensllm.curvature.provider import NTKRecord
from lensllm.execution.finetune import FineTuneRunner
from lensllm.finetune import AdapterConfig, ModelSource, TrainingSettings
from lensllm.finetune.trial import run_trial
from lensllm.laws import RectifiedLaw
from lensllm.studies.curvature.report import read_curve, summary_lines, write_analysis

from .conftest import build, make_batch, one_example

CURVE = NTKLoss(np.array([5.0, 1.0, 0.1]), np.array([4.0, 3.0, 2.0]), 1e-2)
SIZES = np.array([0, 200, 400, 800, 1600, 3200])


@pytest.fixture
def runner(monkeypatch):
    """Moves weights at random, further for more samples, in place of fine-tuning."""

    def moved(runner, model, n_samples):
        tuned = copy.deepcopy(build("gpt2"))
        torch.manual_seed(n_samples)
        for param in tuned.parameters():
            param.data += 0.001 * n_samples**0.25 * torch.randn_like(param)
        trial = Trial(model, "demo", n_samples)
        return TrialResult(trial, "completed", test_loss=4.0, best_step=n_samples // 10), tuned

    monkeypatch.setattr(analysis_module, "fine_tune", moved)
    monkeypatch.setattr(
        analysis_module,
        "probe_batch",
        lambda source, data, split, n, *_: make_batch(False, min(n, 4)),
    )
    return SimpleNamespace(
        sources={"tiny": SimpleNamespace(load_model=lambda: build("gpt2"))},
        data=SimpleNamespace(name="demo", test=range(9), train=range(99)),
        settings=SimpleNamespace(prompt="{input}", truncation_side="right"),
        seed=0,
    )


@pytest.fixture
def found(runner):
    return analyze(runner, lambda _: NTKRecord(CURVE, 7.0), "tiny", [400, 200, 400], n_hessian=3)


def test_sizes_layers_and_terms(found):
    assert [entry.result.trial.n_samples for entry in found.sizes] == [200, 400]
    assert found.decay.n_layers == 4
    sizes = found.size_table().set_index("n_samples")
    assert sizes.loc[400, "ntk_loss"] == pytest.approx(float(CURVE(40)))
    assert sizes.loc[200, "empirical_term"] == pytest.approx(1.1 * sizes.loc[200, "training_loss"])
    layers = found.layer_table()
    assert len(layers) == 2 * 4
    assert (layers["hessian_max"] >= layers["hessian_mean"]).all()
    first = layers[layers["n_samples"] == 200]
    total = np.sqrt(first["hessian_max"]).sum()
    expected = 1.1 * np.sqrt(sizes.loc[200, "max_loss"] / 200) * total
    assert sizes.loc[200, "hessian_term"] == pytest.approx(expected)


def test_example_losses_are_those_of_the_ordinary_forward_pass():
    model, batch = build("gpt2"), make_batch(False)
    losses, counts = example_losses(model, batch, chunk_size=2)
    np.testing.assert_allclose(
        losses, [-one_example(model, batch, i).item() for i in range(5)], rtol=1e-5
    )
    assert counts.tolist() == [2, 3, 4, 2, 3]


def test_report_is_written_and_logged(found, tmp_path):
    losses = RectifiedLaw()(SIZES, [6.0, 0.4, 12.0, 2.0])
    curves = pd.DataFrame({"model": "tiny", "n_samples": SIZES, "test_loss": losses})
    logged, images, tables, finished = {}, [], {}, []
    logger = SimpleNamespace(
        log_metrics=lambda values, step: logged.update(values),
        log_picture=lambda name, path: images.append(path),
        log_frame=lambda name, table: tables.update({name: table}),
        finish=lambda succeeded: finished.append(succeeded),
    )
    record = write_analysis(found, tmp_path, curves, {"mine": lambda label, config, **_: logger})
    assert json.loads((tmp_path / "curvature.json").read_text()) == record
    assert {p.name for p in tmp_path.iterdir()} == {
        *("curvature.json", "layers.csv", "sizes.csv", "spectrum.csv", "ntk_loss.csv"),
        *("ntk.png", "ntk.svg", "hessian.png", "hessian.svg"),
    }
    assert record["transitions"]["rectified"] == pytest.approx(12.0**2.5, rel=1e-2)
    assert record["transitions"]["ntk_loss_zero"] == pytest.approx(29 / 3)
    assert logged["ntk/loss_zero"] == pytest.approx(29 / 3)
    assert len(images) == 2
    names = ("layers", "sizes", "spectrum", "ntk_loss")
    assert set(tables) == {f"curvature/{name}" for name in names}
    spectrum = pd.read_csv(tmp_path / "spectrum.csv")
    assert spectrum["eigenvalue"].to_numpy() == pytest.approx(CURVE.eigenvalues)
    assert spectrum["captured"].iloc[-1] == pytest.approx(1.0)
    table = tables["curvature/ntk_loss"]
    assert list(table.columns) == ["n_steps", "ntk_loss"]
    assert table.iloc[0].tolist() == pytest.approx([0.0, 29 / 3])
    assert finished == [True]
    assert any("constant unknown" in line for line in summary_lines(record))


def test_unusable_input_is_refused(runner, tmp_path):
    with pytest.raises(ValueError, match="at least one size"):
        analyze(runner, lambda _: NTKRecord(CURVE, 7.0), "tiny", [])
    with pytest.raises(ValueError, match="got 0: there is no fine-tuning"):
        fine_tune(runner, "tiny", 0)
    path = tmp_path / "curves.csv"
    path.write_text("model,dataset,n_samples,seed,test_loss\na,demo,200,0,3.0\n")
    with pytest.raises(ValueError, match="curve of 'tiny' on 'demo'"):
        read_curve(str(path), "tiny", "demo")
    assert read_curve(None, "tiny", "demo") is None


def test_a_candidate_trains_as_its_stored_trial_says(
    model_folders, text_data, make_parts, tmp_path, monkeypatch
):
    """With the learning rate that is its own, not with the runner's."""
    used = []

    def spied(*given):
        used.append(given[4].keywords["lr"])
        return run_trial(*given)

    monkeypatch.setattr("lensllm.finetune.trial.run_trial", spied)
    source = ModelSource(str(model_folders["gpt2"]), finetune=AdapterConfig(learning_rate=2e-2))
    settings = TrainingSettings(batch_size=8, max_epochs=1, n_evaluations=1)
    runner = FineTuneRunner(
        [source], text_data, settings=settings, store=TrialStore(tmp_path), **make_parts(lr=1e-3)
    )
    result, tuned = fine_tune(runner, source.name, 16)
    assert used == [result.trial.settings["optimizer"]["lr"]] == [2e-2]
    assert runner.run(Trial(source.name, "toy", 16)) == result
    assert not tuned.training
    moves = displacements(tuned, source.load_model())
    assert all(move.norm() > 0 for move in moves.values())


def test_config_has_the_keys_of_its_schema_and_the_arguments_of_its_classes():
    import inspect
    from pathlib import Path

    from omegaconf import OmegaConf

    from lensllm.commands.config import CurvatureConfig
    from lensllm.curvature.provider import NTKProvider

    config = OmegaConf.load(Path(__file__).parents[2] / "conf" / "curvature.yaml")
    assert set(config) - {"defaults", "hydra"} <= set(CurvatureConfig.__dataclass_fields__)
    accepted = inspect.signature(NTKProvider).parameters
    assert set(config.ntk) - {"_target_", "_partial_"} <= set(accepted)
