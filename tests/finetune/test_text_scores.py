import math
import sys

import pytest
import sacrebleu
import torch
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score
from torchmetrics.functional.text import rouge_score, squad

from lensllm.core.example_losses import example_errors
from lensllm.core.measures import MEASURES, measure_named
from lensllm.finetune.text_scores import decisive, score

PREDICTIONS = ["the cat sat", "a dog", "birds sing at dawn", " the cat sat\n"]
REFERENCES = ["the cat sat", "the old dog barks", "birds sing", "the cat sat"]
LABELS = ("a", "b", "c")
GUESSED, TRUE = list("aabcaab"), list("abbcaca")


def test_values_are_those_of_torchmetrics_and_sacrebleu():
    def value(name):
        return score(MEASURES[name], PREDICTIONS, REFERENCES).value

    assert value("exact_match") == 0.5
    pairs = list(zip(PREDICTIONS, REFERENCES, strict=True))
    rouge = rouge_score(PREDICTIONS, REFERENCES, rouge_keys="rougeL")["rougeL_fmeasure"]
    assert value("rouge_l") == pytest.approx(float(rouge))
    given = [{"prediction_text": a, "id": str(i)} for i, (a, _) in enumerate(pairs)]
    answers = [
        {"answers": {"answer_start": [0], "text": [b]}, "id": str(i)}
        for i, (_, b) in enumerate(pairs)
    ]
    assert value("f1") == pytest.approx(float(squad(given, answers)["f1"]) / 100)
    assert value("bleu") == pytest.approx(sacrebleu.corpus_bleu(PREDICTIONS, [REFERENCES]).score)
    assert value("chrf") == pytest.approx(sacrebleu.corpus_chrf(PREDICTIONS, [REFERENCES]).score)


def test_measures_of_labels_are_those_of_torchmetrics():
    guessed, true = (torch.tensor(["abc".index(t) for t in texts]) for texts in (GUESSED, TRUE))
    accuracy = score(MEASURES["accuracy"], GUESSED, TRUE, LABELS)
    assert accuracy.value == pytest.approx(float(multiclass_accuracy(guessed, true, 3, "micro")))
    expected = float(multiclass_f1_score(guessed, true, 3, average="macro"))
    f1 = score(MEASURES["f1"], GUESSED, TRUE, LABELS)
    assert f1.value == pytest.approx(expected)
    assert 0.05 < f1.standard_error < 0.4
    assert f1 == score(MEASURES["f1"], GUESSED, TRUE, LABELS)  # the bootstrap has a seed


def test_a_mean_of_scores_has_their_standard_error_and_keeps_them():
    found = score(MEASURES["accuracy"], list("ab" * 50), list("ac" * 50))
    assert (found.value, found.n_examples) == (0.5, 100)
    assert found.standard_error == pytest.approx(math.sqrt(0.25 / 99))
    errors = example_errors(found.scores, 1.0)
    assert (errors.loss(), len(errors)) == (0.5, 100)
    assert errors.standard_error() == pytest.approx(found.standard_error)


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_scores.py").write_text(
        "def brevity(predictions, references):\n"
        "    return [1 / (1 + len(p.split())) for p in predictions]\n"
        "def total(predictions, references):\n"
        "    return 0.25\n"
        "def nan(predictions, references):\n"
        "    return [0.5, float('nan'), 0.5, 0.5]\n"
        "def short(predictions, references):\n"
        "    return [0.5]\n"
        "def text(predictions, references):\n"
        "    return 'good'\n"
        "def large(predictions, references):\n"
        "    return 7.5\n"
        "NUMBER = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_scores", raising=False)
    return tmp_path / "own_scores.py"


def test_a_function_gives_scores_or_one_number(own):
    scores = score(measure_named("own_scores:brevity"), PREDICTIONS, REFERENCES)
    assert scores.value == pytest.approx((1 / 4 + 1 / 3 + 1 / 5 + 1 / 4) / 4)
    assert scores.standard_error > 0
    one = score(measure_named("own_scores:total"), PREDICTIONS, REFERENCES)
    assert (one.value, one.scores, one.n_examples) == (0.25, "", 4)
    assert math.isnan(one.standard_error)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nan", r"finite own_scores:nan <= 1, got nan.* \(test example 2\)"),
        ("short", r"4 scores or one number of own_scores:short, .* got \[0.5\]"),
        ("text", "4 scores or one number of own_scores:text, .* got 'good'"),
        ("large", "finite own_scores:large <= 1, got 7.5: give the measure its best possible"),
        ("gone", "can be imported as measure=own_scores:gone, got: module 'own_scores' has no"),
    ],
)
def test_a_function_that_gives_something_else_is_an_error(own, name, message):
    with pytest.raises(ValueError, match=message):
        score(measure_named(f"own_scores:{name}"), PREDICTIONS, REFERENCES)


def test_what_decides_a_value_is_the_content_of_the_functions_file(own):
    measure = measure_named("own_scores:total")
    before = decisive(measure)
    own.write_text(own.read_text().replace("0.25", "0.5"))
    assert decisive(measure) != before
    assert decisive(MEASURES["bleu"]) == {"sacrebleu": sacrebleu.__version__}
    for name, message in (
        ("own_scores:NUMBER", "Expected a function as measure=own_scores:NUMBER, got 3"),
        ("math:sqrt", "a Python file as the module of measure=math:sqrt"),
        (
            "no_module_here:f",
            "measure=no_module_here:f, got: No module .*: put its folder on PYTHON",
        ),
        ({"name": "wer"}, "that lensllm can compute, .* got 'wer', which only one's own program"),
    ):
        with pytest.raises(ValueError, match=message):
            decisive(measure_named(name))
