"""A soak: campaigns of replayed trials under injected faults, and what must hold all the same."""
