"""The data types of a campaign: the task, its trials and curves, and the selection."""
