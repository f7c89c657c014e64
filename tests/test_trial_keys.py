"""Every setting alone: it makes another trial, or provably the same result, or it is refused.

The settings are read off the YAML and off the signatures of what it names, so that one that is
added is tried without being named here; where no other value can be made up for it, the test asks.
`LENSLLM_WRITE_DOCS=1 pytest tests/test_trial_keys.py` writes the table of docs/trial_keys.md anew.
"""

import importlib
import inspect
import json
import os
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from lensllm.commands.conf import conf_dir
from lensllm.core.trials import Trial

PAGE = Path(__file__).resolve().parents[1] / "docs" / "trial_keys.md"
MARK = "<!-- the table is written by tests/test_trial_keys.py -->\n"
BASE = [
    "model=gpt2-48x2", "dataset=jsonl", "logger=none", "trainer.enable_progress_bar=false",
    "training.batch_size=8", "training.max_epochs=1", "training.n_evaluations=2",
    "dataset.max_evaluation=16", "training.evaluation_batch_size=8",
]  # fmt: skip
# Groups whose settings are tried, and the config key that each is under.
GROUPS = ("model", "dataset", "optimizer", "scheduler", "training", "finetune", "trainer", "runner")
# Another value for what has none by its type; overrides as on the command line.
OTHER = {
    "model.source": "opt-64x2",
    "model.name": "mine",
    "model.revision": "main",
    "model.dtype": "bfloat16",
    "model.notes": "any",
    "model.label": "any",
    "model.finetune": "{_target_:lensllm.finetune.AdapterConfig,method:lora}",
    "dataset.name": "mine",
    "dataset.encoding": "latin-1",
    "dataset.input_field": "target",
    "dataset.target_field": "input",
    "optimizer.betas": "[0.8,0.99]",
    "optimizer.foreach": "true",
    "scheduler.name": "cosine",
    "training.prompt": '"{input}: "',
    "training.truncation_side": "left",
    "training.micro_batch_size": "4",
    "finetune.method": "lora",
    "finetune.target_modules": "[c_attn]",
    "finetune.learning_rate": "3e-3",
    "trainer.accelerator": "auto",
    "trainer.strategy": "ddp",
    "trainer.devices": "2",
    "trainer.precision": "bf16-mixed",
    "trainer.logger": "false",
    "trainer.callbacks": "[]",
    "trainer.fast_dev_run": "true",
    "trainer.max_epochs": "2",
    "trainer.min_epochs": "1",
    "trainer.min_steps": "1",
    "trainer.max_steps": "1",
    "trainer.max_time": "00:00:01:00",
    "trainer.limit_train_batches": "1",
    "trainer.limit_val_batches": "1",
    "trainer.limit_test_batches": "1",
    "trainer.limit_predict_batches": "1",
    "trainer.overfit_batches": "1",
    "trainer.val_check_interval": "1",
    "trainer.num_sanity_val_steps": "1",
    "trainer.log_every_n_steps": "1",
    "trainer.enable_checkpointing": "true",
    "trainer.enable_model_summary": "true",
    "trainer.gradient_clip_algorithm": "value",
    "trainer.benchmark": "true",
    "trainer.use_distributed_sampler": "false",
    "trainer.profiler": "simple",
    "trainer.plugins": "[x]",
    "trainer.default_root_dir": ".",
    "trainer.model_registry": "x",
    "runner.sizes": "[0,12]",
    "runner.limits": "{_target_:lensllm.core.limits.Limits,max_params:1e12}",
    "runner.max_weights_gb": "1",
    "runner.n_samples_full": "100",
    "runner.measure": "loss_per_byte",
    "runner.measuring": "{_target_:lensllm.finetune.MeasuringSettings,also:[exact_match]}",
    "runner.trial_time_limit": "9h",
    "runner.checkpoint_minutes": "0",
    "runner.token_cache": "null",
    "runner.make_callbacks": "{stop:{_target_:pytorch_lightning.callbacks.EarlyStopping,"
    "_partial_:true,monitor:val_loss,patience:1}}",
    "runner.make_logger": "{_target_:lensllm.finetune.loggers.CSVTrialLogger,_partial_:true}",
    "runner.finetune": "{_target_:lensllm.finetune.AdapterConfig,method:lora}",
}
# Not settings: parts that other groups make, and what decides where files are.
PARTS = (
    "dataset.path", "runner.sources", "runner.data", "runner.make_optimizer",
    "runner.make_scheduler", "runner.make_trainer", "runner.settings", "runner.store",
    "optimizer.params", "scheduler.optimizer", "scheduler.n_steps", "trainer.options",
)  # fmt: skip


@pytest.fixture(scope="module")
def composed(jsonl_300):
    importlib.import_module("scripts.train")

    def make(*overrides):
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return compose("train", [*BASE, f"dataset.path={jsonl_300}", *overrides])

    return make


def settings_of(cfg, group):
    """Names of a group's settings: those in the YAML, and all that its target takes."""
    node = OmegaConf.to_container(cfg[group], resolve=False)
    target = get_object(node["_target_"])
    taken = inspect.signature(target).parameters.values()
    names = [p.name for p in taken if p.kind is not p.VAR_KEYWORD and p.name != "self"]
    return [n for n in dict.fromkeys([*node, *names]) if not n.startswith("_")]


def other_value(cfg, group, name):
    """An override with another value than the present one."""
    path = f"{group}.{name}"
    if path in OTHER:
        return OTHER[path]
    value = cfg[group].get(name)
    if value is None:
        target = get_object(cfg[group]["_target_"])
        default = inspect.signature(target).parameters[name].default
        value = None if default is inspect.Parameter.empty else default
    if isinstance(value, bool):
        return str(not value).lower()
    if isinstance(value, int):
        return str(value + 1)
    if isinstance(value, float):
        return str(value / 2 or 0.5)
    raise AssertionError(f"give another value of {path} in OTHER: it is {value!r}")


def make_runner(cfg, folder):
    OmegaConf.update(cfg, "paths.store_dir", str(folder / "store"))
    OmegaConf.update(cfg, "paths.cache_dir", str(folder / "cache"))
    runner = instantiate(cfg.runner, _convert_="all")
    (name,) = runner.sources
    return runner, name


def outcomes(composed, overrides, folder, references):
    """`new trial`, `same result` or `refused`, for one changed setting at each size."""
    try:
        runner, name = make_runner(composed(*overrides), folder)
        trials = [runner.complete(Trial(name, runner.data.name, n)) for n in references]
    except Exception as error:  # Hydra wraps what a component raises
        if "Expected" not in str(error):
            raise
        return ["refused"] * len(references)
    found = []
    for trial, (key, loss) in zip(trials, references.values(), strict=True):
        if trial.key == key:
            assert runner.store.get(trial) is None
            assert runner.attempt(Trial(name, trial.dataset, trial.n_samples)).test_loss == loss
        found.append("same result" if trial.key == key else "new trial")
    return found


@pytest.mark.slow
def test_every_setting_is_in_the_key_or_changes_nothing(composed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    references = {}
    for n_samples in (24, 0):
        runner, name = make_runner(composed(), tmp_path / "base")
        result = runner.attempt(Trial(name, runner.data.name, n_samples))
        references[n_samples] = (result.trial.key, result.test_loss)
    rows = []
    for group in GROUPS:
        cfg = composed()
        for name in settings_of(cfg, group):
            path = f"{group}.{name}"
            if path in PARTS:
                continue
            change = f"++{path}={other_value(cfg, group, name)}"
            rows.append((path, *outcomes(composed, [change], tmp_path / path, references)))
    adapters = composed("finetune=lora")
    runner, model = make_runner(adapters, tmp_path / "lora")
    lora = runner.complete(Trial(model, runner.data.name, 24)).key
    for name in settings_of(adapters, "finetune"):
        if name == "method":
            continue
        change = f"++finetune.{name}={other_value(adapters, 'finetune', name)}"
        runner, model = make_runner(composed("finetune=lora", change), tmp_path / f"lora-{name}")
        assert runner.complete(Trial(model, runner.data.name, 24)).key != lora, name
    for name, value in (("n_samples", 32), ("seed", 1)):
        trial = Trial("gpt2-48x2", runner.data.name, **{"n_samples": 24, name: value})
        runner, _ = make_runner(composed(), tmp_path / name)
        assert runner.complete(trial).key != references[24][0]
    text = table(rows)
    if os.environ.get("LENSLLM_WRITE_DOCS") == "1":
        head = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
        PAGE.write_text(head + MARK + text, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8").partition(MARK)[2] == text


def table(rows):
    lines = ["| setting | with training | at D = 0 |", "|---|---|---|"]
    lines += [f"| `{path}` | {trained} | {zero} |" for path, trained, zero in rows]
    return "\n".join(lines) + "\n"


DECISIVE = [
    ["trainer.gradient_clip_val=0.001"],
    ["+model.dtype=bfloat16"],
    ["+trainer.limit_train_batches=1"],
    ["+trainer.limit_test_batches=1"],
    ["+trainer.max_steps=1"],
    ["+trainer.fast_dev_run=true"],
]


@pytest.mark.slow
@pytest.mark.parametrize("change", DECISIVE, ids=lambda change: change[0])
def test_a_changed_trial_neither_takes_nor_poisons_the_plain_one(composed, tmp_path, change):
    """In one store, in either order, each has the result that it has in a store of its own."""
    own = {}
    for name, overrides in (("plain", []), ("changed", change)):
        runner, model = make_runner(composed(*overrides), tmp_path / name)
        own[name] = runner.attempt(Trial(model, runner.data.name, 24)).test_loss
    assert own["plain"] != own["changed"]
    shared = []
    for order in (("plain", "changed"), ("changed", "plain")):
        for name in order:
            overrides = change if name == "changed" else []
            runner, model = make_runner(composed(*overrides), tmp_path / "-".join(order))
            shared.append(runner.attempt(Trial(model, runner.data.name, 24)).test_loss == own[name])
    assert shared == [True] * 4


def test_the_settings_of_a_trial_are_plain_json(composed, tmp_path):
    runner, name = make_runner(composed(), tmp_path)
    trial = runner.complete(Trial(name, runner.data.name, 24))
    assert json.loads(json.dumps(trial.settings)) == trial.settings
    assert set(trial.settings) == {
        "data", "weights", "config", "dtype", "encoding", "training", "trainer", "device",
        "environment", "optimizer", "scheduler",
    }  # fmt: skip
