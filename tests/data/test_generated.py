import re

import pytest

from lensllm.data.generated import (
    FORMS,
    LABELS,
    N_INPUTS,
    load_copying,
    load_formatting,
    load_noise,
)


@pytest.mark.parametrize("load", [load_copying, load_formatting, load_noise])
def test_splits_are_disjoint_complete_and_the_same_every_time(load):
    data = load(n_validation=10, n_test=20)
    inputs = [{source for source, _ in part} for part in (data.train, data.validation, data.test)]
    assert [len(part) for part in inputs] == [N_INPUTS - 30, 10, 20]
    assert len(set.union(*inputs)) == N_INPUTS
    assert load(n_validation=10, n_test=20).fingerprint == data.fingerprint
    assert load(n_validation=10, n_test=20, seed=1).fingerprint != data.fingerprint


def test_the_form_is_that_of_the_mark_and_marks_are_even():
    train = load_formatting().train
    assert all(target == FORMS[source[-1]] for source, target in train)
    asked = sum(source[-1] == "?" for source, _ in train)
    assert abs(asked / len(train) - 0.5) < 5 * (0.25 / len(train)) ** 0.5


def test_the_copying_rule_can_be_read_off_the_input():
    for source, target in load_copying().train:
        number, colour, thing, place = re.fullmatch(
            r"(\w+) (\w+) (\w+) at the (\w+)", source
        ).groups()
        assert target == f"Number: {number}. Colour: {colour}. Thing: {thing}. Place: {place}."


def test_noise_labels_do_not_depend_on_the_input():
    data = load_noise(n_labels=4)
    counts = {}
    for source, target in data.train:
        for word in source.split():
            row = counts.setdefault(word, dict.fromkeys(LABELS[:4], 0))
            row[target] += 1
    # Words stand in about 460 inputs: five standard deviations around a quarter.
    for word, row in counts.items():
        n = sum(row.values())
        assert all(abs(c / n - 0.25) < 5 * (0.25 * 0.75 / n) ** 0.5 for c in row.values()), word


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="between 2 and 16, got 17"):
        load_noise(n_labels=17)
    with pytest.raises(ValueError, match="less than the 4096 pairs of 'copying', got 4000 and 96"):
        load_copying(n_validation=4000, n_test=96)
