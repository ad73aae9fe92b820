"""`assay provenance`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.shell import SOME_FAILED, Json, Trust, certificates, say, seen
from assay.errors import InputError

if TYPE_CHECKING:
    from assay.image.provenance import Provenance

EXAMPLES = (
    "assay provenance photo.jpg",
    "assay provenance photo.jpg other.png --json",
    "assay provenance photo.jpg --trust authorities.pem",
)

_VERIFIED = {
    "valid": "signature valid",
    "untrusted": "signature intact, signer unknown",
    "invalid": "signature INVALID",
    "": "",
}


def provenance(
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Pictures or videos.")],
    trust: Trust = None,
    as_json: Json = False,
) -> None:
    """Read what a picture's file says of its own origin: signed records, camera data, a generator's settings.

    Nothing found says nothing, and what is found can be forged; no score takes it into account. Nothing is fetched.
    With --json one object a line. Exit status: 0 all read, 1 some could not be, 2 usage.
    """
    from assay.image.provenance import provenance as look
    from assay.types import Failure

    trusted = certificates(trust)
    failed = False
    for path in paths:
        try:
            found = look(path, trusted=trusted)
        except InputError as error:
            failed = True
            if as_json:
                print(json.dumps(Failure(path, error.kind, str(error)).to_dict()))
            else:
                say(f"{path}: {error}")
            continue
        if as_json:
            print(json.dumps({"input": path, **found.to_dict()}))
        else:
            _show(path, found)
    if failed:
        raise typer.Exit(SOME_FAILED)


def _show(path: str, found: Provenance) -> None:
    from assay.image.provenance.sign import AGAINST, BESIDE, NOTHING

    print(seen(path))
    for sign in found.signs:
        verified = _VERIFIED[sign.verified]
        print(f"  {sign.says} ({sign.kind}{', ' if verified else ''}{verified}): {seen(sign.title)}")
        for name, value in sign.detail.items():
            print(f"    {seen(name)}: {seen(value)}")
    for line in found.unread:
        print(f"  not read: {seen(line)}")
    if AGAINST in found.told:
        print(f"  {AGAINST}")
    print(f"  {BESIDE if found.signs else NOTHING}")
