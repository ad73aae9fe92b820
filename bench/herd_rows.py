"""Faces to train and test "herd" on: crops of real faces, of generated ones, and of self-blended copies of the real.

    python bench/herd_rows.py MANIFEST OUT [--known] [--share 1]

MANIFEST is a manifest of pictures. Their faces are searched once, and what is found stands beside it
(`assay.data.faces`), so give a copy of it in a folder of its own where that must not be written to. `--known` takes
only pictures that were searched before. Afterwards:

    OUT/blend/      self-blended copies of real pictures, in their originals' formats (`selfblend`)
    OUT/crops/      a crop of every face, of 1.3 times its box, lossless (`faces`)
    OUT/manifest.csv

The manifest has a row for each crop of a face whose box has a longer side of 64 px and more: label, split, source,
subject, origin and all groups of its picture, and in the column "kind" what kind of fake it is: "whole" for a picture
that was generated as a whole, "blend" for a self-blended one, empty for a real face. "suffix" is that of the picture's
file, a copy's of its original's. Running it again on the same rows goes on, and changes nothing once it is done.

Pictures are blended before they are cut. So the blend's surroundings are the picture's own, also where they lie beyond
the crop; the codec that a copy shares with its original has worked on the whole picture, on the same grid, and no codec
comes after the cut; and both are cut by the same box: a copy's faces are taken to lie where its original's do, and are
not searched again, as another box would tell the copy.

What these fakes can show: whether a detector finds edges of blending, and mismatched colour and detail, that it was
trained on, and whether it tells whole generated faces of the same makers from real ones. What they cannot: how it does
on face swaps by a network, in videos, or by makers that are not among the rows. Real and generated faces come from
different sources here and differ in size, framing and codec too; a blend and its original differ in nothing else but
one more saving. In a JPEG that changes what lies outside the mask by a tenth of a grey level or so; a lossy WebP, whose
quality is not known, changes by some two levels all over, which a detector may learn. So look at results by kind, and
at blends by suffix.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from assay.data import manifest
from assay.data.derivations import limits_for
from assay.data.derivations.faces import FaceCrops, Search
from assay.data.derivations.selfblend import GROUP, SelfBlended, blends
from assay.data.derive import Derived, derive
from assay.data.faces import FaceCache, Faces, faces_of
from assay.data.table import Table
from assay.image import mtcnn, place
from assay.image.faces import MARGIN
from assay.types import Label, Sample

LEAST = 64
"""px, of the longer side of a face's box."""

LIMITS = limits_for(2)
"""As derivations decode, so that they find what was searched here."""


def hashed(rows: Table) -> Table:
    """The same rows, each with its file's SHA-256."""
    hashes = [hashlib.sha256(place.read(address)).hexdigest() for address in rows.column("path").tolist()]
    return rows.with_column("sha256", hashes)


def shown(rows: Table, source: Path, *, known: bool) -> Iterator[tuple[Sample, Faces]]:
    """The still pictures that show a face large enough, and what they show."""
    name = Search().name
    if known:
        with FaceCache(source, name) as cache:
            rows = rows[[row for row, sample in enumerate(rows) if cache.get(sample.sha256, LIMITS) is not None]]
    print(f"{len(rows)} pictures", flush=True)
    for sample, found in faces_of(rows, source, mtcnn.shared(mtcnn.SCORE), limits=LIMITS, workers=1):
        if not isinstance(found, Faces):
            print(f"left out {found.input}: {found.message}", file=sys.stderr)
        elif found.frame_count == 1 and any(blends(face, LEAST) for face in found.first.faces):
            yield sample, found


def keep_faces(pictures: Derived, known: dict[str, Faces]) -> None:
    """Writes down beside the manifest of pictures and copies where their faces are: a copy's where its original's."""
    with FaceCache(pictures.manifest, Search().name) as cache:
        for sample in pictures.table:
            if cache.get(sample.sha256, LIMITS) is None:
                cache.put(dataclasses.replace(known[sample.groups["picture"]], sha256=sample.sha256))


def large(sample: Sample) -> bool:
    """Whether a crop is of a face that has `LEAST` px."""
    left, _, right, _ = map(int, sample.groups["face"].split())
    return right - left >= round(MARGIN * LEAST)


def kind(sample: Sample) -> str:
    if sample.label != Label.FAKE:
        return ""
    return "blend" if sample.groups[GROUP] == "1" else "whole"


def told(rows: Table) -> Iterator[str]:
    counts = Counter((row.split, row.label, row.groups.get("kind", ""), row.source) for row in rows)
    for (split, label, what, source), number in sorted(counts.items(), key=str):
        yield f"{split:6} {'' if label is None else label.name.lower():5} {what:6} {number:6} {source}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--known", action="store_true", help="only pictures that were searched before")
    parser.add_argument("--share", type=float, default=1.0, help="of the real pictures that get a copy")
    parser.add_argument("--workers", type=int, default=0, help="processes beside this one")
    asked = parser.parse_args()
    search = Search(cache=str(asked.manifest))
    rows, known = [], {}
    for sample, found in shown(hashed(manifest.read(asked.manifest)), asked.manifest, known=asked.known):
        # Groups follow a picture to its copy and crops.
        suffix = Path(sample.place).suffix.lower().replace(".jpeg", ".jpg")
        groups = {**sample.groups, "picture": sample.sha256, "suffix": suffix}
        rows.append(dataclasses.replace(sample, groups=groups))
        known[sample.sha256] = found
    print(f"{len(rows)} show a face of {LEAST} px", flush=True)
    blending = SelfBlended(search=search, share=asked.share, least=LEAST // 2)
    pictures = derive(rows, asked.out / "blend", blending, workers=asked.workers, skip=True)
    keep_faces(pictures, known)
    cropping = FaceCrops(which="all", search=Search(cache=str(pictures.manifest)))
    crops = derive(pictures.table, asked.out / "crops", cropping, workers=asked.workers, skip=True)
    for problem in (*pictures.problems, *crops.problems):
        print(problem, file=sys.stderr)
    for what, number in blending.tally(pictures.table).items():
        print(f"{number} {what}")
    faces = [row for row in crops.table if large(row)]
    made = Table.of(dataclasses.replace(row, groups={**row.groups, "kind": kind(row)}) for row in faces)
    manifest.write(asked.out / manifest.NAME, made)
    print("\n".join(told(made)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
