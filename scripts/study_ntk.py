"""The same as `lensllm study_ntk`."""

import lensllm.system.guarded  # noqa: F401 - first: Ctrl-C then holds while the rest is imported

from lensllm.commands.study_ntk import main

if __name__ == "__main__":
    main()
