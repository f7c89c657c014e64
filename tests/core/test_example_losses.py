import math

import numpy as np
import pytest

from lensllm.core.example_losses import (
    ExampleLosses,
    difference,
    in_original_order,
    log_covariance,
)
from lensllm.core.trials import Trial, TrialStore
from lensllm.finetune import ModelSource, TrainingSettings, run_trial


def draw(rng, n, hard=None, shift=0.0):
    tokens = rng.integers(1, 9, n)
    hard = rng.gamma(4.0, 0.5, n) if hard is None else hard
    sums = tokens * (hard + shift) + rng.normal(0, 0.1, n) * np.sqrt(tokens)
    return ExampleLosses(sums, tokens, 4 * tokens)


def test_standard_errors_are_those_of_repeated_test_sets():
    """Against the spread of losses, and of differences, over a thousand fresh test sets."""
    rng = np.random.default_rng(0)
    losses, differences, errors, difference_errors = [], [], [], []
    for _ in range(1000):
        tokens = rng.integers(1, 9, 200)
        hard = rng.gamma(4.0, 0.5, 200)
        first, second = (
            ExampleLosses(tokens * (hard + rng.normal(0, 0.3, 200)), tokens, 4 * tokens)
            for _ in range(2)
        )
        losses.append(first.loss())
        errors.append(first.standard_error())
        found, error = difference(first, second)
        differences.append(found)
        difference_errors.append(error)
    assert np.mean(errors) == pytest.approx(np.std(losses), rel=0.06)
    assert np.mean(difference_errors) == pytest.approx(np.std(differences), rel=0.06)
    assert np.mean(difference_errors) < 0.6 * np.mean(errors)  # what is hard for both cancels


def test_covariances_are_those_of_repeated_test_sets():
    """Against log losses of three candidates, two of them alike, over two thousand test sets."""
    rng = np.random.default_rng(4)
    losses, covariances = [], []
    for _ in range(2000):
        tokens, hard, style = (rng.integers(1, 9, 100), *rng.gamma(4.0, 0.5, (2, 100)))
        rates = hard + style, hard + style + rng.normal(0, 0.3, 100), 2 * hard + 1
        found = [ExampleLosses(tokens * rate, tokens, 4 * tokens) for rate in rates]
        losses.append([math.log(item.loss()) for item in found])
        covariances.append(log_covariance(found))
    expected = np.cov(np.array(losses), rowvar=False)
    assert np.mean(covariances, axis=0) == pytest.approx(expected, rel=0.1)


def test_with_equal_lengths_it_is_the_error_of_a_mean():
    sums = np.random.default_rng(1).normal(8.0, 1.0, 50)
    losses = ExampleLosses(sums, np.full(50, 4), np.full(50, 16))
    assert losses.loss() == pytest.approx(sums.mean() / 4)
    assert losses.standard_error() == pytest.approx(sums.std(ddof=1) / 4 / math.sqrt(50))
    assert losses.per_byte().standard_error() == pytest.approx(losses.standard_error() / 4)
    assert math.isnan(ExampleLosses(sums[:1], np.ones(1), np.ones(1)).standard_error())


def test_records_are_short_and_read_back():
    losses = draw(np.random.default_rng(2), 600)
    record = losses.to_json()
    assert sum(map(len, record.values())) == 600 * 6 * 4 / 3
    back = ExampleLosses.from_json(record)
    assert back.loss() == pytest.approx(losses.loss(), rel=1e-4)
    assert back.standard_error() == pytest.approx(losses.standard_error(), rel=1e-3)
    assert ExampleLosses.from_json({}) is None
    for spoilt in ({"sums": "x"}, {**record, "tokens": "AAAA"}, {**record, "bytes": 3}):
        with pytest.raises(ValueError, match="losses of test examples"):
            ExampleLosses.from_json(spoilt)


def test_losses_of_other_examples_are_not_compared():
    rng = np.random.default_rng(3)
    with pytest.raises(ValueError, match="got 5 and 6"):
        difference(draw(rng, 5), draw(rng, 6))
    with pytest.raises(ValueError, match="got 5 and 7"):
        log_covariance([draw(rng, 5), draw(rng, 5), draw(rng, 7)])


def test_the_order_of_the_data_set_comes_back():
    assert in_original_order([1.0, 2.0, 3.0, 4.0], [7, 3, 9, 3]).tolist() == [3.0, 1.0, 4.0, 2.0]


def test_a_trial_knows_its_examples(model_folders, text_data, make_parts, tmp_path):
    """Their sum is the test loss, and each is what the model says of that pair alone."""
    import torch

    from lensllm.finetune.encoding import Collator, target_loss
    from lensllm.finetune.trial import make_encoder

    source = ModelSource(str(model_folders["gpt2"]))
    settings = TrainingSettings(evaluation_batch_size=4)
    result = run_trial(Trial(source.name, "toy", 0), source, text_data, settings, **make_parts())
    losses = ExampleLosses.from_json(result.examples)
    assert losses.loss() == pytest.approx(result.test_loss, rel=1e-3)
    assert losses.per_byte().loss() == pytest.approx(result.test_loss_per_byte, rel=1e-3)
    assert result.test_loss_se == pytest.approx(losses.standard_error(), rel=1e-2)
    tokenizer, model = source.load_tokenizer(), source.load_model().eval()
    encoder = make_encoder(source, tokenizer, text_data, settings.prompt)
    collate = Collator(0, is_encoder_decoder=False)
    for i, example in enumerate(encoder.encode(text_data.test)):
        with torch.no_grad():
            total, count = target_loss(model, collate([example]))
        assert losses.sums[i] == pytest.approx(float(total), rel=2e-3)
        assert losses.tokens[i] == int(count)
        assert losses.n_bytes[i] == example.n_bytes
    store = TrialStore(tmp_path)
    store.add(result)
    assert store.get(result.trial) == result
