"""Devices: their speed and price, and the memory overhead of a process."""

from __future__ import annotations

from dataclasses import dataclass

from lensllm.core.amounts import Amount


@dataclass(frozen=True)
class Hardware:
    """Devices that a campaign would run on.

    Attributes:
        name: Name in tables.
        peak_flops: Peak FLOPs per second of one device at the training precision, from its data
            sheet.
        utilization: Share of the peak that training reaches; 0.3 to 0.5 is usual for models of 1 B
            parameters and more, less for smaller ones. Measure your own.
        memory_gb: Memory of one device in GB (10^9 bytes); `None` for what is free on this machine
            now.
        price_per_hour: Price per device and hour; `None` where it is not known.
        currency: Currency of that price.
        n_devices: Devices used in parallel.
        process_gb: Main memory of a process that trains on a CPU, beside the tensors: Python,
            PyTorch and the data.
        kernels_gb: Additional main memory in bf16, for the kernels that are compiled for every
            shape.
        fragmentation: Memory lost to fragmentation in such a process, as a share of a micro-batch's
            activations.

    Raises:
        ValueError: A number is not positive, or the share is above 1.
    """

    name: str
    peak_flops: float
    utilization: float = 0.3
    memory_gb: float | None = None
    price_per_hour: float | None = None
    currency: str = "USD"
    n_devices: int = 1
    process_gb: float = 0.65
    kernels_gb: float = 0.15
    fragmentation: float = 0.55

    def __post_init__(self) -> None:
        for name in ("peak_flops", "utilization", "memory_gb", "price_per_hour", "n_devices"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"Expected hardware.{name} > 0, got {value}")
        for name in ("process_gb", "kernels_gb", "fragmentation"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"Expected hardware.{name} >= 0, got {getattr(self, name)}")
        if self.utilization > 1:
            raise ValueError(f"Expected hardware.utilization <= 1, got {self.utilization}")

    @property
    def is_here(self) -> bool:
        """Whether it stands for this machine, whose free memory counts."""
        return self.memory_gb is None

    def seconds(self, flops: float) -> float:
        """Wall time of a number of FLOPs on all devices together."""
        return flops / (self.peak_flops * self.utilization * self.n_devices)

    def as_flops(self, amount: Amount) -> Amount:
        """An amount of time or money as the FLOPs that it pays for; others as they are.

        Raises:
            ValueError: Money, and the price is unknown or in another currency.
        """
        if amount.unit == "seconds":
            return Amount(amount.value / self.seconds(1.0), "FLOPs")
        if not amount.is_money:
            return amount
        price = self.price(1.0)
        if price is None or self.currency != amount.unit:
            raise ValueError(
                f"Expected hardware.price_per_hour in {amount.unit} for this budget, got "
                f"{self.price_per_hour} {self.currency}"
            )
        return Amount(amount.value / price, "FLOPs")

    def price(self, flops: float) -> float | None:
        """Price of a number of FLOPs; it does not depend on the number of devices."""
        if self.price_per_hour is None:
            return None
        return self.seconds(flops) * self.n_devices / 3600 * self.price_per_hour
