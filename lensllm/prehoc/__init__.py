"""Pre-hoc prediction: what can be known before training, and how deep to probe."""
