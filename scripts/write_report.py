"""The same as `lensllm report`."""

import lensllm.system.guarded  # noqa: F401 - first: Ctrl-C then holds while the rest is imported

from lensllm.commands.report import main

if __name__ == "__main__":
    main()
