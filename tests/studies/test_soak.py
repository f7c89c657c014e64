"""Campaigns under injected faults: a few seconds of the soak, and that its checks find faults."""

import json
from dataclasses import replace

import pytest

from lensllm.core.protocols import Executor
from lensllm.core.trials import TrialStore
from lensllm.studies.soak import campaigns, rounds
from lensllm.studies.soak.campaigns import Plan, run_all
from lensllm.studies.soak.rounds import INVARIANTS, RoundResult, run_round
from scripts.soak import table


@pytest.mark.slow
def test_invariants_hold_in_a_short_round(tmp_path):
    result = run_round(tmp_path / "round", "pool", 3, 4.0, n_sets=1, n_models=4, n_workers=2)
    assert result.broken == {}
    assert result.n_campaigns == 5
    assert result.n_trials >= 20
    assert result.faults.total() >= 1
    assert result.checks[INVARIANTS[5]] == 5
    assert "nothing finished is lost" in table([result], 4.0)


@pytest.fixture
def ended(tmp_path, monkeypatch):
    """The plan of a round without faults, in this process, that has ended."""
    for name in ("adaptive", "ats", "successive_halving"):
        monkeypatch.delitem(campaigns.SELECTORS, name)
    monkeypatch.setitem(campaigns.EXECUTORS, "pool", lambda n_workers: Executor())
    plan = Plan(str(tmp_path), str(tmp_path / "store"), n_workers=1, n_sets=1, n_models=4, rate=0)
    run_all(plan)
    return plan


def broken(plan, inodes=None):
    result = RoundResult("pool")
    rounds._check(plan, inodes or {}, result)
    return set(result.broken)


def test_every_broken_invariant_is_found(ended):
    """What would break them is done behind the back of the store."""
    store = TrialStore(ended.store)
    assert broken(ended) == set()
    assert broken(ended, {0: "gone.json"}) == {INVARIANTS[4]}

    first, second, *_ = store.results()
    store.add(replace(first, test_loss=1e-3))
    assert broken(ended) == {INVARIANTS[3]}
    store.add(first)
    ended.journal.write("begin", key=second.trial.key)
    assert broken(ended) >= {INVARIANTS[2]}
    ended.journal.write("end", key=second.trial.key)
    (store.folder / f"{second.trial.key}.json").unlink()
    assert broken(ended) == {INVARIANTS[1], INVARIANTS[2]}

    path = ended.outcome(*ended.campaigns[0])
    record = json.loads(path.read_text())
    answer = json.loads(record["answer"])
    answer["ranking"].reverse()
    path.write_text(json.dumps({**record, "answer": json.dumps(answer, sort_keys=True)}))
    assert INVARIANTS[5] in broken(ended)
    record["curves"][0]["test_loss"] = 1e-3
    path.write_text(json.dumps(record))
    assert INVARIANTS[3] in broken(ended)
