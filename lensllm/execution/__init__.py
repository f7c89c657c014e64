"""What executes trials: replayed curves, or fine-tuning for real."""

from lensllm.execution.replay import ReplayRunner

__all__ = ["ReplayRunner"]
