"""Docstring summarisation: text pairs from the Python packages of the environment.

The input is the signature of a function, class or module and the body of its docstring; the target
is the docstring's one-line summary. It is headline generation, as in Gigaword. The text is on every
machine that can run this project, and none of it is redistributed.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import inspect
import platform
import re
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lensllm.core.trials import canonical_json
from lensllm.data.pairs import TextData, make_text_data
from lensllm.system.atomic import is_as_written, write_verified

EXTRACTOR_VERSION = 1
SHINGLE_WORDS = 6
STANDARD_LIBRARY = "stdlib"
_SKIPPED_FOLDERS = {
    "site-packages",
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "__pycache__",
    "_vendor",
}
_COMMON_WORDS = {"the", "a", "an", "of", "to", "in", "for", "is", "and", "with", "if", "be", "this"}


@dataclass(frozen=True)
class DocumentedItem:
    """One documented function, class or module.

    Attributes:
        package: Import name of the package (`stdlib` for the standard library).
        module: Dotted name of the file it is in.
        signature: Its `def` or `class` line; empty for a module.
        body: The docstring after its first paragraph.
        summary: The docstring's first paragraph as one line.
    """

    package: str
    module: str
    signature: str
    body: str
    summary: str


def package_versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of the packages that are installed, by import name."""
    owners = importlib.metadata.packages_distributions()
    versions = {}
    for name in packages:
        if name == STANDARD_LIBRARY:
            versions[name] = platform.python_version()
        elif name in owners:
            parts = sorted(set(owners[name]))
            versions[name] = " ".join(
                f"{part} {importlib.metadata.version(part)}" for part in parts
            )
    return versions


def source_files(package: str) -> list[tuple[str, Path]]:
    """(dotted module name, path) of a package's Python files, sorted, its tests left out."""
    if package == STANDARD_LIBRARY:
        root, prefix = Path(sysconfig.get_paths()["stdlib"]), ""
    else:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            return []
        root, prefix = Path(next(iter(spec.submodule_search_locations))), f"{package}."
    files = []
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        if not _SKIPPED_FOLDERS.intersection(parts) and not parts[-1].startswith("test_"):
            files.append((prefix + ".".join(parts), path))
    return sorted(files)


def documented_items(package: str, module: str, source: str) -> Iterator[DocumentedItem]:
    """Yield the documented items of one module's source whose summary and body are usable."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        docstring = ast.get_docstring(node, clean=False)
        if not docstring or len(docstring) < 55:
            continue
        first, _, rest = inspect.cleandoc(docstring).partition("\n\n")
        summary, body = _squeeze(first), _squeeze(rest)
        if _usable(summary, body):
            yield DocumentedItem(package, module, _signature(node), body, summary)


def all_docstrings(source: str) -> list[str]:
    """All docstrings of one module's source, usable or not, with white space folded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return []
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    return [_squeeze(text) for text in map(ast.get_docstring, nodes) if text]


def _signature(node: ast.AST) -> str:
    if isinstance(node, ast.ClassDef):
        return f"class {node.name}"
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        names = [a.arg for a in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]]
        return f"def {node.name}({', '.join(n for n in names if n not in ('self', 'cls'))})"
    return "module"


def _squeeze(text: str) -> str:
    """White space folded, reStructuredText roles and markup characters dropped."""
    text = re.sub(r":\w+:`~?([^`]*)`", r"\1", text)
    text = re.sub(r"[`*]+|^\s*[-=~^]{3,}\s*$", "", text, flags=re.MULTILINE)
    return re.sub(r"\s+", " ", text).strip()


def _usable(summary: str, body: str) -> bool:
    """Length and language: 15 to 160 characters of plain English over at least 40."""
    if not (15 <= len(summary) <= 160 and len(body) >= 40):
        return False
    if not (summary.isascii() and summary[0].isalpha() and len(summary.split()) >= 3):
        return False
    if any(mark in summary for mark in ("::", ">>>", "http", "{", "|")):
        return False
    text = f"{summary} {body[:600]}"
    letters = sum(character.isalpha() or character == " " for character in text)
    words = [word.lower() for word in re.findall(r"[A-Za-z]+", text)]
    common = sum(word in _COMMON_WORDS for word in words)
    return body[:600].isascii() and letters > 0.7 * len(text) and common >= 0.06 * len(words)


def _items_of_package(package: str) -> list[DocumentedItem]:
    items: list[DocumentedItem] = []
    for module, path in source_files(package):
        source = path.read_text(encoding="utf-8", errors="ignore")
        if '"""' in source or "'''" in source:
            items.extend(documented_items(package, module, source))
    return items


def without_near_copies(
    items: Iterable[DocumentedItem], max_seen: float = 0.5
) -> Iterator[DocumentedItem]:
    """Drop repeated summaries, and items that mostly repeat the words of earlier ones.

    An item is dropped when its summary, letter case and punctuation apart, was there before, or
    when more than the share `max_seen` of its runs of six words were.
    """
    summaries: set[str] = set()
    seen: set[int] = set()
    for item in items:
        key = re.sub(r"[^a-z]+", " ", item.summary.lower())
        runs = runs_of_words(f"{item.summary} {item.body}")
        if key in summaries or len(runs & seen) > max_seen * len(runs):
            continue
        summaries.add(key)
        seen |= runs
        yield item


def runs_of_words(text: str) -> set[int]:
    """Hashes of all runs of six words of a text, letter case and punctuation apart."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return {
        hash_text(" ".join(words[i : i + SHINGLE_WORDS]))
        for i in range(max(1, len(words) - SHINGLE_WORDS + 1))
    }


def hash_text(text: str) -> int:
    """A 64-bit hash that is the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def split_of(module: str, shares: dict[str, float], seed: int) -> str:
    """Assign a module to a split by the hash of its name.

    Args:
        module: Dotted name of the module.
        shares: Share of modules for each split, summing to 1.
        seed: Changes the assignment.

    Returns:
        The name of the split.
    """
    point = hash_text(f"{seed}:{module}") / 2**64
    for name, share in shares.items():
        point -= share
        if point < 0:
            return name
    return next(reversed(shares))


def collect_docstrings(
    packages: Sequence[str], max_per_package: int, shares: dict[str, float], seed: int
) -> pd.DataFrame:
    """Extract, de-duplicate and split the docstrings of the packages.

    Args:
        packages: Import names, `stdlib` for the standard library; absent packages are skipped.
        max_per_package: Most pairs taken from one package, spread over its modules by hash.
        shares: Share of modules for each of `pretrain`, `train`, `validation`, `test`.
        seed: Seed of the split.

    Returns:
        Columns `split`, `package`, `module`, `input`, `target`; one row per pair.
    """
    with ProcessPoolExecutor() as pool:
        per_package = list(pool.map(_items_of_package, packages))
    rows = []
    for items in per_package:
        # One package's modules in hashed order, so that the cap does not favour early names.
        items.sort(key=lambda item: (hash_text(item.module), item.signature, item.summary))
    kept = without_near_copies(item for items in per_package for item in items)
    taken: dict[str, int] = {}
    for item in kept:
        taken[item.package] = taken.get(item.package, 0) + 1
        if taken[item.package] <= max_per_package:
            text = f"{item.signature}: {item.body}" if item.signature else item.body
            rows.append(
                (split_of(item.module, shares, seed), item.package, item.module, text, item.summary)
            )
    return pd.DataFrame(rows, columns=["split", "package", "module", "input", "target"])


def load_docstrings(
    cache_dir: str | Path,
    packages: Sequence[str],
    max_per_package: int = 8000,
    pretrain_share: float = 0.15,
    n_validation: int = 500,
    n_test: int = 1000,
    seed: int = 0,
    target: str = "summary",
    **limits: int,
) -> TextData:
    """Load the docstring pairs, extracting them on first use.

    With `target="package"` the task is to say which package the text is from: a classification.

    Args:
        cache_dir: Folder for the extracted pairs; a changed environment makes a new file there.
        packages: See `collect_docstrings`.
        max_per_package: See `collect_docstrings`.
        pretrain_share: Share of modules kept for pre-training, from which no pair is taken.
        n_validation: Validation pairs.
        n_test: Test pairs.
        seed: Seed of the split.
        target: `summary` (the data set `docstrings`) or `package` (the data set `libraries`).
        **limits: `max_input_tokens`, `max_target_tokens` (see `TextData`).

    Returns:
        The data; its splits share no module.

    Raises:
        ValueError: The packages give too few pairs, or the target is neither.
    """
    if target not in ("summary", "package"):
        raise ValueError(f"Expected `target` to be summary or package, got {target!r}")
    table = docstring_table(cache_dir, packages, max_per_package, pretrain_share, seed)
    if target == "package":  # in hashed order: the first rows of a split are of all packages
        table = table.assign(target=table["package"]).sort_values("input", key=_hashes)
    name = {"summary": "docstrings", "package": "libraries"}[target]
    return text_data(name, table, n_validation, n_test, **limits)


def _hashes(texts: pd.Series) -> pd.Series:
    return texts.map(hash_text)


def text_data(
    name: str, table: pd.DataFrame, n_validation: int, n_test: int, **limits: int
) -> TextData:
    """The task of a table with columns `split`, `input`, `target`; pre-training rows left out."""
    splits = {
        split: list(zip(rows["input"], rows["target"], strict=True))
        for split, rows in table.groupby("split")
    }
    return make_text_data(
        name,
        splits.get("train", []),
        splits.get("validation", [])[:n_validation],
        splits.get("test", [])[:n_test],
        **limits,
    )


def docstring_table(
    cache_dir: str | Path,
    packages: Sequence[str],
    max_per_package: int,
    pretrain_share: float,
    seed: int,
) -> pd.DataFrame:
    """The table of `collect_docstrings`, cached by package versions and settings."""
    settings = {
        "extractor": EXTRACTOR_VERSION,
        "versions": package_versions(packages),
        "packages": list(packages),
        "max_per_package": max_per_package,
        "pretrain_share": pretrain_share,
        "seed": seed,
    }
    shares = split_shares(pretrain_share)
    return cached_table(
        cache_dir,
        "docstrings",
        settings,
        lambda: collect_docstrings(packages, max_per_package, shares, seed),
    )


def split_shares(pretrain_share: float) -> dict[str, float]:
    """Share of modules for each split; what pre-training leaves is divided by fixed shares."""
    rest = 1.0 - pretrain_share
    shares = {"pretrain": pretrain_share, "validation": 0.025 * rest, "test": 0.05 * rest}
    return {**shares, "train": 1.0 - sum(shares.values())}


def cached_table(
    cache_dir: str | Path,
    name: str,
    settings: Mapping[str, object],
    extract: Callable[[], pd.DataFrame],
) -> pd.DataFrame:
    """A table that is extracted from the installed packages once for each of its settings."""
    key = hashlib.sha256(canonical_json(settings).encode()).hexdigest()[:16]
    path = Path(cache_dir) / f"{name}-{key}.parquet"
    if is_as_written(path):
        return pd.read_parquet(path)
    print(f"Extracting {name} from the installed packages (once) ...", file=sys.stderr)
    table = extract()
    write_verified(path, table.to_parquet)
    return table
