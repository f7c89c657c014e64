"""Three tasks generated from templates: one is learned at once, one gradually, one never.

All have the same inputs, short sentences with four words from closed lists.
`formatting` asks for one of two fixed forms, by the sentence's final mark. `copying` asks for the
four words in fixed fields. `noise` asks for one label word that was drawn without looking at the
input: what can be learned is the list of labels, and the loss cannot fall below the logarithm of
its length (nats per label).
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from lensllm.data.pairs import Pair, TextData, make_text_data

NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine")
COLOURS = ("red", "blue", "green", "black", "white", "brown", "yellow", "grey")
THINGS = ("boxes", "books", "tables", "birds", "horses", "trees", "stones", "cups")
PLACES = ("house", "garden", "field", "river", "market", "school", "office", "station")
FORMS = {"?": "Form: question. Status: open.", "!": "Form: order. Status: open."}
LABELS = (  # one token each for the models of the zoo
    "value", "name", "type", "list", "file", "data", "model", "error",
    "code", "test", "time", "line", "path", "set", "key", "class",
)  # fmt: skip
N_INPUTS = math.prod(map(len, (NUMBERS, COLOURS, THINGS, PLACES)))


def load_formatting(
    n_validation: int = 100, n_test: int = 300, seed: int = 0, **limits: int
) -> TextData:
    """Sentences to one of two fixed forms, by their final mark, drawn independently of the words.

    Args:
        n_validation: Validation pairs.
        n_test: Test pairs.
        seed: Seed of the split and of the marks.
        **limits: `max_input_tokens`, `max_target_tokens` (see `TextData`).

    Returns:
        The data; no sentence is in two splits.

    Raises:
        ValueError: The evaluation splits leave nothing to train on.

    Example:
        >>> load_formatting(n_validation=1, n_test=1).train[0]
        ('nine black tables at the field!', 'Form: order. Status: open.')
    """
    words, marks = _shuffled_words(seed), _drawn(tuple(FORMS), seed)
    pairs = [(_sentence(four, mark), FORMS[mark]) for four, mark in zip(words, marks, strict=True)]
    return _split("formatting", pairs, n_validation, n_test, **limits)


def load_copying(
    n_validation: int = 100, n_test: int = 300, seed: int = 0, **limits: int
) -> TextData:
    """Sentences to their four words in fixed fields: a deterministic rule over closed lists.

    Args:
        n_validation: Validation pairs.
        n_test: Test pairs.
        seed: Seed of the split.
        **limits: `max_input_tokens`, `max_target_tokens` (see `TextData`).

    Returns:
        The data; no sentence is in two splits.

    Raises:
        ValueError: The evaluation splits leave nothing to train on.

    Example:
        >>> load_copying(n_validation=1, n_test=1).train[0][1]
        'Number: nine. Colour: black. Thing: tables. Place: field.'
    """
    pairs = [
        (_sentence(words), "Number: {}. Colour: {}. Thing: {}. Place: {}.".format(*words))
        for words in _shuffled_words(seed)
    ]
    return _split("copying", pairs, n_validation, n_test, **limits)


def load_noise(
    n_validation: int = 100,
    n_test: int = 300,
    n_labels: int = len(LABELS),
    seed: int = 0,
    **limits: int,
) -> TextData:
    """Sentences to one label word, drawn uniformly and independently of the sentence.

    Args:
        n_validation: Validation pairs.
        n_test: Test pairs.
        n_labels: Number of label words, at most 16.
        seed: Seed of the split and of the labels.
        **limits: `max_input_tokens`, `max_target_tokens` (see `TextData`).

    Returns:
        The data; no sentence is in two splits.

    Raises:
        ValueError: `n_labels` is out of range, or nothing is left to train on.
    """
    if not 2 <= n_labels <= len(LABELS):
        raise ValueError(f"Expected `n_labels` between 2 and {len(LABELS)}, got {n_labels}")
    labels = _drawn(LABELS[:n_labels], seed)
    pairs = [
        (_sentence(four), label) for four, label in zip(_shuffled_words(seed), labels, strict=True)
    ]
    return _split("noise", pairs, n_validation, n_test, **limits)


def _shuffled_words(seed: int) -> list[tuple[str, ...]]:
    """All combinations of the four lists in seeded order."""
    combinations = list(itertools.product(NUMBERS, COLOURS, THINGS, PLACES))
    return [combinations[i] for i in np.random.default_rng(seed).permutation(N_INPUTS)]


def _drawn(choices: tuple[str, ...], seed: int) -> list[str]:
    """One of the choices for each input, uniformly and independently of it."""
    drawn = np.random.default_rng([seed, 1]).integers(len(choices), size=N_INPUTS)
    return [choices[i] for i in drawn]


def _sentence(words: tuple[str, ...], mark: str = "") -> str:
    number, colour, thing, place = words
    return f"{number} {colour} {thing} at the {place}{mark}"


def _split(name: str, pairs: list[Pair], n_validation: int, n_test: int, **limits: int) -> TextData:
    n_held = n_validation + n_test
    if min(n_validation, n_test) < 1 or n_held >= len(pairs):
        raise ValueError(
            f"Expected `n_validation` and `n_test` > 0 that sum to less than the {len(pairs)} "
            f"pairs of {name!r}, got {n_validation} and {n_test}"
        )
    test, validation = pairs[:n_test], pairs[n_test:n_held]
    return make_text_data(name, pairs[n_held:], validation, test, **limits)
