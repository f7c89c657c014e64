"""A whole campaign in one call, and its result."""
