import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lensllm.core.amounts import Amount
from lensllm.core.trials import Trial, TrialStore
from lensllm.execution.finetune import FineTuneRunner
from lensllm.finetune import ModelSource, TrainingSettings
from lensllm.finetune.estimate import Sharing, as_record, estimate_campaign, memory_refusal, needed
from lensllm.finetune.hardware import Hardware
from lensllm.finetune.memory import MemoryEstimate
from lensllm.reports.estimate_table import estimate_sentence, estimate_table

ROOT = Path(__file__).resolve().parents[2]
GPU = Hardware("a GPU", peak_flops=1e12, utilization=0.5, memory_gb=1.0, price_per_hour=36.0)


@pytest.fixture
def runner(model_folders, text_data, make_parts, tmp_path):
    return FineTuneRunner(
        [str(model_folders["gpt2"]), f"{model_folders['opt']}+lora"],
        text_data,
        settings=TrainingSettings(batch_size=8, max_epochs=1, n_evaluations=2),
        store=TrialStore(tmp_path / "trials"),
        sizes=[0, 16],
        **make_parts(),
    )


def test_a_campaign_is_estimated_without_loading_weights(runner, monkeypatch):
    monkeypatch.setattr(ModelSource, "load_model", lambda self: pytest.fail("loaded weights"))
    estimates = estimate_campaign(runner, GPU)
    assert [e.model for e in estimates] == ["tiny-gpt2", "tiny-opt+lora"]
    assert [sorted(e.flops) for e in estimates] == [[0, 16, 80]] * 2
    assert all(e.fits and e.advice == "" and e.micro_batch == 8 for e in estimates)
    assert estimates[0].n_trainable == estimates[0].n_params
    assert estimates[1].n_trainable < estimates[1].n_params


def test_estimated_flops_are_those_that_are_charged(runner):
    for estimate in estimate_campaign(runner, GPU):
        for size in (0, 80):
            measured = runner.run(Trial(estimate.model, "toy", size)).flops
            assert estimate.flops[size] == pytest.approx(measured, rel=1e-9)


def test_time_and_money_follow_from_flops():
    assert GPU.seconds(1e13) == 20.0
    assert GPU.price(1e13) == pytest.approx(0.2)
    two = Hardware("two", 1e12, 0.5, price_per_hour=36.0, n_devices=2)
    assert two.seconds(1e13) == 10.0
    assert two.price(1e13) == pytest.approx(0.2)
    assert Hardware("free", 1e12).price(1e13) is None


def test_times_and_money_are_flops_on_some_hardware():
    assert GPU.as_flops(Amount(20.0, "seconds")) == Amount(1e13, "FLOPs")
    assert GPU.as_flops(Amount(0.2, "USD")).value == pytest.approx(1e13)
    assert GPU.as_flops(Amount(0.1, "share")) == Amount(0.1, "share")
    with pytest.raises(ValueError, match=r"price_per_hour in EUR for this budget, got 36\.0 USD"):
        GPU.as_flops(Amount(0.2, "EUR"))


def test_what_does_not_fit_is_left_out_before_anything_runs(runner, monkeypatch):
    assert runner.inspect() == {}
    monkeypatch.setattr("lensllm.finetune.estimate.free_memory", lambda: 3e5)
    assert set(runner.inspect()) == set(runner.sources)
    assert re.search(r"gpt2 takes .*_size=auto; finetune=lora", runner.failures["tiny-gpt2"])


def test_processes_share_the_memory(runner, monkeypatch):
    # One process takes 0.65 GB and a little.
    monkeypatch.setattr("lensllm.finetune.estimate.free_memory", lambda: 2e9)
    source = runner.sources["tiny-gpt2"]
    given = source, runner.longest(source.name), runner.settings, runner.precision
    assert memory_refusal(*given, Sharing(2), negligible=0) == ""
    words = memory_refusal(*given, Sharing(3), negligible=0)
    assert re.search(r"gpt2 takes 3 times 0\.7 GB .*fewer executor\.n_workers", words)


def test_processes_on_gpus_share_devices_and_main_memory(runner, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("lensllm.finetune.estimate.free_memory", lambda: 1.5e9)
    source = runner.sources["tiny-gpt2"]
    given = source, runner.longest(source.name), runner.settings, runner.precision
    # A process takes half a gigabyte of its device, and 0.65 GB of the main memory.
    assert memory_refusal(*given, Sharing(4, 2), negligible=0) == ""
    words = memory_refusal(*given, Sharing(3, 1), negligible=0)
    assert re.search(r"gpt2 takes 3 times 0\.5 GB .*fewer executor\.n_workers", words)
    room = SimpleNamespace(free=2e9)
    monkeypatch.setattr("lensllm.finetune.estimate.main_memory", lambda: room)
    words = memory_refusal(*given, Sharing(3, 3), negligible=0)
    assert re.search(r"main memory .*\(2\.0 GB\), tiny-gpt2 takes 3 times 0\.7 GB", words)


def test_the_record_and_the_table_hold_the_same(runner):
    small = Hardware("a toy", 1e9, 0.5, memory_gb=1e-3, price_per_hour=1.0)
    estimates = estimate_campaign(runner, small)
    record = json.loads(json.dumps(as_record(estimates, small, 1e9)))
    assert record["budget"] == {"flops": 1e9, "seconds": 2.0, "price": pytest.approx(1 / 1800)}
    first = record["candidates"][0]
    assert first["memory"]["device"] == estimates[0].memory.device
    assert [t["n_samples"] for t in first["trials"]] == [0, 16, 80]
    assert not first["fits"]
    table = estimate_table(estimates, small)
    assert table.row_count == 2
    assert "DOES NOT FIT" in "".join(map(str, table.columns[-1].cells))
    assert "1e+09 FLOPs, 2 s, 0.00 USD" in estimate_sentence(estimates, small, 1e9)


def test_a_process_on_a_cpu_takes_more_than_its_tensors():
    memory = MemoryEstimate(1e9, 2e9, 1e9, 1e9, activations=3e9, loss=1e9)
    assert memory.total == 8e9
    here = Hardware("here", 1e9, process_gb=0.5, kernels_gb=0.25, fragmentation=0.5)
    assert needed(memory, here, "32-true") == 8e9 + 0.5e9 + 2e9
    assert needed(memory, here, "bf16-mixed") == 8e9 + 0.75e9 + 2e9
    assert needed(memory, GPU, "bf16-mixed") == memory.device == 7e9


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is counted by its kernel")
def test_a_trial_takes_what_was_estimated(run_main, jsonl_300, tmp_path):
    """Within 15 %, in a process of its own."""
    from scripts.estimate import main

    data = ["dataset=jsonl", f"dataset.path={jsonl_300}", f"paths.output_dir={tmp_path}"]
    trial = ["model=neox-80x3", "n_samples=200", "logger=none", f"hydra.run.dir={tmp_path}/run"]
    subprocess.run(
        [sys.executable, "train.py", *trial, *data], check=True, cwd=ROOT, capture_output=True
    )
    found = json.loads((tmp_path / "run" / "result.json").read_text())["peak_memory_bytes"]
    asked = ["candidates=custom", "candidates.models=[neox-80x3]", f"hydra.run.dir={tmp_path}/e"]
    assert run_main(main, *asked, *data).code == 0
    estimates = json.loads((tmp_path / "e" / "estimate.json").read_text())["candidates"]
    assert estimates[0]["needed"] == pytest.approx(found, rel=0.15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"peak_flops": 1.0, "fragmentation": -0.5}, r"hardware\.fragmentation >= 0, got -0\.5"),
        ({"peak_flops": 0.0}, r"hardware\.peak_flops > 0, got 0\.0"),
        ({"peak_flops": 1.0, "utilization": 1.5}, r"utilization <= 1, got 1\.5"),
    ],
)
def test_bad_hardware_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Hardware("x", **options)
