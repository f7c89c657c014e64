"""The same as `lensllm clean`."""

import lensllm.system.guarded  # noqa: F401 - first: Ctrl-C then holds while the rest is imported

from lensllm.commands.clean import main

if __name__ == "__main__":
    main()
