import pytest

from lensllm.data.leaks import digests, overlap
from lensllm.data.pairs import make_text_data, with_label_noise

PARTS = ([("a", "x"), ("b", "y")], [("c", "z")], [("d", "w")])


def test_fingerprint_follows_every_pair_split_and_limit():
    def fingerprint(train=PARTS[0], validation=PARTS[1], test=PARTS[2], limits=(8, 4), name="toy"):
        return make_text_data(name, train, validation, test, *limits).fingerprint

    same = fingerprint()
    assert len(same) == 16
    assert fingerprint(name="other") == same
    others = [
        fingerprint(train=[("a", "x"), ("b", "Y")]),
        fingerprint(train=[("A", "x"), ("b", "y")]),
        fingerprint(train=PARTS[0][::-1]),
        fingerprint(train=[("ax", ""), ("b", "y")][1:]),
        fingerprint(train=PARTS[0][:1], validation=[("b", "y"), ("c", "z")]),
        fingerprint(test=[("d", "v")]),
        fingerprint(limits=(9, 4)),
        fingerprint(limits=(8, 5)),
    ]
    assert len({same, *others}) == len(others) + 1


@pytest.mark.parametrize("empty", [0, 1, 2])
def test_empty_splits_are_named(empty):
    parts = [[] if i == empty else part for i, part in enumerate(PARTS)]
    name = ("train", "validation", "test")[empty]
    with pytest.raises(ValueError, match=f"at least one {name} pair in data set 'toy'"):
        make_text_data("toy", *parts)


def test_empty_targets_and_limits_are_refused():
    with pytest.raises(ValueError, match=r"train pair 2 of data set 'toy', got ' '"):
        make_text_data("toy", [("a", "x"), ("b", " ")], *PARTS[1:])
    for name, limits in (("max_input_tokens", (0, 4)), ("max_target_tokens", (8, -1))):
        with pytest.raises(ValueError, match=f"`{name}` > 0 for data set 'toy', got {min(limits)}"):
            make_text_data("toy", *PARTS, *limits)


def test_overlap_counts_pairs_and_inputs():
    first = [("a", "1"), ("b", "2"), ("c", "3")]
    assert (overlap(first, first).pairs, overlap(first, [("c", "x")]).inputs) == (3, 1)
    assert overlap(first, [("c", "x")]).pairs == 0
    assert digests([("a", " ")], 1)[1][0] == 0


def test_training_pairs_of_the_test_set_are_reported_and_recorded(caplog):
    train = [("a", "x"), ("b", "y"), ("d", "w"), ("d", "v")]
    data = make_text_data("toy", train, PARTS[1], PARTS[2])
    message = (
        "Contamination of toy: 1 of 4 training pairs are in the test set, 2 have an input of it"
    )
    assert message in caplog.text
    assert data.summary() == {
        "fingerprint": data.fingerprint,
        "n_train": 4,
        "n_validation": 1,
        "n_test": 1,
        "leaked": {"pairs": 1, "inputs": 2, "normalised": 0, "near": 0},
        "leaked_validation": {"pairs": 0, "inputs": 0, "normalised": 0, "near": 0},
    }
    caplog.clear()
    nothing = {"pairs": 0, "inputs": 0, "normalised": 0, "near": 0}
    assert make_text_data("toy", *PARTS).summary()["leaked"] == nothing
    assert caplog.text == ""


def test_label_noise_replaces_the_share_by_labels_as_frequent_as_before():
    labels = ["common"] * 3 + ["rare"]
    pairs = [(f"text {i}", labels[i % 4]) for i in range(8000)]
    clean = make_text_data("toy", pairs[:4000], pairs[4000:6000], pairs[6000:], 9, 5)
    noisy = with_label_noise(clean, 0.4)
    assert (noisy.name, noisy.max_input_tokens, noisy.max_target_tokens) == ("toy_noisy", 9, 5)
    for split in ("train", "validation", "test"):
        before, after = getattr(clean, split), getattr(noisy, split)
        assert [source for source, _ in after] == [source for source, _ in before]
        changed = sum(a != b for a, b in zip(before, after, strict=True)) / len(before)
        # A drawn label is another one with probability 1 - (9/16 + 1/16).
        assert changed == pytest.approx(0.4 * 6 / 16, abs=0.03)
        assert sum(t == "rare" for _, t in after) / len(after) == pytest.approx(0.25, abs=0.03)
    assert with_label_noise(clean, 0.4) == noisy
    assert with_label_noise(clean, 0.4, seed=1).train != noisy.train
    for share in (0.0, 1.1):
        with pytest.raises(ValueError, match=f"above 0 and at most 1, got {share}"):
            with_label_noise(clean, share)
