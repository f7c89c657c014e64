"""Silences messages that libraries would repeat at every trial of a campaign."""

from __future__ import annotations

import logging
import os
import warnings


def quiet_libraries() -> None:
    """Silence messages of Lightning and transformers that recur at every trial of a campaign."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    for name in ("pytorch_lightning", "pytorch_lightning.utilities.rank_zero", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*LeafSpec.*",
        ".*litlogger.*",
        ".*does not have many workers.*",
        ".*srun. command is available.*",
        ".*is_gradient_checkpointing. is deprecated.*",
        ".*gradient_checkpointing_enable.*",  # its new name is not in transformers 5.0
    ):
        warnings.filterwarnings("ignore", message=message)
