"""Lightning callbacks of the user's own, which a trial has beside its own ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pytorch_lightning import callbacks as pl_callbacks

from lensllm.finetune.trial_keys import describe

MakeCallback = Callable[[], pl_callbacks.Callback]

# Those that look on and change no number.
_WATCHING = (
    pl_callbacks.DeviceStatsMonitor,
    pl_callbacks.LearningRateMonitor,
    pl_callbacks.ModelSummary,
    pl_callbacks.ProgressBar,
    pl_callbacks.ThroughputMonitor,
)
# Those that a trial has no use for, and the setting to change instead.
_REFUSED = {
    pl_callbacks.Checkpoint: "runner.checkpoint_minutes says how often a trial is saved",
    pl_callbacks.Timer: "what hangs on the machine's speed cannot be repeated: trainer.max_steps",
}


@dataclass(frozen=True)
class WithCallbacks:
    """Makes trainers that have further callbacks, new ones each time.

    Attributes:
        make: To a trainer.
        callbacks: Each to a callback.
    """

    make: Callable[..., Any]
    callbacks: tuple[MakeCallback, ...]

    @property
    def keywords(self) -> dict[str, Any]:
        """Those that `make` binds, as a `functools.partial` has them."""
        return dict(getattr(self.make, "keywords", {}))

    def __call__(self, callbacks: Sequence[Any] = (), **options: Any) -> Any:
        """A trainer with the given callbacks first."""
        return self.make(callbacks=[*callbacks, *(make() for make in self.callbacks)], **options)


def as_callbacks(given: Mapping[str, MakeCallback] | None) -> tuple[MakeCallback, ...]:
    """What makes the callbacks of a config group, checked.

    Args:
        given: By names of the user's choice; what `_partial_: true` makes of a YAML.

    Raises:
        ValueError: One is no callback, one that a trial must not have, or one of which two could
            not be told apart.
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
    """What callbacks decide about a trial: names and arguments of all that do not just look on."""
    return [
        describe(make, "callbacks") for make in callbacks if not issubclass(_kind(make), _WATCHING)
    ]


def _kind(make: Any) -> Any:
    while isinstance(make, partial):
        make = make.func
    return make
