"""Pre-train the zoo."""

from __future__ import annotations

from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from lensllm.commands.config import PretrainConfig
from lensllm.commands.entry import entry_point


@entry_point("pretrain_zoo", PretrainConfig)
def main(cfg: DictConfig) -> None:
    """Pre-train every model named (all by default) and write it below `folder`."""
    from lensllm.studies.zoo.pretrain import (
        ZooModel,
        build_model,
        pretrain,
        pretraining_texts,
        save,
        token_chunks,
        train_tokenizer,
    )
    from lensllm.zoo import ZOO_DIR

    specs = [ZooModel(**spec) for spec in instantiate(cfg.models, _convert_="all")]
    wanted = list(cfg.names) or [spec.name for spec in specs]
    unknown = sorted(set(wanted) - {spec.name for spec in specs})
    if unknown:
        known = ", ".join(spec.name for spec in specs)
        raise ValueError(f"Expected `names` among {known}, got {unknown[0]!r}")
    data = cfg.dataset
    packages = [*data.packages, *cfg.extra_packages]
    texts = pretraining_texts(packages, data.pretrain_share, data.seed)
    running = {name: texts[name] for name in ("prose", "code")}
    tokenizer = train_tokenizer(running, cfg.vocab_size)
    chunks = {name: token_chunks(tokenizer, documents) for name, documents in texts.items()}
    print({name: f"{rows.numel():,} tokens" for name, rows in chunks.items()})
    for spec in specs:
        if spec.name in wanted:
            model = build_model(spec, cfg.vocab_size)
            record = pretrain(spec, model, chunks)
            save(spec, model, tokenizer, record, Path(cfg.folder or ZOO_DIR))
            print(f"{spec.name}: {record}")
