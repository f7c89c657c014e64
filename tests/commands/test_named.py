from pathlib import Path

import pytest

from lensllm.commands.named import named_selectors
from lensllm.selectors import AcceptThenStop, RandomChoice, ZeroShot

FOLDER = Path(__file__).parents[2] / "conf" / "selector"


def test_names_and_settings():
    assert named_selectors(["zero_shot", {"ats": {"k": 4}}], FOLDER) == [
        ZeroShot(),
        AcceptThenStop(k=4),
    ]


def test_yaml_may_refer_to_the_context(tmp_path):
    text = "_target_: lensllm.selectors.RandomChoice\nseed: ${elsewhere.seed}\n"
    (tmp_path / "mine.yaml").write_text(text)
    assert named_selectors(["mine"], tmp_path, {"elsewhere": {"seed": 7}}) == [RandomChoice(7)]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("nonsense", r"among adaptive, ats, .*zero_shot .* got 'nonsense'"),
        ({"ats": {"q": 1}}, "settings of 'ats' among k, delta, seed, got 'q'"),
        ({"zero_shot": {"q": 1}}, "settings of 'zero_shot' among none, got 'q'"),
    ],
)
def test_unknown_names_are_refused(entry, message):
    with pytest.raises(ValueError, match=message):
        named_selectors([entry], FOLDER)
