"""From a campaign to a model folder that plain transformers read."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lensllm.commands import finetune, select


def words(folder, jsonl_300, models):
    return (
        "dataset=jsonl",
        f"dataset.path={jsonl_300}",
        f"candidates.models=[{','.join(map(str, models))}]",
        "n_samples_full=100",
        "sizes=[25,50]",
        "budget.fraction=1.0",
        "selector=sub_tuning",
        "training.max_epochs=1",
        "logger=none",
        f"paths.output_dir={folder}",
        f"paths.store_dir={folder / 'trials'}",
        f"hydra.run.dir={folder / 'campaign'}",
    )


def direct_loss(folder, pairs, prompt, merge=None):
    """Mean loss per target token by plain transformers, one pair at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    total, count = 0.0, 0
    for text, target in pairs:
        source = tokenizer(prompt.format(input=text), add_special_tokens=True)["input_ids"]
        labels = tokenizer(target, add_special_tokens=False)["input_ids"]
        labels = [*labels, tokenizer.eos_token_id]
        ids = torch.tensor([source + labels])
        with torch.no_grad():
            logits = model(ids).logits[0, len(source) - 1 : -1]
        total += torch.nn.functional.cross_entropy(
            logits, torch.tensor(labels), reduction="sum"
        ).item()
        count += len(labels)
    return total / count


@pytest.mark.parametrize("method", ["", "+lora"])
def test_the_folder_gives_the_reported_loss(
    method, tmp_path, jsonl_300, model_folders, run_main, monkeypatch
):
    models = [f"{model_folders[name]}{method}" for name in ("gpt2", "opt")]
    monkeypatch.chdir(tmp_path)
    done = run_main(select.main, *words(tmp_path, jsonl_300, models))
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "campaign" / "selection.json").read_text())
    done = run_main(
        finetune.main,
        f"selection={tmp_path / 'campaign'}",
        f"output={tmp_path / 'model'}",
        "merge=true",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert done.code == 0, done.err
    assert f"The model is in {tmp_path / 'model'}" in " ".join(done.out.split())
    card = (tmp_path / "model" / "README.md").read_text()
    assert "base_model: " in card
    assert not re.search("Next trial|More data|For now|FOLDER", card)
    answers = []
    exec(re.search(r"```python\n(.+?)```", card, re.DOTALL)[1], {"print": answers.append})
    assert [type(answer) for answer in answers] == [str]
    settings = record["settings"]
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    data = instantiate(OmegaConf.create(settings["dataset"]))
    stored = [json.loads(p.read_text()) for p in (tmp_path / "trials").glob("*.json")]
    (full,) = [t for t in stored if t["trial"]["n_samples"] == 100]
    assert full["trial"]["model"] == record["selected"]
    found = direct_loss(tmp_path / "model", data.test, settings["training"]["prompt"])
    assert found == pytest.approx(full["test_loss"], abs=1e-5)


def test_an_adapter_names_its_base(tmp_path, jsonl_300, model_folders, run_main, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = [f"{model_folders['gpt2']}+lora", str(model_folders["opt"])]
    tracked = [*words(tmp_path, jsonl_300, models), "logger=csv"]
    tracked.remove("logger=none")
    assert run_main(select.main, *tracked).code == 0
    runs = set((tmp_path / "csv").iterdir())
    record = json.loads((tmp_path / "campaign" / "selection.json").read_text())
    (name,) = [e["model"] for e in record["ranking"] if e["model"].endswith("+lora")]
    done = run_main(
        finetune.main,
        f"selection={tmp_path / 'campaign' / 'selection.json'}",
        f"output={tmp_path / 'adapter'}",
        f"candidate={name}",
        "logger=none",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert done.code == 0, done.err
    assert set((tmp_path / "csv").iterdir()) == runs
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert Path(config["base_model_name_or_path"]) == model_folders["gpt2"]
    from peft import AutoPeftModelForCausalLM

    model = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
    trained = [w for n, w in model.named_parameters() if "lora_B" in n]
    assert trained
    assert any(w.abs().max() > 0 for w in trained)


def test_the_better_of_two_contenders_is_kept(
    tmp_path, jsonl_300, model_folders, run_main, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    models = [model_folders[name] for name in ("gpt2", "opt")]
    assert run_main(select.main, *words(tmp_path, jsonl_300, models)).code == 0
    done = run_main(
        finetune.main,
        f"selection={tmp_path / 'campaign'}",
        f"output={tmp_path / 'model'}",
        "confirm=2",
        "logger=csv",  # the campaign had none
        f"paths.output_dir={tmp_path / 'own'}",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert done.code == 0, done.err
    assert len(list((tmp_path / "own" / "csv").glob("*/*/hparams.yaml"))) == 2
    stored = [json.loads(p.read_text()) for p in (tmp_path / "trials").glob("*.json")]
    full = {t["trial"]["model"]: t["test_loss"] for t in stored if t["trial"]["n_samples"] == 100}
    assert len(full) == 2
    best, other = sorted(full, key=full.get)
    text = " ".join(done.out.split())
    assert f"Fine-tuned {best} on 100 samples" in text
    assert f"{other} reached {full[other]:.4f}" in text
    assert not list(tmp_path.glob(".writing-*"))


def test_a_contender_that_fails_costs_no_other_its_model(
    tmp_path, jsonl_300, model_folders, run_main, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    models = [shutil.copytree(model_folders[name], tmp_path / name) for name in ("gpt2", "opt")]
    assert run_main(select.main, *words(tmp_path, jsonl_300, models)).code == 0
    record = json.loads((tmp_path / "campaign" / "selection.json").read_text())
    second = record["ranking"][1]["model"]
    weights = tmp_path / second / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    arguments = (f"selection={tmp_path / 'campaign'}", f"hydra.run.dir={tmp_path / 'run'}")
    done = run_main(finetune.main, *arguments, f"output={tmp_path / 'model'}", "confirm=2")
    assert done.code == 0, done.err
    text = " ".join(done.out.split())
    assert f"Fine-tuned {record['selected']} on 100 samples" in text
    assert f"{second} failed: " in text
    AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    alone = run_main(
        finetune.main, *arguments, f"output={tmp_path / 'other'}", f"candidate={second}"
    )
    assert alone.code == 2
    assert second in alone.err
    assert not (tmp_path / "other").exists()


def test_what_cannot_be_kept_is_refused(tmp_path, jsonl_300, model_folders, run_main, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = [model_folders[name] for name in ("gpt2", "opt")]
    assert run_main(select.main, *words(tmp_path, jsonl_300, models)).code == 0
    selection = f"selection={tmp_path / 'campaign'}"
    run = f"hydra.run.dir={tmp_path / 'run'}"
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    for arguments, message in (
        ((selection, f"output={full}"), "Expected a new or an empty folder"),
        ((selection, f"output={tmp_path / 'm'}", "candidate=bert"), "Expected a candidate among"),
        (
            (f"selection={tmp_path / 'TIME'}", f"output={tmp_path / 'm'}"),
            f"which is no file: the latest campaign there is selection={tmp_path / 'campaign'}",
        ),
        ((selection,), "output"),
    ):
        done = run_main(finetune.main, *arguments, run)
        assert done.code == 2, done.err
        assert message in done.err
        assert len(done.err.splitlines()) == 1, done.err
    lines = Path(jsonl_300).read_text().splitlines()
    changed = tmp_path / "changed.jsonl"
    changed.write_text("\n".join(lines[1:]) + "\n")
    done = run_main(
        finetune.main,
        selection,
        f"output={tmp_path / 'm'}",
        f"+settings.dataset.path={changed}",
        run,
    )
    assert done.code == 2
    assert "has changed since" in done.err
    assert not (tmp_path / "m").exists()
