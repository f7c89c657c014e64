"""A study asks what a campaign would run, keeps what it is told, and shares its work."""

import re
import subprocess
import sys
import threading
from collections import Counter

import pytest

from lensllm.core.task import Budget, BudgetTooSmallError, Candidate, NoCandidateError
from lensllm.core.trials import TrialResult
from lensllm.selectors import Adaptive, SubTuning, run_campaign
from lensllm.selectors.ask_tell import Study

FULL = 3200
SIZES = (200, 400, 800, 1600)
LOSSES = {"a": (2.0, 30.0), "b": (1.8, 40.0), "c": (2.5, 20.0)}


def loss(model, n_samples):
    floor, scale = LOSSES[model]
    return floor + scale / n_samples**0.5


def cost(model, n_samples):
    return n_samples * (1 + "abc".index(model))


def run(study):
    asked = []
    while (trial := study.ask()) is not None:
        asked.append((trial.model, trial.n_samples))
        study.tell(trial, loss(trial.model, trial.n_samples))
    return asked


@pytest.mark.parametrize("selector", [Adaptive(), SubTuning()], ids=["adaptive", "sub_tuning"])
@pytest.mark.parametrize("share", [0.2, 0.6])
def test_a_study_asks_what_a_campaign_runs_and_answers_the_same(selector, share):
    study = Study("abc", FULL, f"{100 * share:g}%", sizes=SIZES, costs=cost, selector=selector)
    asked = run(study)

    class Runner:
        def task(self):
            return study.task

        def run(self, trial):
            value = loss(trial.model, trial.n_samples)
            spent = cost(trial.model, trial.n_samples)
            return TrialResult(trial, "completed", value, flops=spent)

    budget = Budget(share * study.task.full_cost)
    selection, curves = run_campaign(selector, Runner(), budget)
    seen = set(zip(curves["model"], curves["n_samples"], strict=True))
    assert set(asked) == seen
    assert len(asked) == len(seen)
    assert study.selection.ranking == selection.ranking
    assert study.selection.cost_fraction == pytest.approx(selection.cost_fraction)
    assert study.selection.cost_fraction <= share


def test_several_workers_share_a_folder_and_find_what_one_finds(tmp_path):
    alone = Study("abc", FULL, "60%", sizes=SIZES, costs=cost)
    run(alone)
    asked, errors = [], []

    def work():
        try:
            asked.extend(run(Study("abc", FULL, "60%", sizes=SIZES, costs=cost, folder=tmp_path)))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = Study("abc", FULL, "60%", sizes=SIZES, costs=cost, folder=tmp_path)
    assert not errors
    assert max(Counter(asked).values()) == 1
    assert together.selection == alone.selection


def test_the_trial_of_a_worker_that_was_killed_is_given_again(tmp_path):
    words = (
        "import os, sys; from lensllm.selectors.ask_tell import Study\n"
        f"study = Study('abc', {FULL}, '60%', sizes={SIZES}, folder=sys.argv[1])\n"
        "trial = study.ask(); print(trial.model, trial.n_samples, flush=True); os._exit(9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", words, str(tmp_path)], capture_output=True, text=True, check=False
    )
    model, n_samples = done.stdout.split()
    study = Study("abc", FULL, "60%", sizes=SIZES, folder=tmp_path)
    trial = study.ask()
    assert (trial.model, trial.n_samples) == (model, int(n_samples))


def test_one_worker_that_asks_twice_gets_the_same_trial():
    study = Study("abc", FULL, "60%", sizes=SIZES)
    assert study.ask() is study.ask()


def test_a_study_goes_on_where_it_was(tmp_path):
    first = Study("abc", FULL, "60%", sizes=SIZES, folder=tmp_path)
    trial = first.ask()
    first.tell(trial, 3.0)
    again = Study("abc", FULL, "60%", sizes=SIZES, folder=tmp_path)
    assert again.ask() != trial
    (row,) = again.curves.itertuples()
    assert (row.model, row.test_loss) == (trial.model, 3.0)
    other = r"whose sizes is \[200, 400, 800, 1600\], got \[200, 400\]"
    with pytest.raises(ValueError, match=other):
        Study("abc", FULL, "60%", sizes=(200, 400), folder=tmp_path)


def test_costs_are_learned_from_what_is_told():
    study = Study([Candidate("a", 10.0), Candidate("b", 40.0)], FULL, 50.0, sizes=SIZES)
    spent = 0.0
    while (trial := study.ask()) is not None:
        seconds = trial.n_samples * {"a": 0.001, "b": 0.004}[trial.model]
        spent += seconds
        study.tell(trial, loss(trial.model, trial.n_samples), cost=seconds)
    selection = study.selection
    assert selection.cost_flops == pytest.approx(spent)
    assert spent <= 50.0
    assert selection.cost_fraction == pytest.approx(spent / (FULL * 0.005))


def test_a_share_of_a_budget_needs_no_costs_told():
    study = Study("abc", FULL, "30%", sizes=SIZES)
    asked = run(study)
    assert sum(n for _, n in asked) <= 0.3 * 3 * FULL
    assert study.selection.cost_fraction == pytest.approx(sum(n for _, n in asked) / (3 * FULL))


def test_failures_are_answers():
    study = Study("abc", FULL, "60%", sizes=SIZES)
    while (trial := study.ask()) is not None:
        if trial.model == "b":
            study.tell(trial, status="failed", reason="out of memory")
        else:
            study.tell(trial, loss(trial.model, trial.n_samples))
    assert study.best == "a"
    last = study.selection.ranking[-1]
    assert last.model == "b"
    assert "out of memory" in last.status


def test_without_any_usable_trial_nobody_is_best():
    study = Study("ab", FULL, "60%", sizes=SIZES)
    while (trial := study.ask()) is not None:
        study.tell(trial, status="failed", reason="no room")
    with pytest.raises(NoCandidateError, match="no room"):
        study.best  # noqa: B018


def test_what_is_told_wrongly_is_refused():
    study = Study("abc", FULL, "60%", sizes=SIZES)
    trial = study.ask()
    for value in (float("nan"), float("inf"), -1.0, 0.0):
        with pytest.raises(ValueError, match="tell status='diverged'"):
            study.tell(trial, value)
    for value in ("2.0", True, [2.0]):
        with pytest.raises(TypeError, match=f"a number as the loss, got {re.escape(repr(value))}"):
            study.tell(trial, value)
    with pytest.raises(TypeError, match="a number as `cost`, got '3'"):
        study.tell(trial, 2.0, cost="3")
    with pytest.raises(ValueError, match="got None with 'completed'"):
        study.tell(trial)
    with pytest.raises(ValueError, match="Expected a status among completed, diverged, failed"):
        study.tell(trial, status="lost")
    with pytest.raises(ValueError, match="that `ask` gave, got a at D = 7"):
        study.tell(study.task.trial("a", 7), 1.0)
    study.tell(trial, 3.0)
    with pytest.raises(ValueError, match="told before"):
        study.tell(trial, 3.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a", "a"], FULL, "10%"), "got 'a' twice"),
        (([], FULL, "10%"), "at least one candidate"),
        (
            (["a"], FULL, "lots"),
            "such as '2h', '90min', '5 USD', '10%' or '1e15 FLOPs', got 'lots'",
        ),
        ((["a"], FULL, 0), "the budget to be a finite number above 0, got 0"),
        ((["a"], 10, "10%"), "below n_samples_full = 10, got none"),
    ],
)
def test_a_study_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Study(*arguments)


@pytest.mark.parametrize(
    ("budget", "amount", "unit"),
    [("1h", 3600.0, "seconds"), ("5 USD", 5.0, "USD"), (7, 7.0, "units of cost")],
)
def test_a_budget_has_the_unit_of_the_costs(budget, amount, unit):
    study = Study("abc", FULL, budget, sizes=SIZES)
    assert (study.allowance(study.task), study.task.cost_unit) == (amount, unit)


def test_a_budget_that_buys_nothing_says_what_would():
    with pytest.raises(BudgetTooSmallError, match="Expected a budget of at least"):
        Study("abc", FULL, "0.1%", sizes=SIZES).ask()


@pytest.mark.parametrize("text", ['{"value": 1', "[]", "{}"])
def test_a_damaged_file_of_a_study_is_named(text, tmp_path):
    study = Study("abc", FULL, "60%", sizes=SIZES, folder=tmp_path)
    study.tell(study.ask(), 3.0)
    (path,) = (tmp_path / "told").glob("*.json")
    path.write_text(text)
    with pytest.raises(ValueError, match=f"{path.name}.*remove the file"):
        Study("abc", FULL, "60%", sizes=SIZES, folder=tmp_path).ask()


def test_nothing_is_answered_before_anything_was_told():
    with pytest.raises(ValueError, match="at least one trial that was told"):
        Study("abc", FULL, "60%", sizes=SIZES).best  # noqa: B018


def test_a_study_may_be_told_another_measure(tmp_path):
    def told(study):
        while (trial := study.ask()) is not None:
            study.tell(trial, accuracy(trial.model, trial.n_samples), standard_error=0.01)
        return study

    def accuracy(model, n_samples):
        return {"a": 0.7, "b": 0.85, "c": 0.6}[model] - 2 * n_samples**-0.5

    options = {"sizes": SIZES, "costs": cost, "folder": tmp_path, "measure": "accuracy"}
    study = told(Study("abc", FULL, "60%", **options))
    assert study.best == "b"
    best = study.selection.best
    assert best.lower80 - 0.01 < accuracy("b", FULL) < best.upper80 + 0.01
    assert best.lower80 < best.predicted_loss < best.upper80 <= 1.0
    assert study.curves["accuracy_se"].dropna().unique().tolist() == [0.01]
    assert study.curves["test_loss"].isna().all()
    assert Study("abc", FULL, "60%", **options).selection == study.selection
    with pytest.raises(
        ValueError, match=r"whose measure is \['accuracy', 1.0, 'higher'\], got None"
    ):
        Study("abc", FULL, "60%", sizes=SIZES, costs=cost, folder=tmp_path)
    lower = {"name": "wer", "direction": "lower"}
    own = Study("abc", FULL, "60%", sizes=SIZES, costs=cost, measure=lower)
    trial = own.ask()
    for value in (float("nan"), -0.1):
        with pytest.raises(ValueError, match=f"finite wer >= 0, got {value}"):
            own.tell(trial, value)
    own.tell(trial, 0.0)  # no word wrong
    with pytest.raises(ValueError, match="did you mean accuracy"):
        Study("abc", FULL, "60%", measure="acuracy")
