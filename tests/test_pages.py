"""Commands and code blocks of README and docs are tried.

Python blocks run from the first line to the last, and so do replays; all commands are composed and
checked against their settings, and test_page_commands.py runs those of the how-to pages. What a
reader has and a test has not is stood in for: `STAND_INS` gives models of the zoo and tiny files
for models of the Hub, the reader's files and his training loop.
The files and commands of docs/extending.md are run by test_extending.py.
"""

import importlib
import json
import math
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

import lensllm
from lensllm.commands.command_line import as_meant
from lensllm.commands.conf import command_module, command_names, conf_dir
from lensllm.commands.config_checks import check_config
from lensllm.core.measures import MEASURES
from lensllm.reports.selection_report import selection_record, selection_table

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(
        page
        for page in (ROOT / "docs").rglob("*.md")
        if "_build" not in page.relative_to(ROOT).parts
    ),
]
LANGUAGES = {"bash", "python", "yaml", "json", "text"}
# What a reader puts in place of these words.
NAMES = {
    "dataset=NAME": "dataset=wiki",
    "model=NAME": "model=opt-64x2",
    "candidates=NAME": "candidates=tiny",
    "COMMAND": "select",
    "trainer=": "",
    "hardware=": "",
    "model=...": "",
    "dataset=...": "",
}
STAND_INS = {
    '"gpt2"': '"gpt2-48x2"',
    '"EleutherAI/pythia-160m"': '"neox-80x3"',
    '"./my-model"': '"opt-64x2"',
    'from_pretrained("my-tuned-model")': 'from_pretrained("my-model")',
    'budget="2h"': 'budget="40%", batch_size=32, epochs=1, n_evaluations=1',
}


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of the fenced blocks that are no directives of the site."""
    fenced = re.compile(r"^```(\S*).*?\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
    found = fenced.findall(page.read_text(encoding="utf-8"))
    return [(language, text) for language, text in found if not language.startswith("{")]


def commands(page: Path) -> list[str]:
    """Commands in fenced blocks, tables and text, one a line."""
    shell = [text for language, text in blocks(page) if language == "bash"]
    rest = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    quoted = [" ".join(words.split()) for words in re.findall(r"`([^`]+)`", rest)]
    lines = "\n".join([*shell, *quoted]).replace("\\\n", " ")
    lines = re.sub(r"'(\w+=\[[^']*?)\n\s*", r"'\1", lines)  # a list that goes on below
    found = [line.split("  #")[0].strip() for line in lines.splitlines()]
    found = [line.removeprefix("PYTHONPATH=. ") for line in found if "--config-dir" not in line]
    return [line for line in found if line.startswith(("lensllm ", "python ", "make "))]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


COMMANDS = {name_of(page): commands(page) for page in PAGES}
ALL = [(page, line) for page, lines in COMMANDS.items() for line in dict.fromkeys(lines)]
ONCE = {line: page for page, line in reversed(ALL)}  # each command, by the first page that has it
PYTHON = [
    pytest.param(text, id=f"{name_of(page)}-{i}")
    for page in PAGES
    for i, (language, text) in enumerate(blocks(page))
    if language == "python" and page.name != "extending.md"
]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_says_what_it_is(page: Path) -> None:
    assert {language for language, _ in blocks(page)} <= LANGUAGES
    for language, text in blocks(page):
        if language == "json":
            assert json.loads(text)


def test_readme_is_short_and_has_the_two_commands_first() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
    assert [line.split()[1] for line in COMMANDS["README.md"][:2]] == ["demo", "test"]


@pytest.fixture(scope="module")
def campaign():
    """A replayed campaign: its selection and its curves."""
    runner = lensllm.load_zoo().runner("docstrings")
    budget = lensllm.make_budget(runner.task(), fraction=0.1)
    return lensllm.run_campaign(lensllm.Adaptive(), runner, budget)


def test_the_table_that_readme_shows_has_the_columns_of_today(campaign) -> None:
    (text,) = [text for language, text in blocks(ROOT / "README.md") if language == "text"]
    shown = re.split(r"\s{2,}", text.splitlines()[0].replace("4000", "12800").strip())
    table = selection_table(*campaign)
    missing = set(shown) - {column.header for column in table.columns}
    assert missing == {"behind the first, at D"}  # which recorded curves cannot tell


def test_the_page_on_formats_has_every_key_of_a_selection(campaign) -> None:
    record = selection_record(*campaign, settings={}, data={})
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    section = page.partition("## `selection.json`")[2].partition("\n## ")[0]
    assert {key for key in record if f"`{key}`" not in section} == set()


def test_the_page_on_measures_has_each_of_them() -> None:
    page = (ROOT / "docs" / "measures.md").read_text(encoding="utf-8")
    assert {name for name in MEASURES if f"`{name}`" not in page} == set()


def test_a_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == lensllm.__version__


@pytest.mark.parametrize("target", sorted({c.split()[1] for _, c in ALL if c.startswith("make ")}))
def test_make_targets_exist(target: str) -> None:
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("page", "command"), [c for c in ALL if c[1].startswith("python ")])
def test_scripts_have_the_options_that_pages_name(page: str, command: str) -> None:
    words = shlex.split(command)
    path = words[2].replace(".", "/") + ".py" if words[1] == "-m" else words[1]
    known = re.findall(r'"(--\w+)"', (ROOT / path).read_text(encoding="utf-8"))
    assert {word for word in words if word.startswith("--")} <= set(known)
    assert "main(" in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("command", [c for c in ONCE if re.match(r"lensllm \w", c)])
def test_commands_compose_and_are_in_range(command: str) -> None:
    name, *words = [NAMES.get(word, word) for word in shlex.split(command)[1:]]
    assert name in command_names(), ONCE[command]
    importlib.import_module(command_module(name))
    overrides = as_meant([word for word in words if "=" in word])
    if "-m" in words:  # a sweep's values one at a time
        overrides = [re.sub(r"=([^\[,]*),.*", r"=\1", word) for word in overrides]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(name, overrides=overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    schema = ConfigStore.instance().load(f"{name}_schema.yaml").node
    check_config(config, schema._metadata.object_type)


def write_past_runs(folder):
    """What the Hugging Face Trainer leaves of two models at four sizes."""
    for name in ("gpt2-small", "opt-small"):
        for n_samples in (200, 400, 800, 1600):
            run = folder / f"{name}-D{n_samples}-s0"
            run.mkdir(parents=True)
            history = [{"step": 10, "eval_loss": 2.0 + 9.0 * n_samples**-0.4}]
            state = {"log_history": history, "global_step": 10, "train_batch_size": 16}
            (run / "trainer_state.json").write_text(json.dumps(state))
            (run / "config.json").write_text(json.dumps({"_name_or_path": name}))
            (run / "train_results.json").write_text(json.dumps({"train_samples": n_samples}))


@pytest.fixture
def readers_folder(tmp_path, monkeypatch, jsonl_300, model_folders):
    """A folder with what the pages say that a reader has, as the working folder."""
    (tmp_path / "pairs.jsonl").symlink_to(jsonl_300)
    shutil.copytree(model_folders["gpt2"], tmp_path / "my-model")
    write_past_runs(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("text", PYTHON)
def test_python_runs(text, readers_folder) -> None:
    for theirs, ours in STAND_INS.items():
        text = text.replace(theirs, ours)

    def my_training(model, n_samples, seed=0):
        return {"gpt2-48x2": 2.0, "neox-80x3": 1.9}[model] + 5 / math.sqrt(n_samples)

    exec(compile(text, "page", "exec"), {"my_training": my_training})


REPLAYS = [c for c in ONCE if "runner=replay" in c and "benchmark=zoo" in c and "--" not in c]


@pytest.mark.parametrize("command", REPLAYS)
def test_replays_run(command, run_main, readers_folder) -> None:
    module = importlib.import_module(command_module("select"))
    done = run_main(module.main, *shlex.split(command)[2:], "hydra.run.dir=run")
    assert done.code == 0, done.err
    assert "ine-tune" in done.out
    assert list(readers_folder.rglob("selection.json"))


def test_past_runs_are_imported_and_fitted(run_main, readers_folder) -> None:
    lines = COMMANDS["docs/past_runs.md"]
    imported = [line for line in lines if line.startswith("lensllm import ")][-1]
    fitted = next(line for line in lines if line.startswith("lensllm fit "))
    for command, more in ((imported, "output=past.csv"), (fitted, "figures=false")):
        _, name, *words = shlex.split(command)
        main = importlib.import_module(command_module(name)).main
        done = run_main(main, *words, more, "hydra.run.dir=run")
        assert done.code == 0, done.err
    assert "gpt2-small" in done.out


def test_help_is_what_pages_say(capsys) -> None:
    from lensllm.commands.cli import main

    helped = [c for c in ONCE if c.endswith("--help")]
    assert helped
    for command in helped:
        main(shlex.split(command)[1:])
        assert "lensllm" in capsys.readouterr().out
