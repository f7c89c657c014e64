"""Fine-tune the model that a campaign chose on all the data, and save it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from lensllm.commands.conf import conf_dir
from lensllm.commands.config import FinetuneConfig, SelectConfig
from lensllm.commands.config_checks import check_config
from lensllm.commands.entry import entry_point, instantiate_finetune_runner
from lensllm.commands.targets import check_targets
from lensllm.system.limits import load_yaml

if TYPE_CHECKING:
    from lensllm.execution.finetune import FineTuneRunner


@entry_point("finetune", FinetuneConfig)
def main(cfg: DictConfig) -> None:
    """Fine-tune, write the model folder with its card, and say whether the prediction held."""
    from lensllm.api.winner import finetune_and_describe
    from lensllm.execution.selection_file import find_selection, read_selection
    from lensllm.reports.console import say
    from lensllm.reports.winner_card import winner_sentence

    path = find_selection(cfg.selection, Path(cfg.paths.output_dir) / "select")
    record, changes = read_selection(path), cfg.settings
    if cfg.logger is not None:  # `logger=none` is an empty one
        record = {**record, "settings": {**record["settings"], "logger": {}}}
        trackers = OmegaConf.to_container(cfg.logger, resolve=True)
        changes = OmegaConf.merge({"logger": trackers}, changes)
    winner = finetune_and_describe(
        recorded_runner(record, changes, list(cfg.allowed_targets)),
        record,
        Path(cfg.output),
        candidate=cfg.candidate,
        confirm=cfg.confirm,
        merge=cfg.merge,
    )
    say(winner_sentence(winner))
    if record.get("data", {}).get("classes") and "accuracy" not in winner.result.measures:
        say("'+settings.runner.measuring.also=[accuracy]' measures its accuracy as well")


def recorded_runner(
    record: Mapping[str, Any], changes: Any = None, allowed: Sequence[str] = ()
) -> FineTuneRunner:
    """A runner with the settings of a campaign.

    Args:
        record: The campaign's `selection.json`, see `read_selection`.
        changes: Changes to its settings.
        allowed: Modules that the user trusts, see `check_targets`.

    Raises:
        ValueError: The settings name a target that is not allowed, or are not of a campaign that
            fine-tunes, or its data were in memory.
    """
    own = OmegaConf.merge(OmegaConf.create(_related(record["settings"])), changes or {})
    assert isinstance(own, DictConfig)
    check_config(own, SelectConfig)
    check_targets(own, allowed)
    if "_target_" not in own.dataset:
        raise ValueError(
            "Expected a campaign whose data are on disk, got one on a TextData: fine-tune with the "
            "result that `lensllm.select` returned, or give it rows or a path"
        )
    return instantiate_finetune_runner(own)


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
