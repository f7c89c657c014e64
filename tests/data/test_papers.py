"""The papers' data sets from folders that are laid out like their pages of the Hub.

Columns and splits are those of the cards of Muennighoff/flan (JSON Lines, one file a task),
Harvard/gigaword (its Parquet branch) and wmt/wmt19 (Parquet, one configuration a language pair).
"""

import json

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate

import scripts.train  # noqa: F401  its schema is in the ConfigStore then
from lensllm.commands.conf import conf_dir

WMT_CARD = """---
configs:
- config_name: de-en
  data_files:
  - split: train
    path: de-en/train-*
  - split: validation
    path: de-en/validation-*
- config_name: kk-en
  data_files:
  - split: train
    path: kk-en/train-*
  - split: validation
    path: kk-en/validation-*
---
"""


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")


@pytest.fixture
def flan(tmp_path):
    for split, sizes in (("train", (90, 30)), ("validation", (12, 8)), ("test", (10, 10))):
        folder = tmp_path / "flan" / split
        folder.mkdir(parents=True)
        for task, size in zip(("sst2_10templates", "rte_10templates"), sizes, strict=True):
            rows = [
                {"inputs": f"{task} {split} {i}?", "targets": f"yes {i}", "task": task}
                for i in range(size)
            ]
            path = folder / f"{task}_{split}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "flan"


@pytest.fixture
def gigaword(tmp_path):
    from datasets import Dataset

    for split, size in (("train", 120), ("validation", 20), ("test", 15)):
        rows = [
            {"document": f"{split} {i} . prices fell", "summary": f"prices {i}"}
            for i in range(size)
        ]
        folder = tmp_path / "gigaword" / "default" / split
        folder.mkdir(parents=True)
        Dataset.from_list(rows).to_parquet(folder / "0000.parquet")
    return tmp_path / "gigaword" / "default"


@pytest.fixture
def wmt19(tmp_path):
    from datasets import Dataset, Features, Translation

    for language in ("de", "kk"):
        folder = tmp_path / "wmt19" / f"{language}-en"
        folder.mkdir(parents=True)
        features = Features({"translation": Translation(languages=[language, "en"])})
        for split, size in (("train", 120), ("validation", 15)):
            rows = [
                {"translation": {language: f"{split} Satz {i} {language}", "en": f"sentence {i}"}}
                for i in range(size)
            ]
            table = Dataset.from_list(rows, features=features)
            table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    (tmp_path / "wmt19" / "README.md").write_text(WMT_CARD)
    return tmp_path / "wmt19"


def loaded(*overrides):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return instantiate(compose("train", list(overrides)).dataset, _convert_="all")


def sizes(data):
    return len(data.train), len(data.validation), len(data.test)


def test_flan_takes_its_own_splits(flan):
    data = loaded("dataset=flan", f"dataset.path={flan}", "dataset.n_test=15")
    assert (data.name, *sizes(data)) == ("flan", 120, 20, 15)
    assert ("rte_10templates train 29?", "yes 29") in set(data.train)
    assert all(" test " in source for source, _ in data.test)
    few = loaded("dataset=flan", f"dataset.path={flan}", "dataset.n_train=50")
    assert len(few.train) == 50
    assert set(few.train) < set(data.train)


def test_gigaword_takes_its_own_splits(gigaword):
    local = [f"dataset.path={gigaword}", "dataset.revision=null"]
    data = loaded("dataset=gigaword", *local)
    assert (data.name, *sizes(data)) == ("gigaword", 120, 20, 15)
    assert data.test[3] == ("test 3 . prices fell", "prices 3")
    prompted = loaded("dataset=gigaword", *local, "dataset.input='Summarize: {document}'")
    assert prompted.test[3][0] == "Summarize: test 3 . prices fell"


@pytest.mark.parametrize(
    ("languages", "source", "target"),
    [
        (None, "validation Satz 3 de", "sentence 3"),
        ("[en,de]", "sentence 3", "validation Satz 3 de"),
        ("[kk,en]", "validation Satz 3 kk", "sentence 3"),
        ("[en,kk]", "sentence 3", "validation Satz 3 kk"),
    ],
)
def test_wmt19_has_every_pair_in_both_directions(wmt19, languages, source, target):
    chosen = [] if languages is None else [f"dataset.languages={languages}"]
    data = loaded("dataset=wmt19", f"dataset.path={wmt19}", "dataset.n_validation=10", *chosen)
    pair = "-".join((languages or "[de,en]").strip("[]").split(","))
    assert (data.name, *sizes(data)) == (f"wmt19-{pair}", 110, 10, 15)
    assert data.test[3] == (source, target)
    train, validation = set(data.train), set(data.validation)
    assert not train & validation


def test_a_prompt_goes_around_the_languages(wmt19):
    data = loaded(
        "dataset=wmt19", f"dataset.path={wmt19}", "dataset.n_validation=10",
        "dataset.input='German: {source}'",
    )  # fmt: skip
    assert data.test[0][0] == "German: validation Satz 0 de"


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        ("[en,fr]", r"among the pairs de-en, kk-en of .*wmt19'.* got en and fr"),
        ("[de]", r"two languages in dataset\.languages, such as \[de,en\], got \['de'\]"),
        ("[en,en]", r"two languages"),
    ],
)
def test_a_pair_that_is_not_there_is_told(wmt19, languages, message):
    with pytest.raises(Exception, match=message):
        loaded("dataset=wmt19", f"dataset.path={wmt19}", f"dataset.languages={languages}")


def test_a_data_set_of_a_script_is_told_with_the_way_out(tmp_path):
    folder = tmp_path / "scripted"
    folder.mkdir()
    (folder / "scripted.py").write_text("raise SystemExit('run')\n")
    with pytest.raises(Exception, match=r"got a script, .*revision=refs/convert/parquet"):
        loaded("dataset=hub", f"dataset.path={folder}", "dataset.name=a")


@pytest.mark.parametrize("name", ["flan", "gigaword", "wmt19"])
def test_a_trial_runs_on_it(name, request, run_main, model_folders, tmp_path):
    from scripts.train import main

    folder = request.getfixturevalue(name)
    done = run_main(
        main,
        f"dataset={name}",
        f"dataset.path={folder}",
        "dataset.revision=null",
        "dataset.n_validation=10",
        "dataset.max_target_tokens=32",
        f"model.source={model_folders['gpt2']}",
        "model=source",
        "n_samples=32",
        "training.max_epochs=1",
        "logger=none",
        f"paths.output_dir={tmp_path}/out",
        f"paths.cache_dir={tmp_path}/cache",
        f"hydra.run.dir={tmp_path}/run",
    )
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    assert record["trial"]["dataset"].startswith(name)
    assert record["n_steps"] == 2
    assert 0 < record["test_loss"] < 10
    assert any((tmp_path / "cache" / "tokens").iterdir())  # tokenised once, and kept
