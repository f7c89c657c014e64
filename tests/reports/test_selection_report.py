import io
import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from lensllm.core.events import KNOWN, Event
from lensllm.core.evidence import Difference, Evidence
from lensllm.core.measures import LOSS_PER_BYTE
from lensllm.core.selection import RankedModel, Selection, Verdict
from lensllm.core.trials import Trial, TrialResult, results_table
from lensllm.reports.answer import answer_of
from lensllm.reports.selection_figure import MAX_PANELS, selection_figure
from lensllm.reports.selection_report import (
    observed_points,
    selection_record,
    selection_table,
    write_selection,
)

SIZES = (0, 200, 400, 800, 1600)


@pytest.fixture
def curves():
    """Model a with five points, b with one of two diverged, and none of c."""
    results = [
        TrialResult(
            Trial("a", "demo", n), "completed", test_loss=1.0 + 60.0 / (12 + n**0.5), flops=n + 1.0
        )
        for n in SIZES[::-1]
    ]
    results += [
        TrialResult(Trial("b", "demo", 0), "completed", test_loss=5.0, flops=2.0),
        TrialResult(Trial("b", "demo", 200), "diverged", test_loss=math.nan, flops=3.0),
    ]
    return results_table(results)


@pytest.fixture
def selection():
    return Selection(
        "ats",
        "demo",
        12800,
        (
            RankedModel("a", 1.4, 1.4321, 1.3, 1.55, 0.875),
            RankedModel("b", 1.6, 1.6),
            RankedModel("c", math.nan, status="no usable trial"),
        ),
        cost_flops=1.5e12,
        cost_fraction=0.0834,
        events=(Event("ran", "a", 200, 3.0, "completed"),),
    )


def test_observed_points_are_plain_and_ascending(curves):
    points = observed_points(curves)
    assert [point["n_samples"] for point in points["a"]] == list(SIZES)
    assert points["b"] == [
        {"n_samples": 0, "test_loss": 5.0, "status": "completed", "flops": 2.0},
        {"n_samples": 200, "test_loss": None, "status": "diverged", "flops": 3.0},
    ]
    assert set(points) == {"a", "b"}


def test_the_record_holds_all_that_a_reader_needs_as_strict_json(selection, curves):
    record = selection_record(selection, curves, {"seed": 0}, {"fingerprint": "abc"})
    record = json.loads(json.dumps(record, allow_nan=False))
    assert record["selected"] == "a"
    assert [entry["model"] for entry in record["ranking"]] == ["a", "b", "c"]
    first, second, third = record["ranking"]
    assert (first["predicted_loss"], first["lower80"], first["upper80"]) == (1.4321, 1.3, 1.55)
    assert first["p_best"] == 0.875
    assert len(first["observed"]) == 5
    assert second["p_best"] is None
    assert (third["predicted_loss"], third["status"]) == (None, "no usable trial")
    assert third["observed"] == []
    assert (record["cost_flops"], record["cost_fraction"]) == (1.5e12, 0.0834)
    assert record["n_samples_full"] == 12800
    assert record["settings"] == {"seed": 0}
    assert record["data_fingerprint"] == "abc"
    assert record["versions"]["numpy"] == np.__version__
    assert record["format"] == 2
    assert record["decisions"] == ["ran a at D = 200: test loss 3.0000"]
    assert record["events"] == [
        {"kind": "ran", "model": "a", "n_samples": 200, "value": 3.0, "reason": "completed"}
    ]


def test_the_answer_says_which_how_sure_and_at_what_cost(selection, curves):
    answer = answer_of(replace(selection, warnings=("one", "two")), curves)
    assert answer.lines == [
        "Fine-tune a on demo: it is the best of 3 with probability 0.88.",
        "  Predicted: test loss 1.432 nats at D = 12800 (80 % interval 1.300 to 1.550)",
        "  Spent: 1.5e+12 FLOPs, 8.3 % of fine-tuning every candidate in full",
        "  Warning: one",
        "  Warning: two",
    ]


def test_the_answer_does_not_claim_what_is_not_known(selection, curves):
    plain = Selection("zero_shot", "demo", 800, (RankedModel("b", 2.0), RankedModel("c", 3.0)))
    answer = answer_of(plain, curves)
    assert answer.sentence.startswith("Fine-tune b on demo; zero_shot gives no probability")
    assert "nan" not in str(answer)
    none = Selection("ats", "demo", 800, (selection.ranking[2],))
    sentence = "No candidate could be ranked on demo: no usable trial."
    assert answer_of(none, curves).sentence == sentence


def test_the_table_has_a_row_a_candidate(selection, curves):
    stream = io.StringIO()
    Console(file=stream, width=140).print(selection_table(selection, curves))
    rows = [line for line in stream.getvalue().splitlines() if "│ " in line]
    assert len(rows) == 3
    cells = [[cell.strip() for cell in row.strip("│").split("│")] for row in rows]
    assert cells[0] == ["1", "a", "1.432", "1.300 to 1.550", "0.88", "1600", "2.154", "ranked"]
    assert cells[1] == ["2", "b", "1.600", "-", "-", "0", "5.000", "ranked"]
    assert cells[2] == ["3", "c", "-", "-", "-", "-", "-", "no usable trial"]


def test_what_was_measured_at_full_size_is_shown_in_place_of_a_prediction(
    selection, curves, tmp_path
):
    full = TrialResult(Trial("a", "demo", 12800), "completed", test_loss=1.45, flops=1e4)
    curves = pd.concat([curves, results_table([full])])
    notes = dict(answer_of(selection, curves).notes)
    assert notes["Measured"] == "test loss 1.450 nats at D = 12800"
    assert "Predicted" not in notes
    stream = io.StringIO()
    Console(file=stream, width=140).print(selection_table(selection, curves))
    assert "1.450 †" in stream.getvalue()
    assert "1.600 │" in stream.getvalue()
    assert "† measured at 12800" in stream.getvalue()
    write_selection(selection, curves, tmp_path, {})
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<td data-value="1.45">1.450<small>measured</small></td>' in page
    assert "Values marked as measured" in page


@pytest.fixture
def told(selection):
    evidence = Evidence(600, 0.021, math.nan, math.nan, (Difference("b", 200, 0.03, 0.02),))
    return replace(selection, evidence=evidence, evaluation_share=0.31)


def test_what_the_test_set_tells_is_in_the_record(told, selection, curves):
    record = json.loads(json.dumps(selection_record(told, curves, {}, {}), allow_nan=False))
    assert record["evaluation_share"] == 0.31
    assert record["test_set"] == {
        "n_examples": 600,
        "unit": "nats",
        "standard_error": 0.021,
        "apart": None,
        "n_enough": None,
        "differences": [
            {
                "model": "b",
                "n_samples": 200,
                "difference": 0.03,
                "standard_error": 0.02,
                "z": pytest.approx(1.5),
            }
        ],
    }
    plain = selection_record(selection, curves, {}, {})
    assert (plain["test_set"], plain["evaluation_share"]) == (None, None)


def test_what_the_test_set_tells_is_in_the_table_and_the_answer(told, curves):
    stream = io.StringIO()
    Console(file=stream, width=160).print(selection_table(told, curves))
    rows = [line for line in stream.getvalue().splitlines() if "│ " in line]
    cells = [[cell.strip() for cell in row.strip("│").split("│")] for row in rows]
    assert [row[7] for row in cells] == ["-", "0.030 ± 0.020 at 200 (z 1.5)", "-"]
    notes = dict(answer_of(told, curves).notes)
    assert notes["Spent"].endswith("in full; 31 % of them for evaluation")
    stored = replace(told, cost_flops=0.0, events=(*told.events, Event(KNOWN, "a", 200)))
    spent = dict(answer_of(stored, curves).notes)["Spent"]
    assert spent == "nothing: all trials were in the store"
    assert notes["Test set"] == (
        "600 examples, which tell the first two apart with a standard error of 0.021 nats"
    )
    few = replace(told.evidence, apart=0.01, n_enough=9e3)  # a warning says it
    assert "Test set" not in dict(answer_of(replace(told, evidence=few), curves).notes)


def test_the_figure_has_a_panel_a_curve(selection, curves):
    figure = selection_figure(selection, curves)
    panels = [axes for axes in figure.axes if axes.get_title()]
    (panel,) = panels  # b has D = 0 and a diverged run, c has nothing
    assert panel.get_title() == "1. a: predicted 1.432"
    assert (panel.get_xscale(), panel.get_yscale()) == ("log", "log")
    low, high = panel.get_ylim()
    assert low < 1.3
    assert high > 6.0
    marked = [(x, y) for line in panel.lines for x, y in zip(*line.get_data(), strict=True)]
    assert (12800, 1.4321) in marked
    for size in SIZES[1:]:
        assert any(x == size and y == pytest.approx(1 + 60 / (12 + size**0.5)) for x, y in marked)


def test_the_figure_leaves_most_candidates_of_a_long_list_out(curves):
    rows = curves[curves["model"] == "a"]
    names = [f"m{i}" for i in range(MAX_PANELS + 3)]
    table = pd.concat([rows.assign(model=name) for name in names])[lambda t: t["n_samples"] < 400]
    ranking = tuple(RankedModel(name, float(i)) for i, name in enumerate(names))
    figure = selection_figure(Selection("ats", "demo", 800, ranking), table)
    assert len([axes for axes in figure.axes if axes.get_title()]) == MAX_PANELS


def test_panels_share_their_axis_and_name_the_unit(selection, curves):
    other = curves[curves["model"] == "a"].assign(model="b")
    table = pd.concat([curves[curves["model"] == "a"], other.assign(test_loss=2 * other.test_loss)])
    table["test_loss_per_byte"] = table["test_loss"] / 4
    figure = selection_figure(replace(selection, measure=LOSS_PER_BYTE), table)
    limits = {axes.get_ylim() for axes in figure.axes if axes.get_title()}
    assert len([axes for axes in figure.axes if axes.get_title()]) == 2
    assert len(limits) == 1
    assert figure.get_supylabel() == "test loss per byte (nats per byte)"


def test_everything_is_written(selection, curves, tmp_path):
    paths = write_selection(
        selection, curves, tmp_path / "out", {"seed": 0}, {"fingerprint": "abc"}
    )
    assert set(paths) == {"selection", "curves", "figure", "campaign", "report"}
    assert json.loads(paths["selection"].read_text())["selected"] == "a"
    back = pd.read_csv(paths["curves"])
    assert back["test_loss"].isna().sum() == 1
    assert len(back) == len(curves)
    assert paths["figure"].read_bytes().startswith(b"\x89PNG")


def test_without_a_curve_there_is_no_figure(selection, curves, tmp_path):
    zero = curves[curves["n_samples"] == 0]
    assert set(write_selection(selection, zero, tmp_path, {})) == {"selection", "curves", "report"}


@pytest.mark.parametrize("kind", ["clear", "too_close_to_call", "not_enough_evidence"])
def test_the_verdict_is_in_the_answer_the_table_and_the_record(curves, selection, kind):
    contenders = ("a",) if kind == "clear" else ("a", "b")
    verdict = Verdict(kind, contenders, 0.93, 0.0123, ("b", 1600), 0.021, 0.0045)
    selection = replace(selection, verdict=verdict)
    answer = answer_of(selection, curves)
    sentence, notes = answer.sentence, dict(answer.notes)
    best = "ine-tune a on demo: it is the best of 3 with probability 0.88."
    lost = "this choice is expected to lose 0.012 nats"
    assert (
        sentence
        == {
            "clear": f"F{best} The choice is clear: no other model is likely to be better.",
            "too_close_to_call": (
                f"F{best} Too close to call between a and b: {lost}, at most 1 % of its loss."
            ),
            "not_enough_evidence": (
                f"For now, f{best} Not enough evidence yet to tell a and b apart: {lost}."
            ),
        }[kind]
    )
    if kind == "clear":
        assert "Next trial" not in notes
    else:
        assert notes["Contenders"] == "P(best) of a 0.88 and b 0.00; together 0.93"
        assert notes["Next trial"] == (
            "b at D = 1600, which costs 2.1 % of fine-tuning all in full and is expected to save "
            "0.0045 nats"
        )
    record = selection_record(selection, curves, {}, {})["verdict"]
    assert json.loads(json.dumps(record)) == {
        "kind": kind,
        "contenders": list(contenders),
        "p_contenders": 0.93,
        "expected_regret": 0.0123,
        "next_trial": {"model": "b", "n_samples": 1600},
        "next_cost_fraction": 0.021,
        "next_gain": 0.0045,
        "arm_regret": 0.0,
    }
    console = Console(file=io.StringIO(), width=160)
    console.print(selection_table(selection, curves))
    text = console.file.getvalue()
    assert f"verdict: {kind.replace('_', ' ')}" in text
    assert text.count("contender") == len(contenders)


def test_a_selector_without_a_verdict_has_none_in_the_record(curves, selection):
    assert selection_record(selection, curves, {}, {})["verdict"] is None


def test_where_no_trial_would_tell_more_the_answer_says_what_does(selection, curves):
    verdict = Verdict("not_enough_evidence", ("a", "b"), 0.97, 0.02, ("b", 400), 0.1, 1e-9)
    note = dict(answer_of(replace(selection, verdict=verdict), curves).notes)["Next trial"]
    assert note.startswith("none would help, and neither would more budget")
    assert "confirm=2 output=my-tuned-model` tries two in full" in note
    told = replace(selection, verdict=verdict)
    full = curves.groupby("model").tail(1).assign(n_samples=told.n_samples_full, test_loss=1.4)
    note = dict(answer_of(told, pd.concat([curves, full])).notes)["Next trial"]
    assert note == f"none would help: the first two were measured at D = {told.n_samples_full}"
