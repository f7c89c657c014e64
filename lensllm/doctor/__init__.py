"""What this machine has for lensllm, and whether a trial runs on each of its devices."""
