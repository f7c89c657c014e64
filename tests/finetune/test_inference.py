from dataclasses import replace

import pytest
import torch

from lensllm.core.limits import Limits
from lensllm.finetune import ModelSource
from lensllm.finetune.adapters import AdapterConfig
from lensllm.finetune.encoding import Example
from lensllm.finetune.inference import inference_memory_gb, licences_of, measure_latency

N_INPUT, N_TARGET = 7, 5


@pytest.mark.parametrize("name", ["gpt2", "opt", "gpt_neox", "llama", "t5", "bart"])
def test_memory_is_that_of_the_weights_and_of_the_real_cache(name, model_folders):
    """The oracle: the tensors of a model and of the cache that it fills."""
    source = ModelSource(str(model_folders[name]))
    model = source.load_model().eval()
    given = {"input_ids": torch.zeros(1, N_INPUT, dtype=torch.long)}
    if source.is_encoder_decoder:
        given["decoder_input_ids"] = torch.zeros(1, N_TARGET, dtype=torch.long)
    else:
        given["input_ids"] = torch.zeros(1, N_INPUT + N_TARGET, dtype=torch.long)
    with torch.no_grad():
        cache = model(**given, use_cache=True).past_key_values
    parts = (
        [cache.self_attention_cache, cache.cross_attention_cache]
        if hasattr(cache, "is_updated")
        else [cache]
    )
    tensors = [t for part in parts for layer in part.layers for t in (layer.keys, layer.values)]
    tensors += list(model.parameters())
    expected = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    assert 1e9 * inference_memory_gb(source, (N_INPUT, N_TARGET)) == pytest.approx(expected)
    half = replace(source, dtype="bfloat16")
    assert 1e9 * inference_memory_gb(half, (N_INPUT, N_TARGET)) == pytest.approx(expected / 2)
    adapted = replace(source, finetune=AdapterConfig("lora", rank=2))
    assert 1e9 * inference_memory_gb(adapted, (N_INPUT, N_TARGET)) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_latency_is_that_of_as_many_tokens_as_the_target_has(name, model_folders, monkeypatch):
    from transformers import GenerationMixin

    made = []
    generate = GenerationMixin.generate

    def counted(self, prompt, **options):
        out = generate(self, prompt, **options)
        made.append(out.shape[1] - (1 if self.config.is_encoder_decoder else prompt.shape[1]))
        return out

    monkeypatch.setattr(GenerationMixin, "generate", counted)
    examples = [Example([5, 6, 7], [1] * n, n) for n in (3, 9)]
    source = ModelSource(str(model_folders[name]))
    assert 0 < measure_latency(source, examples, 0, "cpu") < 10_000
    assert made == [3, 3, 9]  # the first is not counted


@pytest.mark.parametrize(
    ("card", "licences"),
    [
        ("---\nlicense: Apache-2.0\ntags: [a]\n---\n# A model\nlicense: other\n", ["apache-2.0"]),
        ("---\nlicense: [mit, gemma]\n---\n", ["mit", "gemma"]),
        ("# A model\nlicense: mit\n", ["unknown"]),
        ("---\nlicense: [\n---\n", ["unknown"]),
        (None, ["unknown"]),
    ],
)
def test_the_licence_is_read_from_the_front_matter(card, licences, model_folders, tmp_path):
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(model_folders["gpt2"], folder)
    if card is not None:
        (folder / "README.md").write_text(card, encoding="utf-8")
    assert licences_of(ModelSource(str(folder))) == licences
    assert licences_of(ModelSource("opt-64x2")) == ["mit"]
    assert not Limits(licence=None).are_set
