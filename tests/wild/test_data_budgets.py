"""What a store or a budget is too small for is said, and the rest is done."""

import json
import re

import pandas as pd
import pytest

from lensllm.commands.entry import conf_dir
from lensllm.commands.named import named_selectors
from lensllm.commands.smallest_budget import smallest_budget, smallest_budgets
from lensllm.core.task import Budget, BudgetTooSmallError, Candidate, Task
from lensllm.core.trials import Trial, TrialResult, TrialStore, results_table
from lensllm.system.harmless import write_csv
from scripts.estimate import main as estimate_main
from scripts.fit_laws import main as fit_main
from scripts.prehoc import main as prehoc_main
from scripts.select_model import main as select_main
from tests.wild.data import plain_rows, write_json_lines

SIZES = (0, 50, 100, 200, 400)


@pytest.fixture
def task():
    names = [f"m{i}" for i in range(5)]
    costs = {
        (m, n): (i + 1) * 1e6 * (3 * n + 30) for i, m in enumerate(names) for n in (*SIZES, 800)
    }
    candidates = tuple(Candidate(m, 1e6 * (i + 1), "gpt2") for i, m in enumerate(names))
    return Task("toy", candidates, 800, dict.fromkeys(names, SIZES), costs)


def test_the_smallest_budget_works_and_a_smaller_one_does_not(task):
    found = smallest_budgets(task, conf_dir() / "selector")
    assert {"adaptive", "ats", "sub_tuning", "rectified_fit", "successive_halving"} <= set(found)
    assert not {"lensllm", "nlp_metrics"} & set(found)  # their weights would have to be loaded
    nothing = results_table([])
    for name, flops in found.items():
        (selector,) = named_selectors([name], conf_dir() / "selector")
        if flops == 0:
            continue
        selector.ask(task, nothing, Budget(flops))
        with pytest.raises(BudgetTooSmallError):
            selector.ask(task, nothing, Budget(0.99 * flops))
    # One trial of each at D = 50; of these and of those at D = 100.
    first, second = (sum(task.costs[m, n] for m in task.names) for n in (50, 100))
    assert found["sub_tuning"] == pytest.approx(first, rel=2e-3)
    assert found["ats"] == pytest.approx(first + second, rel=2e-3)


def test_too_few_sizes_are_no_matter_of_budget(task):
    few = Task("toy", task.candidates, 800, dict.fromkeys(task.names, (0, 50)), task.costs)
    (ats,) = named_selectors(["ats"], conf_dir() / "selector")
    with pytest.raises(BudgetTooSmallError):
        smallest_budget(ats, few)
    assert smallest_budgets(few, conf_dir() / "selector")["ats"] == float("inf")


def test_what_the_estimate_says_is_what_a_campaign_takes(tmp_path, run_main):
    path = write_json_lines(tmp_path / "p.jsonl", plain_rows())
    common = [
        "dataset=file", f"dataset.path={path}", "candidates.models=[gpt2-48x2,opt-64x2]",
        f"paths.output_dir={tmp_path}", "training.max_epochs=1", "training.n_evaluations=1",
    ]  # fmt: skip
    run = run_main(estimate_main, *common)
    assert run.code == 0, run.err
    share = float(re.search(r"sub_tuning ([\d.]+)", run.out.replace("\n", " "))[1])
    assert "too small for adaptive" in run.out.replace("\n", " ")
    record = json.loads(next(tmp_path.rglob("estimate.json")).read_text())
    assert record["smallest_budgets"]["ats"] is None
    campaign = [*common, "selector=sub_tuning", "logger=none"]
    run = run_main(select_main, *campaign, f"budget.fraction={0.9 * share}")
    assert run.code == 2
    assert "Expected a budget of at least" in run.err
    run = run_main(select_main, *campaign, f"budget.fraction={share}")
    assert run.code == 0, run.err


def test_fit_leaves_out_a_candidate_with_too_few_sizes(tmp_path, run_main):
    rows = [
        (model, "toy", n, 0, 1 + 9 / n**0.5)
        for model, last in (("full", 5), ("short", 2))
        for n in (50, 100, 200, 400, 800)[:last]
    ]
    names = ["model", "dataset", "n_samples", "seed", "test_loss"]
    write_csv(pd.DataFrame(rows, columns=names), tmp_path / "c.csv")
    options = [f"curves={tmp_path}/c.csv", "law=rectified", f"paths.output_dir={tmp_path}"]
    run = run_main(fit_main, *options)
    assert run.code == 0, run.err
    assert "Left out short on toy: it has 2 sizes D > 0, and" in run.out
    (written,) = tmp_path.rglob("fits.csv")
    assert list(pd.read_csv(written)["model"]) == ["full"]
    run = run_main(fit_main, *options, "models=[short]")
    assert run.code == 2
    assert "Expected at least 4 distinct sizes" in run.err


def test_prehoc_on_the_store_of_a_campaign_says_all_that_it_lacks(tmp_path, run_main):
    store = TrialStore(tmp_path / "trials")
    for model, size in (("a", 100), ("a", 200), ("b", 100), ("c", 200)):
        store.add(TrialResult(Trial(model, "toy", size), "completed", 2.0, trace=((1, 2.0),)))
    run = run_main(
        prehoc_main, f"trials={tmp_path}/trials", "logger=none", f"paths.output_dir={tmp_path}"
    )
    assert run.code == 2
    assert "toy: 2 of 4 models at D = 200, 1 of 2 seeds, no trial with D = 0 of a, c" in run.err
    assert "lensllm train -m" in run.err
