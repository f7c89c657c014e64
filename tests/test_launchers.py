"""Sweeps over several processes, started from a folder that has nothing of the package."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from lensllm.commands.conf import command_module, command_names

ROOT = Path(__file__).resolve().parents[1]
LAUNCHERS = {
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit": ["hydra/launcher=submitit_local"],
}


def sweep(launcher, script, folder, *overrides):
    """Run a sweep through a launcher from a folder, and its return code and output."""
    pytest.importorskip(f"hydra_plugins.hydra_{launcher}_launcher")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, str(ROOT / script), "-m", *LAUNCHERS[launcher], *overrides]
    return subprocess.run(
        [*command, "logger=none"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_campaigns_at_once(launcher, tmp_path):
    done = sweep(
        launcher,
        "scripts/select_model.py",
        tmp_path,
        "runner=replay",
        "benchmark=zoo",
        "selector=sub_tuning",
        "budget.fraction=0.1,0.2",
    )
    assert done.returncode == 0, done.stderr
    paths = sorted(tmp_path.glob("outputs/select/*/*/selection.json"))
    found = [json.loads(path.read_text()) for path in paths]
    assert [record["settings"]["budget"]["fraction"] for record in found] == [0.1, 0.2]
    assert found[0]["cost_fraction"] <= 0.1 < found[1]["cost_fraction"] <= 0.2


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_trials_at_once(launcher, tmp_path, model_folders, jsonl_300):
    done = sweep(
        launcher,
        "train.py",
        tmp_path,
        "model=source",
        f"model.source={model_folders['gpt2']},{model_folders['opt']}",
        "dataset=jsonl",
        f"dataset.path={jsonl_300}",
        "dataset.max_evaluation=20",
        "n_samples=0",
        "trainer.enable_progress_bar=false",
    )
    assert done.returncode == 0, done.stderr
    paths = sorted(tmp_path.glob("outputs/train/*/*/result.json"))
    found = [json.loads(path.read_text()) for path in paths]
    assert [record["trial"]["model"] for record in found] == ["tiny-gpt2", "tiny-opt"]
    assert len(list(tmp_path.glob("outputs/trials/*.json"))) == 2


def test_schemas_are_the_packages_own_so_that_every_process_can_import_them():
    import importlib

    for name in command_names():
        importlib.import_module(command_module(name))
    nodes = {
        name: entry.node
        for name, entry in ConfigStore.instance().repo.items()
        if name.endswith("_schema.yaml")
    }
    assert set(command_names()) == {name.removesuffix("_schema.yaml") for name in nodes}
    for name, node in nodes.items():
        assert OmegaConf.get_type(node).__module__ == "lensllm.commands.config", name
