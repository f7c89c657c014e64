"""What decides the outcome of a trial beside the model, the data and the optimizer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from lensllm.finetune.encoding import PROMPT


@dataclass(frozen=True)
class TrainingSettings:
    """What decides the outcome of a trial beside the model, the data and the optimizer.

    Attributes:
        batch_size: Examples a step.
        max_epochs: Passes over the subset.
        patience: Evaluations without a better validation loss after which training stops.
        n_evaluations: Evaluations on the validation set, evenly spread over the run.
        evaluation_batch_size: Examples a batch of validation and test; changes no result.
        prompt: Text around the input, see `PairEncoder`.
        micro_batch_size: Most examples that go through the model at once; a batch is cut into
            equal parts whose gradients are added up. `auto` takes as many as memory allows, `None`
            whole batches. Like the two below, it is a matter of memory and time, not of the
            outcome, but for rounding and for what dropout drops.
        gradient_checkpointing: Compute activations twice instead of keeping them.
        compile: Compile the model with `torch.compile`.

    Raises:
        ValueError: A number is not positive.
    """

    batch_size: int = 16
    max_epochs: int = 3
    patience: int = 3
    n_evaluations: int = 6
    evaluation_batch_size: int = 64
    prompt: str = PROMPT
    micro_batch_size: int | str | None = None
    gradient_checkpointing: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        for name in (
            "batch_size",
            "max_epochs",
            "patience",
            "n_evaluations",
            "evaluation_batch_size",
            "micro_batch_size",
        ):
            value = getattr(self, name)
            if name == "micro_batch_size" and value in (None, "auto"):
                continue
            if not isinstance(value, int):
                kinds = ", auto or null" if name == "micro_batch_size" else ""
                raise ValueError(f"Expected a whole number{kinds} as `{name}`, got {value!r}")
            if value <= 0:
                raise ValueError(f"Expected `{name}` > 0, got {value}")

    def n_steps(self, n_samples: int) -> int:
        """Optimizer steps of a whole run on `n_samples`."""
        return self.max_epochs * -(-n_samples // self.batch_size)

    def n_parts(self, world_size: int = 1) -> int:
        """Micro-batches that each of so many processes makes of a batch."""
        if not isinstance(self.micro_batch_size, int):
            return 1
        return max(1, -(-self.batch_size // (self.micro_batch_size * world_size)))

    def decisive(self) -> dict[str, Any]:
        """The settings that a trial's outcome depends on."""
        free = ("evaluation_batch_size", "micro_batch_size", "gradient_checkpointing", "compile")
        return {name: value for name, value in asdict(self).items() if name not in free}
