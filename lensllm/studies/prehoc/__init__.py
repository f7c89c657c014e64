"""Studies of what can be known before training."""
