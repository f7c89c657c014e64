"""What a configuration may build, and what it may not."""

import pytest
from omegaconf import OmegaConf

from lensllm.commands.targets import check_targets

GOOD = [
    "lensllm.selectors.AcceptThenStop",
    "lensllm.evaluation.load_csv",
    "lensllm.evaluation.replay.replay_runner",
    "lensllm.finetune.trainer.make_gpu_trainer",
    "lensllm.finetune.warmup_schedule",
    "lensllm.evaluation.benchmark.Benchmark",
    "lensllm.core.trials.TrialStore",
    "torch.optim.SGD",
    "torch.optim.lr_scheduler.CosineAnnealingLR",
    "transformers.get_scheduler",
    "pytorch_lightning.Trainer",
    "pytorch_lightning.callbacks.EarlyStopping",
    "pytorch_lightning.loggers.CSVLogger",
    "pytorch_lightning.strategies.DDPStrategy",
    "pytorch_lightning.plugins.environments.SLURMEnvironment",
]
BAD = [
    "joblib.load",
    "torch.load",
    "pandas.read_pickle",
    "transformers.AutoConfig.from_pretrained",
    "transformers.AutoModel",
    "transformers.pipeline",
    "pathlib.Path",
    "pathlib.Path.write_text",
    "pathlib.Path.unlink",
    "builtins.eval",
    "os.system",
    "subprocess.run",
    "functools.partial",
    "hydra.utils.get_method",
    "hydra.utils.instantiate",
    "lensllm",
    "lensllm.commands.entry.os.system",
    "lensllm.system.atomic.write_whole",
    "lensllm.core.curves.read_curves",
    "lensllm.core.trials.Path.unlink",
    "lensllm.core.trials.TrialStore.add",
    "lensllm.core.trials.json.loads",
    "lensllm.finetune.run_trial",
    "lensllm.finetune.LanguageModelModule.load_from_checkpoint",
    "lensllm.finetune.models.AutoConfig.from_pretrained",
    "lensllm.finetune.candidates._as_source",
    "lensllm.execution.pool.pickle.loads",
    "lensllm.nowhere.Thing",
    "lensllmx.Thing",
    "torch.optim.adam.torch.load",
    "torch.optim.SGD.load_state_dict",
    "torch.optim.lr_scheduler.partial",
    "pytorch_lightning.LightningModule.load_from_checkpoint",
    "pytorch_lightning.cli.LightningCLI",
    "pytorch_lightning.loggers.WandbLogger.download_artifact",
    "",
    ".",
]


@pytest.mark.parametrize("target", GOOD)
def test_components_are_allowed(target):
    check_targets(OmegaConf.create({"a": [{"_target_": target}]}))


@pytest.mark.parametrize("target", [*BAD, None, 5, ["os.system"], {"a": "os.system"}])
def test_nothing_else_is(target):
    with pytest.raises(ValueError, match=r"as a\.b\[1\]\._target_, got .*allowed_targets=") as told:
        check_targets(OmegaConf.create({"a": {"b": [1, {"_target_": target}]}}))
    assert f"got {target!r}" in str(told.value)


@pytest.mark.parametrize(
    "config",
    [
        {"a": {"_target_": "${name}"}, "name": "os.system"},
        {"a": "${b.c}", "b": {"c": [{"_target_": "os.system"}]}},
        {"a": "${oc.create:{_target_:os.system}}"},
        {"a": {"_target_": "os.${b}", "_args_": ["true"]}, "b": "system"},
        {
            "a": {
                "_target_": "torch.optim.AdamW",
                "_recursive_": False,
                "x": {"_target_": "os.system"},
            }
        },
        {"a": {"_target_": "torch.optim.AdamW", "_args_": [{"_target_": "os.system"}]}},
        {"a": {"_target_": "os.system", "_partial_": True}},
        {"a": {"_target_": "hydra.utils.get_method", "path": "os.system"}},
    ],
    ids=str,
)
def test_ways_around_it_are_closed(config):
    with pytest.raises(ValueError, match=r"_target_, got '(os\.system|hydra\.utils)"):
        check_targets(OmegaConf.create(config))


def test_environment_variables_are_followed(monkeypatch):
    monkeypatch.setenv("LENSLLM_TEST_TARGET", "{_target_: os.system}")
    with pytest.raises(ValueError, match=r"got 'os\.system'"):
        check_targets(OmegaConf.create({"a": "${oc.decode:${oc.env:LENSLLM_TEST_TARGET}}"}))


def test_modules_that_the_user_names_are_trusted_by_whole_components():
    config = OmegaConf.create({"a": {"_target_": "json.decoder.JSONDecoder"}})
    for allowed in (["json"], ["other", "json.decoder"]):
        check_targets(config, allowed)
    for allowed in ([], ["jso"], ["json.deco"], ["json.decoder.JSONDecoder.decode"]):
        with pytest.raises(ValueError, match=r"got 'json\.decoder\.JSONDecoder'"):
            check_targets(config, allowed)
    # What such a module imports is not its own.
    with pytest.raises(ValueError, match=r"it is re\.compile"):
        check_targets(OmegaConf.create({"a": {"_target_": "json.decoder.re.compile"}}), ["json"])
    with pytest.raises(ValueError, match=r"names of modules in allowed_targets.*got ''"):
        check_targets(config, [""])


@pytest.mark.parametrize(
    "config",
    [
        {"measure": "subprocess:run"},
        {"measure": {"name": "subprocess:run", "bound": 1}},
        {"runner": {"measure": "${a}"}, "a": "subprocess:run"},
        {"runner": {"measuring": {"also": ["f1", "subprocess:run"]}}},
        {"runner": {"measuring": {"also": [{"name": "subprocess:run"}]}}},
        {"runner": {"measuring": {"also": "${a}"}}, "a": ["subprocess:run"]},
        {"m": {"_target_": "lensllm.finetune.MeasuringSettings", "_args_": [["subprocess:run"]]}},
    ],
    ids=str,
)
def test_a_measure_is_a_function_only_of_a_module_that_the_user_names(config):
    for allowed in ([], ["sub"], ["subprocess.run"]):
        with pytest.raises(ValueError, match=r"got the function 'subprocess:run'.*allowed_targets"):
            check_targets(OmegaConf.create(config), allowed)
    check_targets(OmegaConf.create(config), ["subprocess"])
    check_targets(OmegaConf.create({"measure": "accuracy", "_args_": ["text: more"]}))


def test_configurations_that_grow_without_end_are_refused():
    laughs = {f"a{i}": [f"${{a{i + 1}}}"] * 10 for i in range(9)} | {"a9": "ha"}
    with pytest.raises(ValueError, match="at most 100000 nodes"):
        check_targets(OmegaConf.create(laughs))
    deep = "os.system"
    for _ in range(41):
        deep = {"a": deep}
    with pytest.raises(ValueError, match="40 levels"):
        check_targets(OmegaConf.create(deep))
