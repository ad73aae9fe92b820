"""Tiles: the decoded pixels, taken up again where they fit, and never half a store."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from assay.data.table import Table
from assay.errors import ManifestError
from assay.image import mtcnn
from assay.image.cut import cut
from assay.image.decode import decode
from assay.image.eyes import boxes_of_centres, mask
from assay.image.faces import Face, crop_box, shrunk
from assay.image.fingerprint import perceptual_hash
from assay.image.view import View
from assay.learn import tiles
from assay.learn.descend import Machine
from assay.learn.recipe import Shown, Tiles
from assay.learn.train import Settings, _data
from assay.types import Box, Label, Pixels, Sample

FIELDS = Tiles(side=64, each=3, reduce_above=None)


@pytest.fixture
def pictures(tmp_path: Path, picture: Callable[..., Pixels]) -> list[Sample]:
    """One that fits into a tile, two that do not."""
    rows = []
    for seed, (height, width) in enumerate([(50, 64), (150, 100), (40, 300)]):
        place = tmp_path / f"{seed}.png"
        Image.fromarray(picture(seed, False, height, width)).save(place)
        rows.append(Sample(str(place), Label.REAL))
    return rows


def build(samples: list[Sample], folder: Path, fields: Tiles = FIELDS, **options: Any) -> tiles.TileStore:
    return tiles.build(samples, fields, folder, **{"seed": 1, "workers": 0} | options)


def all_of(store: tiles.TileStore, sample: int) -> list[Pixels]:
    return [store.tile(sample, which) for which in range(store.count(sample))]


def lies_in(part: Pixels, whole: Pixels) -> bool:
    height, width = part.shape[:2]
    return any(
        np.array_equal(whole[top : top + height, left : left + width], part)
        for top in range(whole.shape[0] - height + 1)
        for left in range(whole.shape[1] - width + 1)
    )


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The places that were decoded, as they are."""
    places: list[str] = []

    def noting(place: str) -> Any:
        places.append(place)
        return decode(place)

    monkeypatch.setattr(tiles, "decode", noting)
    return places


def test_tiles_are_the_decoded_pixels(pictures: list[Sample], tmp_path: Path) -> None:
    store = build(pictures, tmp_path / "tiles")
    wholes = [decode(sample.place).pixels for sample in pictures]
    assert len(store) == 3
    (only,) = all_of(store, 0)
    assert np.array_equal(only, wholes[0])
    for sample in (1, 2):
        found = all_of(store, sample)
        assert len(found) == FIELDS.each
        assert len({tile.tobytes() for tile in found}) > 1
        assert all(lies_in(tile, wholes[sample]) for tile in found)
    assert {tile.shape for tile in all_of(store, 1)} == {(64, 64, 3)}
    assert {tile.shape for tile in all_of(store, 2)} == {(40, 64, 3)}


def test_every_second_tile_of_a_large_picture_comes_from_a_reduced_copy(pictures: list[Sample], tmp_path: Path) -> None:
    store = build(pictures, tmp_path / "tiles", Tiles(side=64, each=4, reduce_above=80))
    whole = decode(pictures[1].place).pixels
    assert [lies_in(tile, whole) for tile in all_of(store, 1)] == [True, False, True, False]
    assert all(max(tile.shape[:2]) == 64 for tile in all_of(store, 1))
    # Shorter sides of up to 80 px are left as they are.
    assert all(lies_in(tile, decode(pictures[2].place).pixels) for tile in all_of(store, 2))


def test_fingerprints_are_those_of_the_whole_file(pictures: list[Sample], tmp_path: Path) -> None:
    store = build(pictures, tmp_path / "tiles")
    for sample, sha256, phash in zip(pictures, store.sha256, store.phashes, strict=True):
        picture = decode(sample.place)
        assert (sha256, phash) == (picture.sha256, perceptual_hash(picture.pixels))


def test_other_processes_make_the_same_store(pictures: list[Sample], tmp_path: Path) -> None:
    here, there = build(pictures, tmp_path / "here"), build(pictures, tmp_path / "there", workers=2)
    assert here.file.read_bytes() == there.file.read_bytes()
    assert np.array_equal(here.places, there.places)
    assert (here.sha256, here.phashes) == (there.sha256, there.phashes)


def test_a_store_is_taken_up_again_whole_or_in_part(pictures: list[Sample], tmp_path: Path, decoded: list[str]) -> None:
    whole = build(pictures, tmp_path / "tiles")
    assert len(decoded) == 3
    again = build(pictures, tmp_path / "tiles")
    part = build([pictures[2], pictures[0]], tmp_path / "tiles")
    assert len(decoded) == 3
    assert again.sha256 == whole.sha256
    assert part.sha256 == (whole.sha256[2], whole.sha256[0])
    assert part.phashes == (whole.phashes[2], whole.phashes[0])
    for mine, theirs in ((0, 2), (1, 0)):
        assert [t.tobytes() for t in all_of(part, mine)] == [t.tobytes() for t in all_of(whole, theirs)]


def test_two_names_of_one_file_are_two_samples(pictures: list[Sample], tmp_path: Path) -> None:
    link = tmp_path / "link.png"
    link.symlink_to(pictures[1].place)
    store = build([pictures[1], Sample(str(link), Label.REAL), pictures[0]], tmp_path / "tiles")
    assert store.sha256[0] == store.sha256[1] != store.sha256[2]
    assert [t.tobytes() for t in all_of(store, 0)] == [t.tobytes() for t in all_of(store, 1)]
    assert np.array_equal(store.tile(2, 0), decode(pictures[0].place).pixels)


@pytest.mark.parametrize("change", ["seed", "side"])
def test_tiles_cut_otherwise_are_another_store(
    pictures: list[Sample], tmp_path: Path, decoded: list[str], change: str
) -> None:
    first = build(pictures, tmp_path / "tiles")
    fields = FIELDS.model_copy(update={"side": 80}) if change == "side" else FIELDS
    second = build(pictures, tmp_path / "tiles", fields, seed=2 if change == "seed" else 1)
    assert len(decoded) == 6
    assert first.file != second.file
    assert first.tile(1, 0).tobytes() != second.tile(1, 0).tobytes()


def test_a_changed_file_is_decoded_anew(
    pictures: list[Sample], tmp_path: Path, picture: Callable[..., Pixels], decoded: list[str]
) -> None:
    before = build(pictures, tmp_path / "tiles")
    Image.fromarray(picture(99, True, 50, 64)).save(pictures[0].place)
    after = build(pictures, tmp_path / "tiles")
    assert len(decoded) == 6
    assert after.sha256[0] != before.sha256[0]
    assert np.array_equal(after.tile(0, 0), picture(99, True, 50, 64))


def test_a_file_of_the_same_size_but_another_time_is_decoded_anew(
    pictures: list[Sample], tmp_path: Path, decoded: list[str]
) -> None:
    build(pictures, tmp_path / "tiles")
    os.utime(pictures[0].place, ns=(1, 1))
    build(pictures, tmp_path / "tiles")
    assert len(decoded) == 6


def test_a_store_that_lost_its_end_is_made_anew(pictures: list[Sample], tmp_path: Path, decoded: list[str]) -> None:
    store = build(pictures, tmp_path / "tiles")
    whole = store.file.read_bytes()
    store.file.write_bytes(whole[:-1])
    assert build(pictures, tmp_path / "tiles").file.read_bytes() == whole
    assert len(decoded) == 6


def test_pictures_that_cannot_be_decoded_are_all_listed_and_nothing_is_kept(
    pictures: list[Sample], tmp_path: Path
) -> None:
    torn, text = tmp_path / "torn.png", tmp_path / "text.jpg"
    torn.write_bytes(Path(pictures[0].place).read_bytes()[:200])
    text.write_text("no picture")
    bad = [Sample(str(place), Label.FAKE) for place in (torn, text, tmp_path / "gone.png")]
    with pytest.raises(ManifestError, match="3 pictures cannot be decoded") as caught:
        build([bad[0], *pictures, *bad[1:]], tmp_path / "tiles")
    assert [re.match(r"(.*?): ", problem)[1] for problem in caught.value.problems] == [b.place for b in bad]  # type: ignore[index]
    assert list((tmp_path / "tiles").iterdir()) == []


def test_a_build_that_is_interrupted_leaves_nothing_half(
    pictures: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(place: str) -> Any:
        if place == pictures[2].place:
            raise KeyboardInterrupt
        return decode(place)

    with monkeypatch.context() as patch:
        patch.setattr(tiles, "decode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build(pictures, tmp_path / "tiles")
    assert list((tmp_path / "tiles").iterdir()) == []
    assert len(build(pictures, tmp_path / "tiles")) == 3


def test_what_a_killed_build_left_is_swept_away_but_not_what_one_is_writing(
    pictures: list[Sample], tmp_path: Path
) -> None:
    folder = tmp_path / "tiles"
    folder.mkdir()
    dead, live = folder / "tiles-ab-cd.11.bin.part", folder / "tiles-ab-cd.12.bin.part"
    dead.write_bytes(b"half")
    live.write_bytes(b"half")
    os.utime(dead, (1, 1))
    store = build(pictures, folder)
    assert not dead.exists()
    assert set(folder.iterdir()) == {live, store.file, store.file.with_suffix(".json")}


def test_tiles_cannot_be_written_to(pictures: list[Sample], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        build(pictures, tmp_path / "tiles").tile(0, 0)[:] = 0


def test_the_same_pictures_give_the_same_tiles_wherever_they_lie(pictures: list[Sample], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = [Sample(shutil.copy(sample.place, str(elsewhere)), sample.label) for sample in pictures]
    here, there = build(pictures, tmp_path / "tiles"), build(moved, tmp_path / "others")
    for row in range(len(pictures)):
        for one, other in zip(all_of(here, row), all_of(there, row), strict=True):
            np.testing.assert_array_equal(one, other)


# ── tiles of views that resize ───────────────────────────────────────────────────────────────────────────────────────


WHOLE, FACES = View(size=32, layout="whole"), View(size=32, layout="faces", minimum=8)


def test_a_view_of_the_whole_has_whole_pictures_for_tiles_shrunk_to_the_side(
    pictures: list[Sample], tmp_path: Path, decoded: list[str]
) -> None:
    store = build(pictures, tmp_path / "tiles", view=WHOLE)
    assert [store.count(row) for row in range(3)] == [1, 1, 1]
    assert store.shown.tolist() == [0, 1, 2]
    wholes = [decode(sample.place).pixels for sample in pictures]
    assert np.array_equal(store.tile(0, 0), wholes[0])
    for row, size in ((1, (64, 43)), (2, (9, 64))):
        assert store.tile(row, 0).shape[:2] == size
        assert np.array_equal(store.tile(row, 0), np.asarray(shrunk(wholes[row], 64)))
    # Neither chance nor what only crops depend on makes another store; the side does.
    other = FIELDS.model_copy(update={"each": 1, "reduce_above": 80})
    again = build(pictures, tmp_path / "tiles", other, seed=7, view=WHOLE.model_copy(update={"size": 48}))
    assert again.file == store.file
    assert len(decoded) == 3
    smaller = FIELDS.model_copy(update={"side": 80})
    assert build(pictures, tmp_path / "tiles", smaller, view=WHOLE).tile(1, 0).shape[0] == 80
    assert build(pictures, tmp_path / "tiles").file != store.file


def test_other_processes_make_the_same_store_of_whole_pictures(pictures: list[Sample], tmp_path: Path) -> None:
    here, there = (build(pictures, tmp_path / name, view=WHOLE, workers=n) for name, n in (("here", 0), ("there", 1)))
    assert here.file.read_bytes() == there.file.read_bytes()


def face(left: int, top: int, side: int) -> Face:
    middle = (float(left + side // 2), float(top + side // 2))
    return Face(Box(left, top, left + side, top + side), 0.99, (middle,) * 5)


MADE = {50: (face(10, 10, 20),), 150: (face(5, 5, 40), face(60, 90, 30)), 40: ()}
"""Of a picture of so many px in height: one face, two, none."""


@pytest.fixture
def faces(monkeypatch: pytest.MonkeyPatch) -> dict[int, tuple[Face, ...]]:
    """The faces that are found in a picture, by its height; may be changed."""
    found = dict(MADE)
    monkeypatch.setattr(mtcnn, "look", lambda pixels: found[pixels.shape[0]])
    return found


def test_a_view_of_faces_has_a_tile_for_each_and_none_of_a_picture_without(
    pictures: list[Sample], tmp_path: Path, faces: dict[int, tuple[Face, ...]]
) -> None:
    store = build(pictures, tmp_path / "tiles", FIELDS.model_copy(update={"side": 45}), view=FACES)
    assert [store.count(row) for row in range(3)] == [1, 2, 0]
    assert store.shown.tolist() == [0, 1]
    # Of a picture without a face there is a fingerprint all the same: it was looked at.
    assert len(store) == len(store.sha256) == len(store.phashes) == 3
    for row, height in ((0, 50), (1, 150)):
        whole = decode(pictures[row].place).pixels
        for which, one in enumerate(faces[height]):
            square = cut(whole, crop_box(one, FACES.margin))
            assert np.array_equal(store.tile(row, which), np.asarray(shrunk(square, 45)))
    # A square of 1.3 times 20 px stays as it is, one of 52 px is shrunk.
    assert [tile.shape[0] for tile in (store.tile(0, 0), store.tile(1, 0), store.tile(1, 1))] == [26, 45, 39]


def test_a_store_of_faces_is_taken_up_again_and_in_part(
    pictures: list[Sample], tmp_path: Path, faces: dict[int, tuple[Face, ...]], decoded: list[str]
) -> None:
    whole = build(pictures, tmp_path / "tiles", view=FACES)
    part = build([pictures[2], pictures[1]], tmp_path / "tiles", view=FACES)
    assert len(decoded) == 3
    assert [part.count(row) for row in (0, 1)] == [0, 2]
    assert [t.tobytes() for t in all_of(part, 1)] == [t.tobytes() for t in all_of(whole, 1)]
    mine = whole.of(whole.shown[::-1])
    assert (len(mine), mine.sha256) == (2, (whole.sha256[1], whole.sha256[0]))
    assert [t.tobytes() for t in all_of(mine, 0)] == [t.tobytes() for t in all_of(whole, 1)]
    # Nor does a picture without a face alone make trouble.
    none = build([pictures[2]], tmp_path / "other", view=FACES)
    assert (len(none), len(none.shown)) == (1, 0)
    assert len(build([pictures[2]], tmp_path / "other", view=FACES)) == 1
    assert len(decoded) == 4


@pytest.mark.parametrize("change", [{"margin": 1.5}, {"least": 0.1}, {"minimum": 30}, {"fallback": True}])
def test_faces_cut_otherwise_are_another_store(
    change: dict[str, Any], pictures: list[Sample], tmp_path: Path, faces: dict[int, tuple[Face, ...]]
) -> None:
    first, other = (build(pictures, tmp_path / "tiles", view=FACES.model_copy(update=c)) for c in ({}, change))
    assert other.file != first.file
    assert other.file.read_bytes() != first.file.read_bytes()
    assert build(pictures, tmp_path / "tiles", view=FACES.model_copy(update={"size": 48})).file == first.file


def test_a_picture_stands_in_for_its_faces_where_the_view_says_so(
    pictures: list[Sample], tmp_path: Path, faces: dict[int, tuple[Face, ...]]
) -> None:
    fallen = build(pictures, tmp_path / "tiles", view=FACES.model_copy(update={"fallback": True}))
    assert [fallen.count(row) for row in range(3)] == [1, 2, 1]
    assert np.array_equal(fallen.tile(2, 0), np.asarray(shrunk(decode(pictures[2].place).pixels, 64)))


@pytest.mark.parametrize("view", [FACES, WHOLE], ids=["faces", "whole"])
def test_the_eyes_of_every_face_in_a_tile_are_noted_in_its_px(
    view: View, pictures: list[Sample], tmp_path: Path, faces: dict[int, tuple[Face, ...]]
) -> None:
    store = build(pictures, tmp_path, Tiles(side=64, each=1), view=view, eyes=True)
    assert len(store.eyes) == len(store.places)
    for row, sample in enumerate(pictures):
        pixels = decode(sample.place).pixels
        height, width = pixels.shape[:2]
        found = faces[height]
        for which, square in enumerate(view.boxes(width, height, found)):
            tile = store.tile(row, which)
            scale = tile.shape[1] / square.width
            expected = []
            for eye in (eye for face in found for eye in boxes_of_centres(face)):
                if min(eye.right, square.right) > max(eye.left, square.left) and min(eye.bottom, square.bottom) > max(
                    eye.top, square.top
                ):
                    expected.append([eye.left - square.left, eye.top - square.top])
            noted = store.eyes_in(row, which)
            assert len(noted) == len(expected)
            for box, (left, top) in zip(noted, expected, strict=True):
                assert box.left == pytest.approx(scale * left, abs=2)
                assert box.top == pytest.approx(scale * top, abs=2)
            masked = mask(tile, noted)
            assert bool((masked == 0).all(axis=-1).any()) == bool(expected)
    assert store.with_eyes.tolist() == [
        row for row, sample in enumerate(pictures) if faces[decode(sample.place).pixels.shape[0]]
    ]
    part = store.of(np.array([2, 0]))
    assert part.eyes_in(1, 0) == store.eyes_in(0, 0)


def test_a_store_with_eyes_is_another_than_one_without(
    pictures: list[Sample], tmp_path: Path, faces: dict[int, tuple[Face, ...]]
) -> None:
    stores = [build(pictures, tmp_path, Tiles(side=64, each=1), view=WHOLE, eyes=eyes) for eyes in (False, True)]
    assert stores[0].file != stores[1].file
    assert stores[0].eyes == ()
    assert build(pictures, tmp_path, Tiles(side=64, each=1), view=WHOLE).file == stores[0].file


# ── what a stream that judges faces learns from ──────────────────────────────────────────────────────────────────────


def drawn(folder: Path, picture: Callable[..., Pixels], heights: list[tuple[int, Label]]) -> Table:
    rows = []
    for number, (height, label) in enumerate(heights):
        place = folder / f"{number}.png"
        Image.fromarray(picture(number, False, height, 60)).save(place)
        rows.append(Sample(str(place), label, origin=f"{number:064x}", split="train"))
    return Table.of(rows)


def learnt(rows: Table, folder: Path, view: View = FACES) -> Any:
    stream: Any = type("Named", (), {"name": "face", "view": view})
    machine = Machine("cpu", bf16=False, workers=0)
    settings = Settings(folder, machine, 0, None, True, "fp32", folder / "tiles", 60.0)
    return _data(stream, rows, Shown(tiles=FIELDS), settings)


REAL, FAKE = Label.REAL, Label.FAKE


def test_pictures_without_a_face_are_left_out_of_training_and_remembered(
    tmp_path: Path, picture: Callable[..., Pixels], faces: dict[int, tuple[Face, ...]]
) -> None:
    rows = drawn(tmp_path, picture, [(40, REAL), (50, REAL), (150, FAKE), (50, FAKE), (40, FAKE), (150, REAL)])
    data, memory = learnt(rows, tmp_path)
    assert [sample.place for sample in data.samples] == [rows[row].place for row in (1, 2, 3, 5)]
    assert [data.store.count(row) for row in range(4)] == [1, 2, 1, 2]
    assert data.store.sha256 == tuple(memory.files[row] for row in (1, 2, 3, 5))
    assert len(memory.files) == len(memory.origins) == len(memory.phashes) == 6
    everything, _ = learnt(rows, tmp_path, WHOLE)
    assert len(everything.samples) == 6


@pytest.mark.parametrize("lost", [REAL, FAKE])
def test_a_class_without_faces_is_refused(
    lost: Label, tmp_path: Path, picture: Callable[..., Pixels], faces: dict[int, tuple[Face, ...]]
) -> None:
    other = FAKE if lost == REAL else REAL
    rows = drawn(tmp_path, picture, [(40, lost), (50, lost), (40, lost), (50, other), (150, other)])
    with pytest.raises(ManifestError, match=rf"face judges faces, and only 1 {lost.name.lower()} rows .* show any"):
        learnt(rows, tmp_path)
