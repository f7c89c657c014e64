"""What is too long is cut on the side that is asked for, counted, and said."""

import logging
import os
import re
import time

import pytest

from lensllm.core.trials import Trial, TrialStore
from lensllm.data import make_text_data
from lensllm.execution.finetune import FineTuneRunner
from lensllm.finetune.encoding import PairEncoder
from lensllm.finetune.settings import TrainingSettings

FILLER = "the old cat sees the small dog by the lake and "
QUESTION = "which fox eats?"


def encoder(tokenizer, side="right", **limits):
    return PairEncoder(
        tokenizer, is_encoder_decoder=False, prompt="Q: {input}\nA: ", truncation_side=side,
        **{"max_input_tokens": 12, "max_target_tokens": 8, **limits},
    )  # fmt: skip


def text_of(tokenizer, example):
    return tokenizer.decode(example.source)


def test_the_question_at_the_end_stays_when_the_left_is_cut(tokenizer):
    pairs = [(FILLER * 5 + QUESTION, "OWL"), ("short", "FOX")]
    right, left = (encoder(tokenizer, side).encode(pairs) for side in ("right", "left"))
    assert text_of(tokenizer, right[0]).startswith("Q: the old cat")
    assert text_of(tokenizer, left[0]).endswith(f"{QUESTION}\nA:")  # the space goes with the target
    assert text_of(tokenizer, left[0]).startswith("Q: ")
    assert len(left[0].source) == len(right[0].source)
    assert right[1] == left[1]


def test_dropping_leaves_out_what_is_too_long(tokenizer):
    pairs = [(FILLER * 5, "OWL"), ("short", "FOX"), ("short", "FOX " * 40)]
    coder = encoder(tokenizer, "drop")
    assert coder.encode(pairs) == encoder(tokenizer).encode(pairs[1:2])
    assert (coder.counts.pairs, coder.counts.dropped) == (3, 2)
    assert (coder.counts.cut_inputs, coder.counts.cut_targets) == (1, 1)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_text_of_megabytes_has_the_tokens_of_its_part_and_takes_no_seconds(tokenizer, side):
    long, short = FILLER * 200_000, FILLER * 2000
    start = time.process_time()
    coder = encoder(tokenizer, side)
    examples = coder.encode([(long, "OWL"), (short, "OWL"), ("short", long), ("short", short)])
    assert time.process_time() - start < 1
    assert examples[0] == examples[1]
    assert examples[2] == examples[3]
    assert (coder.counts.cut_inputs, coder.counts.cut_targets) == (2, 2)


def test_the_side_is_in_the_signature_and_right_is_as_before(tokenizer):
    right, left, drop = (encoder(tokenizer, side).signature() for side in ("right", "left", "drop"))
    assert "side" not in right
    assert (left["side"], drop["side"]) == ("left", "drop")


@pytest.mark.parametrize(
    "make", [lambda t: encoder(t, "middle"), lambda t: TrainingSettings(truncation_side="middle")]
)
def test_another_side_is_refused(tokenizer, make):
    with pytest.raises(ValueError, match="one of right, left, drop, got 'middle'"):
        make(tokenizer)


@pytest.fixture
def make_runner(model_folders, make_parts, tmp_path, pairs):
    def make(limit, side="right"):
        long = [(FILLER * 3 + a if i % 2 else a, b) for i, (a, b) in enumerate(pairs)]
        data = make_text_data("toy", long[:80], long[80:95], long[95:], limit, 24)
        settings = TrainingSettings(batch_size=8, max_epochs=1, truncation_side=side)
        parts = make_parts()
        return FineTuneRunner(
            [str(model_folders["gpt2"])], data, parts["make_optimizer"], parts["make_scheduler"],
            parts["make_trainer"], settings, TrialStore(tmp_path / "store"), sizes=[0, 40],
        )  # fmt: skip

    return make


def test_a_campaign_says_what_share_was_cut(make_runner, caplog):
    with caplog.at_level(logging.INFO):
        make_runner(48).task()
    (record,) = [r for r in caplog.records if "too long" in r.getMessage()]
    assert record.levelno == logging.WARNING
    assert re.search(
        r"of \d+ pairs of toy, 50\.0 % of the inputs and 0\.0 % of the targets are too long",
        record.getMessage(),
    )
    assert "training.truncation_side=left" in record.getMessage()
    caplog.clear()
    make_runner(400).task()
    assert "too long" not in caplog.text


def test_the_side_makes_another_trial(make_runner):
    keys = set()
    for side in ("right", "left", "drop"):
        runner = make_runner(48, side)
        (name,) = runner.sources
        keys |= {runner.complete(Trial(name, "toy", n)).key for n in (0, 40)}
    assert len(keys) == 6
    assert os.sep not in name
