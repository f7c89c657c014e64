import math

import pandas as pd

from lensllm.studies.selectors.live import summarize_live
from lensllm.studies.selectors.live_table import live_table


def test_cells_are_the_summarys_numbers_with_their_intervals():
    rows = [
        {"seed": s, "candidates": "a b", "budget_fraction": 0.1, "selector": name}
        | {"regret": regret, "cost_fraction": 0.085}
        for s in range(4)
        for name, regret in (("x", 0.0), ("y", 0.25), ("z", math.nan))
    ]
    table = live_table(summarize_live(pd.DataFrame(rows), "x"), "demo", len(rows))
    assert table.name == "live_summary"
    assert table.caption.startswith("12 campaigns by real fine-tuning on demo")
    cost, nothing = ["8.5", "8.5 to 8.5"], ["–", "–"]
    same, more = ["0.000", "0.000 to 0.000"], ["0.250", "0.250 to 0.250"]
    assert table.cells() == [
        ["10", "x", "4", "1.00", *same, *cost, *same],
        ["10", "y", "4", "0.00", *more, *cost, *more],
        ["10", "z", "0", "0.00", *nothing, *cost, *nothing],
    ]
