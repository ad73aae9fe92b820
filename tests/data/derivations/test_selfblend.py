"""A set with self-blended copies: fakes that share their pictures' split, origin and format, and no real is lost."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin
from skimage import data

from assay.data import manifest
from assay.data.derivations.faces import FaceCrops, Search
from assay.data.derivations.selfblend import GENERATOR, GROUP, WHY, SelfBlended, blends
from assay.data.derive import derive
from assay.data.table import Table
from assay.errors import RecipeError
from assay.image.decode import decode
from assay.image.faces import Face
from assay.image.selfblend import SelfBlend
from assay.settings import replaced
from assay.types import Box, Label, Pixels, Sample

PIXELS: Pixels = np.ascontiguousarray(data.astronaut()[10:230, 110:350])


def face(left: int, top: int, side: int) -> Face:
    def at(x: float, y: float) -> tuple[float, float]:
        return left + x * side, top + y * side

    marks = (at(0.27, 0.38), at(0.73, 0.38), at(0.5, 0.6), at(0.32, 0.86), at(0.68, 0.86))
    return Face(Box(left, top, left + side, top + side), 0.99, marks)


BIG, SMALL = face(70, 55, 92), face(10, 180, 24)


@dataclasses.dataclass(frozen=True)
class Knows:
    """Finds the faces it was told of in every picture of 240 × 220 px, whatever it shows."""

    faces: tuple[Face, ...] = (BIG, SMALL)

    @property
    def name(self) -> str:
        return f"knows {len(self.faces)}"

    def detect(self, pixels: Pixels) -> list[Face]:
        return list(self.faces) if pixels.shape[:2] == (220, 240) else []


BOTH = Search(detector=Knows(), retry=False)
BLENDED = SelfBlended(search=BOTH, blend=SelfBlend(ratios=(1.0,)))


@pytest.fixture
def rows(tmp_path: Path) -> Table:
    """Reals of every split as JPEG, PNG and WebP, one without a face, two fakes and one that nobody knows."""
    (tmp_path / "set").mkdir()
    made = []
    for number, split in enumerate(("train", "train", "tune", "test", "")):
        name, options = (("a.jpg", {"quality": 77}), ("a.png", {}), ("a.webp", {"lossless": True}))[number % 3]
        path = tmp_path / "set" / f"{number}{name}"
        Image.fromarray(PIXELS ^ number).save(path, **options)
        groups = {"family": "camera"} if number == 0 else {}
        made.append(Sample(str(path), Label.REAL, source="here", subject=f"s{number}", split=split, groups=groups))
    Image.fromarray(PIXELS[:100]).save(tmp_path / "set" / "none.png")
    made.append(Sample(str(tmp_path / "set" / "none.png"), Label.REAL, split="train"))
    for number, label in enumerate((Label.FAKE, Label.FAKE, None)):
        path = tmp_path / "set" / f"fake{number}.png"
        Image.fromarray(PIXELS ^ (40 + number)).save(path)
        made.append(Sample(str(path), label, generator="gan" if label else "", split="train"))
    return Table.of(made)


def test_every_real_with_a_face_gets_a_fake_copy_and_every_row_stays(rows: Table, tmp_path: Path) -> None:
    result = derive(rows, tmp_path / "out", BLENDED, workers=0)
    stayed = manifest.select(result.table, **{GROUP: "0"})
    copies = manifest.select(result.table, **{GROUP: "1"})
    assert stayed.column("path").tolist() == rows.column("path").tolist()
    assert stayed.labels.tolist() == rows.labels.tolist()
    assert (len(copies), result.made) == (5, 5)
    known = {sample.subject: sample for sample in stayed if sample.subject}
    for copy in copies:
        original = known[copy.subject]
        assert copy.label == Label.FAKE
        assert copy.generator == GENERATOR
        assert (copy.split, copy.source) == (original.split, original.source)
        assert copy.groups.get("family") == original.groups.get("family")
        assert copy.groups["derivation"] == "selfblend"
        assert copy.groups["found"] == "plain"
        assert copy.sha256 != original.sha256
        assert copy.origin == original.origin == decode(original.place).sha256
        folder = Path(copy.place).relative_to(tmp_path / "out").parts[:2]
        assert folder == (original.split or "unsplit", "fake")
    assert list(manifest.read(result.manifest)) == list(result.table)
    assert BLENDED.tally(result.table) == {
        "self-blended copies": 5,
        "with a face that only an enhanced copy shows": 0,
        "real pictures without a copy: no face found": 1,
    }


def test_rows_that_are_no_reals_stay_unread_and_a_copy_is_not_copied(rows: Table, tmp_path: Path) -> None:
    for row in rows[6:]:
        Path(row.place).write_bytes(b"no picture")
    once = derive(rows, tmp_path / "once", BLENDED, workers=0).table
    again = derive(once, tmp_path / "again", BLENDED, workers=0)
    assert again.made == 5
    assert Counter(again.table.column(GROUP).tolist()) == Counter({"0": 9, "1": 10})
    fakes = derive(rows[6:], tmp_path / "fakes", BLENDED, workers=0)
    assert (fakes.made, fakes.table.labels.tolist()) == (0, [1, 1, -1])
    assert BLENDED.tally(fakes.table) == {"self-blended copies": 0}


def test_a_picture_without_a_copy_says_why(rows: Table, tmp_path: Path) -> None:
    large = dataclasses.replace(BLENDED, least=93)
    first = derive(rows, tmp_path / "large", large, workers=0)
    assert first.table.column(WHY).tolist() == ["no face of 93 px"] * 5 + ["no face found"] + [""] * 3
    assert first.left_out == Counter()
    assert large.tally(first.table) == {
        "self-blended copies": 0,
        "real pictures without a copy: no face of 93 px": 5,
        "real pictures without a copy: no face found": 1,
    }
    # What was said of an earlier run does not stay where there is a copy.
    then = derive(first.table, tmp_path / "then", BLENDED, workers=0).table
    assert [row.groups[WHY] for row in then if WHY in row.groups] == ["no face found"]


def test_a_copy_is_written_as_its_original_was(rows: Table, tmp_path: Path) -> None:
    result = derive(rows, tmp_path / "out", BLENDED, workers=0)
    by_subject = {(row.subject, row.groups[GROUP]): Path(row.place) for row in result.table if row.subject}
    for number in range(5):
        first, other = (Image.open(by_subject[f"s{number}", which]) for which in "01")
        assert (first.format, first.size) == (other.format, other.size)
        if isinstance(first, JpegImagePlugin.JpegImageFile):
            assert isinstance(other, JpegImagePlugin.JpegImageFile)
            assert first.quantization == other.quantization
            assert JpegImagePlugin.get_sampling(first) == JpegImagePlugin.get_sampling(other)
        else:
            # Lossless: what is not of the face is the picture.
            np.testing.assert_array_equal(np.asarray(first)[:, 210:], np.asarray(other)[:, 210:])
    jpeg = [decode(by_subject["s0", which]).pixels.astype(int) for which in "01"]
    assert np.abs(jpeg[0] - jpeg[1])[:, 210:].mean() < 1
    assert np.abs(jpeg[0] - jpeg[1])[80:140, 90:140].mean() > 2


def test_only_faces_of_the_least_size_are_blended(rows: Table, tmp_path: Path) -> None:
    result = derive(rows[1:2], tmp_path / "out", BLENDED, workers=0)
    first, other = (decode(row.place).pixels for row in result.table)
    np.testing.assert_array_equal(first[175:, :60], other[175:, :60])
    smaller = derive(rows[1:2], tmp_path / "small", dataclasses.replace(BLENDED, least=24), workers=0)
    _, other = (decode(row.place).pixels for row in smaller.table)
    assert (first[175:, :60] != other[175:, :60]).any()
    none = derive(rows[1:2], tmp_path / "none", dataclasses.replace(BLENDED, least=93), workers=0)
    assert [row.groups[WHY] for row in none.table] == ["no face of 93 px"]
    assert blends(BIG, 92)
    assert not blends(BIG, 93)


def test_a_face_that_blending_leaves_as_it_was_makes_no_fake(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    # Its landmarks lie beyond the picture, and so does the mask.
    away = Face(Box(0, 0, 40, 40), 0.9, tuple((x + 900, y + 900) for x, y in BIG.landmarks))  # type: ignore[arg-type]
    Image.fromarray(PIXELS).save(tmp_path / "set" / "a.png")
    row = Sample(str(tmp_path / "set" / "a.png"), Label.REAL)
    search = Search(detector=Knows((BIG, away)), retry=False)
    result = derive([row], tmp_path / "out", SelfBlended(search=search), workers=0)
    (stayed,) = result.table
    assert (stayed.label, stayed.groups[WHY]) == (Label.REAL, "blending left a face as it was")


def test_the_share_is_met_to_the_row(rows: Table, tmp_path: Path) -> None:
    half = dataclasses.replace(BLENDED, share=0.5)
    result = derive(rows[:4], tmp_path / "out", half, workers=0)
    assert (result.made, len(result.table)) == (2, 6)
    assert manifest.select(result.table, **{GROUP: "0"}).column("path").tolist() == rows[:4].column("path").tolist()
    assert WHY not in result.table.columns


def test_the_same_run_makes_the_same_copies_and_another_seed_others(rows: Table, tmp_path: Path) -> None:
    hashes = [
        derive(rows, tmp_path / name, BLENDED, workers=0, seed=seed).table.column("sha256").tolist()
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_crops_of_a_copy_are_fake_and_share_its_pictures_origin(rows: Table, tmp_path: Path) -> None:
    pictures = derive(rows[:1], tmp_path / "out", BLENDED, workers=0).table
    crops = derive(pictures, tmp_path / "crops", FaceCrops(which="all", search=BOTH), workers=0).table
    assert [(row.label, row.groups[GROUP]) for row in crops] == [(Label.REAL, "0")] * 2 + [(Label.FAKE, "1")] * 2
    assert len(set(crops.column("origin").tolist())) == 1
    assert [row.groups["derivation"] for row in crops] == ["faces"] * 2 + ["selfblend+faces"] * 2
    assert Path(crops[0].place).read_bytes().startswith(b"\x89PNG")


def test_settings_are_set_by_name_and_change_the_fingerprint() -> None:
    changed = replaced(SelfBlended(), "blend.ratios", "[0.5]")
    assert changed.blend.ratios == (0.5,)
    assert changed.settings()["blend"]["ratios"] == [0.5]
    assert changed.fingerprint() != SelfBlended().fingerprint()
    for key, value, words in (("share", "1.5", r"share 1\.5"), ("least", "8", "least 8"), ("blend.bend", "1", "bend")):
        with pytest.raises(RecipeError, match=words):
            replaced(SelfBlended(), key, value)
