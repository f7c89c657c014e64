"""Models on the Hub: the commit of a revision, and why a model is not available."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
)

from lensllm.finetune.failures import is_transient, with_retries
from lensllm.finetune.model_files import folders_beside
from lensllm.system.atomic import full_disk
from lensllm.zoo import zoo_models


class UnknownModelError(ValueError):
    """No available model has that name; it is probably misspelt, which is easily corrected."""


def hub_commit(source: str, revision: str | None, gated: bool = False) -> str:
    """The commit that a revision of a model stands for: on the Hub, else in the local cache.

    Args:
        source: Hub id.
        revision: Branch, tag or commit; `None` for the main branch.
        gated: Whether the licence of the model is known to require acceptance.

    Raises:
        UnknownModelError: It is not a Hub id, or neither the Hub nor the cache has it.
        ValueError: Its licence has to be accepted first, or there is no disk space for it.
    """

    def ask() -> str:
        # A download without a network would be retried for half a minute.
        HfApi().model_info(source, revision=revision, timeout=10)
        return _commit(source, revision, local=False)

    try:
        return ask()
    except HFValidationError as error:
        raise UnknownModelError(
            f"Expected a known model, got {source!r}: there is no such folder, and it cannot be a "
            f"Hub id{folders_beside(source)}; {_known()}"
        ) from error
    except Exception as error:
        try:
            return _commit(source, revision, local=True)
        except EntryNotFoundError:
            if is_transient(error):
                try:
                    return with_retries(ask, source)
                except Exception as again:
                    error = again
            exists = gated or isinstance(error, GatedRepoError) or full_disk(error, source)
            kind = ValueError if exists else UnknownModelError
            raise kind(_refusal(source, revision, gated, error)) from error


def _commit(source: str, revision: str | None, local: bool) -> str:
    path = hf_hub_download(source, "config.json", revision=revision, local_files_only=local)
    return Path(path).parent.name


def _known() -> str:
    zoo = ", ".join(zoo_models())
    return f"name a local model folder, a Hub id in reach, or a zoo model ({zoo})"


def _refusal(source: str, revision: str | None, gated: bool, error: Exception) -> str:
    """Why a model is not available, and what to do."""
    if (room := full_disk(error, source)) is not None:
        return room
    kind, advice = type(error).__name__, _known()
    if gated or isinstance(error, GatedRepoError):
        page = f"https://huggingface.co/{source}"
        advice = f"accept its licence on {page}, then `hf auth login`; or {advice}"
    if isinstance(error, HfHubHTTPError):
        at = f" at revision {revision!r}" if revision else ""
        return (
            f"Expected a model that the Hub gives out, got {source!r}{at} ({kind}): {advice}; a "
            "private one needs `hf auth login`"
        )
    return (
        f"Expected a known model, got {source!r}: it is no folder, not in the local cache, and the "
        f"Hub is out of reach ({kind}){folders_beside(source)}; {advice}"
    )


def weights_refusal(source: str, revision: str | None, error: Exception) -> str:
    """Why the weights of an available model cannot be loaded, and what to do."""
    if (room := full_disk(error, source)) is not None:
        return room
    # For missing safetensors, transformers' own message advises loading a pickle.
    found = "found none" if "does not appear to have" in str(error) else f"got: {error}"
    return (
        f"Expected safetensors weights of {source!r} at revision {revision or 'main'!r}, {found}; "
        "name a revision that has them, or convert the model with save_pretrained in an "
        "environment that you trust"
    )
