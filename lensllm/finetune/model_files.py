"""The files of a model folder: which ones loading reads, whether they are safe, what they hold."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

_WEIGHTS = ".safetensors"
_INDEX = f"{_WEIGHTS}.index.json"
_TEMPLATES = "additional_chat_templates"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
# Endings of files that transformers does not read when lensllm loads a model.
_UNREAD = (
    *_PICKLES,
    ".md",
    ".gitattributes",
    ".gitignore",
    ".gguf",
    ".h5",
    ".msgpack",
    ".onnx",
    ".ot",
    ".png",
    ".jpg",
    ".jpeg",
    ".svg",
    ".pdf",
    ".log",
    ".lock",
)
N_NAMED = 12  # folders that a message names
_LFS = b"version https://git-lfs"
# Model files of other libraries than transformers, and what to do with them.
_OTHERS = {
    "model_index.json": "a pipeline of diffusers: name a language model",
    "params.json": "an original release: convert it with the script that transformers has for it",
    "consolidated*": "an original release: convert it with the script that transformers has for it",
    "*.onnx": "an ONNX export: name the model that it was made from",
    "*.h5": "weights of TensorFlow: name the model that they were made from",
    "*.msgpack": "weights of Flax: name the model that they were made from",
    "*.safetensors": "weights alone: put the model's config.json and tokenizer beside them",
    "*.bin": "a pickle checkpoint alone: take the model's whole folder, with safetensors",
}
# Number formats of unquantised weights, as safetensors names them.
_PLAIN_DTYPES = ("F64", "F32", "F16", "BF16")


def folders_beside(source: str) -> str:
    """The folders where that of a model is missing, in words; empty if there are none."""
    parent = Path(source).expanduser().parent
    if parent == Path() or not parent.is_dir():
        return ""
    names = sorted(path.name for path in parent.iterdir() if path.is_dir())
    return f"; {parent} has the folders {', '.join(names[:N_NAMED])}" if names else ""


def check_model_folder(folder: Path) -> None:
    """Refuse a folder that is not a model, is incomplete or is not safe to load.

    Raises:
        ValueError: There is no config, only pickled weights, or code of its own; weights are named
            that lie outside the folder, are missing, cut short or quantised; the folder holds an
            adapter. The message says what was expected, what came and what to do.
    """
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"Expected a model folder with config.json, found none in {folder}{_instead(folder)}"
        )
    config = _read_object(folder / "config.json", "a model folder with config.json")
    refuse_code(config, str(folder))
    if (folder / "adapter_config.json").is_file():
        raise ValueError(
            f"Expected a model or an adapter in {folder}, found an adapter (adapter_config.json) "
            "beside a model's config.json: move one of them to a folder of its own, or merge them "
            "with peft's `merge_and_unload` and save the result"
        )
    weights = weight_files(folder)
    if not weights:
        pickled = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
        found = f"the pickle checkpoint {pickled[0]}" if pickled else "no weights"
        advice = "convert the model with save_pretrained in an environment that you trust"
        raise ValueError(
            f"Expected safetensors weights in {folder}, found {found}"
            f"{'' if pickled else _instead(folder)}: {advice}"
        )
    for path in weights:
        check_weights(path)
    check_texts(folder)


def check_texts(folder: Path) -> None:
    """Refuse pointers of Git LFS, and a tokenizer's settings that name files elsewhere.

    Raises:
        ValueError: One is found; the message says which and what to do.
    """
    for path in text_files(folder):
        with path.open("rb") as stream:
            if stream.read(len(_LFS)) == _LFS:
                raise ValueError(_lfs_words(path))
    tokenizer = folder / "tokenizer_config.json"
    if tokenizer.is_file():
        settings = _read_object(tokenizer, "a tokenizer's settings")
        for key, value in settings.items():
            if key.endswith("_file") and isinstance(value, str):
                _inside(folder, value, tokenizer)


def _lfs_words(path: Path) -> str:
    return f"Expected a file in {path}, found a pointer of Git LFS: `git lfs pull` fetches it"


def _instead(folder: Path) -> str:
    """What lies in a folder in place of a model, and what to do with it; empty where unknown."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    gguf = [name for name in names if name.lower().endswith(".gguf")]
    if gguf:
        return (
            f", but the GGUF file {gguf[0]}, as llama.cpp runs them: name the model that it was "
            "made from, or write it out once with transformers' `from_pretrained(folder, "
            f"gguf_file={gguf[0]!r})` and `save_pretrained`, model and tokenizer"
        )
    below = [name for name in names if (folder / name / "config.json").is_file()]
    if below:
        return f", but models in folders below it: name one of {', '.join(below[:5])}"
    for pattern, words in _OTHERS.items():
        found = next(iter(sorted(folder.glob(pattern))), None)
        if found is not None:
            return f", but {found.name}, {words}"
    return ": it is empty" if not names else f", but {', '.join(names[:5])}"


def refuse_code(config: dict[str, Any], source: str) -> None:
    """Refuse a config that asks for code that transformers does not have, or for packed weights.

    Raises:
        ValueError: It has `auto_map`, an attention of a Hub repository, or quantised weights.
    """
    if config.get("auto_map"):
        raise ValueError(
            f"Expected a model that transformers implements, got {source}, whose config.json asks "
            "for code of its own (`auto_map`): lensllm never sets trust_remote_code"
        )
    for key, value in _items(config):
        if str(key).endswith("_implementation") and isinstance(value, str) and "/" in value:
            raise ValueError(
                f"Expected a model that transformers implements, got {source}, whose config.json "
                f"takes code from the Hub ({key}: {value}): remove that line"
            )
    if config.get("quantization_config"):
        method = dict(config["quantization_config"]).get("quant_method", "a quantisation")
        raise ValueError(
            f"Expected weights in full precision, got those of {source}, which are quantised "
            f"({method}) and cannot be fine-tuned as they are: name the model that they were made "
            "from, with finetune=qlora where memory is short"
        )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that loading reads, those that an index names included; sorted.

    Raises:
        ValueError: An index names a file outside the folder, or one that is missing.
    """
    found = {path for path in folder.glob(f"*{_WEIGHTS}") if path.is_file()}
    for index in sorted(folder.glob(f"*{_INDEX}")):
        names = _read_object(index, "an index of weights").get("weight_map")
        if not isinstance(names, dict) or not all(isinstance(n, str) for n in names.values()):
            raise ValueError(f"Expected an object `weight_map` of file names in {index}")
        for name in sorted(set(names.values())):
            path = _inside(folder, name, index)
            if not path.is_file():
                raise ValueError(
                    f"Expected the weights {name} that {index} names in {folder}, found none: "
                    "download or copy the model again"
                )
            found.add(path)
    return sorted(found)


def text_files(folder: Path) -> list[Path]:
    """All other files that loading may read: config, tokenizer, chat templates; sorted."""
    files = [path for path in folder.iterdir() if path.is_file()]
    files += [path for path in (folder / _TEMPLATES).glob("*.jinja") if path.is_file()]
    return sorted(
        path
        for path in files
        if path.suffix != _WEIGHTS
        and not path.name.lower().endswith(_UNREAD)
        and not path.name.startswith(".")
    )


def weights_fingerprint(folder: Path) -> str:
    """16 hexadecimal digits of a SHA-256 over all weights that loading reads."""
    digest = hashlib.sha256()
    for path in weight_files(folder):
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def text_fingerprint(folder: Path) -> str:
    """16 hexadecimal digits of a SHA-256 over names and contents of `text_files`."""
    digest = hashlib.sha256()
    for path in text_files(folder):
        content = path.read_bytes()
        name = path.relative_to(folder).as_posix()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def check_weights(path: Path) -> None:
    """Read the header of a safetensors file: is the file whole, and are its numbers plain?

    Raises:
        ValueError: It is cut short, no safetensors file, or holds integers in place of weights.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        header = stream.read(length) if length <= size - 8 else b""
    if start == _LFS[:8]:
        raise ValueError(_lfs_words(path))
    try:
        tensors = json.loads(header)
        ends = [
            int(item["data_offsets"][1]) for name, item in tensors.items() if name != "__metadata__"
        ]
        dtypes = {item["dtype"] for name, item in tensors.items() if name != "__metadata__"}
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise ValueError(
            f"Expected a safetensors file in {path}, got one whose header cannot be read: download "
            "or copy the model again"
        ) from error
    if max(ends, default=0) != size - 8 - length:
        raise ValueError(
            f"Expected {8 + length + max(ends, default=0)} bytes in {path}, got {size}: it is cut "
            "short or damaged; download or copy the model again"
        )
    packed = sorted(dtypes - {*_PLAIN_DTYPES, "BOOL"})
    if packed and not dtypes & set(_PLAIN_DTYPES):
        raise ValueError(
            f"Expected weights in full precision in {path}, got numbers of type "
            f"{', '.join(packed)}: take the model that they were quantised from"
        )


def integer_weights(path: Path) -> dict[str, str]:
    """Names and types of the tensors of a file that are no floating-point numbers."""
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        tensors = json.loads(stream.read(length))
    return {
        name: item["dtype"]
        for name, item in tensors.items()
        if name != "__metadata__" and item["dtype"] not in _PLAIN_DTYPES
    }


def _inside(folder: Path, name: str, where: Path) -> Path:
    """A file that another one names, which has to lie in the folder.

    Links to files elsewhere are followed (the cache of the Hub is made of such), since what they
    lead to is read and hashed; a name that leads out of the folder is refused.
    """
    for kind in (PurePosixPath(name), PureWindowsPath(name)):
        if kind.is_absolute() or kind.drive or ".." in kind.parts:
            raise ValueError(
                f"Expected a file inside {folder} in {where}, got {name!r}: lensllm reads no file "
                "outside of a model's folder"
            )
    return folder / name


def _read_object(path: Path, what: str) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"Expected {what}, found none in {path.parent}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Expected a JSON object in {path}, got {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"Expected a JSON object in {path}, got a {type(content).__name__}")
    return content


def _items(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Keys and values of a config and of those inside it."""
    for key, value in config.items():
        yield key, value
        if isinstance(value, dict):
            yield from _items(value)
