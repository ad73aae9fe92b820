"""An aligned set: its files tell nothing of the classes, and each was saved once."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from assay.data.derivations import Source
from assay.data.derivations.align import Aligned, window
from assay.data.derive import derive
from assay.errors import RecipeError
from assay.image.align import Align, Alignment, encode
from assay.image.decode import decode
from assay.measure.controls import Controls, Facts, Row, controls, look_at_all
from assay.types import Label, Pixels, Sample

ROWS = 150
"""Rows a class: the standard error of an AUC of .5 is then .033."""


def scene(seed: int, width: int, height: int) -> Pixels:
    """Noise whose smoothness varies from picture to picture, alike in both classes."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 4 + 2, width // 4 + 2, 3), np.uint8)
    fine = rng.normal(0, rng.uniform(1, 20), (height, width, 3))
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return np.clip(smooth + fine, 0, 255).astype(np.uint8)


def source(pixels: Pixels) -> Source:
    return Source(Sample("a.png", Label.REAL), encode(pixels, "PNG", 100), Aligned().limits)


def measured(samples: list[Sample]) -> Controls:
    rows = []
    for sample, facts in zip(samples, look_at_all([sample.place for sample in samples], workers=1), strict=True):
        assert isinstance(facts, Facts)
        assert sample.label is not None
        rows.append(Row(sample.label, sample.source, facts))
    return controls(rows, rounds=20)


@pytest.fixture(scope="module")
def shortcut(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Reals are JPEG of 100 × 75 px and more with Exif, fakes square PNG of 96 px: each fact gives the class away."""
    folder = tmp_path_factory.mktemp("shortcut")
    samples = []
    for number in range(ROWS):
        real, fake = folder / f"real{number}.jpg", folder / f"fake{number}.png"
        exif = Image.Exif()
        exif[271] = "a camera"
        grown = number % 7
        Image.fromarray(scene(number, 100 + grown, 75 + grown)).save(
            real, quality=92 + number % 5, subsampling=0, exif=exif
        )
        Image.fromarray(scene(10_000 + number, 96, 96)).save(fake)
        samples += [
            Sample(str(real), Label.REAL, source=f"r{number}"),
            Sample(str(fake), Label.FAKE, source=f"f{number}"),
        ]
    return samples


def test_alignment_takes_every_shortcut_of_the_file_away(shortcut: list[Sample], tmp_path: Path) -> None:
    before = measured(shortcut)
    assert before.metadata.oriented == 1
    assert all(before.alone[name].oriented == 1 for name in ("format", "pixels", "squareness", "exif"))

    aligned = derive(shortcut, tmp_path / "aligned", Aligned(side=64), workers=0)
    assert len(aligned.table) == 2 * ROWS
    after = measured(list(aligned.table))
    assert all(after.alone[name].oriented == 0.5 for name in ("pixels", "squareness", "exif"))
    # What is left is draws and content, alike in both classes: within three standard errors (JPEG is half the rows).
    assert {name: control.oriented for name, control in after.alone.items() if control.oriented > 0.61} == {}
    assert after.metadata.oriented < 0.61


def test_without_a_common_size_the_sizes_still_tell_the_classes_apart(shortcut: list[Sample], tmp_path: Path) -> None:
    aligned = derive(shortcut[:20], tmp_path / "aligned", Aligned(side=None), workers=0)
    square = {label: set[bool]() for label in Label}
    for sample in aligned.table:
        assert sample.label is not None
        picture = decode(sample.place)
        square[sample.label].add(picture.width == picture.height)
    assert square == {Label.REAL: {False}, Label.FAKE: {True}}


def test_both_classes_meet_every_codec_and_quality(shortcut: list[Sample], tmp_path: Path) -> None:
    aligned = derive(shortcut, tmp_path / "aligned", Aligned(side=32), workers=0)
    for label in Label:
        pictures = [Image.open(sample.place) for sample in aligned.table if sample.label == label]
        formats = [picture.format for picture in pictures]
        assert 0.4 < formats.count("JPEG") / ROWS < 0.6
        assert set(formats) == {"JPEG", "WEBP"}
        samplings = {JpegImagePlugin.get_sampling(picture) for picture in pictures if picture.format == "JPEG"}
        assert samplings == {0, 1, 2}
        assert all(
            Path(picture.filename).suffix == {"JPEG": ".jpg", "WEBP": ".webp"}[picture.format or ""]
            for picture in pictures
        )


def test_the_shipped_bytes_are_the_drawn_encoders_own() -> None:
    pixels = scene(1, 90, 80)
    draw = Align(probability=1, codecs=("WEBP",), quality=(71, 71), scale_probability=0)
    for seed in range(5):
        alignment = draw.draw(np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        draw.draw(rng)
        across, down = rng.random(2)
        cut = window(pixels, 64, alignment, across, down)
        outcome = Aligned(draw=draw, side=64).derive(source(pixels), np.random.default_rng(seed))
        assert outcome.pieces[0].data == encode(cut, "WEBP", 71, method=alignment.method)
        assert outcome.pieces[0].suffix == ".webp"


def test_without_a_scale_a_window_holds_the_pictures_own_pixels_anywhere_in_it() -> None:
    pixels = scene(2, 50, 40)
    alignment = Alignment(None, Image.Resampling.BOX, "PNG", 90, "4:2:0", 4)
    np.testing.assert_array_equal(window(pixels, 32, alignment, 0, 0), pixels[:32, :32])
    np.testing.assert_array_equal(window(pixels, 32, alignment, 0.9999, 0.9999), pixels[8:, 18:])
    np.testing.assert_array_equal(window(pixels[:32, :32], 32, alignment, 0.5, 0.5), pixels[:32, :32])


def test_the_windows_place_is_drawn_over_the_whole_picture() -> None:
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(96), np.arange(64)[:, None]
    plain = Aligned(draw=Align(probability=1, codecs=("PNG",), scale_probability=0), side=32)
    corners = np.array(
        [
            decode(plain.derive(source(pixels), np.random.default_rng(seed)).pieces[0].data).pixels[0, 0, :2]
            for seed in range(150)
        ]
    )
    assert corners.min(axis=0).tolist() <= [3, 2]
    assert corners.max(axis=0).tolist() >= [61, 30]
    assert corners.max(axis=0)[0] <= 64
    assert corners.max(axis=0)[1] <= 32


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.1])
@pytest.mark.parametrize(("width", "height"), [(128, 128), (129, 200), (300, 140)])
def test_a_scaled_window_is_a_larger_or_smaller_part_at_the_asked_size(scale: float, width: int, height: int) -> None:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[...] = np.linspace(0, 255, width).astype(np.uint8)[None, :, None]
    out = window(pixels, 64, Alignment(scale, Image.Resampling.BOX, "PNG", 90, "4:2:0", 4), 0, 0)
    assert out.shape == (64, 64, 3)
    assert abs(int(out[0, -1, 0]) - 255 * (64 / scale - 1) / (width - 1)) < 3


def test_a_picture_below_the_common_size_is_left_out_with_what_would_keep_it() -> None:
    outcome = Aligned(side=64).derive(source(scene(3, 63, 200)), np.random.default_rng(0))
    assert not outcome.pieces
    assert outcome.reason == "its shorter side is below 64 px; a smaller side would keep it"
    assert Aligned(side=64).derive(source(scene(3, 64, 200)), np.random.default_rng(0)).pieces


def test_whether_a_picture_is_kept_does_not_hang_on_the_scale_that_it_drew() -> None:
    scaling = Aligned(draw=Align(probability=1, scale=(0.5, 1.1)), side=64)
    assert scaling.least == 128
    for side, kept in ((127, 0), (128, 1)):
        given = source(scene(3, side, 200))
        outcomes = [scaling.derive(given, np.random.default_rng(seed)) for seed in range(12)]
        assert {len(outcome.pieces) for outcome in outcomes} == {kept}
        assert {decode(outcome.pieces[0].data).pixels.shape for outcome in outcomes if kept} <= {(64, 64, 3)}


def test_nothing_but_pixels_is_in_the_file() -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[271] = "a camera"
    Image.fromarray(scene(4, 80, 80)).save(file, "JPEG", exif=exif, comment=b"who made me", icc_profile=b"x" * 128)
    given = Source(Sample("a.jpg", Label.REAL), file.getvalue(), Aligned().limits)
    for seed in range(6):
        with Image.open(
            io.BytesIO(Aligned(side=64).derive(given, np.random.default_rng(seed)).pieces[0].data)
        ) as image:
            assert not {"exif", "comment", "icc_profile", "xmp"} & image.info.keys()


def test_values_that_do_not_hold_are_refused() -> None:
    with pytest.raises(RecipeError, match="side 8 px does not hold"):
        Aligned(side=8)
    assert Aligned(side=None).fingerprint() != Aligned().fingerprint()
    assert Aligned(draw=Align(probability=1, codecs=("JPEG",))).fingerprint() != Aligned().fingerprint()
