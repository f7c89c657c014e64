import shutil

import pytest
from transformers import AutoModelForCausalLM

from lensllm.core.trials import Trial, TrialStore
from lensllm.execution.finetune import FineTuneRunner
from lensllm.finetune import TrainingSettings
from lensllm.finetune.kept_weights import KeptWeights, needed_bytes


@pytest.fixture
def make_runner(model_folders, text_data, make_parts, tmp_path):
    def make(**options):
        return FineTuneRunner(
            [str(model_folders["gpt2"])],
            text_data,
            **make_parts(),
            settings=TrainingSettings(batch_size=8, max_epochs=1, n_evaluations=1),
            store=TrialStore(tmp_path / "store"),
            sizes=[0, 16],
            **options,
        )

    return make


def test_a_trial_leaves_a_model_folder_and_keeps_its_key(make_runner, tmp_path):
    trial = Trial("tiny-gpt2", "toy", 16)
    plain = make_runner()
    first = plain.run(trial)
    assert not (tmp_path / "store" / "weights").exists()
    # Already stored: run again only if asked.
    keeping = make_runner(keep_weights=True)
    assert keeping.complete(trial).key == first.trial.key
    assert keeping.run(trial) == first
    again = make_runner(keep_weights="all")
    assert again.known() == []
    second = again.run(trial)
    assert second.test_loss == first.test_loss
    folder = tmp_path / "store" / "weights" / f"tiny-gpt2-D16-s0-{first.trial.key}"
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert sum(parameter.numel() for parameter in model.parameters()) == first.n_params
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert weights == pytest.approx(needed_bytes(again.sources["tiny-gpt2"]), rel=0.1)
    # Now that they are there, it is not run a third time, and no file is taken for a trial.
    assert [result.trial.key for result in again.known()] == [first.trial.key]
    assert len(list(again.store.results())) == 1


def test_weights_of_no_training_are_not_kept(make_runner, tmp_path):
    runner = make_runner(keep_weights="all")
    trial = Trial("tiny-gpt2", "toy", 0)
    assert runner.run(trial).status == "completed"
    assert not (tmp_path / "store" / "weights").exists()


@pytest.mark.parametrize("bound", ["free", "max_gb"])
def test_without_room_the_result_is_kept_and_the_weights_are_not(
    bound, make_runner, tmp_path, monkeypatch, caplog
):
    if bound == "free":
        usage = shutil._ntuple_diskusage(1000, 999, 1)
        monkeypatch.setattr("lensllm.finetune.kept_weights.shutil.disk_usage", lambda _: usage)
    limit = 1e-9 if bound == "max_gb" else None
    runner = make_runner(keep_weights=True, max_weights_gb=limit)
    assert runner.run(Trial("tiny-gpt2", "toy", 16)).status == "completed"
    assert list((tmp_path / "store" / "weights").iterdir()) == []
    words = {"free": "has 9e-10 GB left", "max_gb": "more than max_weights_gb=1e-09"}[bound]
    assert "The weights of tiny-gpt2 at D = 16 are not kept: they take" in caplog.text
    assert words in caplog.text


def test_folders_have_names_that_any_disk_takes(tmp_path):
    trial = Trial("a/b:c+lora lr=0.001", "toy", 16)
    assert KeptWeights(tmp_path).path(trial).name.startswith("a_b_c+lora_lr=0.001-D16-s0-")


@pytest.mark.parametrize(("keep", "most"), [("some", None), (True, 0)])
def test_bad_settings_are_refused(keep, most, tmp_path):
    with pytest.raises(ValueError, match=r"keep_weights among|max_weights_gb > 0, got 0"):
        KeptWeights(tmp_path, keep, most)
