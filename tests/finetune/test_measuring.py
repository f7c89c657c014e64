import math
from dataclasses import fields, replace

import pytest

from lensllm.core.measures import LOSS, MEASURES
from lensllm.core.task import Budget
from lensllm.core.trials import Trial, TrialResult, TrialStore
from lensllm.data.pairs import make_text_data
from lensllm.execution.finetune import FineTuneRunner
from lensllm.finetune import AdapterConfig, MeasuringSettings, TrainingSettings
from lensllm.finetune.measuring import FEWEST_EXAMPLES, Measuring, classes_of, closed_labels
from lensllm.reports.answer import answer_of
from lensllm.reports.selection_report import write_selection
from lensllm.selectors import Adaptive, run_campaign

_DECODING = {"labels": "none", "share": 0.25, "max_new_tokens": None}
ACCURACY, TRAINING = MEASURES["accuracy"], TrainingSettings(max_epochs=3)
SETTINGS = TrainingSettings(batch_size=8, max_epochs=4, patience=9, n_evaluations=2)


def labelled(pairs, labels=("cat", "dog")):
    """The pairs with labels that their inputs tell."""
    return [(f"{labels[i % len(labels)]}: {a}", labels[i % len(labels)]) for i, (a, _) in pairs]


@pytest.fixture(scope="module")
def labels_data(pairs):
    rows = labelled(enumerate(pairs))
    return make_text_data("labels", rows[:80], rows[80:90], rows[90:], 48, 8)


@pytest.fixture
def make_runner(model_folders, labels_data, make_parts, tmp_path):
    def make(names=("gpt2", "t5"), data=labels_data, **options):
        sources = [str(model_folders[name]) for name in names]
        store = TrialStore(tmp_path / "store")
        return FineTuneRunner(
            sources, data, settings=SETTINGS, store=store, **make_parts(), **options
        )

    return make


def test_labels_are_found_where_targets_are_few(labels_data, text_data):
    assert closed_labels(labels_data) == ("cat", "dog")
    assert closed_labels(text_data) is None
    many = replace(labels_data, test=[*labels_data.test, ("x", "dog"), ("y", "dog")])
    assert classes_of([f"{i:02}" for i in range(10)], many) == {
        "n": 10,
        "first": [f"{i:02}" for i in range(8)],
        "majority": "dog",
        "majority_share": (len(labels_data.test) / 2 + 2) / len(many.test),
    }
    few = replace(labels_data, train=labels_data.train[:4], validation=[], test=[("x", "cat")])
    assert closed_labels(few) is None  # with so few pairs nobody can tell


def test_the_share_bounds_the_examples_and_all_candidates_have_the_same(labels_data):
    test = [(f"x{i}", "cat") for i in range(1000)]
    data = replace(labels_data, test=test)
    measuring = Measuring.of(MEASURES["exact_match"], MeasuringSettings(labels="none"), data)
    counts = [measuring.n_examples(n, 1000, TRAINING) for n in (0, 100, 200, 400, 1600)]
    assert counts == [FEWEST_EXAMPLES, 225, 450, 900, 1000]  # 0.25 * 3 * 3 epochs * D
    parts = [measuring.test_pairs(n, data, TRAINING) for n in (100, 200, 1600)]
    assert set(parts[0]) < set(parts[1]) < set(parts[2]) == set(test)
    unbounded = MeasuringSettings(labels="none", share=None)
    whole = Measuring.of(MEASURES["exact_match"], unbounded, data)
    assert whole.n_examples(0, 1000, TRAINING) == 1000
    by_label = Measuring.of(ACCURACY, MeasuringSettings(), data)
    assert 100 < by_label.n_examples(200, 1000, TRAINING) < 450  # two labels cost more than one


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_a_trial_has_the_measure_beside_the_same_losses(make_runner, name):
    trial = Trial(f"tiny-{name}", "labels", 40)
    plain, runner = make_runner().run(trial), make_runner(measure="accuracy", sizes=[40])
    result = runner.run(trial)
    assert "measuring" not in plain.trial.settings
    assert result.trial.key != plain.trial.key
    assert (result.test_loss, result.examples) == (plain.test_loss, plain.examples)
    found = result.measures["accuracy"]
    assert found.n_examples == 30
    assert 0 <= found.value <= 1
    assert plain.flops < result.flops <= runner.task().costs[trial.model, 40]
    assert result.train_flops == plain.train_flops
    (stored,) = [r for r in runner.store.results() if r.measures]
    assert stored == result
    assert TrialResult.from_json(plain.to_json()).measures == {}
    old = {k: v for k, v in plain.to_json().items() if k not in ("measures", "digest")}
    assert TrialResult.from_json({**old, "format": 1}) == plain  # older files have no measures
    likelihood = make_runner(measure="accuracy", measuring=MeasuringSettings(also=["f1"]))
    decoded = make_runner(
        measure="exact_match", measuring=MeasuringSettings(labels="none", share=0.5)
    )
    assert set(likelihood.run(trial).measures) == {"accuracy", "f1"}
    assert set(decoded.run(trial).measures) == {"exact_match"}
    assert len({r.trial.key for r in runner.store.results()}) == 4


def test_models_with_adapters_answer_as_well(make_runner):
    options = {"measuring": MeasuringSettings(labels="none", also=["chrf"])}
    runner = make_runner(measure="exact_match", finetune=AdapterConfig(method="lora"), **options)
    for name in runner.sources:
        result = runner.run(Trial(name, "labels", 8))
        assert (result.status, result.reason) == ("completed", "")
        assert set(result.measures) == {"chrf", "exact_match"}


def test_the_order_in_which_measures_are_named_changes_no_key(make_runner):
    trial = Trial("tiny-gpt2", "labels", 16)
    one = make_runner(measure="f1", measuring=MeasuringSettings(also=["accuracy", "loss"]))
    other = make_runner(measure="accuracy", measuring=MeasuringSettings(also=["f1"]))
    assert one.complete(trial).key == other.complete(trial).key
    losses = make_runner(measure="loss", measuring=MeasuringSettings(share=0.5))
    assert losses.complete(trial).key == make_runner().complete(trial).key


def test_a_campaign_by_accuracy_reports_accuracy(make_runner, tmp_path):
    runner = make_runner(
        ("gpt2", "opt", "t5"), measure="accuracy", sizes=(16, 32), n_samples_full=80
    )
    selection, curves = run_campaign(Adaptive(), runner, Budget(runner.task().full_cost))
    best = selection.best
    assert selection.measure == ACCURACY
    assert 0 <= best.lower80 <= best.predicted_loss <= best.upper80 <= 1
    assert [e.predicted_loss for e in selection.ranking] == sorted(
        (e.predicted_loss for e in selection.ranking), reverse=True
    )
    assert {"accuracy", "accuracy_se", "accuracy_n"} <= set(curves)
    answer = str(answer_of(selection, curves))
    assert f"Predicted: accuracy {best.predicted_loss:.3f} at D = 80" in answer
    assert "nats" not in answer.replace("nats per", "")
    paths = write_selection(selection, curves, tmp_path, {}, runner.data_summary())
    assert {"selection", "curves", "figure"} <= set(paths)
    record = (tmp_path / "selection.json").read_text()
    assert '"majority": "cat"' in record
    said = "2 classes (cat, dog); always answering cat is right for 50\N{NO-BREAK SPACE}% of the"
    assert said in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '"measure": "accuracy"' in record
    assert '"direction": "higher"' in record


@pytest.mark.parametrize(
    "change",
    [{"also": ["rouge_l"]}, {"labels": ["cat", "dog"]}, {"share": None}, {"max_new_tokens": 3}],
    ids=str,
)
def test_what_decides_a_measure_is_in_the_key(make_runner, change):
    trial = Trial("tiny-gpt2", "labels", 16)
    assert {item.name for item in fields(MeasuringSettings)} == set(_DECODING) | {"also"}

    def key(**settings):
        return (
            make_runner(measure="f1", measuring=MeasuringSettings(**settings)).complete(trial).key
        )

    assert key(**_DECODING) != key(**{**_DECODING, **change})
    assert key(**_DECODING) == key(**{**_DECODING, "also": ["loss"]})


@pytest.mark.parametrize(
    ("measure", "settings", "message"),
    [
        ("acuracy", {}, "got 'acuracy': did you mean accuracy?"),
        ("accuracy", {"labels": ["cat", "hen"]}, r"\(cat, hen\), got 'dog' in pair 2: add it, or"),
        ("accuracy", {"labels": "none"}, "closed set of labels for measure=accuracy.* 'labels'"),
        ("accuracy", {"labels": "all"}, "auto, none or a list of labels .* got 'all'"),
        ("accuracy", {"labels": ["cat"]}, "two distinct measuring.labels, got cat"),
        ("f1", {"share": 1.5}, r"measuring.share in \(0, 1\) or null, got 1.5"),
        ("f1", {"max_new_tokens": 0}, "measuring.max_new_tokens >= 1 or null, got 0"),
        ("f1", {"also": "bleu"}, "a list as measuring.also, got 'bleu'"),
        ({"name": "reward"}, {}, "lensllm can compute, .* got 'reward'"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(make_runner, measure, settings, message):
    with pytest.raises(ValueError, match=message):
        make_runner(measure=measure, measuring=MeasuringSettings(**settings))


def test_a_measure_that_returns_nan_is_a_failed_trial(make_runner, monkeypatch, tmp_path):
    (tmp_path / "nan_scores.py").write_text("def nan(p, r):\n    return [float('nan')] * len(p)\n")
    monkeypatch.syspath_prepend(tmp_path)
    runner = make_runner(measure="nan_scores:nan")
    result = runner.run(Trial("tiny-gpt2", "labels", 8))
    assert result.status == "failed"
    assert "finite nan_scores:nan <= 1, got nan" in result.reason
    assert math.isfinite(result.flops)
    assert result.value(LOSS) != result.value(LOSS)
