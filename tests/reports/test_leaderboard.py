import io
import json
import math
from dataclasses import replace

import pytest
from rich.console import Console

from lensllm.core.selection import RankedModel, Selection, Verdict
from lensllm.core.task import Candidate
from lensllm.core.trials import Trial, TrialResult, results_table
from lensllm.reports.answer import answer_of
from lensllm.reports.leaderboard import leaderboard, nearly_as_good
from lensllm.reports.selection_report import (
    selection_record,
    selection_table,
)

NAMES = ("big lr=0.001", "mid", "big lr=0.01", "small", "large", "broken")


@pytest.fixture
def curves():
    return results_table(
        [
            TrialResult(Trial(name, "demo", n), "completed", test_loss=3.0 - n / 400)
            for name in NAMES[:-1]
            for n in (100, 200)
        ]
    )


@pytest.fixture
def selection():
    """Two arms of a big model, a middling one, a small one, and a larger one that is worse."""
    losses = (2.0, 2.03, 2.04, 2.5, 2.1)
    shares = (0.5, 0.2, 0.3, 0.0, 0.0)
    ranking = [
        RankedModel(name, loss, loss, loss - 0.05, loss + 0.05, p)
        for name, loss, p in zip(NAMES, losses, shares, strict=False)
    ]
    sizes = (8e6, 4e6, 8e6, 1e6, 16e6)
    bases = ("big", "mid", "big", "small", "large")
    return Selection(
        "adaptive",
        "demo",
        1600,
        (*ranking, RankedModel("broken", math.nan, status="failed: it is no model")),
        verdict=Verdict("too_close_to_call", ("big", "mid"), 1.0, 0.01),
        candidates=tuple(
            Candidate(name, size, base_model=base)
            for name, size, base in zip(NAMES, sizes, bases, strict=False)
        ),
    )


def test_arms_follow_their_model_whose_chance_is_their_sum(selection, curves):
    table = leaderboard(selection, curves)
    assert table["candidate"].tolist() == [NAMES[0], NAMES[2], "mid", "small", "large", "broken"]
    assert table["rank"].tolist() == [1, 1, 2, 3, 4, 5]
    assert table["p_best_model"].tolist()[:3] == pytest.approx([0.8, 0.8, 0.2])
    assert math.isnan(table["p_best_model"].iloc[-1])
    assert table["contender"].tolist() == [True, True, True, False, False, False]
    assert table["largest_n_samples"].tolist()[:2] == [200, 200]
    assert table["largest_loss"].iloc[0] == 2.5
    assert table["status"].iloc[-1] == "failed: it is no model"


def test_pareto_marks_what_no_other_beats_in_loss_and_size(selection, curves):
    table = leaderboard(selection, curves).set_index("candidate")["pareto"]
    assert [name for name in NAMES[:-1] if table[name]] == [NAMES[0], "mid", "small"]
    assert not table.loc[["broken"]].notna().any()
    # Once the latency of all is measured, it takes the place of the size.
    slow = tuple(
        replace(item, latency_ms=10.0 if item.name == "large" else 20.0)
        for item in selection.candidates
    )
    table = leaderboard(replace(selection, candidates=slow), curves).set_index("candidate")
    assert table.index[table["pareto"].fillna(False)].tolist() == [NAMES[0], "large"]


def test_a_smaller_model_is_named_only_if_its_interval_says_so(selection, curves):
    found = nearly_as_good(selection, curves)
    assert (found.candidate, found.share) == ("mid", 0.5)
    assert (found.difference, found.upper) == pytest.approx((0.03, 0.08))
    assert (
        "Smaller model: mid is nearly as good: +0.030 nats (at most +0.080 with 90 %) at 50 % of "
        in str(answer_of(selection, curves))
    )
    wide = tuple(
        replace(entry, upper80=entry.upper80 + 0.05) if entry.model == "mid" else entry
        for entry in selection.ranking
    )
    assert nearly_as_good(replace(selection, ranking=wide), curves) is None
    assert nearly_as_good(replace(selection, candidates=()), curves) is None


def test_table_and_record_have_size_model_and_pareto(selection, curves):
    stream = io.StringIO()
    Console(file=stream, width=200).print(selection_table(selection, curves))
    text = stream.getvalue()
    assert all(word in text for word in ("big lr=0.001 *", "8M", "of its model"))
    assert not any(word in text for word in ("large *", "latency"))
    record = json.loads(json.dumps(selection_record(selection, curves, {}, {}), allow_nan=False))
    first, last = record["ranking"][0], record["ranking"][-1]
    assert (first["base_model"], first["n_params"], first["pareto"]) == ("big", 8e6, True)
    assert (last["n_params"], last["pareto"]) == (None, None)
    assert record["nearly_as_good"]["candidate"] == "mid"


def test_a_single_candidate_is_no_choice(selection, curves):
    alone = replace(selection, ranking=selection.ranking[:1])
    sentence = answer_of(alone, curves[curves["model"] == NAMES[0]]).sentence
    assert sentence.startswith(f"There is nothing to choose: {NAMES[0]} is the only candidate")
    assert "forecast of its test loss" in sentence
    assert "probability" not in sentence


def test_the_largest_trial_is_the_largest_with_a_value(selection):
    trials = [
        TrialResult(Trial("mid", "demo", 100), "completed", test_loss=2.5, test_loss_per_byte=0.5),
        TrialResult(Trial("mid", "demo", 200), "diverged", test_loss=math.nan),
        TrialResult(Trial("small", "demo", 100), "diverged", test_loss=math.nan),
    ]
    table = leaderboard(selection, results_table(trials)).set_index("candidate")
    row = table.loc["mid"]
    assert (row["largest_n_samples"], row["largest_loss"], row["n_trials"]) == (100, 2.5, 2)
    assert row["loss_per_byte"] == 0.5
    assert math.isnan(table.loc["small", "largest_n_samples"])
