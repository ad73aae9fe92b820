"""A bare folder: every picture and clip below it, of one class or of none.

*Ours.* Nothing is published in this shape, so nothing is told by names: the label is unknown unless the option `label`
says it for all, and the folders between the root and a file become the group "folder". A clip is one sample, and its
own video.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from assay.data.layouts import PICTURES, VIDEOS, Layout, LeftOut, files
from assay.errors import LayoutError, unknown
from assay.types import Label, Sample

_LABELS = {"": None, "real": Label.REAL, "fake": Label.FAKE}


def read(root: Path, *, label: str = "", generator: str = "", source: str = "") -> Iterator[Sample | LeftOut]:
    """Samples of all files below `root`, or of `root` where it is a file.

    Raises:
        LayoutError: `label` is neither "real" nor "fake", or a generator is named for pictures that are not fake.
    """
    if label not in _LABELS:
        raise LayoutError(unknown("label", label, ("real", "fake")), kind="unknown")
    if generator and label != "fake":
        raise LayoutError(f"generator={generator} makes fakes only; add label=fake, or leave the generator out")
    for path in files(root):
        suffix = path.suffix.lower()
        if suffix not in PICTURES and suffix not in VIDEOS:
            yield LeftOut(str(path), "neither a picture nor a clip by its suffix")
            continue
        inside = path.relative_to(root if root.is_dir() else root.parent)
        folder = inside.parent.as_posix()
        yield Sample(
            place=str(path),
            label=_LABELS[label],
            generator=generator,
            source=source,
            video=inside.as_posix() if suffix in VIDEOS else "",
            groups={"folder": "" if folder == "." else folder},
        )


LAYOUT = Layout(
    name="folder",
    summary="a bare folder of pictures and clips, label unknown unless said",
    shape="FOLDER/**/*.jpg, .png, .webp, .mp4, … (any depth, any names)",
    source="ours",
    read=read,
    options={
        "label": "real or fake, for every file",
        "generator": "what made them, where they are fake",
        "source": "where they were collected",
    },
)
