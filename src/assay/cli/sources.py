"""What `--data` may name: a manifest, or shards in a folder or at an address."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assay.data.shards import Index
    from assay.data.table import Table


def opened(data: str) -> Table | Index:
    """The rows of a manifest, checked, or the index of shards.

    Raises:
        ManifestError: it cannot be read, or a row is at fault.
    """
    from assay.data import manifest, remote
    from assay.data.shards import INDEX, Index

    if remote.is_address(data) or Path(data).is_dir() or Path(data).name == INDEX:
        return Index.open(data)
    return manifest.read(data)
