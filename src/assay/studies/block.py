"""One table of a study's report."""

from __future__ import annotations

import dataclasses

NONE = "–"
"""What stands where there is nothing to say."""


@dataclasses.dataclass(frozen=True)
class Block:
    """One table: its title, its columns (the first `left` of them words), its lines, and a note."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 3
    note: str = ""
