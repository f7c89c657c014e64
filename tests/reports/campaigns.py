"""Folders of finished campaigns, as their reports read them."""

import json
import math

from lensllm.core.events import Event
from lensllm.core.selection import RankedModel, Selection, Verdict
from lensllm.core.trials import Trial, TrialResult, results_table
from lensllm.reports.selection_report import write_selection

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "\"'></script><script>alert(2)</script>",
    "{{ 7 * 7 }}${8*8}\u2028line",
    "evil\u202egpj.exe",
    "نموذج عربي",
    "モデル/日本語-7b",
    "Модель №5 ∑",
    "x" * 200,
    "=HYPERLINK(1)",
]
SIZES = (0, 200, 400, 800, 1600, 3200)


def write_campaign(folder, names=("a/one", "b/two", "c/three"), **options):
    """A campaign of these names, the first one with five sizes, the last one left out.

    Returns:
        The folder.
    """
    results = [
        TrialResult(
            Trial(name, "notes", n),
            "completed",
            test_loss=60.0 / (30.0 + n**0.4) + 1.0 + 0.1 * place,
            test_loss_per_byte=0.5 + 0.1 * place,
            flops=1e9 * (n + 100),
            seconds=1.0 + n / 100,
            n_params=int(1e6) * (place + 1),
            peak_memory_bytes=int(1e9),
            cut_targets=3,
        )
        for place, name in enumerate(names[:-1])
        for n in SIZES[: 6 if place == 0 else 3]
    ]
    entries = [
        RankedModel(name, 2.0 + place, 2.0 + place, 1.9 + place, 2.2 + place, 0.6 / (place + 1))
        for place, name in enumerate(names[:-1])
    ]
    ran = [
        Event("ran", result.trial.model, result.trial.n_samples, result.test_loss, "completed")
        for result in results
    ]
    selection = Selection(
        "adaptive",
        "notes",
        12800,
        (*entries, RankedModel(names[-1], math.nan, status="needs a licence")),
        events=(
            Event("ranked_by", reason="posterior", numbers={"n_models": 2.0}),
            Event("left_out", names[-1], message="needs a licence"),
            Event(
                "started",
                trials=tuple((n, 200) for n in names[:-1]),
                numbers={"cost_fraction": 0.1},
            ),
            *ran,
        ),
        cost_flops=sum(result.flops for result in results),
        cost_fraction=0.25,
        verdict=Verdict(
            "too_close_to_call", tuple(names[:2]), 0.93, 0.015, (names[1], 6400), 0.12, 0.003
        ),
    )
    options = {
        "settings": {"seed": 3, "note": names[0]},
        "data": {"fingerprint": "f00", "n_train": 25969, "leaked": {"pairs": 2, "inputs": 5}},
        "command": "lensllm select seed=3",
        **options,
    }
    write_selection(selection, results_table(results), folder, **options)
    return folder


def edited(folder, into, change):
    """A folder with a change of another one's `selection.json`, and without its `curves.csv`."""
    record = json.loads((folder / "selection.json").read_text(encoding="utf-8"))
    change(record)
    (into / "selection.json").write_text(json.dumps(record), encoding="utf-8")
    return into
