"""Translation data sets of the Hub: one configuration per language pair, with both directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lensllm.data.pairs import TextData
from lensllm.data.tables import explained, load_table


def load_translation(
    path: str,
    name: str,
    languages: Sequence[str],
    *,
    input: str = "{source}",  # noqa: A002
    target: str = "{target}",
    revision: str | None = None,
    **options: Any,
) -> TextData:
    """Load a language pair, in the requested direction.

    A row has a column `translation` with one field per language, as in the WMT data sets. They name
    a pair once (`de-en`) and use it for both directions.

    Args:
        path: Hub id, or a folder that is laid out like one.
        name: Name of the data set; the pair is added to it (`wmt19-en-de`).
        languages: Source and target language, as the data set abbreviates them.
        input: Format string of the input; `{source}` is the text in the first language.
        target: Format string of the target; `{target}` is the text in the second one.
        revision: Branch, tag or commit on the Hub.
        **options: See `load_table`.

    Raises:
        ValueError: The data set has no such pair, or see `load_table`.
    """
    if len(languages) != 2 or languages[0] == languages[1]:
        raise ValueError(
            f"Expected two languages in dataset.languages, such as [de,en], got {list(languages)}"
        )
    first, second = languages
    return load_table(
        path,
        f"{name}-{first}-{second}",
        config=_pair(path, revision, first, second),
        revision=revision,
        input=input.replace("{source}", f"{{translation[{first}]}}"),
        target=target.replace("{target}", f"{{translation[{second}]}}"),
        **options,
    )


def _pair(path: str, revision: str | None, first: str, second: str) -> str:
    """Name of the configuration that has both languages."""
    import datasets

    try:
        known = datasets.get_dataset_config_names(path, revision=revision)
    except (OSError, datasets.exceptions.DatasetsError, ValueError, RuntimeError) as error:
        raise ValueError(explained(error, path)) from error
    for pair in (f"{first}-{second}", f"{second}-{first}"):
        if pair in known:
            return pair
    raise ValueError(
        f"Expected dataset.languages among the pairs {', '.join(known)} of {path!r}, in either "
        f"direction, got {first} and {second}"
    )
