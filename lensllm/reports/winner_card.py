"""The sentence and the model card of a model that was fine-tuned on all the data."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from lensllm import __version__
from lensllm.execution.winner import Winner
from lensllm.finetune.adapters import FULL
from lensllm.system.harmless import one_row, plain


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
    source, result = winner.source, winner.result
    method = source.finetune or FULL
    is_adapter = not method.is_full and (winner.folder / "adapter_config.json").is_file()
    base = plain(source.source)
    trial = result.trial
    pipeline = "text2text-generation" if source.is_encoder_decoder else "text-generation"
    training = record["settings"].get("training", {})
    rows = {
        "base model": base + (f" at {source.commit}" if source.commit else ""),
        "method": method.method,
        "data": f"{trial.dataset}, {trial.n_samples} training samples",
        "seed": str(trial.seed),
        winner.measure.label: winner.measure.words(winner.value, 6),
        "predicted before": f"{winner.predicted:.4f} ({winner.lower80:.4f} to "
        f"{winner.upper80:.4f} with 80 %)",
        "loss per target token": f"{result.test_loss:.6f} nats",
        "loss per byte": f"{result.test_loss_per_byte:.6f} nats",
        "steps": f"{result.n_steps}, the weights of step {result.best_step} kept",
        "batch size": str(training.get("batch_size", "")),
        "prompt": f"`{json.dumps(training.get('prompt', ''), ensure_ascii=False)}`",
    }
    table = "\n".join(f"| {key} | {_cell(value)} |" for key, value in rows.items())
    loader = "AutoModelForSeq2SeqLM" if source.is_encoder_decoder else "AutoModelForCausalLM"
    loading = (
        f"from transformers import AutoTokenizer, {loader}\n"
        f'model = {loader}.from_pretrained("FOLDER")\n'
    )
    return (
        "---\n"
        f"base_model: {json.dumps(base)}\n"
        f"library_name: {'peft' if is_adapter else 'transformers'}\n"
        f"pipeline_tag: {pipeline}\n"
        "tags: [lensllm]\n"
        "---\n\n"
        f"# {plain(trial.model)}, fine-tuned on {plain(trial.dataset)}\n\n"
        f"{_answer(record)}\n\n"
        f"| | |\n|---|---|\n{table}\n\n"
        f"```python\n{loading}"
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n'
        "```\n\n"
        "The licence is that of the base model and of the data. Chosen and fine-tuned by lensllm "
        f"{__version__}.\n"
    )


def _answer(record: Mapping[str, Any]) -> str:
    """The answer of the campaign: its sentence, and its notes as a list."""
    notes = [f"- {note['label']}: {one_row(note['text'])}" for note in record.get("notes", ())]
    parts = [plain(str(record.get("sentence", ""))), plain("\n".join(notes))]
    return "\n\n".join(part for part in parts if part)


def _cell(value: object) -> str:
    """A value as a cell of a Markdown table."""
    return one_row(str(value)).replace("|", "\\|")
