"""The chosen model, fine-tuned on all the data, with its model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lensllm.execution.finetune import FineTuneRunner
from lensllm.execution.winner import Winner, finetune_winner
from lensllm.reports.winner_card import winner_card
from lensllm.system.atomic import write_whole


def finetune_and_describe(
    runner: FineTuneRunner,
    record: Mapping[str, Any],
    folder: Path,
    *,
    candidate: str | None = None,
    confirm: int = 1,
    merge: bool = False,
) -> Winner:
    """Fine-tune the chosen candidate and write its model folder, model card included.

    Args:
        runner: A runner with the campaign's settings.
        record: The campaign's `selection.json`.
        folder: A new or empty folder for the model.
        candidate: Which candidate; `None` for the chosen one.
        confirm: Number of contenders to fine-tune in full; the best one is kept.
        merge: Whether adapters are merged into the weights.

    Raises:
        ValueError: See `finetune_winner`.
        NoCandidateError: No trial completed.
        StorageError: The folder cannot be written.
    """
    winner = finetune_winner(runner, record, folder, candidate, confirm, merge)
    write_whole(folder / "README.md", winner_card(winner, record))
    return winner
