"""Imported by entry points before anything else, so that Ctrl-C is handled during imports too.

It has an effect only in a process that was started as one of the commands.
"""

from __future__ import annotations

import os
import sys

from lensllm.system.interrupts import guard_process


def _is_entry_point() -> bool:
    """Whether this process was started as one of the commands, not to test or to import them."""
    path = os.path.abspath(getattr(sys.modules["__main__"], "__file__", None) or "")
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    checkout = os.path.dirname(package)
    folders = (os.path.join(checkout, "scripts"), os.path.join(package, "scripts"))
    return (
        path in (os.path.join(checkout, "train.py"), os.path.join(package, "__main__.py"))
        or os.path.dirname(path) in folders
        or os.path.basename(path) == "lensllm"
    )


if _is_entry_point():
    guard_process()
