"""Tables as a person reads them: aligned on a terminal, or as Markdown."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from assay.judge.sink import printable


class Block(NamedTuple):
    """One table of a report: its title, its columns, its rows of cells, and a note under it."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str = ""


def show(block: Block, console: Console) -> None:
    """Print a table on a terminal."""
    # Not as the table's own title, which would break where a narrow table ends.
    console.print(Text(printable(block.title), style="bold"))
    table = Table(box=box.SIMPLE_HEAD)
    for number, column in enumerate(block.columns):
        table.add_column(Text(printable(column)), justify="left" if number == 0 else "right", overflow="fold")
    for row in block.rows:
        # Text, because a file's or a generator's name may hold what rich takes for markup.
        table.add_row(*(Text(printable(cell)) for cell in row))
    console.print(table)
    if block.note:
        console.print(Text(printable(block.note)))


def plain(draw: Callable[[Console], object], width: int) -> str:
    """What is printed on a terminal of that width, as text without colour."""
    file = io.StringIO()
    draw(Console(file=file, width=width, color_system=None, force_terminal=False, legacy_windows=False))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def markdown(block: Block, level: int) -> str:
    """A table under its heading.

    Args:
        level: of the heading, 1 to 6.
    """
    lines = [
        f"{'#' * level} {escaped(block.title)}",
        "",
        line(block.columns),
        line(["---", *["---:"] * (len(block.columns) - 1)]),
        *(line([escaped(cell) for cell in row]) for row in block.rows),
    ]
    return "\n".join(lines + (["", escaped(block.note)] if block.note else []))


def line(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def escaped(cell: str) -> str:
    """A cell whose text cannot break a Markdown table or become markup."""
    cell = printable(" ".join(cell.split()))
    for sign in "\\`*_[]<>|#":
        cell = cell.replace(sign, f"\\{sign}")
    return cell
