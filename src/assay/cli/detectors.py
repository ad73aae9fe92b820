"""`assay detectors`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from assay.cli.shell import USAGE, Json, say

EXAMPLES = (
    "assay detectors",
    "assay detectors NAME",
    "assay detectors --json",
)


def detectors(
    detector: Annotated[
        str | None, typer.Argument(metavar="[NAME|FOLDER]", help="One detector, with its whole card.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What is installed, and what each detector claims."""
    from assay.errors import BundleError
    from assay.judge import about, bundle

    folders = bundle.installed() if detector is None else [bundle.find(detector)]
    broken = False
    for number, folder in enumerate(folders):
        try:
            read = bundle.read(folder)
        except BundleError as error:
            if detector is not None:
                raise
            broken = True
            say(str(error))
            continue
        if as_json:
            print(json.dumps(about.described(read)))
            continue
        text = about.short(read) if detector is None else about.whole(read)
        print(("\n" if number else "") + text)
    if not folders:
        say(f"no detector is installed; name a bundle's folder, or a folder of bundles in {bundle.SEARCH}")
    if broken:
        raise typer.Exit(USAGE)
