"""Published weights, read so that nothing in them can run.

Safetensors hold numbers only. A torch file is a pickle inside: it is opened by torch's weights-only reader, which
knows tensors and containers and refuses the rest. Everything else that Python can unpickle stays closed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from assay.errors import MissingExtra, RecipeError

CONFIG = "config.json"
WHOLE, SHARDED, TORCH = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
"""What a folder of published weights holds, in the order they are looked for."""

PICKLED = frozenset({".joblib", ".sav", ".pkl", ".pickle"})
"""Suffixes of files that are never opened: unpickling them could run anything."""

_TORCH = frozenset({".bin", ".pt", ".pth"})
_READ = frozenset({".safetensors", *_TORCH, *PICKLED})

_HUB = re.compile(r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_WRAPPED = ("state_dict", "model_state_dict", "model")
"""Where training scripts keep the parameters inside a checkpoint."""

_POINTER = b"version https://git-lfs"


@dataclasses.dataclass(frozen=True)
class Weights:
    """Parameters as they were published, and where they are from.

    Args:
        tensors: by the name that the file gives them, on the CPU; those of floating point in float32, finite.
        config: the folder's `config.json`; empty for a file alone, and where there is none.
        named: as the user named them, for messages.
        source: the repository, or the name of the folder or file.
        revision: the commit of the repository; empty for what lies here.
        files: SHA-256 of every file that was read, by its name.
        closed: names of the pickles beside them, which were not opened.
    """

    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any]
    named: str
    source: str
    revision: str = ""
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    closed: tuple[str, ...] = ()


def read(place: str) -> Weights:
    """Read published weights.

    Args:
        place: a folder as `save_pretrained` writes it (model.safetensors, whole or in shards, else pytorch_model.bin;
            with config.json); a single .safetensors, .bin, .pt or .pth file, which is read alone; or, where neither
            is there, the name of a repository of the Hugging Face hub as OWNER/NAME or OWNER/NAME@REVISION. Only such
            a name uses the network.

    Raises:
        RecipeError: nothing is there, it cannot be read or had, or it would have to be unpickled.
        MissingExtra: a name of the hub, and the library that asks it is not installed.
    """
    path = Path(place)
    if path.is_dir():
        return _folder(path, place, path.resolve().name)
    if path.is_file():
        return _file(path, place)
    found = _HUB.fullmatch(place)
    # A slip in a path must not become a question to the network.
    if found is None or path.suffix.lower() in _READ or Path(path.parts[0]).exists():
        raise RecipeError(
            f"no weights at {place}; give a folder with {CONFIG} and {WHOLE}, a safetensors file, or a repository of "
            "the Hugging Face hub as OWNER/NAME"
        )
    repository, revision = found["repository"], found["revision"]
    folder = _fetched(repository, revision)
    # A snapshot's folder is named by its commit.
    commit = folder.name if _COMMIT.fullmatch(folder.name) else revision or ""
    return dataclasses.replace(_folder(folder, place, repository), revision=commit)


def _fetched(repository: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError as error:
        raise MissingExtra("fetching weights from the Hugging Face hub", "train") from error
    try:
        return Path(
            snapshot_download(
                repository, revision=revision, allow_patterns=[CONFIG, "*.safetensors", "*.safetensors.index.json"]
            )
        )
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split("\n")[0].split()).rstrip(".") or type(error).__name__
        raise RecipeError(
            f"cannot fetch {repository} from the Hugging Face hub: {reason}. Without a network, download its {CONFIG} "
            f"and {WHOLE} elsewhere and give the folder that holds them"
        ) from error


def _folder(folder: Path, named: str, source: str) -> Weights:
    closed = tuple(
        path.relative_to(folder).as_posix()
        for path in sorted([*folder.glob("*"), *folder.glob("*/*")])
        if path.suffix.lower() in PICKLED
    )
    config, files = _config(folder)
    if (folder / WHOLE).is_file():
        parts = [folder / WHOLE]
    elif (folder / SHARDED).is_file():
        parts = _shards(folder / SHARDED)
        files[SHARDED] = _hash(folder / SHARDED)
    elif (folder / TORCH).is_file():
        parts = [folder / TORCH]
    else:
        parts = sorted(folder.glob("*.safetensors"))
        if len(parts) > 1:
            raise RecipeError(
                f"{named} holds {len(parts)} safetensors files and no {SHARDED}, so which one is meant is not known; "
                "give the file itself"
            )
    if not parts:
        pickles = f"; {', '.join(closed[:3])} would have to be unpickled, which can run code" if closed else ""
        raise RecipeError(f"{named} holds neither {WHOLE}, {SHARDED} nor {TORCH}{pickles}; get one of these")
    tensors: dict[str, Tensor] = {}
    for part in parts:
        tensors |= _tensors(part)
        files[part.name] = _hash(part)
    return Weights(_checked(tensors, named), config, named, source, files=files, closed=closed)


def _file(path: Path, named: str) -> Weights:
    if path.suffix.lower() in PICKLED:
        raise RecipeError(
            f"{named} is a pickle, and opening one can run code; give the network's weights as safetensors. A "
            "classifier that lies in it is fitted anew on your rows"
        )
    return Weights(_checked(_tensors(path), named), {}, named, path.name, files={path.name: _hash(path)})


def _config(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    path = folder / CONFIG
    if not path.is_file():
        return {}, {}
    content = _json(path)
    return content, {CONFIG: _hash(path)}


def _shards(index: Path) -> list[Path]:
    """The files that an index names. A name that leads out of the folder is refused."""
    where = _json(index).get("weight_map")
    names = sorted({str(name) for name in where.values()}) if isinstance(where, dict) else []
    strange = [name for name in names if Path(name).name != name or not name.endswith(".safetensors")]
    if not names or strange:
        raise RecipeError(f"{index} is no index of safetensors files{f': {strange[0]!r}' if strange else ''}")
    lost = [name for name in names if not (index.parent / name).is_file()]
    if lost:
        raise RecipeError(f"{index.parent} lacks {', '.join(lost)}; download it again")
    return [index.parent / name for name in names]


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RecipeError(f"{path} cannot be read: {error}; download it again") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path} holds no object; download it again")
    return content


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:
            pointer = file.read(len(_POINTER)) == _POINTER
    except OSError as error:
        raise RecipeError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    if pointer:
        raise RecipeError(f"{path} points to a file of Git LFS; fetch it with: git lfs pull")
    if path.suffix.lower() in _TORCH:
        return _of_torch(path)
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise RecipeError(f"{path} is no safetensors file, or is torn: {error}; download it again") from error


def _of_torch(path: Path) -> dict[str, Tensor]:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a foreign file can fail to be read in any way
        raise RecipeError(
            f"{path} cannot be read as plain tensors, and unpickling it could run code; where you trust it, save its "
            "state dict with safetensors.torch.save_file and give that file"
        ) from error
    for key in _WRAPPED:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise RecipeError(f"{path} holds more than a network's parameters; save its state dict alone, as safetensors")
    return content


def _checked(tensors: Mapping[str, Tensor], named: str) -> dict[str, Tensor]:
    if not tensors:
        raise RecipeError(f"{named} holds no parameters; download it again")
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        # Left behind where a network was saved while several machines trained it.
        kept[name.removeprefix("module.")] = tensor.float() if tensor.is_floating_point() else tensor
    broken = [name for name, tensor in kept.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if broken:
        raise RecipeError(f"{named}: {broken[0]} holds numbers that are not finite; download it again")
    return kept


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
