"""Random bad input: an error that says what was expected, or a value in range; no traceback.

A few examples run with the other tests, the same ones each time. For a long search with new ones:

    LENSLLM_FUZZ=100 python -m pytest tests/fuzz -n 0
"""

import importlib
import json
import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from lensllm.commands.conf import conf_dir
from lensllm.commands.config import FitConfig, SelectConfig, TrainConfig
from lensllm.commands.config_checks import check_config
from lensllm.commands.entry import BAD_INPUT, budget_amount, instantiate_runner, prepare
from lensllm.core.curves import REQUIRED_COLUMNS, check_curves, read_curves
from lensllm.core.task import NoCandidateError
from lensllm.core.trials import MAX_LOSS, Trial, TrialResult, TrialStore, digest_of
from lensllm.data.files import load_file
from lensllm.zoo import ZOO_DIR

TIMES = int(os.environ.get("LENSLLM_FUZZ", "1"))
REFUSED = (*BAD_INPUT, NoCandidateError)


def examples(n):
    """So many examples, the same ones each time; with LENSLLM_FUZZ more and new ones."""
    return settings(
        max_examples=n * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        # `explain` traces every line, also of what a library imports: minutes in place of seconds.
        phases=set(Phase) - {Phase.explain},
        suppress_health_check=list(HealthCheck),
    )


NUMBERS = st.sampled_from(
    [
        -1,
        0,
        1,
        2,
        7,
        2**31,
        2**63,
        2**70,
        -0.5,
        0.5,
        1.5,
        1e-300,
        1e300,
        math.nan,
        math.inf,
        -math.inf,
    ]
)
VALUES = st.one_of(
    NUMBERS,
    st.none(),
    st.booleans(),
    st.text(max_size=8),
    st.just([]),
    st.lists(NUMBERS, max_size=3),
    st.dictionaries(st.text(max_size=3), NUMBERS, max_size=2),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


# Curves ---------------------------------------------------------------------------------------

CELLS = st.one_of(VALUES, st.sampled_from(["gpt2", "a", "200", "3.5", "inf", " 7 ", "1e3", "nan"]))


def is_good_table(table):
    assert set(REQUIRED_COLUMNS) <= set(table)
    assert (np.isfinite(table["test_loss"]) & (table["test_loss"] > 0)).all()
    for name in ("n_samples", "seed"):
        assert table[name].dtype == np.int64
        assert (table[name] >= 0).all()
    assert not table.duplicated(["model", "dataset", "n_samples", "seed"]).any()
    assert (table[["model", "dataset"]].map(lambda name: str(name).strip()) != "").all(axis=None)


@examples(30)
@given(
    st.lists(st.fixed_dictionaries(dict.fromkeys(REQUIRED_COLUMNS, CELLS)), max_size=4),
    st.data(),
)
def test_a_table_of_curves_is_good_or_refused(rows, data):
    table = pd.DataFrame(rows, columns=list(REQUIRED_COLUMNS)).astype(object)
    extra = data.draw(st.sampled_from(["", "n_params", "test_loss_per_byte", "status", "flops"]))
    if extra:
        table[extra] = pd.Series([data.draw(CELLS) for _ in rows], dtype=object)
    try:
        checked = check_curves(table)
    except BAD_INPUT:
        return
    is_good_table(checked)


TEXT = st.one_of(
    st.text(alphabet="model,n_samples\n\"'3.5e-+0 aé;\t", max_size=60),
    st.builds(
        lambda head, rows: "\n".join([head, *rows]),
        st.sampled_from(
            [
                "model,dataset,n_samples,seed,test_loss",
                "config name,0,200,size",
                "model,-1,1e99",
                "",
            ]
        ),
        st.lists(st.lists(CELLS.map(str), max_size=6).map(",".join), max_size=4),
    ),
)


@examples(30)
@given(TEXT)
def test_a_file_of_curves_is_good_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("curves") / "curves.csv"
    path.write_text(text, encoding="utf-8")
    try:
        curves = read_curves(path)
    except BAD_INPUT:
        return
    is_good_table(curves)


# Trials ---------------------------------------------------------------------------------------

RECORD = TrialResult(Trial("a", "b", 200, 1, {"lr": 1e-3}), "completed", 3.5, trace=((1, 2.0),))


@examples(40)
@given(st.sampled_from(sorted(RECORD.to_json())), st.one_of(JSON, VALUES), st.booleans())
def test_a_trial_in_the_store_is_good_or_left_alone(tmp_path_factory, name, value, is_consistent):
    """Also one whose key and digest are those of its content, as another program might write it."""
    store = TrialStore(tmp_path_factory.mktemp("store"))
    record = {**RECORD.to_json(), name: value}
    if is_consistent and name not in ("key", "digest", "format"):
        record.pop("digest")
        try:
            trial = Trial(**record["trial"])
            record["key"] = trial.key
            record["digest"] = digest_of(json.loads(json.dumps(record)), 64)
        except (ValueError, TypeError):
            assume(False)
    path = store.folder / f"{record['key'] if isinstance(record['key'], str) else 'x'}.json"
    assume("/" not in path.name and "\0" not in path.name and path.parent == store.folder)
    try:
        path.write_text(json.dumps(record))
    except (OSError, ValueError):
        assume(False)
    for result in store.results():
        assert result.status in ("completed", "diverged")
        assert result.status == "diverged" or 0 <= result.test_loss <= MAX_LOSS
        for key, kind in TrialResult.__annotations__.items():
            number = getattr(result, key)
            if kind in ("int", "float"):
                assert isinstance(number, int | float)
                assert not number < 0
                assert kind == "float" or number == int(number)
                assert not math.isinf(number)
            if kind == "str":
                assert isinstance(number, str)
    store.curves()


@examples(30)
@given(st.binary(max_size=40))
def test_bytes_are_no_trial(tmp_path_factory, content):
    store = TrialStore(tmp_path_factory.mktemp("store"))
    (store.folder / f"{RECORD.trial.key}.json").write_bytes(content)
    assert list(store.results()) == []
    assert store.get(RECORD.trial) is None


# Data files -----------------------------------------------------------------------------------

LINES = st.one_of(
    st.builds(lambda a, b: json.dumps({"input": a, "target": b}), JSON, JSON),
    st.builds(
        lambda a, b: json.dumps({"input": a, "target": b}), st.text(max_size=9), st.text(max_size=9)
    ),
    JSON.map(json.dumps),
    st.text(max_size=12),
)


@examples(30)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.lists(LINES, max_size=30).map(lambda lines: "\n".join(lines).encode("utf-8", "replace")),
        st.binary(max_size=40).map(lambda inside: b"PAR1" + inside + b"PAR1"),
    ),
    st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".jsonl.zst"]),
)
def test_a_data_file_is_read_or_refused(tmp_path_factory, content, ending):
    path = tmp_path_factory.mktemp("data") / f"pairs{ending}"
    path.write_bytes(content)
    try:
        data = load_file(str(path))
    except BAD_INPUT:
        return
    for split in (data.train, data.validation, data.test):
        assert len(split)
        assert all(isinstance(text, str) for pair in split for text in pair)
        assert all(target.strip() for _, target in split)


# Models ---------------------------------------------------------------------------------------

MODELS = ("gpt2-48x2", "t5-96x2", "llama-64x3", "bart-64x2")
CONFIGS = {name: json.loads((ZOO_DIR / name / "config.json").read_text()) for name in MODELS}
# Sizes that would only take long to build are left out.
SMALL = VALUES.filter(lambda value: not (isinstance(value, int | float) and abs(value) > 1e6))


@pytest.mark.slow
@examples(4)
@given(st.sampled_from(MODELS), st.data())
def test_a_model_with_a_damaged_configuration_runs_or_is_refused(tmp_path_factory, name, data):
    from lensllm.finetune import ModelSource
    from lensllm.finetune.memory import estimate_memory

    config = dict(CONFIGS[name])
    for key in data.draw(st.lists(st.sampled_from(sorted(config)), min_size=1, max_size=2)):
        config[key] = data.draw(SMALL)
    folder = tmp_path_factory.mktemp("model")
    for file in (ZOO_DIR / name).iterdir():
        if file.name != "config.json":
            (folder / file.name).symlink_to(file)
    (folder / "config.json").write_text(json.dumps(config))
    source = ModelSource(str(folder))
    try:
        source.load_tokenizer()
        assert source.n_params > 0
        assert estimate_memory(source, 2, 8, 4).device > 0
        source.load_model()
    except BAD_INPUT:
        return


# Configurations -------------------------------------------------------------------------------

REPLAY = [
    "executor=pool",
    "runner=replay",
    "benchmark=zoo",
    "replay.dataset=docstrings",
    "logger=none",
]
TRAIN = ["model=gpt2-48x2", "dataset=copying", "logger=none"]
SEARCHED = {
    "select": ("budget", "n_samples_full", "sizes", "seed", "measure", "preflight", "reuse",
               "max_failures", "selector", "executor", "replay"),
    "train": ("n_samples", "n_samples_full", "sizes", "seed", "measure", "objective", "dataset",
              "optimizer", "scheduler", "training", "trainer", "finetune", "runner", "model"),
    "fit": ("datasets", "models", "max_n_samples", "objective", "delta", "use_zero", "n_starts",
            "seed", "predict_at", "target_loss", "level", "forward", "figures", "law"),
}  # fmt: skip
SCHEMAS = {"select": SelectConfig, "train": TrainConfig, "fit": FitConfig}


def composed(name, words):
    importlib.import_module(f"lensllm.commands.{name}")  # which stores its schema
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose(name, words)


def leaves(config, prefix=""):
    """Keys of all settings of the parts that are searched, except targets and folders."""
    for key in config:
        path = f"{prefix}{key}"
        if str(key).startswith("_") or OmegaConf.is_missing(config, key):
            continue
        if OmegaConf.is_interpolation(config, key) or path.split(".")[-1] in ("store", "data"):
            continue
        value = config[key]
        if isinstance(value, DictConfig) and len(value):
            yield from leaves(value, f"{path}.")
        else:
            yield path


def keys_of(name, words):
    config = composed(name, words)
    return [key for key in leaves(config) if key.split(".")[0] in SEARCHED[name]]


BASES = {"select": REPLAY, "train": TRAIN, "fit": ["curves=x.csv"]}
KEYS = {name: keys_of(name, BASES[name]) for name in BASES}


def word(key, value):
    return f"{key}={json.dumps(value) if not isinstance(value, float) else value}"


def build(name, config):
    """As the commands do it, until something would be trained or fitted."""
    check_config(config, SCHEMAS[name])
    prepare(config)
    if name == "fit":
        instantiate(config.law)
        return None
    runner = instantiate_runner(config)
    if name == "select":
        instantiate(config.selector), instantiate(config.executor)
        return budget_amount(config)
    runner.make_trainer(callbacks=[], logger=False)
    return runner.complete(Trial("gpt2-48x2", runner.data.name, config.n_samples, config.seed))


@pytest.mark.slow
@examples(6)
@given(st.sampled_from(sorted(BASES)), st.data())
def test_a_command_with_a_bad_setting_is_built_or_refused(tmp_path_factory, name, data):
    key = data.draw(st.sampled_from(KEYS[name]))
    value = data.draw(VALUES)
    folder = tmp_path_factory.mktemp("out")
    try:
        words = [*BASES[name], f"paths.output_dir={folder}"]
        is_number = isinstance(OmegaConf.select(composed(name, words), key), int | float)
        config = composed(name, [*words, word(key, value)])
        build(name, config)
    except REFUSED:
        return
    if is_number and isinstance(value, float) and not math.isfinite(value):
        pytest.fail(f"{key}={value} was accepted")


def test_every_part_of_the_commands_is_searched():
    assert {key.split(".")[0] for key in KEYS["train"]} >= {"training", "optimizer", "trainer"}
    assert {"selector", "executor", "budget"} <= {key.split(".")[0] for key in KEYS["select"]}
    assert Path(conf_dir()).is_dir()
