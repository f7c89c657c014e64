import contextlib
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from lensllm.finetune.models import ModelSource
from lensllm.zoo import ZOO_DIR, zoo_models

ARCHITECTURES = ("gpt2", "opt", "gpt_neox", "llama", "t5", "bart")


@pytest.fixture
def folder(model_folders, tmp_path):
    """A copy of a tiny model that a test may spoil."""
    return shutil.copytree(model_folders["opt"], tmp_path / "copy")


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_parameters_are_counted_without_weights_as_they_load(model_folders, name):
    source = ModelSource(str(model_folders[name]))
    model = source.load_model()
    assert source.n_params == sum(p.numel() for p in model.parameters())
    assert source.family == model.config.model_type == name
    assert source.is_encoder_decoder == (name in ("t5", "bart"))
    assert source.name == f"tiny-{name.replace('-', '_')}"
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_weights_load_in_the_dtype_asked_for(model_folders):
    model = ModelSource(str(model_folders["gpt2"]), dtype="bfloat16").load_model()
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("dtype", ["float33", "nn", "", "Tensor", "int64"])
def test_unknown_dtypes_are_refused(dtype):
    with pytest.raises(ValueError, match=f"float32, got '{dtype}'"):
        ModelSource("opt", dtype=dtype)


def test_name_is_the_folders_unless_given(model_folders):
    path = model_folders["opt"]
    assert ModelSource(f"{path}/").name == "tiny-opt"
    assert ModelSource(str(path), name="mine").name == "mine"
    assert ModelSource("facebook/opt-125m").name == "facebook/opt-125m"


def test_fingerprint_follows_the_weights(folder, tmp_path):
    before = ModelSource(str(folder)).fingerprint
    assert before == ModelSource(str(shutil.copytree(folder, tmp_path / "other"))).fingerprint
    assert len(before) == 16
    path = folder / "model.safetensors"
    weights = load_file(path)
    next(iter(weights.values())).view(-1)[0] += 1
    save_file(weights, path, metadata={"format": "pt"})
    assert ModelSource(str(folder)).fingerprint != before


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_text_fingerprint_follows_config_and_tokenizer(folder, tmp_path, name):
    before = ModelSource(str(folder)).text_fingerprint
    assert before == ModelSource(str(shutil.copytree(folder, tmp_path / "other"))).text_fingerprint
    path = folder / name
    path.write_text(path.read_text() + " ")
    assert ModelSource(str(folder)).text_fingerprint != before


def test_a_pickle_checkpoint_is_refused_and_never_opened(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"not to be loaded")
    source = ModelSource(str(folder))
    with pytest.raises(ValueError, match=r"found the pickle checkpoint pytorch_model\.bin"):
        source.load_model()
    for name in ("n_params", "fingerprint", "family"):
        with pytest.raises(ValueError, match=f"safetensors weights in {folder}"):
            getattr(source, name)


def test_safetensors_beside_a_pickle_are_taken(folder):
    (folder / "pytorch_model.bin").write_bytes(b"not to be loaded")
    ModelSource(str(folder)).load_model()


def test_code_in_the_model_folder_is_refused_and_never_run(folder, tmp_path):
    change_config(folder, auto_map={"AutoModelForCausalLM": "evil.Model"})
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    source = ModelSource(str(folder))
    for load in (source.load_model, source.load_tokenizer):
        with pytest.raises(ValueError, match=f"got {folder}, whose config.json .*`auto_map`"):
            load()
    assert not (tmp_path / "ran").exists()


def test_code_in_the_tokenizer_is_never_run(folder, tmp_path):
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text()) | {
        "tokenizer_class": "Evil",
        "auto_map": {"AutoTokenizer": ["evil.Evil", None]},
    }
    path.write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with contextlib.suppress(ValueError):
        ModelSource(str(folder)).load_tokenizer()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "with config.json, found none in {}"),
        (lambda f: (f / "config.json").write_text("{"), "JSON object in {}/config.json"),
        (lambda f: (f / "config.json").write_text("[]"), "JSON object in {}/config.json"),
        (lambda f: (f / "model.safetensors").unlink(), "weights in {}, found no weights"),
    ],
)
def test_folders_that_are_no_models_are_refused(folder, spoil, message):
    spoil(folder)
    with pytest.raises(ValueError, match=message.format(folder)):
        ModelSource(str(folder)).load_model()


def test_an_unknown_id_offline_is_told_with_what_to_do():
    source = ModelSource("nobody/no-such-model")
    with pytest.raises(ValueError, match="got 'nobody/no-such-model'") as info:
        source.load_model()
    for advice in ("local model folder", "Hub id", *zoo_models()):
        assert advice in str(info.value)


def test_a_tokenizer_without_padding_pads_with_its_end_token(folder):
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["pad_token"]
    path.write_text(json.dumps(config))
    tokenizer = ModelSource(str(folder)).load_tokenizer()
    assert tokenizer.pad_token == tokenizer.eos_token == "</s>"


@pytest.mark.parametrize("name", zoo_models())
def test_every_zoo_model_loads_and_answers(name):
    source = ModelSource(name)
    assert source.name == name
    assert source.location == str(ZOO_DIR / name)
    record = json.loads((ZOO_DIR / name / "pretraining.json").read_text())
    model = source.load_model()
    assert source.n_params == sum(p.numel() for p in model.parameters()) == record["n_params"]
    assert source.family == record["architecture"]
    tokenizer = source.load_tokenizer()
    text = "Return the größte value, 猫!\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer) == model.config.vocab_size


def test_a_gated_model_says_where_its_licence_is():
    source = ModelSource("meta-llama/Llama-3.2-1B", gated=True)
    message = r"accept its licence on https://huggingface\.co/meta-llama/Llama-3\.2-1B, then `hf"
    with pytest.raises(ValueError, match=message):
        _ = source.location
