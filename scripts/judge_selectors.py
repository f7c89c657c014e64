"""The same as `lensllm judge_selectors`."""

import lensllm.system.guarded  # noqa: F401 - first: Ctrl-C then holds while the rest is imported

from lensllm.commands.judge_selectors import main

if __name__ == "__main__":
    main()
