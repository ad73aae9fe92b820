"""What `--data` may name: a manifest, a folder that holds one, or shards in a folder or at an address."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assay.errors import ManifestError, unknown

if TYPE_CHECKING:
    from assay.data.index import Index
    from assay.data.table import Table


def opened(data: str) -> Table | Index:
    """The rows of a manifest, checked, or the index of shards.

    A folder of copies (`assay data frames`) stands for its manifest, a folder of shards for its index.

    Raises:
        ManifestError: it cannot be read, or a row is at fault.
    """
    from assay.data import manifest, remote
    from assay.data.index import INDEX, UNFINISHED, Index

    place = Path(data)
    sharded = place.name == INDEX or any((place / name).is_file() for name in (INDEX, UNFINISHED))
    return Index.open(data) if sharded or remote.is_address(data) else manifest.read(data)


def rows(data: str, splits: Sequence[str] = ()) -> Table:
    """The rows of a manifest, checked; of these splits only, where some are named.

    Raises:
        ManifestError: it cannot be read, a row is at fault, or no row has one of the splits.
    """
    from assay.data import manifest, remote

    if remote.is_address(data):
        raise ManifestError(f"{data}: only training reads from an address; fetch it and give the file or folder")
    return of_splits(manifest.read(data), splits, data)


def of_splits(rows: Table, splits: Sequence[str], data: str) -> Table:
    """The rows of these splits; all where none is named. "val" is "tune", as in a manifest.

    Raises:
        ManifestError: no row has one of them.
    """
    from assay.data import manifest
    from assay.data.table import distinct

    if not splits:
        return rows
    wanted = [manifest.SPLITS.get(name.lower(), name) for name in splits]
    there = set(distinct(rows.column("split"))[0].tolist()) - {""}
    for name in wanted:
        if name not in there:
            why = unknown("split", name, there) if there else f"no row has a split; run: assay data split {data}"
            raise ManifestError(f"{data}: {why}")
    return manifest.select(rows, split=wanted)
