"""Fine-tune the model that a campaign chose on all the data, and save it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lensllm.commands.conf import conf_dir
from lensllm.commands.config import FinetuneConfig, SelectConfig
from lensllm.commands.config_checks import check_config
from lensllm.commands.entry import entry_point, instantiate_finetune_runner
from lensllm.system.atomic import write_whole
from lensllm.system.limits import load_yaml


@entry_point("finetune", FinetuneConfig)
def main(cfg: DictConfig) -> None:
    """Fine-tune, write the model folder with its card, and say whether the prediction held."""
    from lensllm.execution.winner import finetune_winner, read_selection
    from lensllm.reports.console import say
    from lensllm.reports.winner_card import winner_card, winner_sentence

    record = read_selection(Path(cfg.selection))
    own = OmegaConf.merge(OmegaConf.create(_related(record["settings"])), cfg.settings)
    assert isinstance(own, DictConfig)
    check_config(own, SelectConfig)
    runner = instantiate_finetune_runner(own)
    winner = finetune_winner(
        runner, record, Path(cfg.output), cfg.candidate, cfg.confirm, cfg.merge
    )
    write_whole(winner.folder / "README.md", winner_card(winner, record))
    say(winner_sentence(winner))


def _related(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A campaign's settings, with the interpolations of the runner's YAML file restored.

    Stored settings are resolved, so that a change of `dataset` or `trainer` would otherwise not
    reach the runner. Those of lensllm 0.1 have one tracker, without a name.
    """
    stored, tracker = settings["runner"], settings.get("logger")
    if tracker and "_target_" in tracker:
        settings = {**settings, "logger": {"tracker": tracker}}
    for path in sorted((conf_dir() / "runner").glob("*.yaml")):
        raw: dict[str, Any] = OmegaConf.to_container(load_yaml(path))  # type: ignore[assignment]
        if raw["_target_"] == stored.get("_target_"):
            refer = {key for key, value in raw.items() if "${" in str(value)}
            runner = {**stored, **{key: raw[key] for key in refer}}
            return {**settings, "runner": runner}
    return dict(settings)
