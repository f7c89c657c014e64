"""What executes trials: replayed curves, fine-tuning for real, or a training program."""

from lensllm.execution.replay import ReplayRunner

__all__ = ["ReplayRunner"]
