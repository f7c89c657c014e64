"""Check the GPU path in minutes, without a download: the same as `lensllm doctor device=gpu`.

python scripts/check_gpu.py [minutes=8] [device=cpu]
"""

import lensllm.system.guarded  # noqa: F401 - first: Ctrl-C then holds while the rest is imported

import sys

from lensllm.commands.doctor import main as doctor


def main() -> None:
    """Run the command with the words of the command line."""
    doctor(["device=gpu", *sys.argv[1:]])


if __name__ == "__main__":
    main()
