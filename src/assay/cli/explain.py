"""`assay explain`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import assay
from assay.cli.shell import SOME_FAILED, Detector, Head, Json, Quiet, Vote, say, seen, stages
from assay.errors import OutputError

if TYPE_CHECKING:
    from assay.image.faces import Face
    from assay.judge.explain import Explanation
    from assay.measure.attribution import Noisy

EXAMPLES = (
    "assay explain photo.jpg",
    "assay explain photo.jpg --out photo.html --out maps.npz",
    "assay explain photo.jpg --noise --faces --json",
    "assay explain clip.mp4 --time 12.5",
)

SUFFIXES = (".png", ".html", ".npz")

Tables = dict[str, list[tuple[str, str]]]


def explain(
    image: Annotated[
        str, typer.Argument(metavar="IMAGE", help="A picture, or a clip: one frame of it is looked into.")
    ],
    detector: Detector = None,
    head: Head = None,
    vote: Vote = None,
    streams: Annotated[
        list[str] | None,
        typer.Option("--stream", metavar="NAME", help="Look into this stream; may be repeated.  [default: all]"),
    ] = None,
    out: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Heat over the picture (.png), a page (.html) or the arrays (.npz); may be repeated.  "
            "[default: IMAGE's name with .explain.png, here]",
        ),
    ] = None,
    channels: Annotated[
        int | None, typer.Option(min=0, help="Channels asked a crop at most; 0 for all, which is slow.  [default: 64]")
    ] = None,
    toward: Annotated[str, typer.Option(metavar="fake|real", help="Show what speaks for this.")] = "fake",
    noise: Annotated[
        bool,
        typer.Option("--noise", help="Explain it again under noise, and say what stays; takes three times as long."),
    ] = False,
    faces: Annotated[
        bool, typer.Option("--faces", help='Say how much lies on faces, eyes and mouths; needs "assay[faces]".')
    ] = False,
    frame: Annotated[
        int | None,
        typer.Option(
            min=0, help="Look into this frame of a clip, counted from 0.  [default: the one that says it most]"
        ),
    ] = None,
    time: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Look into the frame that is shown at this second.")
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(
            min=0.001, metavar="SECONDS", help="Judge one frame of the clip every so many seconds, as scan does."
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="For the network.  [default: all cores]")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge one picture and show where the detector looked.

    A map shows what a score rests on; it is no proof of where a picture was altered. Exit status: 0 explained, 1 it
    could not be judged or there is nothing to show, 2 usage.
    """
    if toward not in ("fake", "real"):
        raise typer.BadParameter(f"{toward!r}: write fake or real", param_hint="--toward")
    if frame is not None and time is not None:
        raise typer.BadParameter("--frame and --time: choose one")
    files = _files(image, out)

    from assay.judge import explain as explaining
    from assay.judge.scorecam import CHANNELS
    from assay.measure import attribution

    asked = CHANNELS if channels is None else channels or None
    loaded = assay.load(detector, head=head, vote=vote, threads=threads)
    with stages(quiet) as progress:
        found = explaining.explain(
            loaded,
            image,
            streams=streams,
            channels=asked,
            toward="fake" if toward == "fake" else "real",
            frame=frame,
            time=time,
            every=every,
            progress=progress,
        )
        shown = _faces(found) if faces else None
        noisy = attribution.noisy(loaded, found, progress=progress) if noise and found.drawn else None
    tables: Tables = {}
    told = found.to_dict()
    _add_between(found, told, tables)
    if noisy is not None:
        _add_noise(noisy, told, tables)
    if shown is not None:
        _add_faces(found, noisy, shown, told, tables)
    if found.drawn:
        for file in files:
            _write(file, found, tables)
    told["files"] = [str(file) for file in files] if found.drawn else []
    if as_json:
        print(json.dumps(told, allow_nan=False))
    else:
        _show(found, tables)
    if not found.drawn:
        say("no stream has anything to show of this picture; nothing was written")
        raise typer.Exit(SOME_FAILED)
    if not quiet:
        say(f"written: {', '.join(map(str, files))}", prefix="")


def _files(image: str, out: Sequence[str] | None) -> list[Path]:
    """Where the results go, checked before any work."""
    files = [Path(name) for name in out or (f"{Path(image).stem}.explain.png",)]
    for file in files:
        if file.suffix.lower() not in SUFFIXES:
            raise OutputError(f"{file}: say how to write it: end the name in {', '.join(SUFFIXES)}")
        if not file.parent.is_dir():
            raise OutputError(f"{file}: there is no folder {file.parent}; make it, or give --out another")
        if file.exists() and Path(image).exists() and file.samefile(image):
            raise OutputError(f"{file}: that is the picture itself; give --out another name")
    return files


def _write(file: Path, found: Explanation, tables: Tables) -> None:
    import numpy as np

    from assay.judge import heat
    from assay.judge.page import page
    from assay.measure.gather import put

    kind = file.suffix.lower()
    if kind == ".npz":
        arrays: dict[str, Any] = found.arrays()
        put(file, lambda opened: np.savez(opened, allow_pickle=False, **arrays))
        return
    if kind == ".html":
        content = page(found, tables).encode()
    else:
        assert found.map is not None
        content = heat.png(heat.overlay(found.pixels, found.map, found.seen))
    put(file, lambda opened: opened.write(content))


def _faces(found: Explanation) -> tuple[Face, ...]:
    from assay.image.mtcnn import look

    return look(found.pixels)


def _add_between(found: Explanation, told: dict[str, Any], tables: Tables) -> None:
    """How alike the streams' maps are, where several have one."""
    from assay.measure.attribution import between
    from assay.metrics import finite

    pairs = between(found)
    if pairs:
        told["cosines"] = [{"streams": list(pair), "cosine": finite(value)} for pair, value in pairs.items()]
        tables["How alike the maps are (cosine)"] = [
            (" and ".join(pair), _number(finite(value))) for pair, value in pairs.items()
        ]


def _add_noise(noisy: Noisy, told: dict[str, Any], tables: Tables) -> None:
    told["noise"] = noisy.to_dict()
    for name, each in told["noise"].items():
        rows = [
            (f"cosine of the embeddings at noise {level:g}", _number(cosine))
            for level, cosine in each["stability"]
            if level in (0.1, 0.2, 0.5, 1.0)
        ]
        for drift in each["drift"]:
            at = f"at noise {drift['strength']:g}"
            rows.append((f"of the map's top tenth stays {at}", _share(drift["overlap"])))
            rows.append((f"its centroid moves {at}, of the diagonal", _share(drift["shift"])))
            if "entropy" in drift:
                rows.append((f"entropy of the attention {at}, nats", _number(drift["entropy"])))
        tables[f"{name} under noise"] = rows


def _add_faces(
    found: Explanation, noisy: Noisy | None, faces: Sequence[Face], told: dict[str, Any], tables: Tables
) -> None:
    """How much of each map lies on the faces of the clean picture, on noisy copies too."""
    import numpy as np

    from assay.measure.attribution import shares

    told["faces"] = {"found": [face.to_dict() for face in faces]}
    if not faces:
        tables["Faces"] = [("found", "none")]
        return
    looks = {look.name: {"clean": look.map} for look in found.drawn}
    for strength, explanation in (noisy.explanations if noisy is not None else {}).items():
        for look in explanation.drawn:
            looks.setdefault(look.name, {})[f"noise {strength:g}"] = look.map
    of = {name: {at: shares(map, faces) for at, map in maps.items() if map is not None} for name, maps in looks.items()}
    area = shares(np.ones(found.pixels.shape[:2], np.float32), faces).to_dict()
    told["faces"] |= {
        "area": area,
        "streams": {name: {at: each.to_dict() for at, each in mine.items()} for name, mine in of.items()},
    }
    tables["Share of the picture's area"] = [("clean", _parts(area))]
    for name, mine in of.items():
        tables[f"Share of the map of {name}"] = [(at, _parts(each.to_dict())) for at, each in mine.items()]


def _parts(each: Mapping[str, float | None]) -> str:
    return ", ".join(f"{part} {_share(value)}" for part, value in each.items())


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _show(found: Explanation, tables: Tables) -> None:
    from assay.judge import film

    verdict = found.verdict
    score = "–" if verdict.score is None else f"{verdict.score:.3f}"
    print(f"{verdict.verdict} {score}  {seen(verdict.input)}")
    course = [film.course(verdict)] if len(verdict.frames) > 1 else []
    frame = [f"{film.frame(found.frame, found.time)} was looked into"] if verdict.frames else []
    tracks = [film.described(track) for track in verdict.tracks]
    for line in (*verdict.reasons, *course, *tracks, *frame, *found.sentences):
        print(f"  {seen(line)}")
    for heading, rows in tables.items():
        print(f"  {seen(heading)}:")
        for name, told in rows:
            print(f"    {seen(name)}: {seen(told)}")
