"""Why a trial failed, as a code, and another try where the network failed."""

from __future__ import annotations

import errno
import logging
import re
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from lensllm.core.trials import ErrorCode

logger = logging.getLogger(__name__)

T = TypeVar("T")

WAITS = (1.0, 4.0)  # seconds before the second and the third try
_TRANSIENT_STATUS = (408, 429, 500, 502, 503, 504)
# Errors of allocators that are plain RuntimeErrors: of the CPU, of cuBLAS and of cuDNN.
_NO_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|out of memory|ALLOC_FAILED", re.IGNORECASE
)


def code_of(error: BaseException) -> ErrorCode:
    """The code of an error of a candidate, by its causes.

    Example:
        >>> code_of(torch.OutOfMemoryError("no room")), code_of(ValueError("no tokenizer"))
        ('out_of_memory', 'bad_model')
    """
    for cause in _causes(error):
        if is_out_of_memory(cause):
            return "out_of_memory"
        if getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return "disk_full"
        if is_hub_error(cause):
            return "hub_error"
    return "bad_model" if isinstance(error, ValueError) else "error"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: of a device, or of the main memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error)))


def is_hub_error(error: BaseException) -> bool:
    """Whether the Hub refused something, or could not be reached."""
    kinds = HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
    return isinstance(error, (*kinds, ConnectionError, TimeoutError)) or _is_transfer(error)


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later."""
    for cause in _causes(error):
        if isinstance(cause, OfflineModeIsEnabled):
            return False
        if isinstance(cause, HfHubHTTPError):
            status = getattr(cause.response, "status_code", None)
            return status in _TRANSIENT_STATUS
        if isinstance(cause, ConnectionError | TimeoutError) or _is_transfer(cause):
            return True
    return False


def with_retries(load: Callable[[], T], what: str) -> T:
    """The result of a function that may use the network, tried again where that failed.

    Args:
        load: The function.
        what: What it loads, in words.

    Raises:
        Exception: Its error, the last one where it was tried again.
    """
    for wait in WAITS:
        try:
            return load()
        except Exception as error:
            if not is_transient(error):
                raise
            logger.warning(
                "%s did not come (%s): tried again in %g s", what, type(error).__name__, wait
            )
            time.sleep(wait)
    return load()


def _is_transfer(error: BaseException) -> bool:
    """Whether it is a failed transfer of httpx, under whichever name the Hub's client has it."""
    return "TransportError" in {kind.__name__ for kind in type(error).__mro__}


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
