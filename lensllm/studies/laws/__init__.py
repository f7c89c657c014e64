"""Coverage of the intervals of laws' posteriors, and cross-checks of the posteriors."""
