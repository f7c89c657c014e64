"""Folders as people have them: adapters, GGUF, pointers, exports; and what training would take."""

import json
import math
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from peft import LoraConfig, get_peft_model

from lensllm.core.task import NoCandidateError
from lensllm.finetune import ModelSource, TrainingSettings
from lensllm.finetune.adapters import AdapterConfig
from lensllm.finetune.estimate import memory_refusal
from lensllm.finetune.hopeless import refuse_hopeless
from lensllm.finetune.memory import estimate_memory, largest_micro_batch
from tests.wild import models as wild

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return wild.save(tmp_path_factory.mktemp("base") / "base", "llama")


@pytest.fixture
def adapter(base, tmp_path):
    """A folder as peft saves it, its weights far from zero; the model with the adapter in it."""
    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model = get_peft_model(ModelSource(str(base)).load_model(), config)
    model.save_pretrained(tmp_path / "adapter")
    rewrite(tmp_path / "adapter", base_model_name_or_path=str(base))
    return tmp_path / "adapter", model


def rewrite(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def logits(model):
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits


def test_an_adapter_on_a_known_base_is_a_candidate(adapter, base):
    folder, model = adapter
    source = ModelSource(str(folder))
    found = source.load_model()
    assert torch.allclose(logits(found), logits(model), atol=1e-5)
    assert not torch.allclose(logits(found), logits(ModelSource(str(base)).load_model()), atol=0.1)
    assert type(found).__name__ == "LlamaForCausalLM"
    assert source.name == "adapter"
    assert source.n_params == sum(p.numel() for p in found.parameters())
    assert source.family == "llama"
    assert len(source.load_tokenizer()) == len(wild.byte_level())
    tuned = replace(source, finetune=AdapterConfig("lora")).load_model()  # with adapters to come
    assert torch.allclose(logits(tuned), logits(model), atol=1e-5)


def test_the_base_may_be_a_zoo_model_or_lie_beside_the_adapter(adapter, base, tmp_path):
    folder, model = adapter
    shutil.copytree(base, tmp_path / "beside")
    rewrite(folder, base_model_name_or_path="../beside")
    assert torch.allclose(logits(ModelSource(str(folder)).load_model()), logits(model), atol=1e-5)
    rewrite(folder, base_model_name_or_path="llama-64x3")
    assert ModelSource(str(folder)).config.hidden_size == 64
    with pytest.raises(ValueError, match=rf"in {folder} that fits its base, got"):
        ModelSource(str(folder)).load_model()


def test_the_fingerprint_of_an_adapter_follows_adapter_and_base(adapter, base, tmp_path):
    folder, _ = adapter
    before = ModelSource(str(folder))
    texts = before.text_fingerprint
    copy = shutil.copytree(base, tmp_path / "copy")
    same = shutil.copytree(folder, tmp_path / "same")
    rewrite(same, base_model_name_or_path=str(copy))
    assert ModelSource(str(same)).fingerprint == before.fingerprint
    wild.save(copy, "llama", num_hidden_layers=1)
    assert ModelSource(str(same)).fingerprint != before.fingerprint
    rewrite(folder, lora_alpha=1)
    assert ModelSource(str(folder)).text_fingerprint != texts


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda f: rewrite(f, base_model_name_or_path="nobody/nothing"),
            r"got 'nobody/nothing', which is none of them: download it first \(`hf download",
        ),
        (
            lambda f: (f / "adapter_model.safetensors").unlink(),
            "adapter's weights as adapter_model",
        ),
        (lambda f: (f / "adapter_config.json").write_text("[]"), "base_model_name_or_path in"),
        (
            lambda f: rewrite(f, peft_type="PROMPT_TUNING"),
            "type PROMPT_TUNING: name its base",
        ),
    ],
)
def test_adapters_that_cannot_be_used_say_why(adapter, spoil, message):
    folder, _ = adapter
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        _ = ModelSource(str(folder)).config
    with pytest.raises(ValueError, match=message):
        ModelSource(str(folder)).load_model()


def test_an_adapter_on_four_bits_is_refused(adapter):
    with pytest.raises(ValueError, match=r"lora or full for the adapter in .*got qlora"):
        _ = ModelSource(str(adapter[0]), finetune=AdapterConfig("qlora")).config


def empty_model(folder, name):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"\0")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["m.Q4_1.gguf"], r"but the GGUF file m\.Q4_1\.gguf, .*gguf_file='m\.Q4_1\.gguf'"),
        (
            ["checkpoint-5/config.json", "checkpoint-9/config.json"],
            "name one of checkpoint-5, check",
        ),
        (["consolidated.00.pth", "params.json"], r"params\.json, an original release: convert"),
        (["model_index.json"], "a pipeline of diffusers: name a language model"),
        (["model.onnx"], "an ONNX export"),
        (["model.safetensors"], "weights alone: put the model's config.json"),
        (["pytorch_model.bin"], "a pickle checkpoint alone"),
        (["notes.txt"], "but notes.txt"),
        ([], "it is empty"),
    ],
)
def test_folders_that_are_no_models_say_what_they_are(tmp_path, files, message):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in files:
        empty_model(folder, name)
    start = time.process_time()
    with pytest.raises(ValueError, match=rf"with config\.json, found none in {folder}.*{message}"):
        _ = ModelSource(str(folder)).config
    assert time.process_time() - start < 1


def test_a_gguf_file_beside_a_config_is_told_as_well(base, tmp_path):
    folder = shutil.copytree(base, tmp_path / "copy")
    (folder / "model.safetensors").unlink()
    (folder / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(ValueError, match=r"found no weights, but the GGUF file m\.gguf"):
        _ = ModelSource(str(folder)).config


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_pointers_of_git_lfs_are_named(base, tmp_path, name):
    folder = shutil.copytree(base, tmp_path / "copy")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (folder / name).write_text(pointer)
    with pytest.raises(ValueError, match=rf"in {folder}/{name}, found a pointer of Git LFS: `git"):
        _ = ModelSource(str(folder)).config


def test_a_padding_token_beyond_the_embedding_is_any_other(base, tmp_path):
    """As Llama's tokenizers with an added `[PAD]`: it is masked, so its id does not matter."""
    folder = shutil.copytree(base, tmp_path / "copy")
    tokenizer = wild.wrap(wild.byte_level().backend_tokenizer)
    tokenizer.add_tokens([f"<extra {i}>" for i in range(200)], special_tokens=True)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    source = ModelSource(str(folder))
    pad = source.load_tokenizer().pad_token_id
    assert pad >= source.vocab_size
    assert source.padding(pad) == 0


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("mixtral", {}),
        ("mamba2", {}),
        ("recurrent_gemma", {}),
        ("gemma3", {}),
        ("m2m_100", {"encoder_layerdrop": 0.1, "decoder_layerdrop": 0.1}),
    ],
)
def test_nested_routed_and_hybrid_models_are_estimated(tmp_path, name, changes):
    """Activations for twice as many rows are twice as large; weights are counted exactly."""
    source = ModelSource(str(wild.save(tmp_path / name, name, **changes)))
    one, two = (estimate_memory(source, n, 20, 8) for n in (2, 4))
    n_params = sum(p.numel() for p in source.load_model().parameters())
    assert one.is_known
    assert one.weights == 4 * n_params
    assert two.activations == pytest.approx(2 * one.activations, rel=0.1)
    kept = estimate_memory(source, 4, 20, 8, gradient_checkpointing=True)
    assert kept.activations > 0


def test_what_cannot_be_known_is_said_and_goes_on(tmp_path, caplog, monkeypatch):
    source = ModelSource(str(wild.save(tmp_path / "m", "xlm")), name="m")
    found = estimate_memory(source, 4, 20, 8)
    assert not found.is_known
    assert "activations of m are not known beforehand" in caplog.text
    n_params = sum(p.numel() for p in source.load_model().parameters())
    assert found.device == 4 * (3 * n_params) + max(found.loss, 4 * n_params)
    assert largest_micro_batch(source, 16, 20, 8, memory=1e9) == 16
    settings = TrainingSettings()
    for free, refused in ((1e9, False), (1e6, True)):  # the weights alone do not fit
        monkeypatch.setattr("lensllm.finetune.estimate.free_memory", lambda free=free: free)
        words = memory_refusal(source, (20, 8), settings, "32-true", negligible=0.0)
        assert bool(words) == refused
    assert not math.isnan(found.total)


def campaign(*changes):
    return OmegaConf.create(
        {
            "candidates": {"models": list(changes)},
            "dataset": {"name": "own"},
            "runner": {"sources": "${candidates.models}"},
            "training": {"prompt": "{input}\n"},
        }
    )


def test_a_campaign_without_hope_ends_before_data_and_libraries_are_loaded(tmp_path):
    """A folder with a GGUF file, and a data set that takes minutes to make."""
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run(
        [
            sys.executable, "-m", "scripts.select_model", f"candidates.models=[{tmp_path}]",
            "dataset=docstrings", "logger=none", f"paths.output_dir={tmp_path}/out",
        ],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"got none: {tmp_path}: Expected a model folder with config.json" in done.stderr
    assert "the GGUF file m.gguf" in done.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 5


def test_a_missing_template_is_told_from_files_alone(base, tmp_path):
    hopeless = campaign(str(base))
    refuse_hopeless(hopeless)
    hopeless.training.prompt = "chat"
    with pytest.raises(NoCandidateError, match=rf"chat, {base} has none: give the prompt"):
        refuse_hopeless(hopeless)
    other = shutil.copytree(base, tmp_path / "other")
    (other / "chat_template.jinja").write_text("{{ messages[0].content }}")
    hopeless.candidates.models = [str(base), str(other)]
    refuse_hopeless(hopeless)  # the other one goes on


def test_a_path_that_is_no_folder_names_those_beside_it(tmp_path):
    for name in ("small-gpt", "house-llama"):
        (tmp_path / name).mkdir()
    words = rf"got '{tmp_path}/x', which is none; {tmp_path} has the folders house-llama, small-gpt"
    with pytest.raises(ValueError, match=words):
        refuse_hopeless(campaign("opt-64x2", f"{tmp_path}/x+lora"))


@pytest.mark.parametrize("source", ["nobody/on-the-hub", {"source": "opt-64x2", "name": "mine"}])
def test_candidates_of_which_files_tell_nothing_go_on(source, tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    refuse_hopeless(campaign(source))
    refuse_hopeless(campaign(source, str(tmp_path)))
    with pytest.raises(NoCandidateError, match=r"the GGUF file m\.gguf"):
        refuse_hopeless(campaign(f"{tmp_path}+lora"))
