"""Whether posteriors of laws cover as they say, beside cross-checks of them."""
