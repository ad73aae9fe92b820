"""Decoding what a view needs gives the pixels, and the errors, of decoding everything."""

from __future__ import annotations

import concurrent.futures
import io
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from assay.errors import InputError
from assay.image import region
from assay.image.decode import decode, parts
from assay.image.markers import Markers
from assay.image.view import View
from assay.types import Box, Picture

Saved = tuple[str, dict[str, Any]]
KINDS: dict[str, Saved] = {
    "4:4:4": ("RGB", {"subsampling": 0}),
    "4:2:2": ("RGB", {"subsampling": 1}),
    "4:2:0": ("RGB", {"subsampling": 2}),
    "restarts": ("RGB", {"restart_marker_blocks": 7}),
    "RGB": ("RGB", {"keep_rgb": True}),
    "grey": ("L", {}),
    "progressive": ("RGB", {"progressive": True}),
    "progressive grey": ("L", {"progressive": True}),
}
VIEWS = {
    "centre": View(size=41, minimum=1),
    "grid": View(size=31, layout="grid", across=3, minimum=1),
    "larger than the picture": View(size=160, minimum=1),
}


def installed() -> None:
    # Not by importing it: how much it tells is settled then.
    if not region._ready():
        pytest.skip("nvImageCodec is not installed")


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each picture that was decoded in part was; however little there is to gain, it is tried."""
    installed()
    told: list[bool] = []
    whole = region.decoded

    def decoded(*given: Any) -> Any:
        found = whole(*given)
        told.append(found is not None)
        return found

    monkeypatch.setattr(region, "decoded", decoded)
    monkeypatch.setattr(region, "WORTH", 100)
    monkeypatch.setattr(region, "WORTH_PROGRESSIVE", 100)
    return told


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """Soft edges under noise."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (height // 9 + 1, width // 9 + 1, 3), dtype=np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize((width, height))).astype(np.int16)
    return Image.fromarray(np.clip(soft + draw.integers(-9, 10, soft.shape), 0, 255).astype(np.uint8))


def saved(image: Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def swapped() -> bytes:
    """A profile of sRGB with the red and blue primaries exchanged."""
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return plain.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")


def answer(data: bytes, view: View, *, needed: bool) -> tuple[str, str] | Picture:
    try:
        return decode(data, needed=view.needed if needed else None)
    except InputError as error:
        return error.kind, str(error)


def same(data: bytes, view: View) -> Picture | None:
    """The picture decoded in part, after a look at whether its crops are those of the whole; None where both refuse."""
    whole, part = answer(data, view, needed=False), answer(data, view, needed=True)
    if isinstance(whole, tuple) or isinstance(part, tuple):
        assert whole == part
        return None
    assert (whole.sha256, whole.format, whole.width, whole.height) == (
        *(part.sha256, part.format, part.width, part.height),
    )
    assert whole.frame_numbers == part.frame_numbers
    for one, other in zip(whole.frames, part.frames, strict=True):
        np.testing.assert_array_equal(view.crops(one), view.crops(other))
    return part


# ── the same pixels


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize(("mode", "options"), KINDS.values(), ids=KINDS)
def test_crops_of_a_part_are_those_of_the_whole(
    taken: list[bool], mode: str, options: dict[str, Any], view: View
) -> None:
    sizes = [(97, 61), (96, 64), (16, 200), (1, 1), (43, 42), (151, 149), (8, 9)]
    for seed, (width, height) in enumerate(sizes):
        data = saved(photograph(width, height, seed).convert(mode), quality=60 + 5 * seed, **options)
        assert same(data, view) is not None
    assert taken == [True] * len(sizes)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_parts_lie_where_they_are_seen_after_every_rotation(taken: list[bool], orientation: int, view: View) -> None:
    for form, options in (("JPEG", {"quality": 90}), ("PNG", {}), ("WEBP", {"lossless": True})):
        assert same(saved(photograph(130, 71), form, exif=exif(orientation), **options), view) is not None
    assert taken == [True]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_that_lies_anywhere_is_found_after_every_rotation(taken: list[bool], orientation: int) -> None:
    for form, options in (("JPEG", {"quality": 90}), ("PNG", {})):
        data = saved(photograph(130, 71), form, exif=exif(orientation), **options)
        whole = decode(data).pixels
        height, width = whole.shape[:2]
        boxes = [Box(3, 5, 20, 14), Box(width - 30, 40, width - 1, height - 7)]
        part = decode(data, needed=lambda *size, boxes=boxes: boxes).pixels
        for box in boxes:
            shown = (slice(box.top, box.bottom), slice(box.left, box.right))
            np.testing.assert_array_equal(part[shown], whole[shown])
    assert taken == [True]


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_colour_profile_is_applied_to_parts(taken: list[bool], mode: str) -> None:
    profile = swapped() if mode == "RGB" else ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    part = same(saved(photograph(97, 61).convert(mode), icc_profile=profile), VIEWS["centre"])
    assert part is not None
    assert taken == [True]


def test_a_jpeg_of_inks_is_decoded_whole_and_shown_in_part(taken: list[bool]) -> None:
    assert same(saved(photograph(97, 61).convert("CMYK")), VIEWS["centre"]) is not None
    assert taken == []


@pytest.mark.parametrize(
    ("form", "mode"),
    [
        *(("PNG", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")),
        *(("WEBP", mode) for mode in ("RGB", "RGBA")),
        *(("TIFF", mode) for mode in ("RGB", "F", "CMYK")),
        *(("GIF", "P"), ("BMP", "RGB"), ("AVIF", "RGB")),
    ],
)
def test_of_other_formats_parts_are_shown_as_in_the_whole(form: str, mode: str) -> None:
    image = photograph(131, 97)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif mode in ("LA", "RGBA"):
        image.putalpha(photograph(131, 97, 1).convert("L"))
        image = image.convert(mode)
    else:
        image = image.convert(mode)
    for view in VIEWS.values():
        assert same(saved(image, form), view) is not None


def test_frames_of_an_animation_are_shown_in_part() -> None:
    first, *rest = [photograph(100, 80, seed) for seed in range(3)]
    part = same(saved(first, "WEBP", save_all=True, append_images=rest, lossless=True), VIEWS["centre"])
    assert part is not None
    assert len(part.frames) == 3
    assert not part.frames[1][0].any()


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_what_is_not_needed_is_left_black(form: str, taken: list[bool]) -> None:
    view = View(size=32)
    (part,) = parts(saved(photograph(300, 200), form), needed=view.needed)
    shown = part.pixels.max(axis=2)
    assert (shown[84:116, 134:166] > 0).mean() > 0.9
    shown[84:116, 134:166] = 0
    assert not shown.any()


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_where_most_is_needed_all_is_there(form: str) -> None:
    data = saved(photograph(60, 50), form)
    whole = decode(data).pixels
    all_of_it = [Box(0, 0, 60, 50)]
    np.testing.assert_array_equal(decode(data, needed=lambda width, height: all_of_it).pixels, whole)
    np.testing.assert_array_equal(decode(data, needed=lambda width, height: None).pixels, whole)


# ── the same errors


def damaged(count: int) -> Iterator[bytes]:
    draw = np.random.default_rng(1)
    codes = (0xC0, 0xC2, 0xC4, 0xD0, 0xD3, 0xD8, 0xD9, 0xDA, 0xDB, 0xDD, 0xFE, 0x01)
    originals = [
        saved(photograph(150, 110, seed).convert(mode), **options)
        for seed, (mode, options) in enumerate(KINDS.values())
    ]
    for number in range(count):
        data = bytearray(originals[number % len(originals)])
        least = data.index(b"\xff\xda") if draw.random() < 0.6 else 2
        at, other = (int(place) for place in draw.integers(least, len(data), 2))
        match number % 6:
            case 0:
                del data[at:]
            case 1:
                data[at] = int(draw.integers(256))
            case 2:
                del data[at : at + int(draw.integers(1, 300))]
            case 3:
                data[at:at] = bytes((0xFF, codes[int(draw.integers(len(codes)))]))
            case 4:
                data[at:at] = data[other : other + 200]
            case _:
                data[-2:] = draw.bytes(20) + b"\xff\xd9"
        yield bytes(data)


def test_a_damaged_file_is_refused_in_the_same_words_or_has_the_same_pixels(
    taken: list[bool], capfd: pytest.CaptureFixture[str]
) -> None:
    answers = [same(data, list(VIEWS.values())[number % 2]) for number, data in enumerate(damaged(600))]
    assert answers.count(None) > 100
    assert sum(taken) > 200
    told = capfd.readouterr()
    assert (told.out, told.err) == ("", "")


def test_damage_behind_the_last_row_that_is_needed_is_refused_all_the_same(taken: list[bool]) -> None:
    data, top = saved(photograph(160, 160)), View(size=16, minimum=1)

    def corner(width: int, height: int) -> list[Box]:
        return [Box(0, 0, 16, 16)]

    assert decode(data, needed=corner).pixels[:16, :16].any()
    for spoilt in (data[:-2], data[: len(data) // 2], data[:-2] + data[data.index(b"\xff\xda") :]):
        assert isinstance(answer(spoilt, top, needed=False), tuple)
        with pytest.raises(InputError) as caught:
            decode(spoilt, needed=corner)
        assert (caught.value.kind, str(caught.value)) == answer(spoilt, top, needed=False)
    assert taken == [True]


def test_a_progressive_file_that_lacks_its_last_scans_is_decoded_whole(taken: list[bool]) -> None:
    data = saved(photograph(150, 110), progressive=True)
    assert same(data[: data.rindex(b"\xff\xda")] + b"\xff\xd9", VIEWS["centre"]) is not None
    assert taken == []


# ── whether it is used


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What was found out of the library is found out anew, also afterwards."""
    for cache in (region._agrees, region._library):
        cache.cache_clear()
    yield
    for cache in (region._agrees, region._library):
        cache.cache_clear()


def test_without_the_library_all_is_decoded(
    taken: list[bool], forgotten: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nvidia.nvimgcodec", None)
    monkeypatch.delattr("nvidia.nvimgcodec")
    assert same(saved(photograph(97, 61)), VIEWS["centre"]) is not None
    assert taken == []


def test_a_library_that_gives_another_bit_is_not_used(
    taken: list[bool], forgotten: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = region._decoded

    def off_by_one(data: bytes, mode: str, regions: list[Box]) -> Any:
        found = whole(data, mode, regions)
        assert found is not None
        found[-1] = found[-1] ^ np.uint8(mode == "L")
        return found

    monkeypatch.setattr(region, "_decoded", off_by_one)
    assert same(saved(photograph(97, 61)), VIEWS["centre"]) is not None
    assert taken == []


def test_what_the_library_does_not_decode_is_left_to_pillow(taken: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    assert region._ready()
    for failing in (lambda *given: None, lambda *given: 1 / 0):
        monkeypatch.setattr(region, "_decoded", failing)
        assert same(saved(photograph(97, 61)), VIEWS["centre"]) is not None
    assert taken == [False, False]


def plain(width: int, height: int, *, progressive: bool = False) -> Markers:
    return Markers(True, True, progressive, (width, height))


def test_parts_are_decoded_where_that_is_less_work() -> None:
    installed()
    centre = [Box(1888, 1388, 2112, 1612)]
    corners = [Box(x, y, x + 192, y + 192) for x in (0, 3808) for y in (0, 2808)]
    large = plain(4000, 3000)
    assert region.bands(centre, large) == centre
    assert region.bands(corners, large) == [Box(0, 0, 4000, 192), Box(0, 2808, 4000, 3000)]
    assert region.bands(centre, plain(4000, 3000, progressive=True)) == centre
    assert region.bands(corners, plain(4000, 3000, progressive=True)) == []
    assert region.bands([Box(0, 0, 200, 150)], plain(200, 150)) == []
    assert region.bands([Box(0, y, 224, y + 224) for y in (0, 500, 1000)], plain(1632, 1224)) != []
    assert region.bands([Box(0, y, 1632, y + 300) for y in (0, 450, 924)], plain(1632, 1224)) == []
    assert region.bands(centre, Markers(True, False, False, (4000, 3000))) == []
    assert region.bands([], large) == []


def test_boxes_whose_rows_overlap_share_a_band() -> None:
    installed()
    boxes = [Box(900, 150, 950, 260), Box(10, 0, 60, 160), Box(500, 260, 600, 300), Box(20, 100, 30, 170)]
    assert region.bands(boxes, plain(4000, 3000)) == [Box(10, 0, 950, 260), Box(500, 260, 600, 300)]


def test_threads_decode_parts_at_once(taken: list[bool]) -> None:
    files = [saved(photograph(200 + number, 180, number)) for number in range(8)]
    view = VIEWS["grid"]
    alone = [view.crops(decode(data, needed=view.needed).pixels) for data in files]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda data: view.crops(decode(data, needed=view.needed).pixels), files * 5))
    for number, crops in enumerate(found):
        np.testing.assert_array_equal(crops, alone[number % len(files)])
    assert all(taken)


def test_standard_error_is_whole_again_afterwards(taken: list[bool]) -> None:
    script = """
        import ctypes, io, sys
        import numpy as np
        from PIL import Image
        from assay.image.decode import decode
        from assay.types import Box

        noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).save(file, "JPEG")
        data = bytearray(file.getvalue())
        del data[len(data) // 2 : len(data) // 2 + 2000]
        decode(bytes(data), needed=lambda width, height: [Box(0, 380, 20, 400)])
        assert "nvidia.nvimgcodec" in sys.modules
        libc = ctypes.CDLL(None)
        libc.perror(b"told by C")
        libc.fflush(None)
        print("told by Python", file=sys.stderr)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60, check=True
    )
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["told by C", "told by Python"]
    assert done.stdout == ""
