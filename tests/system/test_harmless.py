"""Names and settings from elsewhere, in files, tables, terminals and figures."""

import io
import json
import logging

import pandas as pd
import pytest
from omegaconf import OmegaConf
from rich.table import Table as RichTable

from lensllm.core.curves import read_curves
from lensllm.reports.console import PlainConsole
from lensllm.reports.tables import Table
from lensllm.system.harmless import (
    MAX_NAME_BYTES,
    HarmlessLog,
    csv_cell,
    csv_name,
    drawn,
    plain,
    redact,
    safe_name,
    stored_settings,
    write_csv,
)

NAMES = ["=1+1", "+x", "-x", "@SUM(A1)", "\tx", "\rx", "'=x", "[/oops]", "a#b", "NA", "007", "$a$"]


@pytest.mark.parametrize(
    "text",
    [
        "../../x",
        "/etc/passwd",
        "..",
        ".",
        "",
        "a/b",
        "a\0b",
        "a\nb",
        ".hidden",
        "-rf",
        "x" * 300,
        "é" * 99,
        *NAMES[:6],
    ],
)
def test_file_names_stay_in_their_folder(text, tmp_path):
    name = safe_name(text)
    path = tmp_path / name
    assert path.resolve().parent == tmp_path.resolve()
    path.write_text("x")
    assert not name.startswith((".", "-"))
    assert len(name.encode()) <= MAX_NAME_BYTES + 9


def test_file_names_tell_texts_apart_and_good_ones_stay():
    assert safe_name("gpt2-48x2-D200-s0") == "gpt2-48x2-D200-s0"
    assert safe_name("Qwen2.5+lora") == "Qwen2.5+lora"
    names = [safe_name(text) for text in ("a/b", "a_b", "a\\b", "a:b", "x" * 300, "x" * 301)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", NAMES)
def test_curves_files_hold_no_formula_and_keep_the_name(name, tmp_path, write_wide):
    rows = [
        {"model": name, "dataset": name, "n_samples": n, "seed": 0, "test_loss": 3.0}
        for n in (0, 200)
    ]
    write_csv(pd.DataFrame(rows), tmp_path / "curves.csv")
    for cell in (tmp_path / "curves.csv").read_text().split("\n")[1].split(",")[:2]:
        assert not cell.strip('"').startswith(("=", "+", "-", "@", "\t", "\r"))
    found = read_curves(tmp_path / "curves.csv")
    assert set(found["model"]) == set(found["dataset"]) == {name}
    if name.strip() == name:
        write_wide(found, tmp_path / "wide.csv")
        assert set(read_curves(tmp_path / "wide.csv")["model"]) == {name}


def test_numbers_of_a_csv_stay_numbers(tmp_path):
    frame = pd.DataFrame({"x": [-1.5, 2.0], "text": ["-0.1 to 0.2", "-"], "whole": [-1, 2]})
    write_csv(frame, tmp_path / "t.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "t.csv"), frame)
    for cell in ("-1+cmd|' /C calc'!A0", "=1", "+A1", "-2to"):
        assert csv_cell(cell) == f"'{cell}"
        assert csv_name(csv_cell(cell)) == cell


def test_terminals_see_no_markup_and_no_control_characters():
    console = PlainConsole(file=io.StringIO(), width=80, force_terminal=False)
    table = RichTable(title="[/oops] \x1b[31m")
    table.add_column("[/x]")
    table.add_row("[/oops] :smile: \x1b]0;title\x07\u202e")
    console.print(table)
    console.print("[red]x[/red] \x1b[2J")
    text = console.file.getvalue()
    assert "[/oops] :smile: \\x1b]0;title\\x07\\u202e" in text
    assert "[red]x[/red] \\x1b[2J" in text
    assert "\x1b" not in text
    assert plain("a\tb\nc") == "a\tb\nc"


def test_tables_for_papers_hold_no_commands(tmp_path):
    names = ["a|b\n\x1b[0m", "<img src=x>", "[x](http://y)", r"\input{x}~$a$"]
    table = Table("../t", "Of $x$", pd.DataFrame({"model": names}))
    lines = table.to_markdown().splitlines()
    assert lines[4:] == [
        r"| a\|b \x1b[0m |",
        "| &lt;img src=x> |",
        r"| [x]\(http://y) |",
        r"| \input{x}~$a$ |",
    ]
    assert r"\textbackslash{}input\{x\}\textasciitilde{}\$a\$ \\" in table.to_latex()
    assert {path.parent for path in table.write(tmp_path / "f")} == {tmp_path / "f"}
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_figures_draw_dollars_as_they_are(tmp_path):
    from matplotlib.figure import Figure

    for name in (r"$\oops$", "$", "a$b$c$", r"\$x$"):
        figure = Figure()
        figure.add_subplot().set_title(drawn(name))
        figure.savefig(tmp_path / "f.png")  # raises on bad mathematics


def test_logs_are_plain(monkeypatch):
    monkeypatch.setenv("LENSLLM_TEST_TOKEN", "hf_abcdefgh")
    record = logging.LogRecord(
        "x", logging.INFO, "f", 1, "of %s: %s", ("\x1b[1m", "hf_abcdefgh"), None
    )
    assert HarmlessLog().filter(record)
    assert record.getMessage() == r"of \x1b[1m: ${oc.env:LENSLLM_TEST_TOKEN}"


def test_secrets_stand_by_their_names(monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "abcdefgh12")
    monkeypatch.setenv("DB_PASSWORD", "short")
    monkeypatch.setenv("SSH_KEY_FILE", "/home/me/.ssh/id")
    monkeypatch.setenv("KEYBOARD_LAYOUT", "us-international")
    given = {
        "a": ["x abcdefgh12 y", 3, None],
        "b": ("short", "/home/me/.ssh/id", "us-international"),
    }
    assert redact(given) == {**given, "a": ["x ${oc.env:MY_API_KEY} y", 3, None]}


def test_what_is_stored_does_not_hold_the_environment(monkeypatch):
    monkeypatch.setenv("LENSLLM_TEST_TOKEN", "hf_abcdefgh")
    monkeypatch.setenv("LENSLLM_TEST_NUMBER", "3")
    monkeypatch.delenv("LENSLLM_TEST_NONE", raising=False)
    config = OmegaConf.create(
        {
            "a": "${oc.env:LENSLLM_TEST_NUMBER}",
            "b": "x-${a}",
            "c": ["${oc.env:LENSLLM_TEST_NONE,default}", "${oc.env:LENSLLM_TEST_NONE}"],
            "d": {"e": "${f}"},
            "f": 5,
            "g": "hf_abcdefgh",
            "h": "???",
            "i": "${oc.decode:${oc.env:LENSLLM_TEST_NUMBER}}",
            "j": "${d}",
        }
    )
    found = stored_settings(config)
    assert found.pop("i") != 3
    assert found == {
        "a": "${oc.env:LENSLLM_TEST_NUMBER}",
        "b": "x-${oc.env:LENSLLM_TEST_NUMBER}",
        "c": ["default", "${oc.env:LENSLLM_TEST_NONE}"],
        "d": {"e": 5},
        "f": 5,
        "g": "${oc.env:LENSLLM_TEST_TOKEN}",
        "h": "???",
        "j": {"e": 5},
    }
    json.dumps(found)
    assert config.b == "x-3"  # the environment is read again
