"""The zoo: small pre-trained language models that come with the project.

Each folder beside this file is an ordinary Hugging Face model folder (safetensors, tokenizer). They
are pre-trained by `lensllm pretrain_zoo` on modules whose docstrings are in no split of
`dataset=docstrings`, on different mixtures of documentation and source code and for different
lengths, so that the best one after fine-tuning is neither simply the largest nor the one with the
lowest zero-shot loss.
"""

from __future__ import annotations

from pathlib import Path

ZOO_DIR = Path(__file__).resolve().parent


def zoo_models() -> list[str]:
    """Names of the models in the zoo, sorted."""
    return sorted(path.parent.name for path in ZOO_DIR.glob("*/config.json"))
