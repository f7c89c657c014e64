"""Commands of the README and of the pages on how to use lensllm run, for real and on small data.

The reader's folder has what the pages name: `pairs.jsonl`, `./my-model`, `train.py`, past runs, and
folders `gpt2` and `EleutherAI/pythia-160m` in place of the models of the Hub. Settings that make
trials small are added. What needs a GPU, a network, the extracted text of packages or hours is
composed by test_pages.py and not run here.
"""

import importlib
import json
import re
import shlex
import shutil
import sys

import pytest

from lensllm.commands.conf import command_module
from lensllm.zoo import ZOO_DIR
from tests.conftest import make_pairs
from tests.test_pages import COMMANDS, REPLAYS, write_past_runs

pytestmark = pytest.mark.slow

HOW_TO = [
    "README.md",
    *(
        f"docs/{name}.md"
        for name in (
            "get_started", "budgets", "candidates", "data", "models", "measures", "past_runs",
            "own_training", "sweeps", "tracking", "finalise", "report", "failures", "doctor", "gpu",
        )
    ),
]  # fmt: skip
NOT_RUN = re.compile(
    "--help|device=|hub=true|launcher=|lensllm (fetch|download)|COMMAND|every_size|prompt=chat"
)
TRAINING = [
    "training.batch_size=32",
    "training.max_epochs=1",
    "training.n_evaluations=1",
    "logger=none",
]
SMALL = {
    "select": ["n_samples_full=240", "sizes=[0,20,40]", "candidates.models=[gpt2,./my-model]"],
    "search": ["n_trials=2", "n_samples=40"],
    "fit": ["figures=false"],
}
STAND_INS = {
    "dataset=docstrings": "dataset=jsonl dataset.path=pairs.jsonl",
    "candidates=tiny": "'candidates.models=[gpt2,./my-model]'",
    r"lensllm select \.\.\.": "lensllm select",
    "trainer=gpu": "trainer=cpu",
    r"\[python,": f"[{sys.executable},",
    r" n_samples_full=\d+": "",
    r" n_samples=[\d,]*,[\d,]*": " n_samples=10,20,40,80",
    r" n_samples=\d+(?![\d,])": " n_samples=40",
}
PROGRAM = """
import argparse, json, pathlib
parser = argparse.ArgumentParser()
for name in ("model", "data", "eval", "out"):
    parser.add_argument("--" + name, type=pathlib.Path)
given = parser.parse_args()
n_samples = len(given.data.read_text().splitlines())
loss = (2.0 if given.model.name == "gpt2" else 2.2) + 5.0 / n_samples**0.5
state = {"log_history": [{"step": 1, "eval_loss": loss}], "global_step": 1, "train_batch_size": 8}
(given.out / "trainer_state.json").write_text(json.dumps(state))
"""

SCORES = """
def brevity(predictions, references):
    return [min(1.0, len(r) / max(1, len(p))) for p, r in zip(predictions, references)]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What a reader has, as the working folder."""
    for name, model in (
        ("gpt2", "gpt2-48x2"),
        ("EleutherAI/pythia-160m", "neox-80x3"),
        ("my-model", "opt-64x2"),
    ):
        shutil.copytree(ZOO_DIR / model, tmp_path / name)
    pairs = [(text, words.split()[1]) for text, words in make_pairs(300)]
    lines = [json.dumps({"input": text, "target": verb}) for text, verb in pairs]
    for name in ("pairs.jsonl", "reviews/part-1.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    rows = [{"instruction": text, "output": verb} for text, verb in pairs]
    (tmp_path / "alpaca_data.json").write_text(json.dumps(rows))
    (tmp_path / "train.py").write_text(PROGRAM)
    (tmp_path / "my_scores.py").write_text(SCORES)
    write_past_runs(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def as_small(command, folder):
    """The words of a command on small data, models and files that the reader's folder has."""
    for theirs, ours in STAND_INS.items():
        command = re.sub(theirs, ours, command)
    if answers := sorted(folder.glob("outputs/select/*/selection.json")):
        command = re.sub("outputs/select/TIME|FOLDER", str(answers[0].parent), command)
    _, name, *words = shlex.split(command)
    small = list(SMALL.get(name, ()))
    if name in ("train", "select", "search"):
        small += ["dataset=jsonl", "dataset.path=pairs.jsonl", "dataset.max_evaluation=16"]
        small += TRAINING if "runner=command" not in command else []
    if name == "select" and "budget" not in command:
        small += ["budget.fraction=0.9"]
    given = {word.partition("=")[0] for word in words}
    if "candidates" in given:
        small = [word for word in small if not word.startswith("candidates.models")]
    return name, [*words, *(word for word in small if word.partition("=")[0] not in given)]


def to_run(page):
    """The commands of a page that run here, but for those that an earlier page has."""
    earlier = {line for before in HOW_TO[: HOW_TO.index(page)] for line in COMMANDS[before]}
    for line in dict.fromkeys(COMMANDS[page]):
        is_one = re.match(r"lensllm \w+ ", line) and line not in REPLAYS
        if is_one and line not in earlier and not NOT_RUN.search(line):
            yield line


@pytest.mark.parametrize("page", [page for page in HOW_TO if list(to_run(page))])
def test_commands_of_a_page_run(page, folder, run_main):
    lines = list(to_run(page))
    if not any(line.startswith("lensllm select") for line in lines):
        lines = [COMMANDS["docs/budgets.md"][0], *lines]  # whose answer they take
    for line in lines:
        name, words = as_small(line, folder)
        done = run_main(importlib.import_module(command_module(name)).main, *words)
        is_kept = name == "select" and "runner=command" not in line
        assert ("to fine-tune it on all the data: lensllm finetune" in done.out) == is_kept
        assert done.code == 0, f"{line}\n{words}\n{done.out[-500:]}{done.err[-2000:]}"
