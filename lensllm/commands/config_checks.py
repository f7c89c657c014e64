"""Checks of a composed configuration before anything is built or spent."""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from lensllm.commands.conf import conf_dir
from lensllm.commands.short_names import short_names
from lensllm.commands.unused_settings import refuse_unused
from lensllm.system.limits import walk

logger = logging.getLogger(__name__)

# Settings of `runner=command` that determine which program is run, and its arguments.
_PROGRAM = ("command", "config_files")
_MAY_BE_NAN = ("price.money_per_hour",)  # unknown by default; needed only with price.unit=money


def check_config(config: DictConfig, schema: type, given: Mapping[str, Any] | None = None) -> None:
    """Check keys, types and ranges of a composed configuration; imports none of its targets.

    Args:
        config: The configuration.
        schema: The dataclass of `lensllm.commands.config` that it has to fit.
        given: Values of the keys that the user set directly; by default the words of the command.

    Raises:
        ValueError: A value is missing or out of range, `allowed_targets` comes from a file, or a
            setting was given that the runner does not use.
        omegaconf.errors.OmegaConfBaseException: A key is unknown or a value of another type.
    """
    # Check the schema once more, since Hydra accepts `+key=value` outside it.
    OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.to_container(config))
    given = _words_of_command() if given is None else given
    allowed = list(config.get("allowed_targets") or ())
    if allowed and "allowed_targets" not in given:
        raise ValueError(
            f"Expected allowed_targets in the command only, got {allowed} from a file: a file "
            "cannot vouch for itself; if you trust these modules, add "
            f"'allowed_targets=[{','.join(allowed)}]' to the command"
        )
    _check_program(config, given)
    _check_budget(config.get("budget"), given)
    for key, value in walk(config):
        if isinstance(value, float) and not math.isfinite(value):
            if math.isnan(value) and key in _MAY_BE_NAN:
                continue
            raise ValueError(
                f"Expected a finite number as {key}, got {value}: give one, or null where there "
                "is no limit"
            )
    _check_fields(config, schema, "")
    _check_candidates(config.get("candidates"))
    training = config.get("training")
    if training is not None and not isinstance(training.get("prompt", ""), str):
        raise ValueError(
            f"Expected a text with {{input}}, or chat, as training.prompt, got {training.prompt}: "
            "training.prompt='{input}' is no prompt at all"
        )
    if training is not None and "\\n" in (training.get("prompt") or ""):
        logger.warning(
            "training.prompt has a backslash and an n, which is no new line: in a YAML file a text "
            'in double quotes has one ("{input}\\n")'
        )
    refuse_unused(config, given)


def _check_budget(budget: DictConfig | None, given: Collection[str]) -> None:
    """Check that the budget is given once; the default share does not count."""
    keys = ("budget.limit", "budget.flops", "budget.fraction")
    values = {key: budget[key.partition(".")[2]] for key in keys} if budget is not None else {}
    stated = [
        f"{key}={value}"
        for key, value in values.items()
        if value is not None and (key != "budget.fraction" or key in given)
    ]
    if len(stated) > 1:
        raise ValueError(
            f"Expected one of {', '.join(keys)}, got {' and '.join(stated)}: leave out all but one"
        )


def _check_program(config: DictConfig, given: Collection[str]) -> None:
    """Check that a program is named on the command line: a file from elsewhere could name any."""
    for key, target in walk(config):
        if not str(target).endswith(".CommandRunner"):
            continue
        if key != "runner._target_":
            raise ValueError(f"Expected {target} as runner alone, got it as {key}")
        for name in _PROGRAM:
            if config.runner.get(name) and f"runner.{name}" not in given:
                raise ValueError(
                    f"Expected runner.{name} in the command only, got {config.runner[name]} from a "
                    f"file, which could name any program; if you trust it, add 'runner.{name}=...' "
                    "to the command"
                )


def _words_of_command() -> dict[str, str]:
    words = HydraConfig.get().overrides.task if HydraConfig.initialized() else ()
    parts = (word.lstrip("+").partition("=") for word in words)
    return {key: value for key, _, value in parts}


def _check_fields(config: DictConfig, schema: type, prefix: str) -> None:
    """Check required groups, and the rules in the metadata of a schema's fields."""
    types = get_type_hints(schema)
    for field in fields(schema):
        key = prefix + field.name
        missing = OmegaConf.is_missing(config, field.name)
        value = None if missing else config.get(field.name)
        if value is None and field.metadata.get("group"):
            raise ValueError(_no_group(key))
        if is_dataclass(types[field.name]):
            _check_fields(config[field.name], types[field.name], f"{key}.")
        elif value is not None:
            _check_value(key, value, field.metadata)


def _no_group(key: str) -> str:
    """The message for a group without a choice."""
    known = sorted(path.stem for path in (conf_dir() / key).glob("*.yaml"))
    way = f"add {key}=NAME to the command, with one of {', '.join(known)}" if known else "set it"
    return f"Expected a choice of {key}, got null: {way}"


def no_choice(words: Sequence[str]) -> str:
    """The message for a command in which the choice of a group is empty.

    Args:
        words: The command's words.
    """
    for word in words:
        key, _, value = word.partition("=")
        key = key.lstrip("+").partition("@")[0]
        if value in ("null", "None", "") and (conf_dir() / key).is_dir():
            return _no_group(key)
    return "Expected the name of a file for every config group, got null: leave it out"


def _check_value(key: str, value: Any, rules: Mapping[str, Any]) -> None:
    """Check one value, or the members of a list, against the rules of its field."""
    if rules.get("measure"):
        from lensllm.core.measures import measure_named  # which imports pandas: not for `--help`

        given: Any = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        measure_named(given)
        return
    if OmegaConf.is_list(value):
        if rules.get("filled") and not len(value):
            raise ValueError(f"Expected at least one value in {key}, got []{rules['filled']}")
        for member in value:
            _check_value(key, member, {**rules, "filled": ""})
        return
    among = rules.get("among")
    if among and value not in among:
        raise ValueError(f"Expected {key} among {', '.join(map(str, among))}, got {value!r}")
    if not isinstance(value, int | float):
        return
    bounds = {
        ">": ("above", lambda bound: value > bound),
        ">=": ("least", lambda bound: value >= bound),
        "<": ("below", lambda bound: value < bound),
        "<=": ("most", lambda bound: value <= bound),
    }
    for sign, (name, holds) in bounds.items():
        if name in rules and not holds(rules[name]):
            raise ValueError(f"Expected {key} {sign} {rules[name]}, got {value:g}")


def _check_candidates(candidates: Any) -> None:
    """Check that candidates are a list of names, or of models with their settings."""
    if candidates is None or OmegaConf.is_missing(candidates, "models"):
        return
    models = candidates.get("models")
    way = "write 'candidates.models=[gpt2-48x2,opt-64x2]', with names, folders or Hub ids"
    if not OmegaConf.is_config(models):
        raise ValueError(f"Expected a list as candidates.models, got {models!r}: {way}")
    members = models.items() if OmegaConf.is_dict(models) else enumerate(models)
    for place, member in members:
        if not (OmegaConf.is_dict(member) or (isinstance(member, str) and member.strip())):
            if isinstance(member, int | float):
                way = f"a name is a text, in a file in quotes ('{member}')"
            raise ValueError(
                f"Expected a model as candidates.models[{place}], got {member!r}: {way}"
            )


def unknown_key(error: ConfigKeyError | ConfigAttributeError, override: str = "") -> str:
    """The message for an unknown key, with the nearest known one.

    Args:
        error: The error, which names the key and the part of the configuration that lacks it.
        override: The override on the command line that it came from.

    Example:
        >>> config = OmegaConf.create({"budget": {"fraction": 0.1}})
        >>> OmegaConf.set_struct(config, True)
        >>> try:
        ...     config.budget.fractoin
        ... except ConfigAttributeError as error:
        ...     unknown_key(error)
        "Expected a key of the configuration, got 'budget.fractoin': did you mean budget.fraction?"
    """
    path, name = str(error.full_key), str(error.key)
    prefix = path.removesuffix(name)
    parent = error.parent_node
    known = [str(key) for key in parent] if isinstance(parent, DictConfig) else []
    text = f"Expected a key of the configuration, got {path!r}"
    if isinstance(parent, DictConfig) and (meant := not prefix and short_names(parent).get(name)):
        return f"{text}: did you mean {meant}?"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"{text}: did you mean {prefix}{near[0]}?"
    public = [f"{prefix}{key}" for key in known if not key.startswith("_")]
    text += f"; there are {', '.join(public) or 'none'}"
    if "_target_" in known:
        target = parent._get_node("_target_")
        text += f"; another argument of {target} is given as +{override or path + '=VALUE'}"
    return text
