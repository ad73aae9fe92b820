"""Fingerprints: the same picture is known again, another is not."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from assay.image import fingerprint
from assay.types import Pixels


def scene(seed: int, side: int = 256) -> Pixels:
    """A colour picture with the 1/f spectrum of natural ones."""
    random = np.random.default_rng(seed)
    across = np.fft.fftfreq(side)[:, None]
    along = np.fft.fftfreq(side)[None, :]
    falloff = 1 / np.maximum(np.hypot(across, along), 1 / side)
    planes = []
    for _ in range(3):
        wave = np.fft.fft2(random.normal(size=(side, side))) * falloff
        plane = np.real(np.fft.ifft2(wave))
        planes.append(128 + 45 * (plane - plane.mean()) / plane.std())
    return np.clip(np.stack(planes, axis=-1), 0, 255).astype(np.uint8)


def saved(pixels: Pixels, codec: str, quality: int) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, codec, quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def halved(pixels: Pixels) -> Pixels:
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC))


def brighter(pixels: Pixels) -> Pixels:
    return np.clip(pixels.astype(float) * 1.05 + 4, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "altered",
    [
        lambda pixels: saved(pixels, "JPEG", 75),
        lambda pixels: saved(pixels, "WEBP", 60),
        halved,
        brighter,
        lambda pixels: saved(halved(pixels), "JPEG", 75),
    ],
    ids=["jpeg 75", "webp 60", "half size", "brighter", "half size and jpeg 75"],
)
def test_a_re_encoded_resized_or_brightened_picture_is_within_four_bits(altered) -> None:
    for seed in range(12):
        pixels = scene(seed)
        a, b = fingerprint.perceptual_hash(pixels), fingerprint.perceptual_hash(altered(pixels))
        assert a is not None
        assert b is not None
        assert fingerprint.hamming(a, b) <= 4


def test_different_pictures_are_far_apart() -> None:
    hashes = [fingerprint.perceptual_hash(scene(seed)) for seed in range(60)]
    assert None not in hashes
    distances = [fingerprint.hamming(a, b) for index, a in enumerate(hashes) for b in hashes[:index]]
    assert min(distances) > 8
    assert 28 < np.mean(distances) < 36


def test_half_of_the_64_bits_are_set() -> None:
    for seed in range(5):
        value = fingerprint.perceptual_hash(scene(seed))
        assert value is not None
        assert 0 <= value < 2**64
        assert value.bit_count() == 32


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (7, 5), (64, 64)])
def test_a_blank_picture_has_no_fingerprint_whatever_its_size(shape: tuple[int, int]) -> None:
    assert fingerprint.perceptual_hash(np.full((*shape, 3), 200, np.uint8)) is None


def test_a_plain_gradient_and_faint_noise_have_no_fingerprint() -> None:
    ramp = np.linspace(0, 255, 128)
    gradient = np.repeat(((ramp[:, None] + ramp[None, :]) / 2).astype(np.uint8)[..., None], 3, axis=2)
    noise = np.random.default_rng(0).integers(126, 131, (256, 256, 3), dtype=np.uint8)
    assert fingerprint.perceptual_hash(gradient) is None
    assert fingerprint.perceptual_hash(noise) is None


def test_the_fingerprint_is_the_same_on_every_machine_and_in_every_version() -> None:
    # Bundles remember these numbers: a change here means that old bundles no longer know their pictures.
    rows = np.arange(64)[:, None]
    columns = np.arange(96)[None, :]
    plane = (128 + 60 * np.sin(rows / 7) * np.cos(columns / 11) + 50 * np.sin(rows * columns / 400)).astype(np.uint8)
    assert fingerprint.perceptual_hash(np.repeat(plane[..., None], 3, axis=2)) == GOLDEN


GOLDEN = 0x0F724FD1A58AB598


def test_near_finds_exactly_what_comparing_every_pair_finds() -> None:
    random = np.random.default_rng(0)
    known = np.sort(random.integers(0, 2**64, 700, dtype=np.uint64))
    query = random.integers(0, 2**64, 300, dtype=np.uint64)
    for row in range(0, 300, 3):
        flips = random.choice(64, size=row % 8, replace=False)
        query[row] = known[row] ^ np.uint64(sum(1 << int(bit) for bit in flips))
    for distance in (0, 1, 4, 20):
        expected = [any(fingerprint.hamming(int(a), int(b)) <= distance for b in known) for a in query]
        assert fingerprint.near(query, known, distance).tolist() == expected


def test_near_works_in_parts_as_it_does_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    known = np.sort(random.integers(0, 2**64, 101, dtype=np.uint64))
    query = np.concatenate([known[::7] ^ np.uint64(5), random.integers(0, 2**64, 53, dtype=np.uint64)])
    whole = fingerprint.near(query, known, 2)
    assert whole.sum() == len(known[::7])
    monkeypatch.setattr(fingerprint, "_PAIRS", 37)
    assert np.array_equal(fingerprint.near(query, known, 2), whole)


def test_near_of_nothing_finds_nothing() -> None:
    some, none = np.array([1, 2], np.uint64), np.array([], np.uint64)
    assert fingerprint.near(some, none, 4).tolist() == [False, False]
    assert fingerprint.near(none, some, 4).tolist() == []


def planted(count: int, seed: int = 0) -> np.ndarray:
    """Random hashes, a third of which lie within a few bits of another."""
    random = np.random.default_rng(seed)
    hashes = random.integers(0, 2**64, count, dtype=np.uint64)
    for row in range(0, count, 3):
        flips = random.choice(64, size=row // 3 % 9, replace=False)
        hashes[row] = hashes[(row * 7 + 1) % count] ^ np.uint64(sum(1 << int(bit) for bit in flips))
    return hashes


@pytest.mark.parametrize("distance", [0, 1, 2, 4, 7, 12, 25, 63])
def test_near_pairs_are_exactly_those_that_comparing_every_pair_finds(distance: int) -> None:
    hashes = np.unique(planted(200))
    hashes = np.random.default_rng(1).permutation(hashes)
    bits = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    expected = np.argwhere(np.triu(bits <= distance, k=1))
    found = fingerprint.near_pairs(hashes, distance)
    assert len(found) > 0 or distance == 0
    assert np.array_equal(found, expected)


def test_rows_of_one_hash_stand_beside_its_first_row_only() -> None:
    hashes = np.array([9, 5, 9, 4, 9, 5, 2**63], np.uint64)
    assert fingerprint.near_pairs(hashes, 1).tolist() == [[0, 2], [0, 4], [1, 3], [1, 5]]
    assert fingerprint.near_pairs(hashes, 0).tolist() == [[0, 2], [0, 4], [1, 5]]
    assert len(fingerprint.near_pairs(np.full(100_000, 7, np.uint64), 4)) == 99_999


def test_near_pairs_come_in_parts_as_they_do_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = np.unique(planted(900, seed=2))
    whole = fingerprint.near_pairs(hashes, 8)
    monkeypatch.setattr(fingerprint, "_RUN", 7)
    monkeypatch.setattr(fingerprint, "_PART", 50)
    parts = list(fingerprint.near_pairs_in_parts(hashes, 8))
    assert len(parts) > 2
    assert all(len(part) <= 50 + 7 for part in parts)
    pairs = np.sort(np.concatenate(parts), axis=1)
    assert np.array_equal(pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))], whole)


def test_hashes_that_all_share_a_band_are_compared_without_holding_every_pair() -> None:
    # Frames of one dark clip: 13 of 64 bits vary, so every other band puts all of them into one run.
    hashes = np.arange(1 << 13, dtype=np.uint64) | np.uint64(0xABCD << 40)
    near = sum(len(part) for part in fingerprint.near_pairs_in_parts(hashes, 2))
    assert near == (1 << 13) * (13 + 13 * 12 // 2) // 2


def test_near_pairs_among_many_hashes_take_no_comparing_of_all_with_all() -> None:
    random = np.random.default_rng(3)
    hashes = random.integers(0, 2**64, 200_000, dtype=np.uint64)
    rows = np.arange(0, 1000)
    hashes[rows + 100_000] = hashes[rows] ^ np.uint64(0x8000_0100_0020_0001)
    assert np.array_equal(fingerprint.near_pairs(hashes, 4), np.column_stack([rows, rows + 100_000]))


@pytest.mark.parametrize("count", [0, 1])
def test_near_pairs_of_nothing_and_of_one_are_none(count: int) -> None:
    assert fingerprint.near_pairs(np.zeros(count, np.uint64), 4).shape == (0, 2)


@pytest.mark.parametrize("distance", [-1, 64])
def test_a_distance_that_hashes_cannot_have_is_refused(distance: int) -> None:
    with pytest.raises(ValueError, match="0 to 63"):
        fingerprint.near_pairs(np.zeros(3, np.uint64), distance)


def test_an_origin_key_is_the_first_eight_bytes_of_the_hash() -> None:
    digest = hashlib.sha256(b"a picture")
    assert fingerprint.origin_key(digest.hexdigest()) == np.frombuffer(digest.digest()[:8], ">u8")[0]
    assert fingerprint.origin_key(digest.hexdigest().upper()) == fingerprint.origin_key(digest.hexdigest())
    assert fingerprint.origin_key(digest.hexdigest()).dtype == np.uint64
