"""Training runs of other programs as curves: what each source records, and what users must add."""

from lensllm.core.past_runs.lightning_logs import is_lightning_csv
from lensllm.core.past_runs.sources import is_trial_store, read_past_runs, recognise
from lensllm.core.past_runs.take import PastRunOptions, Taken, take
from lensllm.core.past_runs.tidy import curves_of, remarks

__all__ = [
    "PastRunOptions",
    "Taken",
    "curves_of",
    "is_lightning_csv",
    "is_trial_store",
    "read_past_runs",
    "recognise",
    "remarks",
    "take",
]
