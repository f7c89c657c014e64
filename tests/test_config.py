"""Every YAML composes into its primary config, and what it names can be built."""

import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest
from cloudpickle import register_pickle_by_value, unregister_pickle_by_value
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_object, instantiate
from joblib.externals.loky import ProcessPoolExecutor
from omegaconf import DictConfig, ListConfig, OmegaConf

from lensllm.commands.conf import command_module, command_names, conf_dir
from lensllm.commands.config_checks import check_config
from lensllm.commands.targets import check_targets
from lensllm.finetune.candidates import as_sources

CONF = Path(__file__).resolve().parents[1] / "conf"
PRIMARY = command_names()
OWNERS = {  # the primary config that a group is composed into, where several have it
    "model": "train",
    "dataset": "train",
    "optimizer": "train",
    "scheduler": "train",
    "training": "train",
    "finetune": "train",
    "trainer": "train",
    "hardware": "estimate",
    "callbacks": "train",
    "logger": "train",
    "paths": "train",
    "candidates": "select",
    "selector": "select",
    "runner": "select",
    "executor": "select",
    "benchmark": "select",
    "law": "fit",
}
GROUPS = [
    (path.parent.name, path.stem)
    for path in sorted(CONF.glob("*/*.yaml"))
    if path.parent.name not in ("experiment", "hydra")
]
EXPERIMENTS = sorted(CONF.glob("experiment/*.yaml"))
GIVEN = {  # what a user has to name
    ("runner", "command"): ['runner.command=[train,"{model}"]'],
    ("model", "source"): ["model.source=tiny"],
    ("candidates", "custom"): ["candidates.models=[tiny]"],
    ("dataset", "file"): ["dataset.path=pairs.jsonl"],
    ("dataset", "jsonl"): ["dataset.path=pairs.jsonl"],
    ("dataset", "csv"): ["dataset.path=pairs.csv"],
    ("dataset", "parquet"): ["dataset.path=pairs.parquet"],
    ("dataset", "chat"): ["dataset.path=chats.jsonl"],
    ("dataset", "hub"): ["dataset.path=a/b", "dataset.name=b"],
    ("benchmark", "csv"): ["benchmark.path=curves.csv"],
    ("callbacks", "probe_stopping"): [
        f"callbacks.probe_stopping.rule.law.{name}=0.01" for name in ("intrinsic", "scale", "decay")
    ],
    ("law", "lensllm"): ["law.ntk_loss.weights=[1.0]", "law.ntk_loss.rates=[1e-3]"],
}
INSTANTIATED = (
    *("model", "optimizer", "scheduler", "training", "finetune", "trainer"),
    *("hardware", "callbacks", "logger", "executor"),
)
NEEDED = {
    "fit": ["curves=curves.csv"],
    "import": ["path=runs"],
    "report": ["folder=outputs"],
    "finetune": ["selection=selection.json", "output=model"],
}


@pytest.fixture(scope="module", autouse=True)
def _schemas():
    """Schemas are in the ConfigStore once the commands are imported."""
    for name in PRIMARY:
        importlib.import_module(command_module(name))


@pytest.fixture(scope="module")
def elsewhere():
    """Calls a function of this file in a process that knows nothing but what it is sent.

    That is how joblib's sweeps come by their configuration: pickled, with its schema.
    """
    with ProcessPoolExecutor(max_workers=1) as executor:
        register_pickle_by_value(sys.modules[__name__])
        yield lambda function, *arguments: executor.submit(function, *arguments).result()
        unregister_pickle_by_value(sys.modules[__name__])


def composed(config, *overrides):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(config, [*NEEDED.get(config, []), *overrides])


def schema_of(config):
    """The dataclass of a primary config."""
    return OmegaConf.get_type(ConfigStore.instance().repo[f"{config}_schema.yaml"].node)


def resolved(cfg):
    """All interpolations followed."""
    return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


def targets(node, path=""):
    """(where, node) of everything that would be instantiated."""
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield path, node
        for key in node:
            if not OmegaConf.is_missing(node, key):
                yield from targets(node[key], f"{path}.{key}")
    elif isinstance(node, ListConfig):
        for i, item in enumerate(node):
            yield from targets(item, f"{path}[{i}]")


def check_signature(where, node):
    """The target exists and takes exactly what the YAML gives it (the rest is partial)."""
    target = get_object(node._target_)
    given = {key for key in node if not str(key).startswith("_")}
    parameters = inspect.signature(target).parameters
    free = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    assert free or given <= set(parameters), f"{where}: {given - set(parameters)}"
    if not node.get("_partial_", False):
        required = {
            name
            for name, p in parameters.items()
            if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        }
        assert required <= given, f"{where} lacks {required - given}"


def test_the_configuration_is_the_checkouts():
    assert conf_dir() == CONF


def check_primary(cfg, schema):
    """Keys, types, targets and the signatures of what a primary config names."""
    check_config(cfg, schema)
    resolved(cfg)
    for where, node in targets(cfg):
        check_signature(where, node)


@pytest.mark.parametrize("config", PRIMARY)
def test_every_primary_config_composes_under_its_schema(config, elsewhere, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert f"{config}_schema.yaml" in ConfigStore.instance().repo
    first = next(iter(OmegaConf.load(CONF / f"{config}.yaml").defaults))
    assert first == f"{config}_schema"
    elsewhere(check_primary, composed(config), schema_of(config))
    assert list(tmp_path.iterdir()) == []


def hydras_part(config, *overrides):
    """What Hydra itself is told."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3", job_name=config):
        words = [*NEEDED.get(config, []), *overrides]
        return compose(config, words, return_hydra_config=True).hydra


@pytest.mark.parametrize("config", PRIMARY)
def test_every_primary_config_writes_below_its_output_folder(config):
    hydra = hydras_part(config)
    for folder in (hydra.run.dir, hydra.sweep.dir):
        assert Path(folder).parts[:2] == ("outputs", config), folder


def test_two_runs_of_one_second_have_two_folders():
    first, second = hydras_part("download"), hydras_part("download")
    assert first.run.dir == first.sweep.dir != second.run.dir


def test_experiments_that_sweep_do_so_without_being_told():
    for path in EXPERIMENTS:
        sweeps = "params:" in path.read_text(encoding="utf-8")
        config = re.search(rf"lensllm (\w+) experiment={path.stem}\b", path.read_text())[1]
        mode = hydras_part(config, f"experiment={path.stem}").mode
        assert (mode is not None and mode.name == "MULTIRUN") == sweeps, path


def check_option(cfg, group):
    """Build what one option of a group names, or compare it with the signature; return how many."""
    resolved(cfg)
    check_targets(cfg)
    found = [(where, node) for where, node in targets(cfg[group] or {}, group)]
    for where, node in found:
        check_signature(where, node)
    if group in INSTANTIATED:
        assert instantiate(cfg[group], _convert_="all") is not None or cfg[group] is None
    return len(found)


@pytest.mark.parametrize(("group", "name"), GROUPS)
def test_every_option_composes_and_fits_what_it_configures(group, name, elsewhere):
    config = OWNERS.get(group)
    assert config is not None, f"tell in OWNERS which primary config has the group {group}"
    cfg = composed(config, f"{group}={name}", *GIVEN.get((group, name), []))
    assert elsewhere(check_option, cfg, group) or (group, name) in {
        ("callbacks", "none"),
        ("logger", "none"),
        ("candidates", "zoo"),
        ("candidates", "custom"),
        ("paths", "default"),
    }


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_composes_with_the_command_in_its_header(path):
    header = path.read_text(encoding="utf-8").split("\ndefaults")[0]
    assert header.startswith("# @package _global_\n")
    config = re.search(rf"lensllm (\w+) experiment={path.stem}\b", header)[1]
    check_config(composed(config, f"experiment={path.stem}"), schema_of(config))


@pytest.mark.parametrize("name", [name for group, name in GROUPS if group == "candidates"])
def test_every_list_of_candidates_becomes_sources(name):
    cfg = composed("select", f"candidates={name}", *GIVEN.get(("candidates", name), []))
    sources = as_sources(instantiate(cfg.candidates.models, _convert_="all"))
    assert len({source.name for source in sources}) == len(sources) > 0
    for source in sources:
        assert source.revision is None or re.fullmatch("main|[0-9a-f]{40}", source.revision)
    numbers = {"rsl": 30, "lensllm": 14}
    assert len(sources) == numbers.get(name, len(sources))


def test_candidates_of_the_benchmark_are_named_as_in_its_files(benchmark_dir):
    cfg = composed("select", "candidates=rsl")
    models = instantiate(cfg.candidates.models, _convert_="all")
    for path in (benchmark_dir / "rsl").glob("*.csv"):
        lines = path.read_text(encoding="utf-8").splitlines()[1:]
        assert {source.name for source in as_sources(models)} == {x.split(",")[0] for x in lines}


def test_what_is_instantiated_works_together(model_folders, text_data, tmp_path):
    import torch

    cfg = composed("train", f"model.source={model_folders['gpt2']}")
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = instantiate(cfg.optimizer)([parameter])
    assert optimizer.defaults["weight_decay"] == 0.01
    for name in [name for g, name in GROUPS if g == "scheduler"]:
        schedule = instantiate(composed("train", f"scheduler={name}").scheduler)(optimizer, 10)
        assert hasattr(schedule, "step")
    trainer = instantiate(cfg.trainer)(logger=False, enable_progress_bar=False)
    assert trainer.gradient_clip_val == 1.0
    logger = composed("train", "logger=csv", f"paths.output_dir={tmp_path}").logger
    instantiate(logger.csv)("run", {"a": 1}, group="g").finish()
    assert set(composed("train", "logger=many").logger) == {"wandb", "csv"}
    assert set(composed("train", "logger=[csv,tensorboard]").logger) == {"csv", "tensorboard"}
    assert not composed("train", "logger=none").logger


@pytest.mark.parametrize("name", [name for group, name in GROUPS if group == "dataset"])
def test_every_data_set_loads_or_says_how_to_get_it(
    name, jsonl_300, cache_dir, tmp_path, monkeypatch
):
    if name in ("docstrings", "libraries", "libraries_noisy", "names"):
        pytest.skip("see the test of the corpus")
    overrides = [f"dataset={name}", f"paths.cache_dir={tmp_path}"]
    if name in ("jsonl", "csv"):
        path = jsonl_300
        if name == "csv":
            import json

            import pandas as pd

            path = tmp_path / "own.csv"
            rows = [json.loads(line) for line in jsonl_300.read_text().splitlines()]
            pd.DataFrame(rows).to_csv(path, index=False)
        cfg = composed("train", *overrides, f"dataset.path={path}")
        data = instantiate(cfg.dataset)
        assert (data.name, len(data.train), len(data.test)) == ("own", 210, 60)
    elif name in ("copying", "formatting", "noise"):  # generated
        assert instantiate(composed("train", *overrides).dataset).name == name
    elif name in ("debian", "sections", "senses", "wiki", "wordnet"):
        with pytest.raises(Exception, match=f"dataset={name}"):
            instantiate(composed("train", *overrides).dataset)
    else:  # out of reach here: what a user reads
        given = GIVEN.get(("dataset", name), [])
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
        with pytest.raises(Exception, match=r"Expected (the data set|a file|Parquet files)"):
            instantiate(composed("train", *overrides, *given).dataset)


def corpus(cache_dir, name):
    """A data set of the environment's packages; its text is extracted by one test at a time."""
    from filelock import FileLock

    cfg = composed("train", f"paths.cache_dir={cache_dir}", f"dataset={name}").dataset
    with FileLock(cache_dir / ".building"):
        return cfg, instantiate(cfg, _convert_="all")


@pytest.mark.slow
def test_the_embedded_corpus_is_as_large_and_disjoint_as_promised(cache_dir):
    cfg, data = corpus(cache_dir, "docstrings")
    assert data.name == "docstrings"
    assert len(data.train) >= 20_000
    assert (len(data.validation), len(data.test)) == (cfg.n_validation, cfg.n_test)
    parts = [{target.lower() for _, target in part} for part in (data.train, data.test)]
    assert not parts[0] & parts[1]
    assert instantiate(cfg, _convert_="all").fingerprint == data.fingerprint


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n_train"), [("names", 10_000), ("libraries_noisy", 20_000)])
def test_tasks_of_the_embedded_corpus_are_large_and_do_not_leak(cache_dir, name, n_train):
    _, data = corpus(cache_dir, name)
    assert data.name == name
    assert len(data.train) >= n_train
    assert (len(data.validation), len(data.test)) == (300, 600)
    assert data.leaked.inputs == 0
