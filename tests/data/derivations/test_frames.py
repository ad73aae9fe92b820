"""Frames of clips: evenly, without loss, each with its number, its time and its clip."""

from __future__ import annotations

import hashlib
import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from assay.data.derivations import Source
from assay.data.derivations.frames import Frames
from assay.data.derive import derive
from assay.errors import ManifestError, RecipeError
from assay.image.decode import decode
from assay.types import Label, Sample

RNG = np.random.default_rng(0)


def clip(frames: int, rate: int = 10) -> bytes:
    """An AVI of 32 × 32 px whose frame n has the grey level 4 n."""
    file = io.BytesIO()
    with av.open(file, "w", format="avi") as container:
        stream = container.add_stream("mjpeg", rate=rate)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuvj420p"
        stream.time_base = Fraction(1, rate)
        for number in range(frames):
            level = np.full((32, 32, 3), 4 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(level, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def source(data: bytes, derivation: Frames, **about: str) -> Source:
    return Source(Sample("clips/0001.avi", Label.FAKE, **about), data, derivation.limits)  # type: ignore[arg-type]


def gif(levels: list[int]) -> bytes:
    file = io.BytesIO()
    frames = [Image.new("L", (16, 16), level) for level in levels]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=100)
    return file.getvalue()


def test_a_clip_gives_15_frames_evenly_with_their_numbers_and_times() -> None:
    pieces = Frames().derive(source(clip(60), Frames()), RNG).pieces
    numbers = [piece.frame for piece in pieces]
    assert len(numbers) == 15
    steps = np.diff([number for number in numbers if number is not None])
    assert set(steps.tolist()) <= {4, 5}
    for piece in pieces:
        assert piece.frame is not None
        assert piece.groups["time"] == f"{piece.frame / 10:.3f}"
        picture = decode(piece.data)
        assert picture.format == "PNG"
        assert abs(picture.pixels.mean() - 4 * piece.frame) < 2


def test_the_stored_frame_is_what_the_decoder_showed() -> None:
    derivation = Frames(count=3, form="WEBP")
    given = source(clip(12), derivation)
    for piece, shown in zip(derivation.derive(given, RNG).pieces, given.picture.frames, strict=True):
        np.testing.assert_array_equal(decode(piece.data).pixels, shown)


def test_a_short_clip_gives_the_frames_it_has_and_one_frame_is_still_a_clip() -> None:
    assert [piece.frame for piece in Frames().derive(source(clip(4), Frames()), RNG).pieces] == [0, 1, 2, 3]
    outcome = Frames().derive(source(clip(1), Frames()), RNG)
    assert [piece.frame for piece in outcome.pieces] == [0]
    assert outcome.keep is None


def test_frames_of_a_clip_share_its_name_which_two_clips_never_do() -> None:
    given = source(clip(4), Frames(), video="id3_0002")
    assert {piece.video for piece in Frames().derive(given, RNG).pieces} == {"id3_0002"}
    names = []
    for frames in (4, 5):
        unnamed = source(clip(frames), Frames())
        names.append({piece.video for piece in Frames().derive(unnamed, RNG).pieces})
        assert names[-1] == {f"0001-{unnamed.sha256[:8]}"}
    assert names[0] != names[1]


def test_an_animation_gives_frames_too() -> None:
    pieces = Frames(count=2).derive(source(gif([10, 60, 110, 160]), Frames(count=2)), RNG).pieces
    assert [piece.frame for piece in pieces] == [0, 2]
    assert len(Frames(count=1).derive(source(gif([10, 60]), Frames(count=1)), RNG).pieces) == 1


def test_a_set_of_clips_and_stills_becomes_one_of_frames_and_the_same_stills(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    moving, still = tmp_path / "set" / "a.avi", tmp_path / "set" / "b.png"
    moving.write_bytes(clip(9))
    Image.new("RGB", (16, 16), (9, 9, 9)).save(still)
    rows = [
        Sample(str(moving), Label.FAKE, generator="swap", subject="id1+id2", video="one", split="test"),
        Sample(str(still), Label.REAL, split="test", video="two", frame=7),
    ]
    result = derive(rows, tmp_path / "out", Frames(count=3), workers=0)
    frames, kept = list(result.table)[:3], result.table[3]
    sha256 = hashlib.sha256(moving.read_bytes()).hexdigest()
    assert {(row.origin, row.video, row.subject, row.generator, row.split) for row in frames} == {
        (sha256, "one", "id1+id2", "swap", "test")
    }
    numbers = [row.frame for row in frames]
    assert all(number is not None for number in numbers)
    assert numbers == sorted(set(numbers))  # type: ignore[type-var]
    assert (kept.place, kept.video, kept.frame) == (str(still), "two", 7)
    assert kept.sha256 == kept.origin == hashlib.sha256(still.read_bytes()).hexdigest()
    assert "derivation" not in kept.groups
    assert (result.made, len(result.table)) == (3, 4)


def test_a_broken_clip_is_a_problem_and_not_a_shorter_clip(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.avi").write_bytes(clip(9)[:-900])
    with pytest.raises(ManifestError, match="ends before"):
        derive([Sample(str(tmp_path / "set" / "a.avi"), None)], tmp_path / "out", Frames(), workers=0)


def test_values_that_do_not_hold_are_refused() -> None:
    with pytest.raises(RecipeError, match="count 0"):
        Frames(count=0)
    with pytest.raises(RecipeError, match="no lossless format"):
        Frames(form="JPEG")  # type: ignore[arg-type]
