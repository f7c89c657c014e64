"""Runners, which replay curves, fine-tune, or call a training program, and executors."""

from lensllm.execution.replay import ReplayRunner

__all__ = ["ReplayRunner"]
