"""Commands as functions of Python: `select`, and `load_result`, which reopens what it wrote."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict
from rich.console import Console

from lensllm.api.campaign import run_selection
from lensllm.api.data_files import data_path
from lensllm.api.reopen import read_result
from lensllm.api.result import Result
from lensllm.commands.conf import conf_dir
from lensllm.commands.config import SelectConfig
from lensllm.commands.config_checks import check_config
from lensllm.commands.entry import instantiate_loggers, instantiate_runner, prepare
from lensllm.commands.finetune import recorded_runner
from lensllm.commands.keywords import configure
from lensllm.commands.select import campaign_options
from lensllm.core.amounts import read_amount
from lensllm.core.protocols import Executor
from lensllm.data.pairs import TextData
from lensllm.finetune.hopeless import refuse_hopeless
from lensllm.reports.progress import CampaignBar
from lensllm.selectors.base import Selector
from lensllm.system.harmless import stored_settings

if TYPE_CHECKING:
    import datasets
    import pandas as pd

    Rows: TypeAlias = (
        str
        | Path
        | datasets.Dataset
        | datasets.DatasetDict
        | pd.DataFrame
        | Sequence[Mapping[str, Any]]
        | Sequence[tuple[str, str]]
    )


def select(
    data: Rows | TextData | None = None,
    models: Sequence[str | Path | Mapping[str, Any]] | None = None,
    budget: float | str = "10%",
    *,
    validation_data: Rows | None = None,
    test_data: Rows | None = None,
    selector: str | Mapping[str, Any] | Selector = "adaptive",
    executor: str | Mapping[str, Any] | Executor = "local",
    output: str | Path | None = None,
    **options: Any,
) -> Result:
    """Tell which of several models to fine-tune, after fine-tuning as little as possible.

    Args:
        data: The data: the path of a file, folder or pattern; a `datasets.Dataset` or
            `DatasetDict`; a pandas DataFrame; a list of dicts, or of (input, target) pairs; a
            `TextData`; or the name of a data set that comes with the project. The format is
            recognised by its fields. What is in memory is also written to `data` in the store's
            folder.
        models: The candidates: folders, ids of the Hub, names of the project's small models, or
            dicts with their settings. `None`: all of these small models.
        budget: What the campaign may spend, see `lensllm.core.amounts`.
        validation_data: Data for early stopping, like `data`; by default a part of `data`.
        test_data: Data for the test loss, like `data`; by default a part of `data`.
        selector: Name of a selector, {name: settings}, or a `Selector`.
        executor: Name of an executor, {name: settings}, or an `Executor`.
        output: Output folder; by default a new one in `outputs/select`.
        **options: Any setting of the command `lensllm select` by the last part of its key, with the
            command's defaults: `learning_rate`, `batch_size`, `epochs`, `prompt`, `sizes`,
            `n_samples_full`, `seed`, `measure`, `store`, ... A group takes the name of one of its
            files (`finetune="lora"`, `trainer="gpu"`), or a dict of settings
            (`dataset={"test_fraction": 0.3}`).

    Returns:
        The result.

    Raises:
        TypeError: There is no such option, or the data are of another kind.
        ValueError: A value is out of range, or the budget pays for no trial.
        NoCandidateError: No candidate can be run.

    Example:
        >>> import lensllm
        >>> import tempfile
        >>> options = {"runner": "replay", "replay": {"dataset": "docstrings"}}
        >>> result = lensllm.select(budget="10%", output=tempfile.mkdtemp(), **options)
        >>> result.best
        'llama-64x3'
    """
    started = time.monotonic()
    given = dict(options)
    objects: dict[str, Any] = {}
    for name, value, kind in (("selector", selector, Selector), ("executor", executor, Executor)):
        (objects if isinstance(value, kind) else given)[name] = value
    if models is not None:
        given["candidates"] = {"custom": {"models": list(models)}}
    if data is not None:
        given["dataset"] = _dataset(data, options.get("dataset", {}))
    cfg, set_keys = configure("select", {**given, "budget": {"limit": budget}})
    in_memory = data if isinstance(data, TextData) else None
    splits = {"validation": validation_data, "test": test_data}
    has_path = "path" in cfg.dataset.keys()  # noqa: SIM118 - also one without a value
    is_own = data is not None and in_memory is None and has_path
    with open_dict(cfg):
        for name, value in objects.items():
            cfg[name] = {"object": repr(value)}
        if in_memory is not None:
            cfg.dataset = {"name": in_memory.name, "fingerprint": in_memory.fingerprint}
            set_keys["dataset"] = in_memory.name
        elif is_own:
            cfg.dataset.path = data_path(data, Path(cfg.paths.store_dir) / "data", **splits)
    if not is_own and any(rows is not None for rows in splits.values()):
        raise TypeError(
            "Expected validation_data and test_data with data of your own in rows or files, got "
            "them with a data set that has its splits"
        )
    folder = _new_folder(cfg) if output is None else Path(output)
    with _plain_errors():
        refuse_hopeless(cfg)
        check_config(cfg, SelectConfig, set_keys)
        if in_memory is None:
            prepare(cfg)
        runner = instantiate_runner(cfg, in_memory, folder.name)
        is_recorded = "data" not in cfg.runner  # which needs no run of a tracker
        makers = {} if is_recorded else instantiate_loggers(cfg, group=folder.name)
        result = run_selection(
            objects.get("selector") or instantiate(cfg.selector),
            runner,
            read_amount(budget),
            objects.get("executor") or instantiate(cfg.executor),
            folder,
            stored_settings(cfg),
            **campaign_options(cfg),
            started=started,
            show=_bar,
            make_loggers=makers,
        )
    return replace(result, make_runner=lambda: runner)


def load_result(folder: str | Path) -> Result:
    """The result of an earlier campaign, from its output folder.

    Args:
        folder: The folder, or its `selection.json`.

    Raises:
        FileNotFoundError: There is no `selection.json`.
        ValueError: It is not of a campaign, or of an older format.
    """
    result, record = read_result(Path(folder))
    return replace(result, make_runner=lambda: recorded_runner(record))


def _dataset(data: Any, settings: Any) -> Any:
    """The choice of a data set and its settings.

    A text that is no path may be the name of one of the project's data sets.
    """
    known = conf_dir() / "dataset"
    is_named = isinstance(data, str) and not Path(data).exists()
    if is_named and (known / f"{data}.yaml").is_file():
        return {data: settings}
    if isinstance(settings, str):
        return settings
    is_choice = len(settings) == 1 and (known / f"{next(iter(settings))}.yaml").is_file()
    if is_choice or isinstance(data, TextData):
        return settings
    name = {} if isinstance(data, str | Path) else {"name": "data"}
    return {"file": {**name, **settings}}


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Raises what went wrong in place of what Hydra and Lightning make of it."""
    try:
        yield
    except InstantiationException as error:
        cause: BaseException | None = error
        while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
            cause = cause.__cause__
        raise cause or error from None
    except SystemExit as end:  # what Lightning makes of Ctrl-C
        if isinstance(end.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


def _bar(_: Console, *known: Any) -> CampaignBar:
    return CampaignBar(Console(stderr=True), *known)


def _new_folder(cfg: DictConfig) -> Path:
    """An output folder like those of the command."""
    return Path(cfg.paths.output_dir) / "select" / f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
