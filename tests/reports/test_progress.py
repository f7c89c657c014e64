"""What a campaign shows while it runs: lines, and a table on a terminal."""

import io
import logging
import math
import time
from dataclasses import replace

import pytest
from rich.console import Console

from lensllm.core.events import STOPPED, Event
from lensllm.core.task import Budget
from lensllm.core.trials import Trial, TrialResult
from lensllm.reports.campaign_screen import LiveState, footer, live_table
from lensllm.reports.console import PlainConsole
from lensllm.reports.progress import CampaignBar, CampaignProgress
from lensllm.selectors.base import Decision
from lensllm.selectors.time_budget import TimeBudget


def ended(model, n_samples, loss, **fields):
    status = "completed" if math.isfinite(loss) else "diverged"
    return TrialResult(
        Trial(model, "d", n_samples),
        **{"status": status, "test_loss": loss, "flops": 1.0, **fields},
    )


def screen(width, **options):
    options = {"force_terminal": True, "color_system": None, "legacy_windows": False, **options}
    return PlainConsole(file=io.StringIO(), width=width, height=40, **options)


def shown(state, width, **options):
    console = screen(width, **options)
    console.print(live_table(state, console))
    console.print(footer(state))
    return console.file.getvalue()


def test_progress_is_one_line_per_trial_on_the_console_and_in_the_log(make_task, caplog):
    stream, budget = io.StringIO(), Budget(200.0)
    caplog.set_level(logging.INFO, logger="lensllm.progress")
    task = replace(make_task(names=("[a]", "b")), dataset="d")
    with CampaignProgress(Console(file=stream, width=40), task, budget) as progress:
        for n, loss in ((200, 3.5), (400, math.nan)):
            budget.charge(50.0)
            progress.update(ended("[a]", n, loss), budget)
    first, second = stream.getvalue().splitlines()
    assert first.endswith("trial 1: [a], D = 200: test loss 3.5000; 25% of the budget spent")
    assert second.endswith("trial 2: [a], D = 400: diverged; 50% of the budget spent")
    assert [r.getMessage() for r in caplog.records] == [first[11:], second[11:]]


@pytest.fixture
def state(make_task):
    names = ("good", "bad", "hidden[/red]\x1b[31m")
    budget = Budget(10.0)
    found = LiveState(make_task(names=names), budget, [ended("good", 200, 4.0)])
    for result in (
        ended("good", 400, 2.0),
        ended("bad", 200, 3.0, finished_at="2020-01-01T00:00:00+00:00"),
        ended(names[2], 200, math.nan, status="failed", reason="no [bold]memory"),
    ):
        budget.charge(result.flops)
        found.add(result)
    stop = Event(STOPPED, "bad", 200, 0.04, "hopeless")
    found.decide(Decision(events=(stop,), p_best={"good": 0.9, "bad": 0.04}))
    return found


def test_the_table_has_curves_chances_failures_and_the_budget(state):
    text = shown(state, 140)
    good, bad = (next(x for x in text.splitlines() if x.startswith(f"│{n}")) for n in ("go", "ba"))
    assert "█▁" in good  # the larger loss first
    assert "2.000" in good
    assert "0.90" in good
    assert "stopped: P(best) 0.040" in bad
    assert r"hidden[/red]\x1b[31m" in text
    assert "failed: no [bold]memory" in text
    assert "3 trials (1 from the store), 30% of 10 FLOPs spent" in text
    assert "left" in text


def test_several_trials_run_and_others_wait(make_task):
    budget = Budget(10.0, pending={("a", 200): 1.0, ("b", 200): 1.0, ("a", 400): 1.0})
    text = shown(LiveState(make_task(), budget, n_places=2), 120)
    assert "runs D = 200, waits for D = 400" in text
    assert text.count("runs") == 2


def test_a_budget_in_time_is_shown_in_time(make_task):
    text = footer(LiveState(make_task(), TimeBudget(7200.0))).plain
    assert text == "0 trials, 0% of 2 h spent, 0 s so far, at most 1 h 59 min left"
    started = time.monotonic() - 60  # when the command began, which counts as spent
    text = footer(LiveState(make_task(), TimeBudget(7200.0, started=started))).plain
    assert "1 min so far" in text or "60 s so far" in text


def test_the_table_fits_narrow_and_plain_terminals(state):
    for width in (40, 70, 100):
        assert max(map(len, shown(state, width).splitlines())) <= width
    assert "curve" not in shown(state, 40)
    assert "P(best)" in shown(state, 40)
    buffer = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = PlainConsole(file=buffer, width=120, force_terminal=True)
    console.print(live_table(state, console))
    buffer.flush()
    assert b"81" in buffer.buffer.getvalue()


def test_of_many_candidates_as_many_as_fit_are_shown(make_task):
    state = LiveState(make_task(names=[f"m{i}" for i in range(100)]), Budget(1.0))
    assert "and 68 more candidates" in shown(state, 100)


def test_a_live_table_moves_log_lines_above_itself_and_leaves_nothing(make_task, monkeypatch):
    monkeypatch.setattr("sys.stdout", io.StringIO())
    handler = logging.StreamHandler(stream := io.StringIO())
    logging.root.addHandler(handler)
    budget, live = Budget(10.0), screen(80)
    try:
        with CampaignProgress(screen(160), make_task(), budget, screen=live) as progress:
            assert handler.stream is not stream
            logging.getLogger("lensllm").warning("careful")
            progress.update(ended("a", 200, 3.0), budget)
        assert handler.stream is stream
    finally:
        logging.root.removeHandler(handler)
    text = live.file.getvalue()
    assert "careful" in text
    assert "trial 1: a, D = 200" in text
    assert text.rstrip().endswith("\x1b[2K")  # the table was erased


def test_a_bar_for_notebooks_has_the_same_interface(make_task):
    quiet, seen = io.StringIO(), screen(100)
    for console in (Console(file=quiet), seen):
        budget = Budget(10.0)
        with CampaignBar(console, make_task(), budget) as bar:
            bar.decided(Decision(p_best={"a": 1.0}))
            bar.update(ended("a", 200, 3.0), budget)
    assert quiet.getvalue() == ""
    assert "a, D = 200: test loss 3.0000" in seen.file.getvalue()
