"""Models of the Hub, from a cache laid out as its client does it, and refusals as it makes them."""

import json
import shutil
from types import SimpleNamespace

import pytest
from huggingface_hub import errors
from omegaconf import OmegaConf

from lensllm.commands.conf import conf_dir
from lensllm.finetune.hub import hub_commit
from lensllm.finetune.models import ModelSource

COMMIT, OTHER = "0123456789abcdef" + "a" * 24, "fedcba9876543210" + "b" * 24


@pytest.fixture
def cached(model_folders, tmp_path, monkeypatch):
    """Put a model into the cache at a commit, some of its files left out."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def cached(name, *, commit=COMMIT, without=()):
        repository = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / "main").write_text(commit)
        ignored = shutil.ignore_patterns(*without)
        return shutil.copytree(
            model_folders["opt"], repository / "snapshots" / commit, ignore=ignored
        )

    return cached


@pytest.fixture
def refuse(monkeypatch):
    """Let the Hub answer with an error."""

    def refuse(error):
        def answer(*arguments, **options):
            raise error

        monkeypatch.setattr(
            "lensllm.finetune.hub.HfApi", lambda: SimpleNamespace(model_info=answer)
        )

    return refuse


def refusal(kind):
    return kind("no", response=SimpleNamespace(headers={}, request=None, status_code=403))


def test_a_model_is_known_by_its_commit(cached):
    cached("me/mine")
    source = ModelSource("me/mine")
    assert source.load_model().config.model_type == "opt"
    assert source.fingerprint == source.text_fingerprint == COMMIT[:16]
    cached("me/mine", commit=OTHER)  # the branch goes on
    assert ModelSource("me/mine").fingerprint == OTHER[:16]
    assert ModelSource("me/mine", revision=COMMIT).fingerprint == COMMIT[:16]


def test_what_is_in_the_cache_needs_no_permission(cached, refuse):
    cached("me/mine")
    refuse(refusal(errors.GatedRepoError))
    assert hub_commit("me/mine", None) == COMMIT


def test_a_pickle_on_the_hub_is_refused_without_the_advice_to_take_it(cached):
    folder = cached("me/mine", without=["*.safetensors"])
    (folder / "pytorch_model.bin").write_bytes(b"not to be loaded")
    source = ModelSource("me/mine", revision=COMMIT)
    with pytest.raises(ValueError, match="safetensors weights of 'me/mine'") as info:
        source.load_model()
    assert f"at revision '{COMMIT}', found none; name a revision that has them" in str(info.value)
    assert "use_safetensors" not in str(info.value)


def test_a_gated_model_without_a_token_says_what_to_do(refuse):
    refuse(refusal(errors.GatedRepoError))
    message = (
        r"that the Hub gives out, got 'them/gated' at revision 'v1' \(GatedRepoError\): accept its "
        r"licence on https://huggingface\.co/them/gated, then `hf auth login`"
    )
    with pytest.raises(ValueError, match=message):
        ModelSource("them/gated", revision="v1").load_tokenizer()


def test_a_gated_file_of_a_model_that_is_shown_says_the_same(refuse, monkeypatch):
    """The Hub tells anyone about a gated model, and keeps its files."""
    monkeypatch.setattr(
        "lensllm.finetune.hub.HfApi", lambda: SimpleNamespace(model_info=lambda *_, **__: None)
    )

    def download(*_, local_files_only, **__):
        kind = errors.LocalEntryNotFoundError if local_files_only else errors.GatedRepoError
        raise kind("no") if local_files_only else refusal(kind)

    monkeypatch.setattr("lensllm.finetune.hub.hf_hub_download", download)
    with pytest.raises(ValueError, match=r"accept its licence on .*them/gated, then `hf auth"):
        _ = ModelSource("them/gated").config


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            refusal(errors.RepositoryNotFoundError),
            r"gives out, got 'a/b' \(RepositoryNotFoundError\)",
        ),
        (ConnectionError("no route"), r"got 'a/b': it is no folder, .* out of reach \(Connection"),
        (OSError(28, "No space left on device"), r"room for the cache of 'a/b' .* set HF_HOME"),
    ],
)
def test_what_is_not_in_reach_is_told_with_its_reason(refuse, error, message):
    refuse(error)
    with pytest.raises(ValueError, match=message):
        hub_commit("a/b", None)


def test_a_path_that_is_no_folder_is_not_looked_for_on_the_hub():
    with pytest.raises(
        ValueError, match=r"got '\./no/such': there is no such folder, and it cannot"
    ):
        hub_commit("./no/such", None)


def test_a_full_disk_is_told_with_the_way_out(cached, monkeypatch):
    cached("me/mine")
    source = ModelSource("me/mine")

    def full(*_, **__):
        raise OSError("cannot download") from OSError(28, "No space left on device")

    monkeypatch.setattr(type(source)._auto_class.fget(source), "from_pretrained", full)
    with pytest.raises(
        ValueError, match=r"room for the cache of 'me/mine' .*No space left .*HF_HOME"
    ):
        source.load_model()


def test_a_model_without_a_tokenizer_is_refused(cached):
    """For many kinds transformers makes up one that knows no text."""
    cached("me/mine", without=["tokenizer*", "special_tokens_map.json"])
    with pytest.raises(ValueError, match="a tokenizer with me/mine, got: one that cannot tell a"):
        ModelSource("me/mine").load_tokenizer()


@pytest.mark.parametrize(("key", "value"), [("num_hidden_layers", 3), ("ffn_dim", 5)])
def test_parameters_without_weights_are_not_made_up(cached, key, value):
    folder = cached("me/mine")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(ValueError, match=r"all parameters in me/mine, found none that fit \d+ of"):
        ModelSource("me/mine").load_model()


def test_a_pinned_configuration_runs_from_the_cache(cached, run_main, jsonl_300, tmp_path):
    """The whole way of a model of the Hub, with other weights at the commit of its YAML."""
    from scripts.train import main

    pinned = OmegaConf.load(conf_dir() / "model" / "smollm2-135m.yaml")
    cached(pinned.source, commit=pinned.revision)
    done = run_main(
        main,
        "model=smollm2-135m",
        "finetune=lora",
        "dataset=jsonl",
        f"dataset.path={jsonl_300}",
        "dataset.max_input_tokens=40",
        "n_samples=16",
        "logger=none",
        f"paths.output_dir={tmp_path}/out",
        f"hydra.run.dir={tmp_path}/run",
    )
    assert done.code == 0, done.err
    trial = json.loads((tmp_path / "run" / "result.json").read_text())["trial"]
    assert trial["model"] == f"{pinned.source}+lora"
    assert trial["settings"]["weights"] == pinned.revision[:16]
