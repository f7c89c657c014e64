"""NTK curves and weight spectra of candidates: computed once, kept beside the trials."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lensllm.core.trials import digest_of
from lensllm.curvature.ntk_loss import NTKLoss
from lensllm.system.atomic import set_aside, write_whole

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NTKRecord:
    """F(Θ, t) of one candidate and what it cost.

    Attributes:
        curve: F.
        flops: FLOPs of the NTK.
    """

    curve: NTKLoss
    flops: float


class NTKProvider:
    """Computes, or loads, F(Θ, t) of candidates on probe examples of a data set.

    The kernel is taken at the pre-trained weights on the first `n_probe` entries of the seeded
    permutation of the training pairs, the same that a trial of this seed fine-tunes on. One file
    for each (weights, data, probe settings) is kept in `folder`; the learning rate scales time
    only and is not part of it.

    Args:
        sources: The candidates; a text stands for `ModelSource(text)`.
        data: The data set.
        folder: Where results are kept, `ntk` below the trial store for instance.
        learning_rate: η of F.
        n_probe: Probe examples n.
        seed: Seed of the permutation.
        subset: See `lensllm.curvature.parameters.select_parameters`.
        n_blocks: Likewise.
        n_dims: Dimensions of a random projection; `None` for the exact kernel.
        memory_bytes: See `lensllm.curvature.ntk.empirical_ntk`.
        chunk_size: Likewise; 1 for large models, whose activations are the most.
        prompt: Text around the input, as in fine-tuning.
        truncation_side: Where inputs that are too long are cut, as in fine-tuning.
        finetune: Fine-tuning of candidates that do not specify it, which is part of their names;
            the kernel is that of the weights before fine-tuning.

    Raises:
        ValueError: `n_probe` is not positive.
    """

    def __init__(
        self,
        sources: Sequence[Any],
        data: Any,
        folder: str | Path,
        learning_rate: float,
        n_probe: int = 128,
        seed: int = 0,
        subset: str = "all",
        n_blocks: int = 1,
        n_dims: int | None = None,
        memory_bytes: float = 2**31,
        chunk_size: int = 16,
        prompt: str = "{input}\n",
        finetune: Any = None,
        truncation_side: str = "right",
    ) -> None:
        if n_probe <= 0:
            raise ValueError(f"Expected `n_probe` > 0, got {n_probe}")
        if not learning_rate > 0:
            raise ValueError(f"Expected `learning_rate` > 0, got {learning_rate:g}")
        self.sources = _by_name(sources, finetune)
        self.data = data
        self.folder = Path(folder)
        self.learning_rate = learning_rate
        self.n_probe = n_probe
        self.seed = seed
        self.subset = subset
        self.n_blocks = n_blocks
        self.n_dims = n_dims
        self.memory_bytes = memory_bytes
        self.chunk_size = chunk_size
        self.prompt = prompt
        self.truncation_side = truncation_side

    def __call__(self, model: str) -> NTKRecord:
        """The record of one candidate.

        Raises:
            ValueError: The candidate is unknown.
        """
        from lensllm.finetune.trial_keys import environment

        source = _find(self.sources, model)
        key = {
            "weights": source.fingerprint,
            "config": source.text_fingerprint,
            "dtype": source.dtype,
            "environment": environment(_method(source)),
            "data": self.data.fingerprint,
            "n_probe": self.n_probe,
            "seed": self.seed,
            "subset": self.subset,
            "n_blocks": self.n_blocks if self.subset == "last_blocks" else None,
            "n_dims": self.n_dims,
            "prompt": self.prompt,
        }
        if self.truncation_side != "right":
            key["truncation_side"] = self.truncation_side
        if self.subset == "lora":
            key["adapters"] = _method(source).settings()
        stored = cached_json(self.folder, "ntk", model, key, lambda: self._compute(source))
        curve = NTKLoss(
            np.asarray(stored["eigenvalues"]),
            np.asarray(stored["coefficients"]),
            self.learning_rate,
        )
        return NTKRecord(curve, float(stored["flops"]))

    def _compute(self, source: Any) -> dict[str, Any]:
        from lensllm.curvature.ntk import empirical_ntk
        from lensllm.curvature.parameters import select_parameters
        from lensllm.curvature.projection import CountSketch

        model = self._load(source)
        batch = probe_batch(
            source,
            self.data,
            "train",
            min(self.n_probe, len(self.data.train)),
            self.seed,
            self.prompt,
            self.truncation_side,
        )
        found = empirical_ntk(
            model,
            batch,
            select_parameters(model, self.subset, self.n_blocks),  # type: ignore[arg-type]
            sketch=None if self.n_dims is None else CountSketch(self.n_dims, self.seed),
            memory_bytes=self.memory_bytes,
            chunk_size=self.chunk_size,
        )
        curve = NTKLoss.from_kernel(found.kernel, found.outputs, self.learning_rate)
        return {
            "eigenvalues": curve.eigenvalues.tolist(),
            "coefficients": curve.coefficients.tolist(),
            "flops": found.flops,
            "n_params": found.n_params,
            "relative_error": found.relative_error,
            "n_passes": found.n_passes,
        }

    def _load(self, source: Any) -> Any:
        """The model before fine-tuning, with fresh adapters where the kernel is taken over them."""
        import torch

        model = source.load_model()
        if self.subset != "lora":
            return model
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return _method(source).prepare(model)


class SpectrumProvider:
    """Computes, or loads, the heavy-tail metrics of candidates.

    Args:
        sources: The candidates; a text stands for `ModelSource(text)`.
        folder: Where results are kept.
        finetune: See `NTKProvider`.
    """

    def __init__(self, sources: Sequence[Any], folder: str | Path, finetune: Any = None) -> None:
        self.sources = _by_name(sources, finetune)
        self.folder = Path(folder)

    def __call__(self, model: str) -> Mapping[str, float]:
        """`pl_alpha` and `e_tpl_lambda` of one candidate.

        Raises:
            ValueError: The candidate is unknown, or has no matrix that is large enough.
        """
        from lensllm.curvature.spectra import heavy_tail_metrics
        from lensllm.finetune.trial_keys import environment

        source = _find(self.sources, model)
        return cached_json(
            self.folder,
            "spectra",
            model,
            {
                "weights": source.fingerprint,
                "config": source.text_fingerprint,
                "dtype": source.dtype,
                "environment": environment(_method(source)),
            },
            lambda: heavy_tail_metrics(source.load_model()),
        )


def probe_batch(
    source: Any,
    data: Any,
    split: str,
    n: int,
    seed: int,
    prompt: str = "{input}\n",
    truncation_side: Any = "right",
) -> dict[str, Any]:
    """The first `n` pairs of a seeded permutation of a split, as one padded batch.

    Args:
        source: A `lensllm.finetune.models.ModelSource`.
        data: A `lensllm.data.pairs.TextData`.
        split: `train`, `validation` or `test`.
        n: Pairs.
        seed: Seed of the permutation.
        prompt: Text around the input.
        truncation_side: Where inputs that are too long are cut.

    Returns:
        What `lensllm.finetune.encoding.Collator` returns.
    """
    from lensllm.data.rows import nested_subset
    from lensllm.finetune.encoding import Collator
    from lensllm.finetune.trial import make_encoder

    pairs = getattr(data, split)
    tokenizer = source.load_tokenizer()
    encoder = make_encoder(source, tokenizer, data, prompt, truncation_side)
    chosen = [pairs[i] for i in nested_subset(len(pairs), n, seed)]
    pad = source.padding(tokenizer.pad_token_id)
    collator = Collator(pad, is_encoder_decoder=source.is_encoder_decoder)
    return collator(encoder.encode(chosen))


def cached_json(
    folder: Path,
    kind: str,
    label: str,
    key: Mapping[str, Any],
    compute: Callable[[], Mapping[str, Any]],
) -> Mapping[str, Any]:
    """Read a result from its file, or compute it and write it there atomically.

    Args:
        folder: Folder of the files.
        kind: Start of their names.
        label: What the result describes, for a reader.
        key: All that decides the result; its hash ends the name.
        compute: Computes the result, JSON types only.

    Returns:
        The result. A file that is not as it was written is reported, set aside, and written anew.

    Raises:
        StorageError: The file cannot be written.
    """
    path = folder / f"{kind}-{digest_of(dict(key))}.json"
    if path.is_file():
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            digest = record.pop("digest")
            if record["key"] == dict(key) and digest == digest_of(record, 64):
                return record["result"]
            raise ValueError("it was changed after it was written")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            place = set_aside(path)
            logger.warning("Set aside %s as %s: %s", path, place.name, error)
    record = json.loads(
        json.dumps({"of": label, "key": dict(key), "result": compute()}, allow_nan=False)
    )
    text = json.dumps({**record, "digest": digest_of(record, 64)})
    write_whole(path, text)
    return record["result"]


def _by_name(sources: Sequence[Any], finetune: Any) -> dict[str, Any]:
    from lensllm.finetune.adapters import FULL
    from lensllm.finetune.candidates import as_sources

    return {source.name: source for source in as_sources(sources, finetune or FULL)}


def _method(source: Any) -> Any:
    """How a candidate is fine-tuned."""
    from lensllm.finetune.adapters import FULL

    return source.finetune or FULL


def _find(sources: Mapping[str, Any], model: str) -> Any:
    if model not in sources:
        raise ValueError(
            f"Expected a candidate among {', '.join(sources)}, got {model!r}: its weights are "
            "needed, so models known only from recorded curves cannot be ranked by this method"
        )
    return sources[model]
