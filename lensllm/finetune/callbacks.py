"""User-defined Lightning callbacks, which run in a trial beside its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pytorch_lightning import callbacks as pl_callbacks

from lensllm.finetune.trial_keys import describe

MakeCallback = Callable[[], pl_callbacks.Callback]

# Callbacks that only observe and do not change results.
_WATCHING = (
    pl_callbacks.DeviceStatsMonitor,
    pl_callbacks.LearningRateMonitor,
    pl_callbacks.ModelSummary,
    pl_callbacks.ProgressBar,
    pl_callbacks.ThroughputMonitor,
)
# Callbacks that a trial refuses, and the setting to change instead.
_REFUSED = {
    pl_callbacks.Checkpoint: "runner.checkpoint_minutes says how often a trial is saved",
    pl_callbacks.Timer: "a limit that depends on the machine's speed is not reproducible: "
    "trainer.max_steps",
}


@dataclass(frozen=True)
class WithCallbacks:
    """Makes trainers with additional callbacks, created anew for each trainer.

    Attributes:
        make: Makes a trainer.
        callbacks: Each makes a callback.
    """

    make: Callable[..., Any]
    callbacks: tuple[MakeCallback, ...]

    @property
    def keywords(self) -> dict[str, Any]:
        """Keyword arguments bound by `make`, as in a `functools.partial`."""
        return dict(getattr(self.make, "keywords", {}))

    def __call__(self, callbacks: Sequence[Any] = (), **options: Any) -> Any:
        """Make a trainer; the given callbacks come first."""
        return self.make(callbacks=[*callbacks, *(make() for make in self.callbacks)], **options)


def as_callbacks(given: Mapping[str, MakeCallback] | None) -> tuple[MakeCallback, ...]:
    """Check the factories of the callbacks in a config group.

    Args:
        given: Factories under names of the user's choice, made by Hydra from `_partial_: true`.

    Raises:
        ValueError: One is not a callback, is refused in a trial, or has arguments that cannot be
            told apart in a trial's key.
    """
    made = tuple((given or {}).values())
    for name, make in (given or {}).items():
        kind = _kind(make)
        if not (isinstance(kind, type) and issubclass(kind, pl_callbacks.Callback)):
            raise ValueError(
                f"Expected a Lightning callback with `_partial_: true` as callbacks.{name}, got "
                f"{make!r}: every trial has new ones"
            )
        for refused, way in _REFUSED.items():
            if issubclass(kind, refused):
                raise ValueError(f"Expected no {kind.__name__} as callbacks.{name}: {way}")
    callback_settings(made)
    return made


def callback_settings(callbacks: Sequence[MakeCallback]) -> list[dict[str, Any]]:
    """Settings for a trial's key: names and arguments of callbacks that do not only observe."""
    return [
        describe(make, "callbacks") for make in callbacks if not issubclass(_kind(make), _WATCHING)
    ]


def _kind(make: Any) -> Any:
    while isinstance(make, partial):
        make = make.func
    return make
