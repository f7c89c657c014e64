import json
from html.parser import HTMLParser

import pytest

from lensllm.commands import select
from lensllm.commands.report import main
from lensllm.reports.html_report import write_report
from tests.reports.campaigns import HOSTILE, edited

VOID = {"meta", "link", "br", "img"}
WITHIN_WORDS = {"a", "abbr", "bdi", "code", "strong"}


class Page(HTMLParser):
    """Tags with their attributes, the text outside scripts and styles, and what is not closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open, self.wrong = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag not in WITHIN_WORDS:
            self.words.append(" ")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)
        if tag not in WITHIN_WORDS:
            self.words.append(" ")

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())


@pytest.fixture(scope="module")
def page(folder):
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_a_campaign_ends_with_its_report(folder, page):
    assert not page.open
    assert not page.wrong
    record = json.loads((folder / "selection.json").read_text())
    assert record["sentence"] in page.text
    assert len(record["notes"]) >= 3
    for note in record["notes"]:
        assert f"{note['label']} {note['text']}" in page.text
    for words in (
        "Fine-tune a/one",
        "Too close to call",
        "3 candidates",
        "2.000 1.900 to 2.200 0.60 2.086 at D = 3 200",  # predicted, interval, P(best), measured
        "1M 1 GB",
        "Start with D = 200 of a/one, b/two: 10 % of full tuning.",
        "c/three needs a licence",
        "b/two at D = 6 400. It would cost 12 % of fine-tuning every candidate in full",
        "25 600",  # twice the data, by the law of the candidate with five sizes
        "Training pairs 25 969",
        "Training pairs that are in the test set 2; with the same input 5",
        "lensllm select seed=3",
        "seed: 3",
    ):
        assert words.replace(" ", "\N{NO-BREAK SPACE}") in page.text.replace(
            " ", "\N{NO-BREAK SPACE}"
        ), words


def test_nothing_is_loaded_from_anywhere(page):
    for tag, attrs in page.tags:
        assert tag not in ("img", "iframe", "object", "embed", "base")
        for name in ("src", "href", "action", "poster", "srcset"):
            assert (attrs.get(name) or "#").startswith(("#", "data:,")), (tag, attrs)
    policy = next(a for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"].startswith("default-src 'none'")


def test_names_of_elements_are_unique_and_links_lead_somewhere(page):
    names = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(names) == len(set(names))
    wanted = {a["href"][1:] for tag, a in page.tags if tag in ("a", "use") and "href" in a}
    assert wanted <= set(names)
    clipped = {a["clip-path"] for _, a in page.tags if "clip-path" in a}
    assert clipped
    assert clipped <= {f"url(#{name})" for name in names}  # else lines leave their axes


def test_commands_are_code_and_escaped(folder, tmp_path):
    def add(record):
        record["notes"].append({"label": "Hint", "text": "`lensllm <b>` tries a/one, ` alone"})

    text = write_report(edited(folder, tmp_path, add)).read_text(encoding="utf-8")
    assert "<code>lensllm &lt;b&gt;</code> tries <bdi>a/one</bdi>, ` alone" in text


def test_hostile_names_are_text(hostile_folder):
    page = Page((hostile_folder / "report.html").read_text(encoding="utf-8"))
    assert not page.wrong
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    for name in (*HOSTILE[:2], "{{ 7 * 7 }}${8*8}\\u2028line", "evil\\u202egpj.exe", *HOSTILE[4:]):
        assert name in page.text


def test_the_same_files_give_the_same_page(folder, tmp_path):
    again = write_report(folder, tmp_path / "again.html")
    assert again.read_bytes() == (folder / "report.html").read_bytes()


def test_examples_are_shown_where_they_were_asked_for(folder, tmp_path):
    def add(record):
        record["data"]["examples"] = [["What <b>is</b> it?", "שלום"]]

    text = write_report(edited(folder, tmp_path, add)).read_text(encoding="utf-8")
    assert "What &lt;b&gt;is&lt;/b&gt; it?" in text
    assert "שלום" in text
    assert "report.examples=3" not in text


def test_older_and_shorter_files_are_read(folder, tmp_path):
    """Without events, verdict, data, command, and without curves.csv."""

    def shorten(record):
        for name in ("events", "format", "verdict", "data", "command", "cost_unit", "versions"):
            record.pop(name, None)
        record["decisions"] = ["next b/two at D = 400"]
        record["measure"] = "never_heard_of"

    text = Page(write_report(edited(folder, tmp_path, shorten)).read_text(encoding="utf-8")).text
    for words in (
        "Next b/two at D = 400.",
        "Only losses were recorded",
        "The file does not have the command",
        "this selector does not assess what they would bring",
        "Nothing was measured at D > 0",
    ):
        assert words in text


def test_bad_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"none in {tmp_path}"):
        write_report(tmp_path)
    (tmp_path / "selection.json").write_text("{")
    with pytest.raises(ValueError, match="Expected JSON in"):
        write_report(tmp_path)
    (tmp_path / "selection.json").write_text('{"ranking": []}')
    with pytest.raises(ValueError, match="got no ranking"):
        write_report(tmp_path)


def test_the_command_takes_the_folder_alone(folder, tmp_path, capsys, monkeypatch):
    # Runs of W&B that other tests have made in this process have no part here.
    monkeypatch.setattr("lensllm.finetune.loggers.WandbTrialLogger.offline_folders", [])
    main([str(folder), f"path={tmp_path}/my page.html", f"hydra.run.dir={tmp_path}/run"])
    assert (tmp_path / "my page.html").read_bytes() == (folder / "report.html").read_bytes()
    assert capsys.readouterr().out == f"report: {tmp_path}/my page.html\n"


def test_a_replayed_campaign_says_how_to_repeat_it(tmp_path):
    words = ["runner=replay", "logger=none", "replay.models=[gpt2-48x2,opt-64x2]"]
    folder = tmp_path / "my run"
    select.main([*words, f"hydra.run.dir={folder}"])
    command = f"lensllm select runner=replay logger=none '{words[2]}' 'hydra.run.dir={folder}'"
    assert json.loads((folder / "selection.json").read_text())["command"] == command
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert command in Page(text).text
    assert len(text) < 300_000
