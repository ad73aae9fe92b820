"""`assay report`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli.shell import Json, Quiet, say, stages
from assay.errors import InputError, MissingExtra, OutputError

EXAMPLES = (
    "assay report results.jsonl",
    "assay report results.jsonl figures.json --out report.html --title 'Holiday pictures'",
    "assay report results.csv --rows 1000 --no-thumbnails --force",
)


def report(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="What assay scan --out or assay evaluate --json wrote, a file or a folder; several make one report.",
        ),
    ],
    out: Annotated[str, typer.Option(metavar="FILE.html", help="Where to.")] = "report.html",
    title: Annotated[str | None, typer.Option(help="Of the page.  [default: Report]")] = None,
    rows: Annotated[
        int | None, typer.Option(min=0, help="Most results of a scan shown; the others are counted.  [default: 200]")
    ] = None,
    no_thumbnails: Annotated[
        bool, typer.Option("--no-thumbnails", help="Open none of the pictures, and show none.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what --out names.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make one web page of scans, evaluations and comparisons of detectors.

    The page holds all it needs and asks nobody for anything. Exit status: 0 written, 1 an input cannot be used, 2
    usage.
    """
    _writable(Path(out), inputs, force)

    from assay.measure import page
    from assay.measure.gather import put

    most = page.ROWS if rows is None else rows
    picture = None if no_thumbnails else page.thumbnail
    sections = []
    with stages(quiet) as progress:
        for number, name in enumerate(inputs, 1):
            if Path(name).is_dir():
                sections.append(page.of_results(_of_cluster(name), name, number, rows=most, picture=picture))
            else:
                sections.append(page.of_file(name, number, rows=most, picture=picture, progress=progress))
    content = page.report(sections, title or "Report").encode()
    put(Path(out), lambda file: file.write(content))
    if as_json:
        told = [{"input": name} | section.told for name, section in zip(inputs, sections, strict=True)]
        print(json.dumps({"file": out, "sections": told}, allow_nan=False))
    if not quiet:
        say(f"written: {out}", prefix="")


def _of_cluster(folder: str) -> Iterator[Mapping[str, Any]]:
    """The results of a scan on a cluster."""
    if not any(Path(folder).glob("part-*.parquet")):
        raise InputError(f"{folder}: a folder that holds no results of assay scan --on; give a file", kind="not_a_file")
    try:
        from assay.cluster import parts
    except ImportError:
        raise MissingExtra("a folder of Parquet files", "data") from None
    return parts.results(Path(folder))


def _writable(file: Path, inputs: Sequence[str], force: bool) -> None:
    """Told before the work, not after it."""
    if file.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"{file}: it is a web page; end its name in .html")
    if not file.parent.is_dir():
        raise OutputError(f"{file}: there is no folder {file.parent}; make it, or give --out another")
    if not os.path.lexists(file):
        return
    if file.is_dir():
        raise OutputError(f"{file}: that is a folder; give --out another name")
    if any(Path(name).exists() and file.exists() and file.samefile(name) for name in inputs):
        raise OutputError(f"{file}: that is an input; give --out another name")
    if not force:
        raise OutputError(f"{file}: is there already; give --out another name, or --force to replace it")
