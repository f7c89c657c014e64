"""Fingerprints that follow every file that loading reads; folders that are not safe or whole."""

import json
import shutil
from collections import defaultdict

import pytest
import torch
from safetensors.torch import load_file, save_file

from lensllm.finetune.models import ModelSource


@pytest.fixture
def folder(model_folders, tmp_path):
    return shutil.copytree(model_folders["llama"], tmp_path / "copy")


def spread(folder, place=""):
    """Cut the weights into two shards below a place, with an index of them."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    path.unlink()
    (folder / place).mkdir(exist_ok=True)
    parts = defaultdict(dict)
    for i, (name, value) in enumerate(weights.items()):
        parts[f"{place}model-{1 + i % 2:05d}-of-00002.safetensors"][name] = value
    for name, part in parts.items():
        save_file(part, folder / name, metadata={"format": "pt"})
    names = {name: shard for shard, part in parts.items() for name in part}
    index = {"metadata": {"total_size": 1}, "weight_map": names}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return sorted(parts)


def fingerprints(folder):
    source = ModelSource(str(folder))
    return source.fingerprint, source.text_fingerprint


@pytest.mark.parametrize(
    "name",
    [
        "chat_template.jinja",
        "additional_chat_templates/tools.jinja",
        "generation_config.json",
        "added_tokens.json",
        "vocab.txt",
        "spiece.model",
        "tekken.json",
    ],
)
def test_every_text_that_loading_may_read_is_in_the_fingerprint(folder, name):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    seen = {fingerprints(folder)[1]}
    for text in ("{}", '{"a": 1}'):
        path.write_text(text)
        seen.add(fingerprints(folder)[1])
    assert len(seen) == 3


def test_files_that_nobody_reads_change_nothing(folder):
    before = fingerprints(folder)
    for name in ("README.md", "pytorch_model.bin", "optimizer.pt", ".cache", "model.gguf"):
        (folder / name).write_bytes(b"of no matter")
    (folder / "checkpoint-500").mkdir()
    (folder / "checkpoint-500" / "config.json").write_text("{}")
    assert fingerprints(folder) == before


def test_a_template_that_was_edited_gives_another_key(folder, text_data, make_parts, tmp_path):
    from lensllm.core.trials import Trial, TrialStore
    from lensllm.execution.finetune import FineTuneRunner
    from lensllm.finetune import TrainingSettings

    template = "{{% for m in messages %}}{}: {{{{ m.content }}}}\n{{% endfor %}}"
    keys = set()
    for word in ("user", "customer"):
        (folder / "chat_template.jinja").write_text(template.format(word))
        runner = FineTuneRunner(
            [str(folder)], text_data, settings=TrainingSettings(prompt="chat"),
            store=TrialStore(tmp_path / "store"), **make_parts(),
        )  # fmt: skip
        trial = runner.complete(Trial("copy", "toy", 8))
        keys |= {trial.key, trial.settings["encoding"], trial.settings["config"]}
    assert len(keys) == 6


@pytest.mark.parametrize("place", ["", "shards/"])
def test_shards_are_read_and_in_the_fingerprint(folder, place):
    whole = ModelSource(str(folder)).load_model().state_dict()
    shards = spread(folder, place)
    source = ModelSource(str(folder))
    before = source.fingerprint
    loaded = source.load_model().state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in whole.items())
    for shard in shards:
        weights = {name: torch.zeros_like(w) for name, w in load_file(folder / shard).items()}
        save_file(weights, folder / shard, metadata={"format": "pt"})
    assert ModelSource(str(folder)).fingerprint != before


@pytest.mark.parametrize(
    "name", ["../other.safetensors", "/etc/other.safetensors", "a/../../b", "C:\\b"]
)
def test_an_index_that_leads_out_of_the_folder_is_refused(folder, name):
    shutil.copy(folder / "model.safetensors", folder.parent / "other.safetensors")
    spread(folder)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    first = next(iter(index["weight_map"]))
    index["weight_map"][first] = name
    path.write_text(json.dumps(index))
    for read in ("fingerprint", "text_fingerprint", "config", "n_params"):
        with pytest.raises(ValueError, match=r"file inside .*reads no file outside"):
            getattr(ModelSource(str(folder)), read)


def test_a_shard_that_is_missing_is_named(folder):
    (folder / spread(folder)[0]).unlink()
    with pytest.raises(ValueError, match=r"weights model-00001-of-00002\.safetensors that"):
        _ = ModelSource(str(folder)).location


def test_tokenizer_files_that_lead_out_of_the_folder_are_refused(folder):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "vocab_file": "../vocab.json"}))
    with pytest.raises(ValueError, match=r"'\.\./vocab\.json'"):
        ModelSource(str(folder)).load_tokenizer()


@pytest.mark.parametrize("cut", [1, 100, 10**9])
def test_weights_that_are_cut_short_are_told_without_loading(folder, cut):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: max(0, len(content) - cut)])
    with pytest.raises(ValueError, match=r"model\.safetensors, .*copy the model again"):
        _ = ModelSource(str(folder)).fingerprint


def test_a_pointer_of_git_lfs_is_told(folder):
    (folder / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 560184\n"
    )
    with pytest.raises(ValueError, match=r"pointer of Git LFS: `git lfs pull`"):
        _ = ModelSource(str(folder)).n_params


@pytest.mark.parametrize("only", [True, False])
def test_integers_in_place_of_weights_are_refused(folder, only):
    path = folder / "model.safetensors"
    weights = load_file(path)
    for name in list(weights)[: None if only else 1]:
        weights[name] = (weights[name] * 100).to(torch.int8)
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"weights in full precision .*I8.*quantised from"):
        ModelSource(str(folder)).load_model()


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("value", ["kernels-community/flash-attn3", "somebody/kernel:run"])
@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_code_of_the_hub_in_a_config_is_refused(folder, key, value):
    change_config(folder, **{key: value})
    with pytest.raises(ValueError, match=f"takes code from the Hub .{key}: {value}"):
        ModelSource(str(folder)).load_model()
    change_config(folder, **{key: "eager", "text_config": {key: value}})
    with pytest.raises(ValueError, match="takes code from the Hub"):
        ModelSource(str(folder)).load_model()


def test_quantised_models_are_refused_with_the_way_out(folder):
    change_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(ValueError, match=r"quantised \(gptq\).*finetune=qlora"):
        _ = ModelSource(str(folder)).config


def test_an_adapter_is_refused_with_the_way_out(folder):
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"found an adapter .*merge_and_unload"):
        ModelSource(str(folder)).load_model()


def test_layers_of_the_checkpoint_that_the_model_lacks_are_refused(folder):
    change_config(folder, num_hidden_layers=1)
    with pytest.raises(
        ValueError, match=r"not part of the model, such as model\.layers\.1\..*config\.json"
    ):
        ModelSource(str(folder)).load_model()


def test_other_weights_that_are_not_used_are_said(folder, caplog):
    path = folder / "model.safetensors"
    weights = {**load_file(path), "score.weight": torch.zeros(2, 2)}
    save_file(weights, path, metadata={"format": "pt"})
    ModelSource(str(folder)).load_model()
    assert "1 weights of the checkpoint are not used" in caplog.text
    assert "score.weight" in caplog.text
