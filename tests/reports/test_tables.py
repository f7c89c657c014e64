import csv
import math

import pandas as pd
import pytest

from lensllm.reports.tables import Table
from lensllm.studies.papers.published import as_published, published, published_by_ratio

FRAME = pd.DataFrame(
    {"selector": ["last_3_line", "a|b"], "regret": [0.12345, -0.00001], "share": [math.nan, 50.0]}
)


@pytest.fixture
def table():
    return Table("demo", "50 % of {it} & more_or_less", FRAME, {"regret": 3})


def test_markdown(table):
    assert table.to_markdown().splitlines() == [
        "**demo.** 50 % of {it} & more_or_less",
        "",
        "| selector | regret | share |",
        "| --- | --- | --- |",
        "| last_3_line | 0.123 | – |",
        r"| a\|b | 0.000 | 50.0 |",
    ]


def test_latex_escapes_what_would_be_a_command(table):
    text = table.to_latex()
    assert r"\caption{50 \% of \{it\} \& more\_or\_less}" in text
    assert r"\begin{tabular}{lrr}" in text
    assert r"last\_3\_line & 0.123 & -- \\" in text
    assert text.count(r"\begin") == text.count(r"\end") == 2


def test_another_layout_is_shown_and_the_csv_has_the_rows(tmp_path):
    shown = pd.DataFrame({"dataset": ["x", "x", "y"], "ratio": ["1/8", "1/16", "1/8"]})
    shown = shown.assign(ats=["90.9 (90.8)", "-1.0 (–)", "– (3.0)"])
    table = Table("demo", "", FRAME, printed=shown)
    assert "| x | 1/8 | 90.9 (90.8) |" in table.to_markdown()
    text = table.to_latex()
    assert r"\begin{tabular}{lrr}" in text
    assert text.count(r"\midrule") == 2  # below the head, and between the data sets
    assert table.write(tmp_path)[2].read_text().startswith("selector,regret,share")


def test_csv_keeps_the_digits(table, tmp_path):
    paths = table.write(tmp_path)
    assert [p.suffix for p in paths] == [".md", ".tex", ".csv"]
    with paths[2].open() as stream:
        rows = list(csv.DictReader(stream))
    assert float(rows[0]["regret"]) == 0.12345
    assert rows[0]["share"] == ""
    before = [p.read_bytes() for p in paths]
    assert [p.read_bytes() for p in table.write(tmp_path)] == before


@pytest.mark.parametrize(
    ("value", "decimals", "expected"),
    [(0.970512856, 1, 97.0), (-0.24450300, 1, -24.4), (0.245457712, 1, 24.6), (0.90867, 2, 90.87)],
)
def test_rounded_twice_like_the_published_figures(value, decimals, expected):
    assert as_published(value, decimals) == expected


@pytest.mark.parametrize(
    ("ours", "theirs", "keys", "value"),
    [
        ("rsl_selection", "rsl_selection", ["dataset", "selector", "metric"], "percent"),
        ("rsl_k_delta", "rsl_k_delta", ["dataset", "k", "delta"], "percent"),
        (
            "rsl_size_ablation",
            "rsl_size_ablation",
            ["dataset", "selector", "size_below", "metric"],
            "percent",
        ),
    ],
)
def test_typed_figures_are_the_published_ones(benchmark_dir, ours, theirs, keys, value):
    keys = [*keys, "budget_ratio"]
    left = published_by_ratio(ours).set_index(keys)["published"].sort_index()
    right = pd.read_csv(benchmark_dir / "published" / f"{theirs}.csv").set_index(keys)[value]
    assert len(left) == len(right)
    pd.testing.assert_series_equal(left, right.sort_index(), check_names=False)


def test_typed_errors_are_the_published_ones(benchmark_dir):
    right = pd.read_csv(benchmark_dir / "published" / "rsl_log_rmse.csv")
    left = published("rsl_log_rmse").set_index(["law", "model"])
    for row in right.itertuples():
        assert left.loc[("rectified", row.model), row.dataset] == row.rectified
        assert left.loc[("vanilla", row.model), row.dataset] == row.vanilla
    right = pd.read_csv(benchmark_dir / "published" / "lensllm_rmse.csv")
    left = published("lensllm_rmse").set_index(["law", "model"])
    for row in right.itertuples():
        assert left.loc[("lensllm", row.model), row.dataset] == row.lensllm_rmse
        assert left.loc[("rectified", row.model), row.dataset] == row.rectified_rmse
    right = pd.read_csv(benchmark_dir / "published" / "lensllm_table8.csv")
    left = published("lensllm_table8").set_index("batch_size")
    left.columns = [float(c) for c in left.columns]
    for row in right.itertuples():
        assert left.loc[row.batch_size, float(row.learning_rate)] == row.pearson_percent
