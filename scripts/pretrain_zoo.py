"""The same as `lensllm pretrain_zoo`."""

import lensllm.system.guarded  # noqa: F401 - first: Ctrl-C then holds while the rest is imported

from lensllm.commands.pretrain_zoo import main

if __name__ == "__main__":
    main()
