"""What all tests share: one thread, no network, tiny models, tiny data, in-process entry points."""

import json
import logging
import os
import random
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

_OFFLINE = "0" if os.environ.get("LENSLLM_HUB") == "1" else "1"  # tests marked `hub` need it
for _name, _value in {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": _OFFLINE,
    "HF_DATASETS_OFFLINE": _OFFLINE,
    "WANDB_MODE": "disabled",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",
    "MPLBACKEND": "agg",
}.items():
    os.environ[_name] = _value  # before anything imports torch or the hub's client

ROOT = Path(__file__).resolve().parents[1]
ARCHITECTURES = ("gpt2", "opt", "gpt_neox", "llama", "t5", "bart")
NOUNS = ["cat", "dog", "fox", "owl", "hen", "cow", "pig", "bee", "ant", "elk", "yak", "emu"]
VERBS = ["eats", "sees", "likes", "hears", "finds", "moves", "keeps", "draws"]


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def benchmark_dir():
    """Folder with `rsl/` and `published/` below it; the test is skipped where there is none.

    LENSLLM_BENCHMARK_DIR may name it, or its folder `rsl`, as for `paths.benchmark_dir`.
    """
    folder = Path(os.environ.get("LENSLLM_BENCHMARK_DIR", ROOT.parent / "shared" / "data"))
    folder = folder.parent if (folder / "flan.csv").is_file() else folder
    if not (folder / "rsl").is_dir():
        pytest.skip(f"no recorded benchmark in {folder}: set LENSLLM_BENCHMARK_DIR")
    return folder


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    """Cache of extracted text: LENSLLM_CACHE_DIR, else one folder for all workers of the run."""
    given = os.environ.get("LENSLLM_CACHE_DIR")
    if given:
        return Path(given)
    base = tmp_path_factory.getbasetemp()
    base = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    folder = base / "lensllm-cache"
    folder.mkdir(exist_ok=True)
    return folder


def make_pairs(n_pairs, seed=0):
    """Distinct (sentence, its three content words in capitals) pairs."""
    rng = random.Random(seed)
    pairs = {}
    while len(pairs) < n_pairs:
        a, verb, b = rng.choice(NOUNS), rng.choice(VERBS), rng.choice(NOUNS)
        day, place = rng.randrange(400), rng.choice(("barn", "wood", "lake", "hill"))
        text = f"On day {day} by the {place} the old {a} {verb} the small {b}."
        pairs[text] = f"{a} {verb} {b}".upper()
    return list(pairs.items())


@pytest.fixture(scope="session")
def pairs():
    """120 short text pairs."""
    return make_pairs(120)


@pytest.fixture(scope="session")
def text_data(pairs):
    """The pairs as a data set: 80 to train on, 15 for validation, 25 for the test."""
    from lensllm.data.pairs import make_text_data

    return make_text_data("toy", pairs[:80], pairs[80:95], pairs[95:], 48, 24)


@pytest.fixture(scope="session")
def jsonl_300(tmp_path_factory):
    """A JSON Lines file with 300 pairs."""
    path = tmp_path_factory.mktemp("data") / "own.jsonl"
    lines = [json.dumps({"input": a, "target": b}) for a, b in make_pairs(300, seed=1)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tokenizer(pairs):
    """A byte-level tokenizer of 384 tokens, trained on the pairs."""
    from lensllm.studies.zoo.pretrain import train_tokenizer

    texts = {"prose": [a for a, _ in pairs], "code": [b for _, b in pairs]}
    return train_tokenizer(texts, 384)


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory, tokenizer):
    """Folders of tiny random models by architecture, each with the tokenizer."""
    from lensllm.studies.zoo.pretrain import ZooModel, build_model

    root = tmp_path_factory.mktemp("models")
    folders = {}
    for i, name in enumerate(ARCHITECTURES):
        model = build_model(ZooModel(name, name, 16, 2, 2, 0.5, 1, seed=i), len(tokenizer))
        folders[name] = root / f"tiny-{name}"
        model.save_pretrained(folders[name])
        tokenizer.save_pretrained(folders[name])
    return folders


@pytest.fixture
def make_parts():
    """Optimizer, schedule and trainer factories, as an entry point would instantiate them."""
    import pytorch_lightning as pl
    import torch

    from lensllm.finetune import warmup_schedule

    def make(lr=3e-3, precision="32-true"):
        return {
            "make_optimizer": partial(torch.optim.AdamW, lr=lr, weight_decay=0.01),
            "make_scheduler": partial(warmup_schedule, name="linear", warmup_fraction=0.1),
            "make_trainer": partial(
                pl.Trainer,
                accelerator="cpu",
                devices=1,
                precision=precision,
                gradient_clip_val=1.0,
                deterministic=True,
                enable_progress_bar=False,
            ),
        }

    return make


@pytest.fixture
def run_main(monkeypatch, capsys):
    """Run an entry point in this process: exit code, standard output and error."""

    def run(main, *arguments):
        handlers, level = logging.root.handlers[:], logging.root.level
        monkeypatch.setattr(sys, "argv", ["script", *map(str, arguments)])
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # set by the entry point: undone here
        monkeypatch.setenv("LENSLLM_DEBUG", "0")
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        finally:
            # Hydra's handlers would outlive the streams that this test captures.
            logging.root.handlers[:] = handlers
            logging.root.setLevel(level)
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, out=captured.out, err=captured.err)

    return run


@pytest.fixture
def run_all():
    """Run trials by an executor; their results, in the order of the trials."""

    def run(executor, runner, trials):
        for trial in trials:
            executor.start(runner, trial)
        ended = [executor.next() for _ in trials]
        return [next(result for other, result in ended if other == trial) for trial in trials]

    return run


@pytest.fixture
def make_task():
    """A task of given sizes; a trial costs (position of the candidate + 1) * D."""
    from lensllm.core.task import Candidate, Task

    def make(names="abc", sizes=(0, 200, 400, 800, 1600), full=6400, n_params=None):
        names = tuple(names)
        params = n_params or [10.0 * (i + 1) for i in range(len(names))]
        return Task(
            "demo",
            tuple(Candidate(n, p) for n, p in zip(names, params, strict=True)),
            full,
            {n: tuple(sizes) for n in names},
            {(n, d): (i + 1.0) * d for i, n in enumerate(names) for d in (*sizes, full)},
        )

    return make


@pytest.fixture
def make_curves():
    """A tidy table from {model: {D: loss}}."""
    import numpy as np
    import pandas as pd

    def make(losses):
        rows = [
            {"model": m, "dataset": "demo", "n_samples": d, "seed": 0, "test_loss": x}
            for m, points in losses.items()
            for d, x in points.items()
        ]
        columns = ["model", "dataset", "n_samples", "seed", "test_loss"]
        table = pd.DataFrame(rows, columns=columns)
        return table.astype({"n_samples": np.int64, "test_loss": float})

    return make


@pytest.fixture
def draw():
    """Runs of a synthetic process: static, dynamic or noisy by its variances."""
    import numpy as np

    from lensllm.prehoc.process import SyntheticProcess

    def make(n_models=24, n_seeds=3, seed=0, task="synthetic", costs=None, **process):
        costs = np.geomspace(0.01, 1.0, 12) if costs is None else costs
        rng = np.random.default_rng(seed)
        return SyntheticProcess(**process).draw(costs, n_models, n_seeds, rng, task)

    return make


@pytest.fixture
def two_tasks(draw):
    """Runs of two tasks with eight models and three seeds each."""
    from lensllm.studies.prehoc.load import concatenate

    return concatenate([draw(8, 3, seed=i, task=f"task-{i}") for i in range(2)])


@pytest.fixture
def write_wide():
    """Write the curves of one data set and seed as the papers' benchmark has them: wide."""
    from lensllm.system.harmless import write_csv

    def write(table, path):
        wide = table.pivot(index="model", columns="n_samples", values="test_loss")
        wide.index.name, wide.columns.name = "config name", None
        for name, column in (("size", "n_params"), ("family", "family")):
            if column in table:
                values = table.groupby("model")[column].first()
                wide[name] = values.astype("Int64") if name == "size" else values
        write_csv(wide.reset_index(), path)

    return write
