"""A detector on disk: a folder that is written whole, read with every hash checked, and found by name.

    card.json            what it is, with the hash of every other file
    judge.json           calibration, thresholds, doubt band
    TRUNK.judge.onnx     "views" (n, 3, S, S) float32 -> "embedding" (n, d) float32
    TRUNK.explain.onnx   the same, and "features" (n, c, h, w), and "attention" (n, heads, tokens, tokens) where the
                         network has a class token
    TRUNK.weights        shared by both graphs
    heads.npz            the heads' arrays
    seen.npz             keys of what it was trained and tuned on

Nothing in it is executable and nothing is unpickled. Whoever can write the whole folder can still forge it: the
card's hash names a detector, it does not vouch for its maker.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import secrets
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pydantic

from assay.errors import BundleError, unknown
from assay.judge.card import FORMAT, Card, digest, safe
from assay.judge.heads import KINDS, Head
from assay.judge.rule import EnsembleRule, HeadKind, Judge
from assay.judge.seen import Seen

CARD, JUDGE, HEADS, SEEN = "card.json", "judge.json", "heads.npz", "seen.npz"

MADE = "bundle"
"""What a training calls the bundle in its folder."""

DEFAULT: str | None = None
"""Name of the bundle that `find` gives where none is asked for; None: the only one there is."""

SEARCH = "ASSAY_BUNDLES"
"""The environment variable that lists further folders of bundles, separated as in PATH."""

AMENDABLE = ("name", "version", "description", "data", "figures", "limits", "notes", "engine", "training")
"""The fields of a card that may change without the detector judging differently."""

Model = TypeVar("Model", bound=pydantic.BaseModel)

_SHIPPED = Path(__file__).parent.parent / "bundles"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A bundle as read: its folder, card, judge, a head for each stream, and what it has seen."""

    folder: Path
    card: Card
    judge: Judge
    heads: Mapping[str, Head]
    seen: Seen

    @property
    def choices(self) -> dict[HeadKind, EnsembleRule]:
        """The heads that can judge, by kind, each with its rule; the default one first, where all voters have one."""
        voting = set(self.judge.voting)
        kinds = {stream.head.kind for stream in self.card.streams if stream.name in voting}
        alike = {stream.name for stream in self.card.streams if stream.head.kind in kinds}
        # Where further streams have the voters' kind of head, its name would not stand for the voters.
        default = dict.fromkeys(kinds, self.judge.ensemble) if len(kinds) == 1 and alike == voting else {}
        return default | self.judge.alternatives

    def chosen(self, head: str | None = None, vote: str | None = None) -> Judge:
        """The judge of the streams that vote.

        Args:
            head: those with that kind of head instead of the default ones.
            vote: another rule of the default ones, by its name (`Judge.rules`).

        Raises:
            BundleError: kind "unknown": no such head or rule can judge; or both are asked for.
        """
        if head is not None and vote is not None:
            raise BundleError(f"{self.card.name}: give a head or a rule to vote by, not both", kind="unknown")
        if vote is not None:
            rules = {self.judge.ensemble.method: self.judge.ensemble, **self.judge.rules}
            if vote not in rules:
                raise BundleError(f"{self.card.name}: {unknown('rule', vote, rules)}", kind="unknown")
            return self.judge.of(self.judge.voting, rules[vote])
        if head is None:
            return self.judge.of(self.judge.voting, self.judge.ensemble)
        for kind, rule in self.choices.items():
            if kind == head:
                return self.judge.of([stream.name for stream in self.card.streams if stream.head.kind == kind], rule)
        raise BundleError(f"{self.card.name}: {unknown('head', head, self.choices)}", kind="unknown")


def write(
    folder: str | os.PathLike[str],
    card: Card,
    judge: Judge,
    *,
    files: Mapping[str, bytes | Path],
    heads: Mapping[str, Head],
    seen: Seen,
) -> Bundle:
    """Write a bundle, whole or not at all.

    Everything is written beside the folder, read back and checked, then moved into place. A bundle that was there is
    replaced; any other folder with something in it is left alone.

    Args:
        folder: made where it is missing, with its parents.
        card: `files` and `sha256` are filled in.
        judge: one rule for each stream of the card.
        files: the graphs and weights, by their name in the bundle: their bytes, or a file to copy.
        heads: one for each stream of the card, by its name.
        seen: what the detector was trained and tuned on.

    Raises:
        BundleError: kind "invalid": the parts do not fit together, or the folder holds something else.
    """
    place = Path(folder).resolve()
    if place.exists() and not replaceable(place):
        raise BundleError(f"{place} exists and is not a bundle; choose another folder", kind="invalid")
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = _sibling(place)
    try:
        fresh.mkdir()
        for name, content in files.items():
            if not safe(name) or name in (CARD, JUDGE, HEADS, SEEN):
                raise BundleError(f"{name!r} can't be the name of a graph or weights file", kind="invalid")
            _put(fresh / name, content)
        _put(fresh / JUDGE, _text(judge.model_dump(mode="json"), JUDGE))
        _put_arrays(fresh / HEADS, {key: array for name in heads for key, array in heads[name].to_arrays(name).items()})
        _put_arrays(fresh / SEEN, seen.to_arrays())
        hashes = {path.name: _hash(path) for path in sorted(fresh.iterdir())}
        _put(fresh / CARD, _sealed(card, hashes))
        written = read(fresh)
        _move(fresh, place)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return dataclasses.replace(written, folder=Path(folder))


def read(folder: str | os.PathLike[str]) -> Bundle:
    """Read a bundle. Every file's hash is checked before anything in it is used.

    Raises:
        BundleError: kind "missing" (no such folder), "torn" (a file is missing or can't be read), "tampered" (a file
            or the card differs from its hash, is a link, or is not listed), "version" (another layout), "invalid"
            (a field or an array does not hold).
    """
    place = Path(folder)
    if not place.is_dir():
        raise BundleError(f"{place} is not a folder; `assay detectors` lists what is installed", kind="missing")
    try:
        card = _read_card(place)
        _check_files(place, card)
        judge = _model(Judge, _json(place / JUDGE), JUDGE)
        heads = _read_heads(card, _arrays(place / HEADS))
        seen = _read_seen(_arrays(place / SEEN))
        _check_parts(place, card)
    except OSError as error:
        raise BundleError(
            f"{place} can't be read: {error}; check its permissions or copy it again", kind="torn"
        ) from error
    if set(judge.streams) != {stream.name for stream in card.streams}:
        names = ", ".join(stream.name for stream in card.streams)
        raise BundleError(f"{JUDGE} has rules for {', '.join(judge.streams)}, the card streams {names}", kind="invalid")
    if strangers := sorted(set(judge.alternatives) - {stream.head.kind for stream in card.streams}):
        raise BundleError(f"{JUDGE} has rules for {', '.join(strangers)} heads, the card none of them", kind="invalid")
    for kind, rule in judge.alternatives.items():
        having = {stream.name for stream in card.streams if stream.head.kind == kind}
        if others := sorted(set(rule.voters) - having):
            raise BundleError(
                f"{JUDGE}: the rule for {kind} heads asks for votes of {', '.join(others)}, which have another head",
                kind="invalid",
            )
    return Bundle(place, card, judge, heads, seen)


def replaceable(place: Path) -> bool:
    """Whether `write` may take the place of what is there: a bundle, or an empty folder."""
    return place.is_dir() and ((place / CARD).is_file() or not any(place.iterdir()))


def amend(folder: str | os.PathLike[str], **changes: object) -> Bundle:
    """Change fields of a bundle's card, such as `figures` once they are measured, and seal it again.

    Args:
        changes: new values of fields in `AMENDABLE`; each replaces the old value whole.

    Raises:
        BundleError: the bundle does not read, or kind "invalid": a field may not change, or its value does not hold.
    """
    bundle = read(folder)
    for field in changes:
        if field not in AMENDABLE:
            raise BundleError(unknown("field to amend", field, AMENDABLE), kind="invalid")
    card = _model(Card, bundle.card.model_dump() | changes, CARD)
    place = bundle.folder.resolve()
    fresh = _sibling(place)
    try:
        _put(fresh, _sealed(card, card.files))
        fresh.replace(place / CARD)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return read(folder)


def find(name_or_folder: str | os.PathLike[str] | None = None) -> Path:
    """The folder of a bundle.

    Args:
        name_or_folder: a name as `installed` lists it; else a folder, of the bundle or of the training run that made
            it. None for the default. A name wins over a folder of the same name in the working directory: write
            `./name` for the folder.

    Raises:
        BundleError: kind "unknown" or "missing".
    """
    known = {path.name: path for path in reversed(installed())}
    if name_or_folder is None:
        return _default(known)
    if isinstance(name_or_folder, str) and name_or_folder in known:
        return known[name_or_folder]
    place = Path(name_or_folder)
    if place.is_dir():
        made = place / MADE
        return made if (made / CARD).is_file() and not (place / CARD).exists() else place
    if isinstance(name_or_folder, str) and place.name == name_or_folder:
        raise BundleError(unknown("detector", name_or_folder, known), kind="unknown")
    raise BundleError(f"{place} is not a folder; `assay detectors` lists what is installed", kind="missing")


def installed() -> list[Path]:
    """Folders of the bundles that ship with assay, then of those in the folders that `ASSAY_BUNDLES` names."""
    shelves = [_SHIPPED, *(Path(entry) for entry in os.environ.get(SEARCH, "").split(os.pathsep) if entry)]
    return [card.parent for shelf in shelves for card in sorted(shelf.glob(f"*/{CARD}"))]


def _default(known: Mapping[str, Path]) -> Path:
    if DEFAULT is not None and DEFAULT in known:
        return known[DEFAULT]
    shipped = [path for path in known.values() if path.parent == _SHIPPED]
    choices = shipped or list(known.values())
    if len(choices) == 1:
        return choices[0]
    if not choices:
        raise BundleError(
            f"no detector is installed; name a bundle's folder, or a folder of bundles in {SEARCH}", kind="missing"
        )
    raise BundleError(f"several detectors are installed; name one of {', '.join(sorted(known))}", kind="unknown")


def _read_card(place: Path) -> Card:
    if not (place / CARD).is_file():
        raise BundleError(f"{place} has no {CARD}; it is no bundle, or was not copied whole", kind="torn")
    content = _json(place / CARD)
    version = content.get("format_version") if isinstance(content, dict) else None
    if version is not None and version != FORMAT:
        raise BundleError(
            f"{place} is a bundle of format {version}; this assay reads format {FORMAT}: "
            "update assay, or get the detector in that format",
            kind="version",
        )
    card = _model(Card, content, CARD)
    try:
        found = digest(content)
    except ValueError as error:
        raise BundleError(f"{CARD} has no canonical form: {error}", kind="invalid") from error
    if found != card.sha256:
        raise BundleError(
            f"{CARD} was changed after it was written: it has hash {_short(found)}, it says {_short(card.sha256)}; "
            "get the detector again",
            kind="tampered",
        )
    return card


def _check_files(place: Path, card: Card) -> None:
    """The folder holds what the card lists: all of it, nothing else, unchanged."""
    needed = {JUDGE, HEADS, SEEN, *(f"{stream.trunk}.judge.onnx" for stream in card.streams)}
    if unlisted := sorted(needed - set(card.files)):
        raise BundleError(f"{CARD} does not list {', '.join(unlisted)}", kind="invalid")
    entries = {path.name: path for path in place.iterdir() if path.name != CARD}
    if lost := sorted(set(card.files) - set(entries)):
        raise BundleError(f"{place} lacks {', '.join(lost)}; copy the whole folder again", kind="torn")
    if extra := sorted(set(entries) - set(card.files)):
        raise BundleError(
            f"{place} holds files that the card does not list: {', '.join(map(repr, extra))}; remove them",
            kind="tampered",
        )
    if odd := sorted(name for name, path in entries.items() if path.is_symlink() or not path.is_file()):
        raise BundleError(
            f"{place} must hold plain files, but {', '.join(odd)} is a link or a folder; copy the files themselves",
            kind="tampered",
        )
    if (place / CARD).is_symlink():
        raise BundleError(f"{place}: {CARD} is a link; copy the file itself", kind="tampered")
    found = {name: _hash(path) for name, path in entries.items()}
    if changed := sorted(name for name in found if found[name] != card.files[name]):
        list_of = "; ".join(
            f"{name} has hash {_short(found[name])}, not {_short(card.files[name])}" for name in changed
        )
        raise BundleError(f"{place} was changed after it was written: {list_of}; get it again", kind="tampered")


def _read_heads(card: Card, arrays: dict[str, npt.NDArray[Any]]) -> dict[str, Head]:
    heads: dict[str, Head] = {}
    for stream in card.streams:
        try:
            head: Head = KINDS[stream.head.kind].from_arrays(stream.name, arrays)
        except ValueError as error:
            raise BundleError(f"{HEADS}: head of stream {stream.name!r}: {error}", kind="invalid") from error
        if head.width != stream.embedding:
            raise BundleError(
                f"{HEADS}: head of stream {stream.name!r} takes {head.width} numbers, "
                f"its trunk gives {stream.embedding}",
                kind="invalid",
            )
        heads[stream.name] = head
    return heads


def _check_parts(place: Path, card: Card) -> None:
    """No stream's part ends behind its trunk's embedding, which would be seen only once a picture is judged."""
    # Few bundles need the runtime to be read.
    from assay.judge.engine import length_of

    lengths: dict[str, int | None] = {}
    for stream in card.streams:
        if stream.part is None:
            continue
        graph = f"{stream.trunk}.judge.onnx"
        if graph not in lengths:
            lengths[graph] = length_of(place / graph)
        length = lengths[graph]
        if length is not None and stream.part[1] > length:
            raise BundleError(
                f"{CARD}: stream {stream.name!r} has the part {stream.part} of its trunk's embedding, "
                f"{graph} gives {length} numbers",
                kind="invalid",
            )


def _read_seen(arrays: dict[str, npt.NDArray[Any]]) -> Seen:
    try:
        return Seen.from_arrays(arrays)
    except ValueError as error:
        raise BundleError(f"{SEEN}: {error}", kind="invalid") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is not JSON: {error}", kind="invalid") from error


def _model(model: type[Model], content: object, file: str) -> Model:
    try:
        return model.model_validate(content)
    except pydantic.ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or 'top'}: {fault['msg']}" for fault in error.errors()]
        more = f" (and {len(faults) - 5} more)" if len(faults) > 5 else ""
        raise BundleError(f"{file} does not hold: {'; '.join(faults[:5])}{more}", kind="invalid") from error


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """All arrays of an .npz file. Object arrays, which would have to be unpickled, are refused."""
    try:
        stored = np.load(path, allow_pickle=False)
        if not isinstance(stored, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with stored:
            arrays = {name: stored[name] for name in stored.files}
    except (ValueError, EOFError, KeyError, NotImplementedError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise BundleError(f"{path.name} is not a plain set of arrays: {error}", kind="invalid") from error
    for name, array in arrays.items():
        # NumPy hands over the bytes of a member that is no array.
        if not isinstance(array, np.ndarray):
            raise BundleError(f"{path.name}: {name!r} is not an array", kind="invalid")
    return arrays


def _sealed(card: Card, hashes: Mapping[str, str]) -> bytes:
    """The text of `card.json` with the hashes and its own."""
    content = card.model_dump(mode="json") | {"files": dict(sorted(hashes.items()))}
    text = _text(content, CARD)
    # Hashed as it will be read.
    content = json.loads(text)
    return _text(content | {"sha256": digest(content)}, CARD)


def _text(content: object, file: str) -> bytes:
    try:
        return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")
    except ValueError as error:
        raise BundleError(f"{file} holds a value that is not JSON: {error}", kind="invalid") from error


def _put(path: Path, content: bytes | Path) -> None:
    """Write a file and have it on the disk, not in a cache, before the folder takes its name."""
    if isinstance(content, Path):
        shutil.copyfile(content, path)
        content = b""
    with path.open("ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _put_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    # Sorted, so that the same arrays make the same file.
    ordered: dict[str, Any] = {name: arrays[name] for name in sorted(arrays)}
    with path.open("xb") as file:
        np.savez(file, **ordered)
        file.flush()
        os.fsync(file.fileno())


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _short(sha256: str) -> str:
    return f"{sha256[:12]}…" if sha256 else "none"


def _sibling(place: Path) -> Path:
    """A name beside `place` that nothing has."""
    return place.with_name(f".{place.name}.{secrets.token_hex(6)}.part")


def _move(fresh: Path, place: Path) -> None:
    """Give `fresh` the name `place`; what had it is removed only once that is done."""
    if not place.exists():
        fresh.rename(place)
        return
    old = _sibling(place)
    place.rename(old)
    try:
        fresh.rename(place)
    except BaseException:
        old.rename(place)
        raise
    shutil.rmtree(old)
