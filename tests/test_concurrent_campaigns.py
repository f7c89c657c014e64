"""Campaigns started together on one store: no trial runs twice, all find the same."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def start(tmp_path, jsonl, name, *overrides, selector="sub_tuning", logger="none"):
    command = [
        sys.executable, "scripts/select_model.py", "dataset=jsonl", f"dataset.path={jsonl}",
        "dataset.max_evaluation=16", "candidates.models=[gpt2-48x2,opt-64x2,llama-64x3]",
        "n_samples_full=96", "sizes=[12,24,48]", "training.batch_size=8", "training.max_epochs=1",
        f"logger={logger}", f"selector={selector}", "budget.fraction=0.6",
        f"paths.store_dir={tmp_path / 'store'}", f"paths.output_dir={tmp_path}",
        f"hydra.run.dir={tmp_path / name}", *overrides,
    ]  # fmt: skip
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["local", "pool"])
def test_two_campaigns_share_their_trials(tmp_path, jsonl_300, executor):
    runs = [
        start(tmp_path, jsonl_300, name, f"executor={executor}", logger="csv")
        for name in ("one", "two")
    ]
    for run in runs:
        _, errors = run.communicate(timeout=300)
        assert run.returncode == 0, errors
    records = [
        json.loads((tmp_path / name / "selection.json").read_text()) for name in ("one", "two")
    ]
    assert records[0]["ranking"] == records[1]["ranking"]
    assert records[0]["selected"] == records[1]["selected"]
    stored = list((tmp_path / "store").glob("*.json"))
    assert len(stored) == 3
    # The tracker has one folder for every trial that was really run, by campaign.
    ran = [re.sub(r"-s0.*", "", path.parent.name) for path in tmp_path.glob("csv/*/*/metrics.csv")]
    ran = [name for name in ran if not name.startswith("campaign-")]
    assert len(ran) == len(set(ran)) == 3, ran
    assert not list((tmp_path / "store" / ".claims").iterdir())
    assert sum(record["cost_flops"] for record in records) >= records[0]["cost_flops"]


@pytest.mark.slow
@pytest.mark.parametrize("selector", ["adaptive", "successive_halving"])
def test_a_live_campaign_never_spends_more_than_its_budget(tmp_path, selector):
    """Pairs that grow towards the end of the file: the first ones say little of a subset."""
    path = tmp_path / "growing.jsonl"
    texts = [f"the owl number {i} " * (1 + i // 100) for i in range(300)]
    lines = [json.dumps({"input": text, "target": text.upper()}) for text in texts]
    path.write_text("\n".join(lines) + "\n")
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        run = start(folder, path, "run", f"seed={seed}", selector=selector)
        _, errors = run.communicate(timeout=300)
        assert run.returncode == 0, errors
        record = json.loads((folder / "run" / "selection.json").read_text())
        assert 0 < record["cost_fraction"] <= 0.6
