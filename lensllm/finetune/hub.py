"""Models of the Hub: the commit that is meant, and what is the matter where one cannot be had."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
)

from lensllm.system.atomic import full_disk
from lensllm.zoo import zoo_models


class UnknownModelError(ValueError):
    """Nothing in reach has that name: it is probably misspelt, which is cheap to mend."""


def hub_commit(source: str, revision: str | None, gated: bool = False) -> str:
    """The commit that a revision of a model stands for: on the Hub, else in the local cache.

    Args:
        source: Hub id.
        revision: Branch, tag or commit; `None` for the main branch.
        gated: Whether the model is known to want its licence accepted.

    Raises:
        UnknownModelError: It is no Hub id, or neither Hub nor cache has it in reach.
        ValueError: Its licence has to be accepted first, or there is no room for it.
    """
    try:
        # A download without a network would be tried again for half a minute.
        HfApi().model_info(source, revision=revision, timeout=10)
        return _commit(source, revision, local=False)
    except HFValidationError as error:
        raise UnknownModelError(
            f"Expected a known model, got {source!r}: there is no such folder, and it cannot be a "
            f"Hub id; {_known()}"
        ) from error
    except Exception as error:
        try:
            return _commit(source, revision, local=True)
        except EntryNotFoundError:
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
    """Why a model is not in reach, and what to do."""
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
        f"Hub is out of reach ({kind}); {advice}"
    )


def weights_refusal(source: str, revision: str | None, error: Exception) -> str:
    """Why the weights of a model that is in reach cannot be loaded, and what to do."""
    if (room := full_disk(error, source)) is not None:
        return room
    # What transformers says of missing safetensors is advice to take a pickle.
    found = "found none" if "does not appear to have" in str(error) else f"got: {error}"
    return (
        f"Expected safetensors weights of {source!r} at revision {revision or 'main'!r}, {found}; "
        "name a revision that has them, or convert the model with save_pretrained in an "
        "environment that you trust"
    )
