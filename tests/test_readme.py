"""The README's commands are commands of this project, and those that are quick are run."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from lensllm.entry import conf_dir

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = {
    "train.py": "train",
    "scripts/select_model.py": "select",
    "scripts/fit_laws.py": "fit",
    "scripts/evaluate_selection.py": "evaluate",
    "scripts/pretrain_zoo.py": "pretrain_zoo",
    "scripts/fetch_dataset.py": "fetch",
    "scripts/study_ntk.py": "study_ntk",
    "scripts/analyze_curvature.py": "curvature",
    "scripts/prehoc.py": "prehoc",
    "scripts/tune_selector.py": "tune",
    "scripts/compare_selectors_live.py": "live",
    "scripts/estimate.py": "estimate",
}


def readme_commands() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL))
    rows = "\n".join(re.findall(r"\| `(.*?)` \|", text))
    lines = (blocks + "\n" + rows).replace("\\\n", " ").splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.strip()]


COMMANDS = readme_commands()


def test_readme_has_the_two_commands_first() -> None:
    assert [line.split()[1] for line in COMMANDS[:2]] == ["demo", "test"]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_make_targets_exist(command: str) -> None:
    target = command.split()[1]
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python ")])
def test_python_commands_compose(command: str) -> None:
    words = shlex.split(command)
    script = words[1]
    assert (ROOT / script).is_file()
    module = "train" if script == "train.py" else Path(script).stem
    __import__(f"lensllm.scripts.{module}" if script != "train.py" else "lensllm.scripts.train")
    overrides = [word for word in words[2:] if word != "-m"]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        if "-m" in words:  # a sweep's values one at a time
            overrides = [re.sub(r"=([^\[,]*),.*", r"=\1", word) for word in overrides]
        cfg = compose(CONFIGS[script], overrides=overrides, return_hydra_config=False)
    assert cfg


def test_the_replay_example_runs(tmp_path: Path) -> None:
    command = next(c for c in COMMANDS if "runner=replay" in c)
    words = [*shlex.split(command)[1:], f"paths.output_dir={tmp_path}"]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Fine-tune" in done.stdout
    assert list(tmp_path.rglob("selection.json"))
