"""Shared code of all entry points: the configuration, its schema, and the exit codes.

Exit codes: 0 done; 2 bad input or configuration (one line on stderr: what was expected, what came,
what to do); 130 interrupted and 143 terminated (one line as well); 1 anything else.
`LENSLLM_DEBUG=1` shows the traceback.
"""

from __future__ import annotations

import copy
import functools
import importlib.metadata
import importlib.util
import logging
import multiprocessing
import os
import re
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hydra import version
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    OmegaConfBaseException,
    ValidationError,
)

from lensllm.commands.command_line import as_meant
from lensllm.commands.conf import conf_dir
from lensllm.commands.config_checks import check_config, no_choice, unknown_key
from lensllm.commands.help import command_help
from lensllm.commands.own_code import log_traceback, place_in
from lensllm.commands.targets import check_targets
from lensllm.core.amounts import Amount, read_amount
from lensllm.system.harmless import HarmlessLog, plain, redact
from lensllm.system.interrupts import end_with, ended_by_signals, leave_if_ended
from lensllm.system.limits import bounded_yaml
from lensllm.system.progress import not_progress, note

if TYPE_CHECKING:
    from lensllm.core.protocols import Runner
    from lensllm.data.pairs import TextData
    from lensllm.execution.finetune import FineTuneRunner

BAD_INPUT = (
    ValueError,
    TypeError,
    FileNotFoundError,
    NotADirectoryError,
    HydraException,
    OmegaConfBaseException,
)

_GIVEN: list[str] = []  # the words of the command
_BEGAN: list[float] = []  # when this process began a command
_PACKAGES_OF_DATA = ("pyarrow", "torch")  # first of those that runners with data import
_LOADED: list[tuple[Any, Any]] = []  # settings and data of the run's data set


def entry_point(
    config_name: str, schema: type, positional: str = ""
) -> Callable[[Callable[[DictConfig], Any]], Callable[..., None]]:
    """Turn a function of a config into a Hydra application with the exit codes of this module.

    Args:
        config_name: Name of the primary config in `conf`.
        schema: Dataclass with the primary config's keys and types. It is in the ConfigStore as
            `<config_name>_schema`, first in the primary defaults list, and is checked again on the
            composed config (see `check_config`). Then the runner's data, if any, are loaded before
            torch is imported.
        positional: The key that a first word without `=` is the value of; none by default.

    Returns:
        A decorator. The decorated function takes the words of a command, by default those of the
        command line, and returns nothing.
    """
    ConfigStore.instance().store(name=f"{config_name}_schema", node=schema)

    def decorate(function: Callable[[DictConfig], Any]) -> Callable[..., None]:
        @functools.wraps(function)
        def task(cfg: DictConfig) -> Any:
            from lensllm.finetune.hopeless import refuse_hopeless  # not for `--help`

            if HydraConfig.get().mode == RunMode.MULTIRUN:  # whose jobs have a start of their own
                _BEGAN[:] = [time.monotonic()]
            if (owner := multiprocessing.parent_process()) is not None:  # a sweep's, with joblib
                end_with(owner.pid)
            try:
                _filter_logs()
                refuse_hopeless(cfg)
                check_config(cfg, schema)
                if "limit" in (cfg.get("budget") or {}):
                    budget_amount(cfg)  # its text is checked before data are read
                prepare(cfg)
                return function(cfg)
            except Exception as error:
                place = place_in(error, list(cfg.get("allowed_targets") or ()))
                if place:
                    error.add_note(f"(in {place})")
                if place or not isinstance(error, BAD_INPUT):
                    log_traceback(error)
                if HydraConfig.get().mode == RunMode.MULTIRUN:
                    raise
                fail(error)  # told here, before Hydra adds lines of its own

        def main(words: Sequence[str] | None = None) -> None:
            given = _GIVEN[:] = list(sys.argv[1:] if words is None else words)
            _BEGAN[:] = [time.monotonic()]
            with ended_by_signals(), bounded_yaml():
                try:
                    run_hydra(config_name, task, as_meant(given, positional))
                    _say_how_to_sync()
                except Exception as error:
                    fail(error)

        main.__doc__ = function.__doc__
        return main

    return decorate


def _filter_logs() -> None:
    """Keep secrets out of all logs, and progress, which is on the terminal already, in files."""
    for handler in logging.root.handlers:
        handler.addFilter(HarmlessLog())
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(not_progress)


def _say_how_to_sync() -> None:
    """After a command that made offline runs of W&B, print how to upload them."""
    loggers = sys.modules.get("lensllm.finetune.loggers")  # not imported: nothing was tracked
    if loggers is not None and (words := loggers.sync_words()):
        _filter_logs()  # after a sweep, Hydra has set its handlers up anew
        note(words)
        print(words, flush=True)


def run_hydra(config_name: str, task: Callable[[DictConfig], Any], words: Sequence[str]) -> None:
    """Do what `hydra.main` does, with words that need not be the whole command line.

    `sys.argv` is not changed, since Lightning uses it to start further processes of a trial.

    Raises:
        ValueError: The command would load a pickle.
    """
    # Hydra prints tracebacks and exits by itself unless asked for the whole error.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    version.setbase("1.3")
    parser = get_args_parser()
    options = parser.parse_intermixed_args(list(words))  # `--options` between settings too
    if options.help:
        print(command_help(config_name, options.config_dir))
        return
    if options.experimental_rerun is not None:
        raise ValueError(
            "Expected no --experimental-rerun, which loads a pickle: give the overrides again, "
            "those in .hydra/overrides.yaml of the run's folder"
        )
    _run_hydra(options, parser, task, str(conf_dir()), config_name)


def fail(error: Exception) -> NoReturn:
    """Print the error in one line on stderr and exit: 2 for bad input, 1 for anything else.

    After a signal it prints nothing more, since the error is a consequence of the signal.
    """
    leave_if_ended()
    if os.environ.get("LENSLLM_DEBUG") == "1":
        traceback.print_exception(error)
    if (words := missing_package(error)) is not None:
        error = ValueError(words)
    told = " ".join([one_line(error), *getattr(error, "__notes__", ())])
    print(f"error: {plain(redact(told))}", file=sys.stderr)
    sys.exit(2 if isinstance(error, BAD_INPUT) else 1)


def missing_package(error: BaseException | None) -> str | None:
    """The message for an error from a missing package that an extra of lensllm installs.

    Returns:
        The message; `None` if the error has another cause.
    """
    while error is not None and not isinstance(error, ModuleNotFoundError):
        error = error.__cause__
    package = (getattr(error, "name", None) or "").partition(".")[0].replace("_", "-")
    for line in importlib.metadata.requires("lensllm") or ():
        found = re.fullmatch(rf"{re.escape(package)}\b(?!-).*extra == \"(\w+)\"", line)
        if package and found:
            return f"Expected the package {package}, found none: pip install 'lensllm[{found[1]}]'"
    return None


def one_line(error: BaseException) -> str:
    r"""The message of an error in one line, including the cause that Hydra wrapped.

    Example:
        >>> one_line(ValueError("Expected `lr` > 0,\n  got -1"))
        'Expected `lr` > 0, got -1'
    """
    message = str(error)
    cause = error if isinstance(error, ConfigAttributeError | ConfigKeyError) else error.__cause__
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.full_key:
        appended = re.search(r"To append to your config use \+(.+)", message)
        return re.sub(r"\s+", " ", unknown_key(cause, appended.group(1) if appended else ""))
    if isinstance(cause, ValidationError) and "is not Optional" in str(cause):
        return f"Expected a value of {cause.full_key}, got null: leave {cause.full_key}=null out"
    if message.startswith("Config group override must be a string or a list"):
        return no_choice(sys.argv[1:])
    if isinstance(error, InstantiationException):
        key = re.search(r"full_key: (\S+)", message)
        cause = error.__cause__
        if isinstance(cause, InstantiationException):
            return one_line(cause)
        if cause is not None:
            message = f"{key.group(1)}: {cause}" if key else str(cause)
    elif isinstance(error, HydraException) and error.__cause__ is not None:
        message = f"{message}: {error.__cause__}"
    message = message.partition("Config search path:")[0]
    if not isinstance(error, BAD_INPUT):
        message = f"{type(error).__name__}: {message}"
    return re.sub(r"\s+", " ", message).strip()


def command_line(command: str) -> str:
    """This run as a command for a shell: as it was given, or in a sweep that of this job alone."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return shlex.join(["lensllm", command, *HydraConfig.get().overrides.task])
    return shlex.join(["lensllm", command, *_GIVEN])


def began() -> float:
    """When this process began the command, by `time.monotonic`."""
    return _BEGAN[0] if _BEGAN else time.monotonic()


def budget_amount(cfg: DictConfig) -> Amount:
    """The budget of a configuration: `limit`, else `flops`, else `fraction`.

    Raises:
        ValueError: None of them is given, or the limit is no amount.
    """
    budget = cfg.budget
    if budget.limit is not None:
        return read_amount(budget.limit)
    if budget.flops is not None:
        return Amount(budget.flops)
    if budget.fraction is None:
        raise ValueError("Expected budget.limit, budget.flops or budget.fraction, got none")
    return Amount(budget.fraction, "share")


def output_dir() -> Path:
    """The run's output folder."""
    return Path(HydraConfig.get().runtime.output_dir)


def run_group(dataset: str = "") -> str:
    """The name of the group of all tracked runs of one sweep or campaign.

    It has the command, the data set and the name of the output folder, which is a time by default.
    """
    hydra_cfg = HydraConfig.get()
    sweep = hydra_cfg.mode == RunMode.MULTIRUN
    folder = Path(hydra_cfg.sweep.dir if sweep else hydra_cfg.runtime.output_dir).name
    return " ".join(filter(None, (hydra_cfg.job.name, dataset, folder)))


def instantiate_loggers(
    cfg: DictConfig, dataset: str = "", group: str | None = None
) -> dict[str, Any]:
    """Makers of the runs of experiment trackers, by name, all in one group.

    Args:
        cfg: The configuration.
        dataset: Name of the data set.
        group: Name of the group; by default that of the command's run.
    """
    _set_group(cfg, dataset, group)
    return dict(instantiate(cfg.logger, _convert_="all") or {})


def _set_group(cfg: DictConfig, dataset: str, group: str | None = None) -> None:
    """Write the group into the settings of every tracker.

    Raises:
        ValueError: The trackers have no names.
    """
    for name, node in (cfg.get("logger") or {}).items():
        if not isinstance(node, DictConfig):
            raise ValueError(
                f"Expected trackers by name, as in logger.wandb.mode, got logger.{name}={node!r}"
            )
        with open_dict(node):
            node.group = run_group(dataset) if group is None else group


def prepare(cfg: DictConfig) -> None:
    """Load the runner's data, if any, and check all targets, which imports torch.

    Raises:
        ModuleNotFoundError: A package that fine-tuning needs is not installed.
        ValueError: The data cannot be loaded, or a target is not allowed.
    """
    _LOADED.clear()
    allowed = list(cfg.get("allowed_targets") or ())
    if "data" in (cfg.get("runner") or {}):
        for package in _PACKAGES_OF_DATA:  # their absence shows before minutes of reading data
            if importlib.util.find_spec(package) is None:
                raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        check_targets(cfg.runner.data, allowed)
        load_data(cfg)
    check_targets(cfg, allowed)


def load_data(cfg: DictConfig) -> Any:
    """The data set of a runner that fine-tunes.

    Every entry point loads it before it imports torch or queries the Hub, so that errors in a
    user's file are reported within seconds. It is kept for `instantiate_runner`.

    Raises:
        ValueError: The data set, the model or the candidates lack a value.
    """
    for group in {"dataset", "model", "candidates", "runner"}.intersection(cfg):
        for key in OmegaConf.missing_keys(cfg[group] or {}):
            raise ValueError(f"Expected a value of {key}, got none: add {key}=... to the command")
    settings = OmegaConf.to_container(cfg.runner.data, resolve=True)
    if settings not in [known for known, _ in _LOADED]:
        _LOADED[:] = [(settings, instantiate(cfg.runner.data, _convert_="all"))]
    return _LOADED[0][1]


def instantiate_runner(
    cfg: DictConfig, data: TextData | None = None, group: str | None = None
) -> Runner:
    """Build `cfg.runner`, its trial loggers grouped by sweep or campaign.

    Args:
        cfg: The configuration.
        data: The data set; by default that of the configuration.
        group: Name of the group; by default that of the command's run.

    Raises:
        ValueError: The data set, the model or the candidates lack a value.
    """
    if "data" not in cfg.runner:
        return instantiate(cfg.runner, _convert_="all")
    data = load_data(cfg) if data is None else data
    _set_group(cfg, data.name, group)
    rest = copy.copy(cfg.runner)
    with open_dict(rest):
        del rest["data"]
    return instantiate(rest, _convert_="all", _partial_=True)(data=data)


def instantiate_finetune_runner(cfg: DictConfig) -> FineTuneRunner:
    """The same for commands that always fine-tune.

    Raises:
        ValueError: As `instantiate_runner`, or `runner` does not fine-tune.
    """
    from lensllm.execution.finetune import FineTuneRunner

    runner = instantiate_runner(cfg)
    if not isinstance(runner, FineTuneRunner):
        raise ValueError(f"Expected runner=finetune, got one of the kind {type(runner).__name__}")
    return runner
