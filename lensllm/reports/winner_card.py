"""The sentence and the model card of a model that was fine-tuned on all the data."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from lensllm import __version__
from lensllm.execution.winner import Winner
from lensllm.finetune.adapters import FULL
from lensllm.finetune.settings import PROMPT
from lensllm.reports.words import VERDICTS
from lensllm.system.harmless import one_row, plain

# Notes that a finished model makes untrue.
_BEFORE = {"Measured", "Predicted", "Next trial", "More data"}


def winner_sentence(winner: Winner) -> str:
    """The loss reached, whether the prediction held, and where the model is."""
    trial, result = winner.result.trial, winner.result
    text = (
        f"Fine-tuned {trial.model} on {trial.n_samples} samples of {trial.dataset}: "
        f"{winner.measure.label} {winner.measure.words(winner.value)}"
    )
    if math.isfinite(winner.predicted):
        text += f"; the prediction was {winner.predicted:.4f}"
        if winner.held is not None:
            text += (
                f", 80 % interval {winner.lower80:.4f} to {winner.upper80:.4f}, which "
                f"{'contains it' if winner.held else 'does NOT contain it'}"
            )
    also = {name: found.value for name, found in result.measures.items()}
    also.pop(winner.measure.name, None)
    text += "".join(f"; {name} {value:.4f}" for name, value in also.items())
    others = "; ".join(f"{name} reached {value:.4f}" for name, value in winner.others.items())
    text += f". {others}." if others else "."
    text += "".join(f" {name} failed: {why}." for name, why in winner.failures.items())
    return f"{text} {result.seconds:.0f} s. The model is in {winner.folder}"


def winner_card(winner: Winner, record: Mapping[str, Any]) -> str:
    """The model card in Markdown, with the metadata that the Hub reads.

    Args:
        winner: The model.
        record: The campaign's `selection.json`.
    """
    source, trial = winner.source, winner.result.trial
    is_adapter = (winner.folder / "adapter_config.json").is_file()
    base = plain(source.source)
    prompt = str(record["settings"].get("training", {}).get("prompt", PROMPT))
    pipeline = "text2text-generation" if source.is_encoder_decoder else "text-generation"
    rows = _rows(winner, record, base, prompt)
    table = "\n".join(f"| {key} | {_cell(value)} |" for key, value in rows.items())
    return (
        "---\n"
        f"base_model: {json.dumps(base)}\n"
        f"library_name: {'peft' if is_adapter else 'transformers'}\n"
        f"pipeline_tag: {pipeline}\n"
        "tags: [lensllm]\n"
        "---\n\n"
        f"# {plain(trial.model)}, fine-tuned on {plain(trial.dataset)}\n\n"
        f"Fine-tuned on {trial.n_samples} samples: {winner.measure.label} "
        f"{winner.measure.words(winner.value)} on the test set.\n\n"
        "Ask it as it was trained, with the prompt around the input; its answer ends with the end "
        "token:\n\n"
        f"```python\n{_loading(winner, prompt, is_adapter)}```\n\n"
        f"| | |\n|---|---|\n{table}\n\n"
        f"{_choice(winner, record)}\n\n"
        "The licence is that of the base model and of the data. Chosen and fine-tuned by lensllm "
        f"{__version__}.\n"
    )


def _rows(winner: Winner, record: Mapping[str, Any], base: str, prompt: str) -> dict[str, str]:
    """What was measured, and how the model came about."""
    source, result = winner.source, winner.result
    rows = {winner.measure.label: winner.measure.words(winner.value, 6)}
    if math.isfinite(winner.predicted):
        rows["predicted before"] = f"{winner.predicted:.4f} ({winner.lower80:.4f} to "
        rows["predicted before"] += f"{winner.upper80:.4f} with 80 %)"
    also = {name: f"{found.value:.6f}" for name, found in result.measures.items()}
    rows |= {name: text for name, text in also.items() if name != winner.measure.name}
    return rows | {
        "loss per target token": f"{result.test_loss:.6f} nats",
        "loss per byte": f"{result.test_loss_per_byte:.6f} nats",
        "base model": base + (f" at {source.commit}" if source.commit else ""),
        "method": (source.finetune or FULL).method,
        "data": f"{result.trial.dataset}, {result.trial.n_samples} training samples",
        "seed": str(result.trial.seed),
        "steps": f"{result.n_steps}, the weights of step {result.best_step} kept",
        "batch size": str(record["settings"].get("training", {}).get("batch_size", "")),
        "prompt": f"`{json.dumps(prompt, ensure_ascii=False)}`",
    }


def _loading(winner: Winner, prompt: str, is_adapter: bool) -> str:
    """Python that loads the model from the folder above its own and answers one input."""
    is_seq2seq = winner.source.is_encoder_decoder
    loader = "ModelForSeq2SeqLM" if is_seq2seq else "ModelForCausalLM"
    loader = f"{'AutoPeft' if is_adapter else 'Auto'}{loader}"
    folder = json.dumps(winner.folder.resolve().name)
    package = "peft" if is_adapter else "transformers"
    given = f'{json.dumps(prompt, ensure_ascii=False)}.format(input="...")'
    special = ""
    if prompt == "chat":
        given = (
            'tokenizer.apply_chat_template([{"role": "user", "content": "..."}], '
            "add_generation_prompt=True, tokenize=False)"
        )
        special = ", add_special_tokens=False"
    answer = "answer[0]" if is_seq2seq else 'answer[0, given["input_ids"].shape[1] :]'
    return (
        f"from transformers import AutoTokenizer\nfrom {package} import {loader}\n\n"
        f"tokenizer = AutoTokenizer.from_pretrained({folder})\n"
        f"model = {loader}.from_pretrained({folder})\n"
        f"prompt = {given}\n"
        f'given = tokenizer(prompt, return_tensors="pt"{special})\n'
        "answer = model.generate(**given, max_new_tokens=64, do_sample=False)\n"
        f"print(tokenizer.decode({answer}, skip_special_tokens=True))\n"
    )


def _choice(winner: Winner, record: Mapping[str, Any]) -> str:
    """How the model was chosen: its probability and the verdict then, and the notes on it."""
    ranking = {entry["model"]: entry for entry in record["ranking"]}
    chance = ranking.get(winner.result.trial.model, {}).get("p_best")
    text = f"It was chosen among {len(ranking)} candidates by trials on fewer samples"
    if chance is not None:
        text += f", as the best one with probability {chance:.2f}"
    kind = (record.get("verdict") or {}).get("kind")
    text += f"; the verdict was: {VERDICTS[kind].lower()}." if kind in VERDICTS else "."
    notes = [
        f"- {note['label']}: {one_row(note['text'])}"
        for note in record.get("notes", ())
        if note["label"] not in _BEFORE
    ]
    return "\n\n".join([text, plain("\n".join(notes))] if notes else [text])


def _cell(value: object) -> str:
    """A value as a cell of a Markdown table."""
    return one_row(str(value)).replace("|", "\\|")
