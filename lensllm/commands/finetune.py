"""The winner in hand: fine-tune what a campaign chose on all the data, and keep the model."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from lensllm.commands.config import FinetuneConfig, SelectConfig
from lensllm.commands.config_checks import check_config
from lensllm.commands.entry import entry_point, instantiate_finetune_runner
from lensllm.system.atomic import write_whole


@entry_point("finetune", FinetuneConfig)
def main(cfg: DictConfig) -> None:
    """Fine-tune, write the model folder with its card, and say whether the prediction held."""
    from lensllm.execution.winner import finetune_winner, read_selection
    from lensllm.reports.console import say
    from lensllm.reports.winner_card import winner_card, winner_sentence

    record = read_selection(Path(cfg.selection))
    own = OmegaConf.merge(OmegaConf.create(record["settings"]), cfg.settings)
    assert isinstance(own, DictConfig)
    check_config(own, SelectConfig)
    runner = instantiate_finetune_runner(own)
    winner = finetune_winner(
        runner, record, Path(cfg.output), cfg.candidate, cfg.confirm, cfg.merge
    )
    write_whole(winner.folder / "README.md", winner_card(winner, record))
    say(winner_sentence(winner))
