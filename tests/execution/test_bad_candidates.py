"""A campaign over good and bad candidates: the good ones are ranked, the others named and why."""

import json
import math
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from lensllm.core.trials import Trial, TrialStore
from lensllm.execution.finetune import FineTuneRunner
from lensllm.finetune import AdapterConfig, ModelSource, TrainingSettings
from lensllm.selectors import Adaptive, SubTuning, SuccessiveHalving
from lensllm.selectors.campaign import make_budget, run_campaign

SETTINGS = TrainingSettings(batch_size=8, max_epochs=1, patience=9, n_evaluations=2)
SELECTORS = {
    "adaptive": Adaptive(),
    "sub_tuning": SubTuning(),
    "successive_halving": SuccessiveHalving(),
}


@pytest.fixture
def bad_folders(model_folders, tmp_path):
    """Copies of a good model: weights cut short, weights that are nan, too few embeddings."""
    folders = {}
    for name in ("cut", "nan", "vocabulary"):
        folders[name] = shutil.copytree(model_folders["opt"], tmp_path / "models" / name)
    weights = folders["cut"] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    weights = folders["nan"] / "model.safetensors"
    values = {name: torch.full_like(w, math.nan) for name, w in load_file(weights).items()}
    save_file(values, weights, metadata={"format": "pt"})
    model = ModelSource(str(model_folders["gpt2"])).load_model()
    model.resize_token_embeddings(100)
    model.save_pretrained(folders["vocabulary"])
    return folders


def make_runner(folders, text_data, parts, store, **options):
    sources = [
        ModelSource(str(folder)) if not isinstance(folder, ModelSource) else folder
        for folder in folders
    ]
    return FineTuneRunner(
        sources, text_data, settings=SETTINGS, store=TrialStore(store), sizes=[0, 16, 24, 32],
        **parts, **options,
    )  # fmt: skip


@pytest.mark.parametrize("name", SELECTORS)
@pytest.mark.parametrize("preflight", [True, False])
def test_good_candidates_are_ranked_and_bad_ones_named(
    model_folders, bad_folders, text_data, make_parts, tmp_path, name, preflight
):
    wild = ModelSource(
        str(model_folders["llama"]), name="wild", finetune=AdapterConfig(learning_rate=1e30)
    )
    good = [model_folders["gpt2"], model_folders["t5"]]
    runner = make_runner(
        [*good, *bad_folders.values(), wild], text_data, make_parts(), tmp_path / "store"
    )
    reasons = {
        "cut": "it is cut short or damaged",
        "nan": "finite loss of nan before fine-tuning" if preflight else "diverged at D = ",
        "vocabulary": "at most 100 tokens",
        "wild": "diverged at D = ",
    }
    if preflight:
        assert set(runner.inspect()) == {"cut", "nan", "vocabulary"}
    budget = make_budget(runner.task(), 0.9)
    selection, _ = run_campaign(SELECTORS[name], runner, budget)
    status = {entry.model: entry.status for entry in selection.ranking}
    assert set(status) == {"tiny-gpt2", "tiny-t5", *reasons}
    assert [entry.model for entry in selection.ranking[:2]] in (
        ["tiny-gpt2", "tiny-t5"],
        ["tiny-t5", "tiny-gpt2"],
    )
    assert status["tiny-gpt2"] == status["tiny-t5"] == "ranked"
    for model, reason in reasons.items():
        assert reason in status[model], (model, status[model])
    assert budget.spent <= budget.flops
    stored = {result.trial.model for result in runner.store.results()}
    assert {"cut", "vocabulary"}.isdisjoint(stored)


def test_weights_that_break_after_the_start_fail_their_trial_alone(
    model_folders, text_data, make_parts, tmp_path
):
    folder = shutil.copytree(model_folders["opt"], tmp_path / "late")
    runner = make_runner([folder, model_folders["gpt2"]], text_data, make_parts(), tmp_path / "s")
    assert runner.inspect() == {}
    runner.task()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    result = runner.run(Trial("late", "toy", 16))
    assert result.status == "failed"
    assert "not fully covered" in result.reason
    assert runner.run(Trial("tiny-gpt2", "toy", 16)).status == "completed"
    with pytest.raises(ValueError, match="not fully covered"):
        runner.attempt(Trial("late", "toy", 16))


def test_what_was_found_in_order_is_not_loaded_again(
    model_folders, text_data, make_parts, tmp_path, monkeypatch
):
    folders = [model_folders["gpt2"]]
    assert make_runner(folders, text_data, make_parts(), tmp_path / "s").inspect() == {}
    monkeypatch.setattr(ModelSource, "load_model", lambda self: pytest.fail("loaded"))
    assert make_runner(folders, text_data, make_parts(), tmp_path / "s").inspect() == {}


LIMITED = """
import json, resource, sys
from functools import partial
from pathlib import Path
import pytorch_lightning as pl
import torch
from lensllm.data.pairs import make_text_data
from lensllm.finetune import TrainingSettings, warmup_schedule
from lensllm.execution.finetune import FineTuneRunner
from lensllm.selectors import SubTuning
from lensllm.selectors.campaign import make_budget, run_campaign
from lensllm.core.trials import TrialStore

torch.set_num_threads(1)
*models, store, pairs = sys.argv[1:]
pairs = [tuple(pair) for pair in json.loads(Path(pairs).read_text())]
runner = FineTuneRunner(
    models, make_text_data("toy", pairs[:80], pairs[80:95], pairs[95:], 48, 24),
    partial(torch.optim.AdamW, lr=1e-3),
    partial(warmup_schedule, name="linear", warmup_fraction=0.1),
    partial(pl.Trainer, accelerator="cpu", devices=1, enable_progress_bar=False),
    TrainingSettings(batch_size=8, max_epochs=1), TrialStore(store), sizes=[0, 8],
)
runner.task()
runner.run(runner.task().trial(runner.task().names[0], 8))  # have everything imported
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 500 * 2**20, resource.RLIM_INFINITY))
budget = make_budget(runner.task(), 0.9)
selection, _ = run_campaign(SubTuning(), runner, budget)
assert budget.spent <= budget.flops
print(json.dumps([[entry.model, entry.status] for entry in selection.ranking]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_a_candidate_without_room_in_memory_fails_alone(model_folders, tokenizer, pairs, tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=1024, intermediate_size=4096, num_hidden_layers=3,
        num_attention_heads=8, tie_word_embeddings=True,
    )  # fmt: skip
    large = tmp_path / "large"  # 50 million parameters, 200 MB: three times that to train
    LlamaForCausalLM(config).save_pretrained(large)
    tokenizer.save_pretrained(large)
    (tmp_path / "pairs.json").write_text(json.dumps(pairs))
    models = [model_folders["gpt2"], large, model_folders["opt"]]
    arguments = [*models, tmp_path / "store", tmp_path / "pairs.json"]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    ranking = json.loads(done.stdout.splitlines()[-1])
    assert sorted(model for model, status in ranking[:2]) == ["tiny-gpt2", "tiny-opt"]
    assert ranking[2][0] == "large"
    assert "alloc" in ranking[2][1] or "memory" in ranking[2][1].lower(), ranking[2]
