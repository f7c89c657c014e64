"""The `--help` of a command: the header of its primary file, and the choices of its groups.

Hydra's own help composes the configuration and reads every group twice, which takes a second.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from omegaconf import OmegaConf

from lensllm.commands.conf import conf_dir, header
from lensllm.system.limits import load_yaml

_WIDTH = 100


def command_help(command: str, config_dir: str | None = None) -> str:
    """The help of a command.

    Args:
        command: Its name.
        config_dir: The user's own folder of YAML files.
    """
    folders = [conf_dir(), *([Path(config_dir)] if config_dir else [])]
    lines = [
        *header(command),
        "",
        "Groups, each chosen with GROUP=NAME; in brackets the choice where none is made:",
        *_groups(command, folders),
        "",
        "Any other setting is KEY=VALUE:",
        f"  lensllm {command} --cfg job            shows them all",
        f"  lensllm {command} -m KEY=A,B           runs both, with hydra/launcher=joblib at once",
        f"  lensllm {command} --config-dir FOLDER  finds YAML files of your own",
    ]
    return "\n".join(lines)


def _groups(command: str, folders: list[Path]) -> list[str]:
    """The lines of the help on groups: one paragraph per group of the command's defaults list."""
    lines = []
    for entry in load_yaml(conf_dir() / f"{command}.yaml").defaults:
        for group, choice in entry.items() if OmegaConf.is_dict(entry) else ():
            names = sorted({path.stem for at in folders for path in (at / group).glob("*.yaml")})
            if group != "hydra":
                lines += textwrap.wrap(
                    f"{group} ({choice or 'none'}): {', '.join(names)}",
                    _WIDTH,
                    initial_indent="  ",
                    subsequent_indent="    ",
                    break_on_hyphens=False,
                )
    return lines
