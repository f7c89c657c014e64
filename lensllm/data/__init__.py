"""Text pairs to fine-tune on: where they come from and how they are split."""

from lensllm.data.chat import load_chat
from lensllm.data.docstrings import load_docstrings
from lensllm.data.fetched import load_fetched
from lensllm.data.files import load_csv, load_file, load_jsonl
from lensllm.data.generated import load_copying, load_formatting, load_noise
from lensllm.data.names import load_names
from lensllm.data.pairs import TextData, make_text_data, with_label_noise
from lensllm.data.running_text import load_running_text
from lensllm.data.tables import load_parquet, load_table
from lensllm.data.translation import load_translation

__all__ = [
    "TextData",
    "load_chat",
    "load_csv",
    "load_docstrings",
    "load_fetched",
    "load_file",
    "load_copying",
    "load_formatting",
    "load_jsonl",
    "load_names",
    "load_noise",
    "load_parquet",
    "load_running_text",
    "load_table",
    "load_translation",
    "make_text_data",
    "with_label_noise",
]
