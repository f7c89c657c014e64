import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lensllm.core.trials import Trial, TrialResult
from lensllm.finetune.models import ModelSource
from lensllm.prehoc.features import compression_ratio, data_features, static_features
from lensllm.studies.prehoc.load import features_by_pair


def test_every_feature_has_a_unit_and_a_cost(model_folders, text_data):
    source = ModelSource(str(model_folders["t5"]))
    zero_shot = TrialResult(
        Trial("t5", "toy", 0), "completed", test_loss=5.0, test_loss_per_byte=2.0, flops=7.0
    )

    class Curve:
        eigenvalues = np.array([3.0, 1.0])

        def __call__(self, t):
            return 25.0

    found = {
        feature.name: feature
        for feature in static_features(
            source,
            text_data,
            zero_shot,
            SimpleNamespace(curve=Curve(), flops=11.0),
            {"pl_alpha": 3.0, "e_tpl_lambda": 0.1},
        )
    }
    assert all(feature.unit and math.isfinite(feature.value) for feature in found.values())
    assert found["log10_params"].value == pytest.approx(math.log10(source.n_params))
    assert found["is_encoder_decoder"].value == found["family_t5"].value == 1.0
    assert (found["width"].value, found["n_layers"].value) == (16.0, 2.0)
    assert (found["zero_shot_loss"].value, found["zero_shot_loss"].flops) == (5.0, 7.0)
    assert (found["ntk_start"].value, found["ntk_start"].flops) == (25.0, 11.0)
    assert found["ntk_rank"].value == pytest.approx(16 / 10 / 2)
    assert found["fertility_input"].value >= 1.0
    assert found["log10_params"].flops == 0.0


def test_text_statistics_are_those_of_the_first_pairs(model_folders, text_data):
    found = static_features(ModelSource(str(model_folders["t5"])), text_data, n_pairs=3)
    ratio = {feature.name: feature.value for feature in found}["compression_ratio"]
    targets = [target for _, target in text_data.train]
    assert (
        ratio == compression_ratio("\n".join(targets[:3])) != compression_ratio("\n".join(targets))
    )


def test_data_features_by_hand():
    data = SimpleNamespace(train=[("A b c", "b c."), ("x y", "z b")])
    found = {feature.name: feature.value for feature in data_features(data)}
    assert found["log10_pairs"] == pytest.approx(math.log10(2))
    assert found["input_words"] == 2.5
    assert found["target_words"] == 2.0
    assert found["type_token_ratio"] == 0.75
    assert found["target_in_input"] == 0.5
    assert found["distinct_targets"] == 1.0


def test_compression_tells_repetition_from_variety():
    rng = np.random.default_rng(0)
    varied = "".join(chr(97 + i) for i in rng.integers(26, size=5000))
    assert compression_ratio("the same. " * 500) < 0.05 < 0.5 < compression_ratio(varied)


def test_flags_of_other_families_are_zero():
    rows = [("a", "d", "family_t5", 1.0), ("b", "d", "family_opt", 1.0), ("b", "d", "width", 8.0)]
    table = pd.DataFrame(rows, columns=["model", "dataset", "name", "value"])
    found = features_by_pair(table)
    assert found["a", "d"] == {"family_t5": 1.0, "family_opt": 0.0}
    assert found["b", "d"] == {"family_t5": 0.0, "family_opt": 1.0, "width": 8.0}
