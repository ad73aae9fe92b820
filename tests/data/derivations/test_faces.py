"""Sets of face crops and of pictures with masked eyes, with a detector that knows where the face is."""

from __future__ import annotations

import dataclasses
import io
import uuid
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from assay.data import manifest
from assay.data.derivations import Source, limits_for
from assay.data.derivations.eyes import MaskedEyes
from assay.data.derivations.faces import FaceCrops, Search
from assay.data.derive import derive
from assay.data.faces import FaceCache
from assay.data.table import Table
from assay.errors import ManifestError, MissingExtra, RecipeError
from assay.image import eyes, faces
from assay.image.align import encode
from assay.image.decode import decode
from assay.image.faces import Face
from assay.settings import replaced
from assay.types import Box, Label, Pixels, Sample


def face(left: int, top: int, side: int, score: float = 0.95) -> Face:
    def at(x: float, y: float) -> tuple[float, float]:
        return left + x * side, top + y * side

    marks = (at(0.3, 0.4), at(0.7, 0.4), at(0.5, 0.6), at(0.35, 0.8), at(0.65, 0.8))
    return Face(Box(left, top, left + side, top + side), score, marks)


BIG, SMALL = face(20, 10, 60), face(100, 50, 30, 0.99)


@dataclasses.dataclass(frozen=True)
class Knows:
    """Finds the faces it was told of in every picture of 160 × 100 px, whatever it shows."""

    faces: tuple[Face, ...] = (SMALL, BIG)

    @property
    def name(self) -> str:
        return f"knows {len(self.faces)}"

    def detect(self, pixels: Pixels) -> list[Face]:
        return list(self.faces) if pixels.shape[:2] == (100, 160) else []


PIXELS: Pixels = np.random.default_rng(0).integers(1, 256, (100, 160, 3), np.uint8)
BOTH = Search(detector=Knows())
NONE = Search(detector=Knows(()))


def source(pixels: Pixels = PIXELS) -> Source:
    return Source(Sample("a.png", Label.REAL), encode(pixels, "PNG", 100), FaceCrops(search=BOTH).limits)


RNG = np.random.default_rng(0)


def test_the_largest_face_is_cropped_with_its_margin_and_stored_without_loss() -> None:
    (piece,) = FaceCrops(search=BOTH).derive(source(), RNG).pieces
    np.testing.assert_array_equal(decode(piece.data).pixels, faces.crop(PIXELS, BIG, 1.3))
    assert piece.groups == {"face": "11 1 89 79", "reason": "", "found": "plain"}
    assert decode(piece.data).format == "PNG"


def test_a_picture_without_a_face_is_kept_whole_and_says_why() -> None:
    (piece,) = FaceCrops(search=NONE).derive(source(), RNG).pieces
    np.testing.assert_array_equal(decode(piece.data).pixels, PIXELS)
    assert piece.groups == {"face": "", "reason": "no face found", "found": ""}


def test_a_face_under_a_ninth_of_the_picture_is_not_cropped() -> None:
    small = Search(detector=Knows((SMALL,)))
    (piece,) = FaceCrops(search=small).derive(source(), RNG).pieces
    np.testing.assert_array_equal(decode(piece.data).pixels, PIXELS)
    assert "covers 5.6%" in piece.groups["reason"]
    (piece,) = FaceCrops(search=small, least=0.05).derive(source(), RNG).pieces
    assert piece.groups["reason"] == ""


def test_all_faces_are_cropped_the_largest_first() -> None:
    pieces = FaceCrops(which="all", search=BOTH).derive(source(), RNG).pieces
    assert [decode(piece.data).width for piece in pieces] == [78, 39]
    assert FaceCrops(which="all", search=NONE).derive(source(), RNG).reason == "no face found"


def test_a_crop_has_its_pictures_origin_and_label(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "set" / "a.png")
    sample = Sample(str(tmp_path / "set" / "a.png"), Label.FAKE, generator="gan", subject="id1", split="test")
    crops = derive([sample], tmp_path / "out", FaceCrops(which="all", search=BOTH), workers=1).table
    assert [row.generator for row in crops] == ["gan", "gan"]
    assert [row.subject for row in crops] == ["id1", "id1"]
    assert len(set(crops.column("origin").tolist())) == 1
    assert len(set(crops.column("sha256").tolist())) == 2


def test_masked_copies_are_black_where_the_eyes_are_and_only_there() -> None:
    (piece,) = MaskedEyes(search=BOTH).derive(source(), RNG).pieces
    masked = decode(piece.data).pixels
    covered = np.zeros((100, 160), bool)
    for found in (BIG, SMALL):
        for box in eyes.boxes_of_centres(found):
            covered[max(0, box.top) : box.bottom, max(0, box.left) : box.right] = True
    assert covered[34, 38]
    np.testing.assert_array_equal(masked.any(axis=2), ~covered)
    np.testing.assert_array_equal(masked[~covered], PIXELS[~covered])
    assert piece.groups == {"eyes": "masked", "found": "plain"}


def test_a_picture_whose_eyes_cannot_be_found_is_left_out_of_the_masked_set() -> None:
    assert MaskedEyes(search=NONE).derive(source(), RNG).reason == "no face found"


def test_eyes_are_masked_in_training_rows_only(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    rows = []
    for number, split in enumerate(("train", "tune", "test", "")):
        path = tmp_path / "set" / f"{number}.png"
        Image.fromarray(PIXELS ^ number).save(path)
        rows.append(Sample(str(path), Label.REAL, split=split))
    result = derive(rows, tmp_path / "out", MaskedEyes(search=BOTH), workers=0)
    assert result.table.column("split").tolist() == ["train", ""]
    assert list(result.left_out.values()) == [2]
    with pytest.raises(ManifestError, match="eyes are masked in training only"):
        derive(rows[1:3], tmp_path / "none", MaskedEyes(search=BOTH), workers=0)


@dataclasses.dataclass(frozen=True)
class Telling(Knows):
    """Leaves a file for each picture that it is shown; fit for counting over several processes."""

    folder: str = ""

    def detect(self, pixels: Pixels) -> list[Face]:
        (Path(self.folder) / uuid.uuid4().hex).touch()
        return super().detect(pixels)


@pytest.fixture
def rows(tmp_path: Path) -> Table:
    """Five pictures, of which two are too small to show a face, with a manifest at `manifest.csv`."""
    (tmp_path / "set").mkdir()
    for number in range(5):
        Image.fromarray(PIXELS[: 100 if number < 3 else 40] ^ number).save(tmp_path / "set" / f"{number}.png")
    made = Table.of([Sample(str(tmp_path / "set" / f"{number}.png"), Label(number % 2)) for number in range(5)])
    manifest.write(tmp_path / "manifest.csv", made)
    return manifest.read(tmp_path / "manifest.csv")


@pytest.mark.parametrize("workers", [0, 2])
def test_crops_and_masked_copies_of_one_manifest_search_each_picture_once(
    rows: Table, tmp_path: Path, workers: int
) -> None:
    (tmp_path / "shown").mkdir()
    search = Search(detector=Telling(folder=str(tmp_path / "shown")), retry=False)
    at = str(tmp_path / "manifest.csv")
    first = derive(rows, tmp_path / "crops", FaceCrops(search=search).beside(at), workers=workers)
    derive(rows, tmp_path / "again", FaceCrops(which="all", search=search).beside(at), workers=workers)
    derive(rows, tmp_path / "eyes", MaskedEyes(search=search).beside(at), workers=workers)
    assert len(list((tmp_path / "shown").iterdir())) == 5
    assert len((tmp_path / "manifest.csv.faces.jsonl").read_text().splitlines()) == 5
    assert first.table.column("found").tolist() == ["plain"] * 3 + [""] * 2
    # Nobody else's: what another way of searching would find is not known.
    derive(rows, tmp_path / "other", MaskedEyes(search=dataclasses.replace(search, retry=True)).beside(at), workers=0)
    assert len(list((tmp_path / "shown").iterdir())) > 5


def test_what_the_cache_says_is_what_a_search_would_have_found(rows: Table, tmp_path: Path) -> None:
    at = str(tmp_path / "manifest.csv")
    for name, derivation in (("crops", FaceCrops(search=BOTH)), ("eyes", MaskedEyes(search=BOTH))):
        kept = derivation.beside(at)
        assert kept.fingerprint() == derivation.fingerprint()
        made = [
            derive(rows, tmp_path / f"{name}{n}", each, workers=0) for n, each in enumerate((derivation, kept, kept))
        ]
        hashes = [result.table.column("sha256").tolist() for result in made]
        assert hashes[0] == hashes[1] == hashes[2]


def test_the_first_frame_of_an_animation_does_not_pass_for_the_whole_of_it(tmp_path: Path) -> None:
    file = io.BytesIO()
    frames = [Image.fromarray(PIXELS ^ number) for number in range(3)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    search = dataclasses.replace(BOTH, cache=str(tmp_path / "manifest.csv"))
    first = Source(Sample("a.gif", None), file.getvalue(), limits_for(1))
    assert search(first).faces == (SMALL, BIG)
    with FaceCache(tmp_path / "manifest.csv", BOTH.name) as cache:
        assert cache.get(first.sha256, limits_for(1)) is not None
        assert cache.get(first.sha256) is None


def test_a_cache_of_ones_own_choice_stays_and_one_that_cannot_be_written_is_none(tmp_path: Path) -> None:
    own = FaceCrops(search=Search(detector=Knows(), cache="mine.csv"))
    assert own.beside(str(tmp_path / "manifest.csv")).search.cache == "mine.csv"
    assert BOTH.cache == ""
    assert FaceCrops(search=BOTH).beside(str(tmp_path / "gone" / "manifest.csv")).search.cache == ""


def test_a_finished_set_is_told_in_numbers(rows: Table, tmp_path: Path) -> None:
    crops = FaceCrops(search=BOTH)
    assert crops.tally(derive(rows, tmp_path / "crops", crops, workers=0).table) == {
        "crops of faces": 3,
        "with a face that only an enhanced copy shows": 0,
        "pictures kept whole in which no face was found": 2,
        "pictures kept whole whose largest face is too small": 0,
    }
    small = FaceCrops(search=Search(detector=Knows((SMALL,))))
    assert list(small.tally(derive(rows, tmp_path / "small", small, workers=0).table).values()) == [0, 0, 2, 3]
    seen_late = [
        dataclasses.replace(row, groups={"found": how}) for row, how in zip(rows, ("doubled", "plain"), strict=False)
    ]
    assert MaskedEyes().tally(Table.of(seen_late)) == {"with a face that only an enhanced copy shows": 1}


def test_a_face_that_only_an_enhanced_copy_shows_is_told() -> None:
    pixels = np.full((50, 80, 3), 90, np.uint8)
    (piece,) = FaceCrops(search=Search(detector=Knows((BIG,)))).derive(source(pixels), RNG).pieces
    assert piece.groups["found"] == "doubled"
    assert piece.groups["face"] != ""


def test_the_search_is_set_by_name_and_told_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for derivation in (FaceCrops(), MaskedEyes()):
        changed = replaced(replaced(derivation, "search.score", "0.95"), "search.retry", "false")
        assert changed.search == Search(score=0.95, retry=False)
        assert "score 0.95" in changed.parameters()["search"]
        with pytest.raises(RecipeError, match=r"search\.score"):
            replaced(derivation, "search.score", "high")
    assert replaced(FaceCrops(search=BOTH), "search.retry", "false").search.detector == Knows()
    with pytest.raises(RecipeError, match=r"search\.detector"):
        replaced(FaceCrops(), "search.detector", "mtcnn")
    with pytest.raises(RecipeError, match=r"0\.5 does not hold"):
        replaced(FaceCrops(), "search.score", "0.5").ready()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    absent = FaceCrops(search=Search(score=0.81))
    assert absent.settings()["search"] == {"score": 0.81, "retry": True}
    with pytest.raises(MissingExtra, match=r"assay\[faces\]"):
        absent.ready()


def test_the_folder_remembers_with_which_detector_it_was_made() -> None:
    for derivation in (FaceCrops, MaskedEyes):
        assert derivation(search=BOTH).fingerprint() != derivation(search=NONE).fingerprint()
        assert derivation().parameters()["search"].startswith("mtcnn")
        without = dataclasses.replace(BOTH, retry=False)
        assert derivation(search=BOTH).fingerprint() != derivation(search=without).fingerprint()


def test_the_detector_that_comes_with_the_extra_finds_a_face_in_another_process(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    file = io.BytesIO()
    Image.fromarray(data.astronaut()[20:220, 130:330]).save(file, "PNG")
    (tmp_path / "set" / "a.png").write_bytes(file.getvalue())
    row = derive([Sample(str(tmp_path / "set" / "a.png"), None)], tmp_path / "out", FaceCrops(), workers=1).table[0]
    left, top, right, bottom = map(int, row.groups["face"].split())
    assert left < 92 < right
    assert top < 100 < bottom
    assert Image.open(row.place).size == (right - left, bottom - top)


def test_values_that_do_not_hold_are_refused() -> None:
    with pytest.raises(RecipeError, match="no choice of faces"):
        FaceCrops(which="both")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=r"margin 0\.5"):
        FaceCrops(margin=0.5)
    with pytest.raises(RecipeError, match="least 2"):
        FaceCrops(least=2)
    with pytest.raises(RecipeError, match="no lossless format"):
        FaceCrops(form="JPEG")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="no lossless format"):
        MaskedEyes(form="JPEG")  # type: ignore[arg-type]
