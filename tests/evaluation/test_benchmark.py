import logging

import pandas as pd
import pytest

from lensllm.evaluation import Benchmark, load_csv, load_zoo


def tidy(rows):
    return pd.DataFrame(rows, columns=["model", "dataset", "n_samples", "seed", "test_loss"])


ROWS = [
    ("a", "x", 100, 0, 3.0),
    ("a", "x", 200, 0, 2.0),
    ("b", "x", 100, 0, 2.5),
    ("b", "x", 200, 0, 2.4),
    ("c", "x", 100, 0, 2.2),
    ("a", "y", 100, 1, 2.2),
]


def test_target_and_seeds_are_each_data_sets_own():
    benchmark = Benchmark("demo", tidy(ROWS))
    assert benchmark.target("x") == 200
    assert benchmark.target("y") == 100
    assert benchmark.seeds("y") == (1,)


def test_candidates_without_truth_are_left_out_by_name(caplog):
    with caplog.at_level(logging.WARNING):
        runner = Benchmark("demo", tidy(ROWS)).runner("x")
    assert runner.task().names == ("a", "b")
    assert "n_samples = 200 was not recorded: c" in caplog.text


def test_no_truth_at_all_is_refused():
    with pytest.raises(ValueError, match="at n_samples = 150 on 'x'"):
        Benchmark("demo", tidy(ROWS), n_samples_full=150).runner("x")
    with pytest.raises(ValueError, match="Expected one of the data sets x, y, got 'z'"):
        Benchmark("demo", tidy(ROWS)).runner("z")


def test_wide_folder_with_missing_cells(tmp_path):
    (tmp_path / "news.csv").write_text("model,100,200,400\nm1,3,,2\nm2,3.5,3,nan\nm3,4,3.5,3\n")
    benchmark = load_csv(tmp_path)
    assert benchmark.runner("news").task().names == ("m1", "m3")
    assert benchmark.runner("news").task().available["m1"] == (100,)
    with pytest.raises(ValueError, match=r"row 2 \(m1\), column '200'"):
        load_csv(tmp_path, allow_missing=False)


def test_trials_for_nothing_are_refused():
    table = tidy(ROWS).assign(flops=0.0)
    with pytest.raises(ValueError, match=r"`flops` > 0 where n_samples > 0 .* got 0 for 'a' at"):
        Benchmark("demo", table)


def test_a_size_without_any_truth_is_said_and_left_out(tmp_path, caplog):
    (tmp_path / "news.csv").write_text("model,100,200,400\nm1,3,2.5,\nm2,3.5,3,nan\n")
    with caplog.at_level(logging.WARNING):
        benchmark = load_csv(tmp_path)
    assert "No model has a loss at n_samples = 400" in caplog.text
    assert benchmark.target("news") == 200


def test_tidy_points_without_a_loss(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(
        "model,n_samples,test_loss\na,100,3\na,200,2\nb,100,\nb,200,2.5\nc,100,3\nc,200,\n"
    )
    runner = load_csv(path).runner("mine")
    assert runner.task().available == {"a": (100,), "b": ()}
    with pytest.raises(ValueError, match=r"'test_loss' of .*mine.csv, got nan in row 3"):
        load_csv(path, allow_missing=False)


def test_zoo_layout_with_provenance_and_diverged_runs(tmp_path):
    path = tmp_path / "zoo.csv"
    path.write_text(
        "# recorded somewhere\nmodel,dataset,n_samples,seed,test_loss,test_loss_per_byte,flops\n"
        "a,x,100,0,3.0,0.9,10\na,x,200,0,2.0,0.7,20\nb,x,100,0,,,10\nb,x,200,0,2.5,0.6,40\n"
    )
    runner = load_zoo(path).runner("x")
    assert runner.task().available == {"a": (100,), "b": ()}
    assert runner.task().full_cost == 60
    by_byte = load_zoo(path, measure="loss_per_byte").runner("x").truth()
    assert by_byte == {"a": 0.7, "b": 0.6}
    with pytest.raises(ValueError, match=r"`measure` to be one of .* got 'bits'"):
        load_zoo(path, measure="bits")
    with pytest.raises(FileNotFoundError, match=r"zoo's recorded curves at .*nothing\.csv"):
        load_zoo(tmp_path / "nothing.csv")


def test_every_recorded_task_of_the_zoo_is_a_whole_grid_of_two_seeds():
    benchmark = load_zoo()
    assert set(benchmark.datasets) >= {
        "docstrings",
        "wiki",
        "names",
        "sections",
        "libraries_noisy",
        "senses",
    }
    for dataset in benchmark.datasets:
        rows = benchmark.curves[benchmark.curves["dataset"] == dataset]
        sizes = {0, *(200 * 2**i for i in range(12))}
        recorded = {size for size in sizes if size <= benchmark.target(dataset)}
        assert set(rows["n_samples"]) == recorded
        assert rows["model"].nunique() == 8
        assert set(rows["seed"]) == {0, 1}
        assert len(rows) == 8 * 2 * len(recorded)
        assert not rows.duplicated(["model", "n_samples", "seed"]).any()
