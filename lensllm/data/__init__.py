"""Text pairs to fine-tune on: where they come from and how they are split."""

from lensllm.data.docstrings import load_docstrings
from lensllm.data.fetched import load_fetched
from lensllm.data.files import load_csv, load_jsonl
from lensllm.data.generated import load_formatting, load_noise
from lensllm.data.pairs import TextData, make_text_data

__all__ = [
    "TextData",
    "load_csv",
    "load_docstrings",
    "load_fetched",
    "load_formatting",
    "load_jsonl",
    "load_noise",
    "make_text_data",
]
