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

from assay.errors import ManifestError
from assay.image.decode import decode
from assay.image.fingerprint import perceptual_hash
from assay.learn import tiles
from assay.learn.recipe import Tiles
from assay.types import Label, Pixels, Sample

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
