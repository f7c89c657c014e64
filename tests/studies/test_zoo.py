import json
import math
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from lensllm.finetune import ModelSource
from lensllm.studies.zoo.pretrain import (
    CONTEXT,
    ZooModel,
    build_model,
    language_model_loss,
    pretrain,
    pretraining_texts,
    save,
    token_chunks,
    train_tokenizer,
)
from lensllm.zoo import ZOO_DIR, zoo_models

CONF = Path(__file__).resolve().parents[2] / "conf"
ARCHITECTURES = ("gpt2", "opt", "gpt_neox", "llama", "t5", "bart")


def spec(architecture="gpt2", **changes):
    shape = {"width": 16, "n_layers": 1, "n_heads": 2, "prose": 0.5, "n_steps": 30}
    return ZooModel("tiny", architecture, **{**shape, "batch_size": 4, **changes})


@pytest.fixture(scope="module")
def chunks(tokenizer, pairs):
    rows = token_chunks(tokenizer, [a for a, _ in pairs])
    return {"prose": rows, "code": rows.flip(0)}


def test_the_shipped_zoo_is_the_one_of_the_configuration():
    names = sorted(OmegaConf.load(CONF / "candidates" / "zoo.yaml").models)
    assert names == zoo_models()
    assert {*names, "source"} <= {path.stem for path in (CONF / "model").glob("*.yaml")}
    specs = OmegaConf.load(CONF / "pretrain_zoo.yaml").models
    assert sorted(s.name for s in specs) == names
    for item in OmegaConf.to_container(specs):
        record = json.loads((ZOO_DIR / item["name"] / "pretraining.json").read_text())
        assert {key: record[key] for key in item} == item
    for name in names:
        assert OmegaConf.load(CONF / "model" / f"{name}.yaml").source == name


def test_the_shipped_zoo_is_varied_and_small():
    sources = [ModelSource(name) for name in zoo_models()]
    assert 6 <= len(sources) <= 8
    assert {source.family for source in sources} == set(ARCHITECTURES)
    assert all(1e5 <= source.n_params <= 1.5e6 for source in sources)
    files = [path for path in ZOO_DIR.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12 * 2**20
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pth", ".pkl")]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_built_as_asked_and_learns(architecture, chunks, tokenizer):
    model = build_model(spec(architecture), len(tokenizer))
    assert model.config.model_type == architecture
    assert all(m.p == 0 for m in model.modules() if isinstance(m, torch.nn.Dropout))
    same = build_model(spec(architecture), len(tokenizer)).state_dict()
    assert all(torch.equal(value, same[name]) for name, value in model.state_dict().items())
    other = build_model(spec(architecture, seed=1), len(tokenizer)).state_dict()
    assert any(not torch.equal(value, other[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        before = language_model_loss(model, chunks["prose"][:8], 64).item()
    record = pretrain(spec(architecture), model, chunks)
    assert record["held_out_prose_loss"] < before - 0.1
    assert record["n_tokens"] == 30 * 4 * CONTEXT


def test_pre_training_is_deterministic(chunks, tokenizer):
    records = []
    for _ in range(2):
        model = build_model(spec(n_steps=5), len(tokenizer))
        record = pretrain(spec(n_steps=5), model, chunks)
        del record["seconds"]
        records.append(record)
    assert records[0] == records[1]


def test_the_saved_model_is_an_ordinary_folder(tmp_path, tokenizer):
    model = build_model(spec("t5"), len(tokenizer))
    with torch.no_grad():
        expected = model(
            input_ids=torch.tensor([[5, 6, 7]]), decoder_input_ids=torch.tensor([[0, 9]])
        ).logits
    save(spec("t5"), model, tokenizer, {"held_out_prose_loss": 3.5}, tmp_path)
    source = ModelSource(str(tmp_path / "tiny"))
    loaded = source.load_model().eval()
    with torch.no_grad():
        logits = loaded(
            input_ids=torch.tensor([[5, 6, 7]]), decoder_input_ids=torch.tensor([[0, 9]])
        ).logits
    assert torch.allclose(logits, expected, atol=2e-2 * float(expected.abs().max()))
    record = json.loads((tmp_path / "tiny" / "pretraining.json").read_text())
    assert record["architecture"] == "t5"
    assert record["n_params"] == source.n_params
    assert record["held_out_prose_loss"] == 3.5
    assert source.load_tokenizer()("the cat")["input_ids"] == tokenizer("the cat")["input_ids"]


def test_the_tokenizer_loses_nothing_and_is_deterministic(tokenizer, pairs):
    for text in ["The cat", "größe 猫 🦊\t\n  two  spaces", "\x00\x7f"]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    texts = {"prose": [a for a, _ in pairs], "code": [b for _, b in pairs]}
    assert train_tokenizer(texts, 384).get_vocab() == tokenizer.get_vocab()


def test_chunks_are_the_stream_of_ended_documents(tokenizer):
    documents = ["the old cat eats the small dog " * 10, "another one " * 40]
    rows = token_chunks(tokenizer, documents)
    stream = [i for text in documents for i in [*tokenizer(text)["input_ids"], 2]]
    assert rows.shape == (len(stream) // CONTEXT, CONTEXT)
    assert rows.flatten().tolist() == stream[: rows.numel()]


@pytest.mark.parametrize("architecture", ["gpt2", "t5"])
def test_the_loss_is_cross_entropy_of_the_predicted_tokens(architecture, tokenizer, chunks):
    model = build_model(spec(architecture), len(tokenizer)).eval()
    rows, split = chunks["prose"][:3], 40
    with torch.no_grad():
        loss = language_model_loss(model, rows, split).item()
        if architecture == "t5":
            given = torch.cat([torch.zeros(3, 1, dtype=torch.long), rows[:, split:-1]], dim=1)
            logits = model(input_ids=rows[:, :split], decoder_input_ids=given).logits
            labels = rows[:, split:]
        else:
            logits, labels = model(input_ids=rows).logits[:, :-1], rows[:, 1:]
    log_p = torch.log_softmax(logits.double(), dim=-1)
    expected = -log_p.gather(2, labels.unsqueeze(2)).mean().item()
    assert loss == pytest.approx(expected, rel=1e-5)
    assert expected == pytest.approx(math.log(len(tokenizer)), rel=0.3)


def test_pre_training_text_is_of_modules_that_no_pair_comes_from(tmp_path, monkeypatch):
    root = tmp_path / "zoopkg"
    root.mkdir()
    for i in range(60):
        doc = f"Module {i} has a documentation that is long enough to be taken for it, number {i}."
        (root / f"m{i}.py").write_text(f'"""{doc}"""\n\n\n\nX{i} = "{"y" * 80}"\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    from lensllm.data.docstrings import split_of

    shares = {"pretrain": 0.3, "validation": 0.1, "test": 0.1, "train": 0.5}
    expected = {i for i in range(60) if split_of(f"zoopkg.m{i}", shares, 4) == "pretrain"}
    texts = pretraining_texts(["zoopkg"], 0.3, 4)
    assert 5 < len(expected) < 30
    assert {int(text.split()[1]) for text in texts["prose"]} == expected
    assert {int(text.split("X")[1].split(" ")[0]) for text in texts["code"]} == expected
    assert not any("\n\n" in text for text in texts["code"])
    assert texts == pretraining_texts(["zoopkg"], 0.3, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prose": 1.5}, "with a sum up to 1 for tiny, got 1.5 and 0.0"),
        ({"n_heads": 3}, "divide the width of tiny, got 16 and 3"),
    ],
)
def test_bad_shapes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        spec(**changes)


def test_unknown_architectures_are_refused():
    with pytest.raises(ValueError, match="gpt2, opt, gpt_neox, llama, t5, bart, got 'rnn'"):
        build_model(spec("rnn"), 100)
