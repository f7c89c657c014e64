"""Limits on what a candidate may be, beside its loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lensllm.core.task import Candidate

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Limits:
    """What a model may be to be of use: candidates over a limit are left out before any trial.

    Attributes:
        max_params: Largest number of parameters.
        max_memory_gb: Largest memory of inference, in gigabytes (10⁹ bytes), see
            `lensllm.finetune.inference.inference_memory_gb`.
        licence: Licences that are allowed, as model cards name them (`apache-2.0`, `mit`);
            `unknown` allows models without one. `None` allows all.
        max_latency_ms: Largest latency in milliseconds on this machine, see
            `lensllm.finetune.inference.measure_latency`.

    Raises:
        ValueError: A limit is not above 0, or the list of licences is empty or not one of texts.
    """

    max_params: float | None = None
    max_memory_gb: float | None = None
    licence: Sequence[str] | None = None
    max_latency_ms: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_params", "max_memory_gb", "max_latency_ms"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"Expected limits.{name} > 0, got {value}")
        allowed = self.licence
        if allowed is not None and (isinstance(allowed, str) or not allowed):
            raise ValueError(
                "Expected a list of licences such as [apache-2.0,mit] as limits.licence, got "
                f"{allowed!r}"
            )

    @property
    def are_set(self) -> bool:
        """Whether there is any."""
        return self != Limits()

    def check_candidate(self, candidate: Candidate) -> None:
        """Refuse a candidate that is larger than allowed, takes more memory, or is slower.

        Raises:
            ValueError: It is over a limit, or what the limit is on is not known.
        """
        for name, value, limit, unit in (
            ("parameters", candidate.n_params, self.max_params, ""),
            ("memory at inference", candidate.memory_gb, self.max_memory_gb, " GB"),
            ("latency", candidate.latency_ms, self.max_latency_ms, " ms"),
        ):
            if limit is not None and not value <= limit:
                got = f"{value:.4g}{unit}" if math.isfinite(value) else "an unknown one"
                raise ValueError(f"Expected {name} of at most {limit:.4g}{unit}, got {got}")

    def check_licences(self, licences: Sequence[str]) -> None:
        """Refuse a model one of whose licences is not allowed.

        Args:
            licences: Licences of the model and, for an adapter, of its base; `unknown` for none.

        Raises:
            ValueError: One is not allowed.
        """
        if self.licence is None:
            return
        allowed = {str(name).lower() for name in self.licence}
        for licence in licences:
            if licence.lower() not in allowed:
                way = ": allow `unknown`, or add it to the model card" if licence == UNKNOWN else ""
                raise ValueError(
                    f"Expected a licence among {', '.join(self.licence)}, got {licence}{way}"
                )
