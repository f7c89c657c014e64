"""Naming functions: text pairs from the source of the environment's packages.

The input is the argument names and the body of a function, without its docstring; the target is the
function's name. Like the docstrings, it is on every machine that can run this project.
"""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from lensllm.data.docstrings import (
    cached_table,
    hash_text,
    package_versions,
    runs_of_words,
    source_files,
    split_of,
    split_shares,
    text_data,
)
from lensllm.data.pairs import TextData

EXTRACTOR_VERSION = 1


@dataclass(frozen=True)
class NamedFunction:
    """One function or method.

    Attributes:
        package: Import name of the package (`stdlib` for the standard library).
        module: Dotted name of the file it is in.
        name: Its name, without leading underscores.
        text: `def _(ARGUMENTS):` and its body without the docstring.
    """

    package: str
    module: str
    name: str
    text: str


def named_functions(package: str, module: str, source: str) -> Iterator[NamedFunction]:
    """Yield the functions of one module's source whose names can be inferred from their bodies.

    Left out are special methods, tests, bodies of less than 40 or more than 600 characters,
    non-ASCII text, and functions whose bodies contain their names.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    lines = source.split("\n")
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        statements = node.body[ast.get_docstring(node, clean=False) is not None :]
        name = node.name.strip("_")
        if not statements or len(name) < 3 or node.name.endswith("__") or name.startswith("test"):
            continue
        last = statements[-1].end_lineno or 0
        body = textwrap.dedent("\n".join(lines[statements[0].lineno - 1 : last]))
        named = re.search(rf"\b_*{re.escape(name)}\b", body)
        if 40 <= len(body) <= 600 and (name + body).isascii() and not named:
            names = [
                a.arg for a in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            ]
            arguments = ", ".join(n for n in names if n not in ("self", "cls"))
            text = f"def _({arguments}):\n{textwrap.indent(body, '    ')}"
            yield NamedFunction(package, module, name, text)


def _without_near_copies(
    functions: Iterable[NamedFunction], max_seen: float = 0.5
) -> Iterator[NamedFunction]:
    """Drop functions more than half of whose runs of six words were in earlier ones."""
    seen: set[int] = set()
    for function in functions:
        runs = runs_of_words(function.text)
        if len(runs & seen) <= max_seen * len(runs):
            seen |= runs
            yield function


def _functions_of_package(package: str, limit: int) -> list[NamedFunction]:
    """The first functions of a package that are no near copies, its modules in hashed order."""

    def functions() -> Iterator[NamedFunction]:
        for module, path in sorted(source_files(package), key=lambda file: hash_text(file[0])):
            source = path.read_text(encoding="utf-8", errors="ignore")
            yield from named_functions(package, module, source)

    return [f for f, _ in zip(_without_near_copies(functions()), range(limit), strict=False)]


def collect_names(
    packages: Sequence[str], max_per_package: int, shares: dict[str, float], seed: int
) -> pd.DataFrame:
    """Extract, de-duplicate and split the functions of the packages.

    Args:
        packages: Import names, `stdlib` for the standard library; absent packages are skipped.
        max_per_package: Most pairs taken from one package, spread over its modules by hash.
        shares: Share of modules for each of `pretrain`, `train`, `validation`, `test`.
        seed: Seed of the split.

    Returns:
        Columns `split`, `package`, `module`, `input`, `target`; one row per pair.
    """
    with ProcessPoolExecutor() as pool:
        extract = partial(_functions_of_package, limit=max_per_package)
        per_package = list(pool.map(extract, packages))
    kept = _without_near_copies(function for functions in per_package for function in functions)
    rows = [(split_of(f.module, shares, seed), f.package, f.module, f.text, f.name) for f in kept]
    rows.sort(key=lambda row: hash_text(row[3]))  # the first rows of a split are of all packages
    return pd.DataFrame(rows, columns=["split", "package", "module", "input", "target"])


def load_names(
    cache_dir: str | Path,
    packages: Sequence[str],
    max_per_package: int = 400,
    pretrain_share: float = 0.15,
    n_validation: int = 300,
    n_test: int = 600,
    seed: int = 0,
    **limits: int,
) -> TextData:
    """Load the functions and their names, extracting them on first use.

    Modules are split as those of `load_docstrings` are, so that what the zoo was pre-trained on is
    left out here too.

    Args:
        cache_dir: Folder for the extracted pairs; a changed environment makes a new file there.
        packages: See `collect_names`.
        max_per_package: See `collect_names`.
        pretrain_share: Share of modules kept for pre-training, from which no pair is taken.
        n_validation: Validation pairs.
        n_test: Test pairs.
        seed: Seed of the split.
        **limits: `max_input_tokens`, `max_target_tokens` (see `TextData`).

    Returns:
        The data; its splits share no module.

    Raises:
        ValueError: The packages give too few pairs.
    """
    settings = {
        "extractor": EXTRACTOR_VERSION,
        "versions": package_versions(packages),
        "packages": list(packages),
        "max_per_package": max_per_package,
        "pretrain_share": pretrain_share,
        "seed": seed,
    }
    shares = split_shares(pretrain_share)
    table = cached_table(
        cache_dir,
        "names",
        settings,
        lambda: collect_names(packages, max_per_package, shares, seed),
    )
    return text_data("names", table, n_validation, n_test, **limits)
