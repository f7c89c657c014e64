import pytest

from lensllm.finetune.adapters import AdapterConfig
from lensllm.finetune.candidates import as_sources

RATES = [1e-4, 3e-4]


def test_settings_of_its_own_make_a_candidate_several_arms():
    sources = as_sources([{"source": "gpt2", "lr": RATES, "finetune": ["full", "lora"]}, "opt"])
    assert [source.name for source in sources] == [
        "gpt2 lr=0.0001",
        "gpt2 lr=0.0003",
        "gpt2+lora lr=0.0001",
        "gpt2+lora lr=0.0003",
        "opt",
    ]
    assert [source.base_model for source in sources] == ["gpt2"] * 4 + ["opt"]
    assert [source.finetune.learning_rate for source in sources[:4]] == RATES * 2
    assert [source.finetune.method for source in sources[:4]] == ["full"] * 2 + ["lora"] * 2


def test_a_method_may_have_settings_and_a_name_holds_for_all_arms():
    lora = AdapterConfig("lora", rank=4)
    (one,) = as_sources([{"source": "gpt2+lora", "dtype": "bfloat16"}], lora)
    assert (one.name, one.finetune, one.dtype) == ("gpt2+lora", lora, "bfloat16")
    given = {
        "source": "gpt2",
        "name": "mine",
        "lr": 1e-3,
        "finetune": {"method": "lora", "rank": 2},
    }
    (one,) = as_sources({"key": given})
    assert (one.name, one.base_model) == ("mine+lora lr=0.001", "mine")
    assert one.finetune == AdapterConfig("lora", rank=2, learning_rate=1e-3)


def test_folders_with_one_name_are_told_apart_with_their_arms(tmp_path):
    folders = [tmp_path / parent / "last" for parent in ("a", "b")]
    for folder in folders:
        folder.mkdir(parents=True)
    sources = as_sources([{"source": str(folder), "lr": RATES} for folder in folders])
    assert [source.name for source in sources] == [
        f"{parent}/last lr={rate:g}" for parent in "ab" for rate in RATES
    ]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"source": "gpt2", "lrs": 1e-4}, "got 'lrs': did you mean lr?"),
        ({"source": "gpt2", "weight_decay": 0.1}, "got 'weight_decay': there are source, name"),
        ({"lr": 1e-4}, "Expected a source in the candidate"),
        ({"source": "gpt2", "lr": [1e-4, 0]}, "Expected lr > 0 of 'gpt2', got 0"),
        ({"source": "gpt2", "lr": "fast"}, "Expected lr > 0 of 'gpt2', got 'fast'"),
        ({"source": "gpt2", "lr": True}, "Expected lr > 0 of 'gpt2', got True"),
        ({"source": "gpt2", "lr": [1e-4, 0.0001]}, "each lr of 'gpt2' once, got 0.0001 twice"),
        ({"source": "gpt2", "lr": []}, "at least one lr of 'gpt2'"),
        ({"source": "gpt2", "finetune": "loro"}, "finetune among full, lora, qlora, got 'loro'"),
        ({"source": "gpt2", "finetune": {"ranks": 2}}, "got 'ranks'"),
        ({"source": "gpt2+lora", "finetune": "full"}, "the method of 'gpt2' once"),
        (
            {"source": "gpt2", "lr": 1e-4, "finetune": {"method": "lora", "learning_rate": 1e-3}},
            "Expected one learning rate of 'gpt2', got lr=0.0001 and finetune.learning_rate=0.001",
        ),
    ],
)
def test_bad_settings_are_named(item, message):
    with pytest.raises(ValueError, match="Expected") as error:
        as_sources([item])
    assert message in str(error.value)
