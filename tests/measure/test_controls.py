"""Controls: a shortcut through file or subject is seen, and where there is none, none is claimed."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay.errors import InputError
from assay.measure.controls import FEWEST, Facts, Row, controls, jpeg_quality, look, look_at_all
from assay.types import Label

RANDOM = np.random.default_rng(0)


def facts(seed: int, **known: object) -> Facts:
    """Facts of a file that say nothing of its class, but for what is given."""
    random = np.random.default_rng(seed)
    plain = Facts(
        sha256=f"{seed:064x}",
        phash=seed,
        format=str(random.choice(["JPEG", "PNG"])),
        width=int(random.integers(200, 400)),
        height=int(random.integers(200, 400)),
        bytes=int(random.integers(20_000, 60_000)),
        jpeg_quality=None,
        exif=bool(random.random() < 0.5),
        thumbnail=random.integers(0, 256, 768).astype(np.uint8),
    )
    return dataclasses.replace(plain, **known)


def rows(count: int, real: dict[str, object], fake: dict[str, object], sources: int = 8, start: int = 0) -> list[Row]:
    made = []
    for number in range(start, start + count):
        label = Label(number % 2)
        made.append(Row(label, f"{label.name} {number // 2 % sources}", facts(number, **(fake if label else real))))
    return made


def test_files_that_say_nothing_of_their_class_give_controls_near_one_half() -> None:
    found = controls(rows(240, {}, {}), rounds=100)
    for control in (*found.alone.values(), found.metadata, found.thumbnail):
        if control.auc.n:
            assert control.oriented < 0.65
            assert control.auc.n == 240
            assert control.auc.low < control.auc.value < control.auc.high


@pytest.mark.parametrize(
    ("name", "real", "fake"),
    [
        ("format", {"format": "JPEG"}, {"format": "PNG"}),
        ("pixels", {"width": 300, "height": 300}, {"width": 512, "height": 512}),
        ("squareness", {"width": 320, "height": 240}, {"width": 256, "height": 256}),
        (
            "bytes_per_pixel",
            {"bytes": 20_000, "width": 300, "height": 300},
            {"bytes": 70_000, "width": 300, "height": 300},
        ),
        ("exif", {"exif": False}, {"exif": True}),
    ],
)
def test_a_shortcut_through_the_file_shows_alone_and_in_the_classifier(name: str, real: dict, fake: dict) -> None:
    found = controls(rows(120, real, fake), rounds=20)
    assert found.alone[name].auc.value == 1.0
    assert found.metadata.auc.value > 0.95
    assert found.thumbnail.oriented < 0.75


def test_a_shortcut_the_other_way_round_is_turned() -> None:
    found = controls(rows(120, {"exif": True}, {"exif": False}), rounds=20)
    assert found.alone["exif"].auc.value == 0.0
    assert found.alone["exif"].oriented == 1.0
    assert found.metadata.auc.value > 0.95


def test_jpeg_quality_is_measured_among_the_jpeg_files_only() -> None:
    real, fake = {"format": "JPEG", "jpeg_quality": 75}, {"format": "JPEG", "jpeg_quality": 95}
    mixed = rows(60, real, fake) + rows(40, {"format": "PNG"}, {"format": "PNG"}, start=60)
    quality = controls(mixed, rounds=20).alone["jpeg_quality"]
    assert (quality.auc.value, quality.auc.n) == (1.0, 60)


def test_the_thumbnail_classifier_sees_the_subject_and_the_metadata_classifier_does_not() -> None:
    night, day = np.zeros(768, np.uint8), np.full(768, 255, np.uint8)
    found = controls(rows(120, {"thumbnail": night}, {"thumbnail": day}), rounds=20)
    assert found.thumbnail.auc.value == 1.0
    assert found.metadata.oriented < 0.75


def test_what_only_tells_sources_apart_does_not_count_as_telling_classes_apart() -> None:
    # Every source has a thumbnail of its own and nothing else; scored by folds that split sources it would be 1.
    made = []
    for number in range(240):
        source = number % 24
        label = Label(source % 2)
        look_of_source = np.random.default_rng(900 + source).integers(0, 256, 768).astype(np.uint8)
        made.append(Row(label, f"source {source}", facts(number, thumbnail=look_of_source)))
    found = controls(made, rounds=20)
    assert found.thumbnail.oriented < 0.8
    assert found.fitted == "on the evaluated rows, 5 folds, whole sources in one fold"


def test_a_class_with_one_source_is_cross_fitted_by_rows_and_says_so() -> None:
    found = controls(rows(80, {"exif": False}, {"exif": True}, sources=1), rounds=20)
    assert found.metadata.auc.value > 0.95
    assert "sources are not kept apart" in found.fitted


def test_classifiers_fitted_on_other_rows_use_those_alone() -> None:
    tested = rows(80, {"exif": False}, {"exif": True})
    other_way = rows(100, {"exif": True}, {"exif": False}, start=1000)
    found = controls(tested, other_way, rounds=20)
    assert found.metadata.auc.value < 0.1
    assert found.fitted == "on 100 other rows"


def test_rows_to_fit_on_must_not_be_evaluated() -> None:
    tested = rows(40, {}, {})
    with pytest.raises(ValueError, match="1 rows to fit the controls on are also evaluated"):
        controls(tested, [tested[3], *rows(40, {}, {}, start=100)])


def test_a_format_never_seen_in_fitting_is_no_error() -> None:
    tested = rows(40, {"format": "WEBP"}, {"format": "AVIF"})
    found = controls(tested, rows(60, {"format": "PNG"}, {"format": "JPEG"}, start=100), rounds=20)
    assert found.metadata.auc.n == 40


@pytest.mark.parametrize("count", [0, 2, 2 * FEWEST - 2])
def test_too_few_rows_give_no_classifier_instead_of_a_figure_or_an_error(count: int) -> None:
    found = controls(rows(count, {}, {}), rounds=20)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["metadata"]["value"] is None


def test_one_class_alone_gives_no_figure_and_no_error() -> None:
    reals = [row for row in rows(80, {}, {}) if row.label is Label.REAL]
    found = controls(reals, rounds=20).to_dict()
    assert found["alone"]["pixels"] == {"value": None, "low": None, "high": None, "n": 40, "oriented": None}
    assert found["thumbnail"]["value"] is None


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 56, 3), dtype=np.uint8))


@pytest.mark.parametrize("subsampling", [0, 2])
def test_the_quality_of_a_jpeg_is_found_from_its_tables(tmp_path: Path, subsampling: int) -> None:
    for quality in (10, 31, 50, 75, 88, 95, 100):
        picture().save(tmp_path / "a.jpg", quality=quality, subsampling=subsampling)
        assert look(tmp_path / "a.jpg").jpeg_quality == quality


def test_tables_of_another_maker_find_the_nearest_quality() -> None:
    assert jpeg_quality([1] * 64) == 100
    assert jpeg_quality([255] * 64) == 1
    file = io.BytesIO()
    picture().save(file, "JPEG", quality=80)
    steps = Image.open(file).quantization[0]
    nudged = [step + (index % 3 == 0) - (index % 3 == 1) for index, step in enumerate(steps)]
    assert abs(jpeg_quality(nudged) - 80) <= 1


def test_a_file_says_what_it_is(tmp_path: Path) -> None:
    picture().save(tmp_path / "misnamed.jpg", "PNG")
    found = look(tmp_path / "misnamed.jpg")
    assert (found.format, found.width, found.height, found.jpeg_quality, found.exif) == ("PNG", 56, 40, None, False)
    assert found.bytes == (tmp_path / "misnamed.jpg").stat().st_size
    assert found.thumbnail.shape == (768,)


def test_exif_is_noted_and_none_of_it_is_kept(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera with a name"
    picture().save(tmp_path / "a.jpg", exif=exif)
    found = look(tmp_path / "a.jpg")
    assert found.exif is True
    assert "a camera" not in repr(found)


def test_looking_at_many_keeps_their_order_and_gives_each_failure_its_reason(tmp_path: Path) -> None:
    places = []
    for number in range(9):
        picture(number).save(tmp_path / f"{number}.png")
        places.append(str(tmp_path / f"{number}.png"))
    (tmp_path / "4.png").write_bytes(b"not a picture")
    (tmp_path / "7.png").unlink()
    steps: list[tuple[int, int]] = []
    found = look_at_all(places, lambda done, total: steps.append((done, total)))
    assert [fact.sha256 if isinstance(fact, Facts) else fact.kind for fact in found] == [
        "not_an_image" if number == 4 else "missing" if number == 7 else look(place).sha256
        for number, place in enumerate(places)
    ]
    assert isinstance(found[4], InputError)
    assert steps == [(done, 9) for done in range(1, 10)]
