"""What decides the outcome of a trial beside the model, the data and the optimizer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from lensllm.finetune.encoding import PROMPT
from lensllm.finetune.truncation import TruncationSide, check_side

FEWEST_PAIRS = 50
FEWEST_EVALUATIONS = 2


@dataclass(frozen=True)
class TrainingSettings:
    """What decides the outcome of a trial beside the model, the data and the optimizer.

    Attributes:
        batch_size: Examples per optimizer step.
        max_epochs: Passes over the subset.
        patience: Evaluations without a better validation loss after which training stops.
        n_evaluations: Evaluations on the validation set, evenly spread over the run.
        evaluation_batch_size: Examples per batch of validation and test.
        evaluation_share: Most of a whole run's FLOPs that validation may take, in (0, 1): on small
            subsets fewer validation pairs are looked at, and less often (see `validation`). `None`
            looks at all of them every time.
        prompt: Text around the input, see `PairEncoder`.
        truncation_side: Where inputs that are too long are cut: `right`, at their end; `left`, at
            their beginning; `drop` leaves pairs out that are too long. It enters a trial's key
            through the encoding.
        micro_batch_size: Most examples that go through the model at once; a batch is cut into
            equal parts whose gradients are added up. `auto` takes as many as memory allows, `None`
            whole batches. It changes rounding, and what dropout drops.
        gradient_checkpointing: Recompute activations in the backward pass instead of storing them;
            the only setting here that changes no number, and so the only one that is not in a
            trial's key.
        compile: Compile the model with `torch.compile`.

    Raises:
        ValueError: A number is not positive, or a value is not of its kind.
    """

    batch_size: int = 16
    max_epochs: int = 3
    patience: int = 3
    n_evaluations: int = 6
    evaluation_batch_size: int = 64
    evaluation_share: float | None = 0.25
    prompt: str = PROMPT
    truncation_side: TruncationSide = "right"
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
            if isinstance(value, bool) or not isinstance(value, int):
                kinds = ", auto or null" if name == "micro_batch_size" else ""
                raise ValueError(f"Expected a whole number{kinds} as `{name}`, got {value!r}")
            if value <= 0:
                raise ValueError(f"Expected `{name}` > 0, got {value}")
        share = self.evaluation_share
        is_number = isinstance(share, int | float) and not isinstance(share, bool)
        if share is not None and not (is_number and 0 < share < 1):
            raise ValueError(f"Expected training.evaluation_share in (0, 1) or null, got {share!r}")
        for name in ("gradient_checkpointing", "compile"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(
                    f"Expected training.{name} to be true or false, got {getattr(self, name)!r}"
                )
        if not isinstance(self.prompt, str):
            raise ValueError(
                f"Expected a text that contains {{input}}, or chat, as training.prompt, got "
                f"{self.prompt!r}"
            )
        check_side(self.truncation_side)

    def n_steps(self, n_samples: int) -> int:
        """Optimizer steps of a whole run on `n_samples`."""
        return self.max_epochs * -(-n_samples // self.batch_size)

    def validation(self, n_samples: int, n_pairs: int) -> tuple[int, int]:
        """Number of evaluations of a run on `n_samples`, and of the validation pairs used in each.

        With pairs of equal length, training costs 6 and evaluation 2 FLOPs per parameter and token,
        so that validation takes the share s when (evaluations · pairs) is
        s / (1 − s) · 3 · epochs · D. First fewer pairs are taken, but no fewer than `FEWEST_PAIRS`,
        then fewer evaluations, but no fewer than `FEWEST_EVALUATIONS`. The pairs are the first of
        the validation set, the same for all candidates.

        Returns:
            Evaluations, and pairs in each.

        Example:
            >>> settings = TrainingSettings(evaluation_share=0.25)
            >>> [settings.validation(n, 300) for n in (12, 200, 400, 800)]
            [(2, 50), (6, 100), (6, 200), (6, 300)]
        """
        if self.evaluation_share is None or not n_samples:
            return self.n_evaluations, n_pairs
        share = self.evaluation_share
        most = share / (1.0 - share) * 3.0 * self.max_epochs * n_samples
        pairs = min(n_pairs, max(FEWEST_PAIRS, int(most / self.n_evaluations)))
        fewest = min(self.n_evaluations, FEWEST_EVALUATIONS)
        return min(self.n_evaluations, max(fewest, int(most / pairs))), pairs

    def n_parts(self, world_size: int = 1) -> int:
        """Micro-batches per batch in each of `world_size` processes."""
        if not isinstance(self.micro_batch_size, int):
            return 1
        return max(1, -(-self.batch_size // (self.micro_batch_size * world_size)))

    def decisive(self, n_samples: int) -> dict[str, Any]:
        """The settings that a trial's outcome depends on; without training, those of evaluation."""
        values = asdict(self)
        del values["gradient_checkpointing"], values["truncation_side"]
        if n_samples == 0:
            names = ("evaluation_batch_size", "prompt", "compile")
            return {name: values[name] for name in names}
        return values
