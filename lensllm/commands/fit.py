"""Fit scaling laws to learning curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from lensllm.commands.config import FitConfig
from lensllm.commands.entry import entry_point, output_dir

if TYPE_CHECKING:
    from lensllm.laws import ScalingLaw


@entry_point("fit", FitConfig)
def main(cfg: DictConfig) -> None:
    """Fit, print a table, and write `fits.csv` and a figure of each curve."""
    from lensllm.core.curves import read_curves
    from lensllm.reports.console import say
    from lensllm.reports.law_report import write_law_report

    options: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    del options["paths"], options["allowed_targets"]
    curves = read_curves(options.pop("curves"), allow_missing=options.pop("allow_missing"))
    options.pop("law")
    say(write_law_report(curves, _laws(cfg), output_dir(), **options))


def _laws(cfg: DictConfig) -> tuple[ScalingLaw, ...]:
    """The laws that `law` names: one file's, or those of each file of a list."""
    from lensllm.commands.named import laws_of, named_laws

    words = HydraConfig.get().overrides.task
    chosen = [word for word in words if word.startswith("law=[")]
    if not chosen:
        return laws_of(cfg.law, cfg)
    listed: Any = OverridesParser.create().parse_override(chosen[-1]).value()
    names = [str(name) for name in listed]
    settings = [word for word in words if word.startswith("law.")]
    if settings:  # Hydra has merged the files of a list into one, of which nothing is used
        raise ValueError(
            f"Expected no settings of one law with law=[{','.join(names)}], got {settings[0]}: "
            "write a file conf/law/NAME.yaml with them, and name it"
        )
    return named_laws(names, OmegaConf.to_container(cfg))  # type: ignore[arg-type]
