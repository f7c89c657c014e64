"""A name is a text: `qwen#1`, `1.10` beside `1.1`, `7`."""

import pandas as pd
import pytest

from lensllm.core.curves import read_curves
from lensllm.evaluation.local import load_zoo
from lensllm.studies.zoo.record import read_recorded_curves
from lensllm.system.harmless import write_csv
from scripts.fit_laws import main as fit_main
from scripts.select_model import main as select_main

NAMES = ["1.1", "1.10", "7", "007", "qwen#1", "#1", "1e3", "NA"]


def curves(sizes=(50, 100, 200, 400, 800)):
    rows = [
        (name, "2024", n, 0, 1 + (i + 2) / n**0.5) for i, name in enumerate(NAMES) for n in sizes
    ]
    return pd.DataFrame(rows, columns=["model", "dataset", "n_samples", "seed", "test_loss"])


@pytest.mark.parametrize("comment", ["", "# curves, of 2024\n# seeds: {}\n"])
def test_a_tidy_table_keeps_its_names(tmp_path, comment):
    path = tmp_path / "curves.csv"
    write_csv(curves(), path)
    path.write_text(comment + path.read_text())
    for table in (read_curves(path), load_zoo(path).curves):
        assert sorted(set(table["model"])) == sorted(NAMES)
        assert len(table) == len(NAMES) * 5
        assert set(table["dataset"]) == {"2024"}


def test_a_wide_table_keeps_its_names(write_wide, tmp_path):
    write_wide(curves(), tmp_path / "2024.csv")
    table = read_curves(tmp_path / "2024.csv")
    assert sorted(set(table["model"])) == sorted(NAMES)
    assert set(table["dataset"]) == {"2024"}


def test_recorded_curves_keep_their_names(tmp_path):
    path = tmp_path / "zoo.csv"
    write_csv(curves()[curves()["model"] != "NA"], path)
    path.write_text('# Curves\n# versions: {"a": 1}\n' + path.read_text())
    notes, table = read_recorded_curves(path)
    assert notes == {"versions": {"a": 1}}
    assert sorted(set(table["model"])) == sorted(set(NAMES) - {"NA"})


def test_names_on_the_command_line(tmp_path, run_main):
    path = tmp_path / "my curves (v2) #1, a=b.csv"
    write_csv(curves(), path)
    run = run_main(
        fit_main, f"curves={path}", "models=[1.10,qwen#1,7]", "law=power", "figures=false",
        f"paths.output_dir={tmp_path}/out = größe", "forward=false",
    )  # fmt: skip
    assert run.code == 0, run.err
    written = next((tmp_path / "out = größe").rglob("fits.csv"))
    assert sorted(pd.read_csv(written, dtype=str)["model"]) == ["1.10", "7", "qwen#1"]


def test_a_number_as_a_name_in_a_file_is_refused(tmp_path, run_main):
    folder = tmp_path / "conf" / "candidates"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("models: [1.10, 1.1]\n")
    run = run_main(select_main, f"--config-dir={tmp_path}/conf", "candidates=mine", "logger=none")
    assert run.code == 2
    assert "Expected a name as models[0] in" in run.err
    assert "got the number 1.1: put it in quotes" in run.err
    (folder / "mine.yaml").write_text("models: [7]\n")
    run = run_main(select_main, f"--config-dir={tmp_path}/conf", "candidates=mine", "logger=none")
    assert run.code == 2
    assert "candidates.models[0], got 7: a name is a text, in a file in quotes ('7')" in run.err


def test_a_prompt_with_a_backslash_in_a_file_is_told(tmp_path, run_main):
    folder = tmp_path / "conf" / "training"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("defaults: [default]\nprompt: 'Q: {input}\\nA: '\n")
    run = run_main(
        select_main, f"--config-dir={tmp_path}/conf", "training=mine", "dataset=file",
        "dataset.path=none.csv", f"paths.output_dir={tmp_path}",
    )  # fmt: skip
    assert run.code == 2
    assert "a backslash and an n" in run.out + run.err
