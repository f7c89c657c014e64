import csv
import math

import numpy as np
import pandas as pd
import pytest

from lensllm.core.curves import check_curves, read_curves, read_wide_csv
from lensllm.core.trials import Trial, TrialResult, TrialStore

GOOD = "config name,size,family,0,200,400\ngpt2,124,gpt,4.0,3.5,3.25\nopt,350,opt,5.0,3.0,2.5\n"


def write(tmp_path, text, name="flan.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def points(table):
    return {(r.model, r.n_samples): r.test_loss for r in table.itertuples()}


def test_wide_csv_becomes_one_row_a_point(tmp_path):
    table = read_wide_csv(write(tmp_path, GOOD))
    assert points(table) == {
        ("gpt2", 0): 4.0,
        ("gpt2", 200): 3.5,
        ("gpt2", 400): 3.25,
        ("opt", 0): 5.0,
        ("opt", 200): 3.0,
        ("opt", 400): 2.5,
    }
    assert set(table["dataset"]) == {"flan"}
    assert set(table["seed"]) == {0}
    assert dict(zip(table["model"], table["n_params"], strict=True)) == {"gpt2": 124, "opt": 350}
    assert dict(zip(table["model"], table["family"], strict=True)) == {"gpt2": "gpt", "opt": "opt"}
    assert read_wide_csv(write(tmp_path, GOOD), dataset="mine")["dataset"].unique() == ["mine"]


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace("\n", "\r\n").encode(),
        GOOD.rstrip("\n").encode(),
        GOOD.replace(",", " , ").encode(),
        (GOOD + "\n\n").encode(),
        GOOD.replace("config name", "Model").encode(),
        GOOD.replace("config name", "name").encode(),
    ],
    ids=["bom", "crlf", "no last newline", "spaces", "blank lines", "Model", "name"],
)
def test_harmless_variants_read_alike(tmp_path, text):
    expected = read_wide_csv(write(tmp_path, GOOD), "x")
    pd.testing.assert_frame_equal(read_wide_csv(write(tmp_path, text, "x.csv")), expected)


def test_zero_size_and_family_are_optional(tmp_path):
    table = read_wide_csv(write(tmp_path, "model,200,400\na,2,1\n"))
    assert points(table) == {("a", 200): 2.0, ("a", 400): 1.0}
    assert not {"n_params", "family"} & set(table.columns)


def test_an_unknown_size_of_one_model_is_nan(tmp_path):
    table = read_wide_csv(write(tmp_path, "model,size,200\na,,2\nb,7,3\n"))
    assert math.isnan(table.loc[table["model"] == "a", "n_params"].iloc[0])
    assert table.loc[table["model"] == "b", "n_params"].iloc[0] == 7


@pytest.mark.parametrize("cell", ["", "NA", "nan", "NaN", "None", "null", "  "])
def test_missing_cells_only_where_declared(tmp_path, cell):
    path = write(tmp_path, f"model,200,400\na,2,{cell}\nb,3,2.5\n")
    table = read_wide_csv(path, allow_missing=True)
    assert points(table) == {("a", 200): 2.0, ("b", 200): 3.0, ("b", 400): 2.5}
    with pytest.raises(
        ValueError, match=rf"row 2 \(a\), column '400' of .*flan\.csv, got '{cell.strip()}'"
    ):
        read_wide_csv(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,200\n,2\n", r"model name in row 2 of .*flan\.csv, got an empty cell"),
        ("model,200\na,2\nb,2\na,3\n", r"each model once .* got 'a' again in row 4"),
        ("model,200\na,2\nb,low\n", r"row 3, column '200' of .*flan\.csv, got 'low'"),
        ("model,200\na,-2\n", r"row 2, column '200' .* got '-2'"),
        ("model,200\na,0\n", r"row 2, column '200' .* got '0'"),
        ("model,200\na,inf\n", r"row 2, column '200' .* got 'inf'"),
        ("model,200\na,-Infinity\n", r"row 2, column '200' .* got '-Infinity'"),
        ("model,200\na,nan\n", r"row 2 \(a\), column '200' .* got 'nan'"),
        ("model,200\na,1e999\n", r"row 2, column '200' .* got '1e999'"),
        ('model,200\na,"1,5"\n', r"row 2, column '200' .* got '1,5'"),
        ("model,size,200\na,-7,2\n", r"row 2, column 'size' .* got '-7'"),
        ("model,size,200\na,big,2\n", r"row 2, column 'size' .* got 'big'"),
        ("model,400,200\na,2,3\n", r"ascending sizes .* got 200 after 400"),
        ("model,200,200\na,2,3\n", r"each size once .* got 200 twice"),
        ("model,200,0200\na,2,3\n", r"each size once .* got 0200 twice"),
        (
            "model,200,size,size\na,2,3,3\n",
            r"column 'size' once in the header .*flan\.csv, got it 2",
        ),
        ("model,200,best\na,2,3\n", r"column 3 in .* got 'best'"),
        ("model,-200\na,2\n", r"column 2 in .* got '-200'"),
        ("model,1e3\na,2\n", r"column 2 in .* got '1e3'"),
        ("model,200,\na,2,\n", r"column 3 in .* got ''"),
        ("model,2²\na,2\n", r"column 2 in .* got '2²'"),
        ("candidate,200\na,2\n", r"first column of .* got 'candidate'"),
        ("model,size,family\na,2,x\n", r"columns of sizes .* got \['model', 'size', 'family'\]"),
        ("model,200,400\na,2\n", r"3 cells in row 2 of .*, got 2"),
        ("model,200\na,2,3\n", r"2 cells in row 2 of .*, got 3"),
        ("model,200\n", r"at least one model in .*flan\.csv, got 1 rows"),
        ("", r"at least one model in .*flan\.csv, got 0 rows"),
        (b"model,200\nm\xe9,2\n", r"UTF-8 text with commas in .*flan\.csv, got .*0xe9"),
    ],
)
def test_bad_wide_csv_is_refused_by_row_column_and_value(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=message):
        read_wide_csv(path)
    with pytest.raises(ValueError, match=message):
        read_curves(path)


def test_only_missing_cells_are_no_curves(tmp_path):
    path = write(tmp_path, "model,200\na,\n")
    with pytest.raises(ValueError, match=r"at least one loss in .*flan\.csv"):
        read_wide_csv(path, allow_missing=True)


def test_row_numbers_are_the_lines_of_the_file_past_blank_ones(tmp_path):
    with pytest.raises(ValueError, match="row 4, column '200'"):
        read_wide_csv(write(tmp_path, "model,200\na,2\n\nb,low\n"))


def test_no_file_is_told_with_its_path(tmp_path):
    for read in (read_wide_csv, read_curves):
        with pytest.raises(FileNotFoundError, match=str(tmp_path / "none.csv")):
            read(tmp_path / "none.csv")


@pytest.mark.parametrize("text", [GOOD, "name,200,400\na,2,\nb,,3\n"])
def test_wide_round_trip(tmp_path, text, write_wide):
    table = read_wide_csv(write(tmp_path, text), allow_missing=True)
    write_wide(table, tmp_path / "out.csv")
    back = read_wide_csv(tmp_path / "out.csv", "flan", allow_missing=True)
    pd.testing.assert_frame_equal(back, table, check_dtype=False)


def test_tidy_csv_with_and_without_the_columns_that_can_be_guessed(tmp_path):
    text = "model,n_samples,test_loss\nb,200,2.5\na,200,2\na,0,3\n"
    table = read_curves(write(tmp_path, text, "mine.csv"))
    assert table["dataset"].tolist() == ["mine"] * 3
    assert table["seed"].tolist() == [0] * 3
    assert table[["model", "n_samples"]].to_numpy().tolist() == [["a", 0], ["a", 200], ["b", 200]]
    full = "# measured in May\nmodel,dataset,seed,n_samples,test_loss,flops\na,x,1,0,3,5e9\n"
    table = read_curves(write(tmp_path, full.replace("\n", "\r\n"), "full.csv"))
    assert table.iloc[0].to_dict() == {
        "model": "a",
        "dataset": "x",
        "seed": 1,
        "n_samples": 0,
        "test_loss": 3,
        "flops": 5e9,
    }


def test_a_diverged_run_in_a_tidy_csv_is_no_point(tmp_path):
    text = "model,n_samples,test_loss,status\na,0,3,completed\na,200,,diverged\n"
    assert read_curves(write(tmp_path, text))["n_samples"].tolist() == [0]
    bad = text.replace("diverged", "completed")
    with pytest.raises(ValueError, match=r"'test_loss' of .*flan\.csv, got nan in row 2"):
        read_curves(write(tmp_path, bad))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("test_loss", "low", r"column 'test_loss' of flan\.csv, got 'low' in row 2"),
        ("test_loss", math.nan, r"column 'test_loss' of flan\.csv, got nan in row 2"),
        ("test_loss", math.inf, r"got inf for model 'b' at n_samples = 400 in flan\.csv"),
        ("test_loss", "inf", r"got inf for model 'b' at n_samples = 400 in flan\.csv"),
        ("test_loss", 0.0, r"got 0 for model 'b' at n_samples = 400"),
        ("test_loss", -1.5, r"got -1\.5 for model 'b' at n_samples = 400"),
        ("n_samples", -5, r"`n_samples` to be a whole number >= 0, got -5 in row 2"),
        ("n_samples", 2.5, r"`n_samples` to be a whole number >= 0, got 2\.5 in row 2"),
        ("n_samples", math.inf, r"`n_samples` to be a whole number >= 0, got inf in row 2"),
        ("n_samples", "many", r"column 'n_samples' of flan\.csv, got 'many' in row 2"),
        ("seed", -1, r"`seed` to be a whole number >= 0, got -1 in row 2"),
        ("model", math.nan, r"name in column 'model' of flan\.csv, got nan in row 2"),
        ("model", " ", r"name in column 'model' of flan\.csv, got ' ' in row 2"),
        ("dataset", None, r"name in column 'dataset' of flan\.csv, got None in row 2"),
    ],
)
def test_bad_tidy_values_are_refused_by_row_and_value(column, value, message):
    table = pd.DataFrame(
        {
            "model": ["a", "b"],
            "dataset": ["x", "x"],
            "n_samples": [200, 400],
            "seed": [0, 0],
            "test_loss": [2.0, 3.0],
        }
    ).astype({column: object})
    table.loc[1, column] = value
    with pytest.raises(ValueError, match=message):
        check_curves(table, "flan.csv")


def test_missing_columns_and_repeated_points_are_refused():
    table = pd.DataFrame({"model": ["a"], "n_samples": [2], "test_loss": [1.0]})
    with pytest.raises(ValueError, match=r"missing dataset, seed; found model, n_samples"):
        check_curves(table)
    table = table.assign(dataset="x", seed=0)
    with pytest.raises(ValueError, match=r"got 'x', 'a', seed 0, n_samples = 2 twice"):
        check_curves(pd.concat([table, table]))


def test_check_leaves_the_callers_table_alone():
    table = pd.DataFrame(
        {"model": ["b", "a"], "dataset": "x", "n_samples": ["2", "1"], "seed": 0, "test_loss": 1.0}
    )
    before = table.copy()
    checked = check_curves(table)
    pd.testing.assert_frame_equal(table, before)
    assert checked["n_samples"].tolist() == [1, 2]
    assert checked["n_samples"].dtype == np.int64


def test_a_folder_is_read_as_its_csv_files_or_as_a_store(tmp_path):
    wide = tmp_path / "wide"
    wide.mkdir()
    write(wide, GOOD, "flan.csv")
    write(wide, "model,200\ngpt2,2\n", "wmt19.csv")
    table = read_curves(wide)
    assert table.groupby("dataset").size().to_dict() == {"flan": 6, "wmt19": 1}
    store = TrialStore(tmp_path / "store")
    with pytest.raises(FileNotFoundError, match=str(store.folder)):
        read_curves(store.folder)
    store.folder.mkdir()
    with pytest.raises(ValueError, match=f"finished trials in {store.folder}, found neither"):
        read_curves(store.folder)
    for n, loss in ((200, 2.0), (0, 3.0)):
        store.add(TrialResult(Trial("a", "x", n), "completed", test_loss=loss))
    assert points(read_curves(store.folder)) == {("a", 0): 3.0, ("a", 200): 2.0}


@pytest.mark.parametrize("dataset", ["flan", "wmt19", "gigaword"])
def test_the_recorded_benchmark_reads_cell_by_cell(benchmark_dir, dataset):
    path = benchmark_dir / "rsl" / f"{dataset}.csv"
    table = read_curves(path)
    found = points(table)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    name = next(iter(rows[0]))
    expected = {
        (row[name], int(column)): float(cell)
        for row in rows
        for column, cell in row.items()
        if column.isdigit()
    }
    assert found == expected
    assert len({model for model, _ in found}) == 30
    sizes = {row[name]: float(row["size"]) for row in rows}
    assert dict(zip(table["model"], table["n_params"], strict=True)) == sizes


def test_the_recorded_benchmark_survives_the_round_trip(benchmark_dir, tmp_path, write_wide):
    table = read_curves(benchmark_dir / "rsl")
    assert table["dataset"].nunique() == 3
    for dataset, rows in table.groupby("dataset"):
        write_wide(rows, tmp_path / f"{dataset}.csv")
    pd.testing.assert_frame_equal(read_curves(tmp_path), table, check_dtype=False)
