"""What a detector was trained and tuned on, so that it is never tested on it by mistake."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from assay.image.fingerprint import near, origin_key

Keys = npt.NDArray[np.uint64]

DISTANCE = 4
"""Perceptual hashes that differ in at most so many of their 64 bits count as one picture."""

FIELDS = ("files", "origins", "phashes")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Three sorted sets of keys, each of shape (n,), uint64.

    Args:
        files: `fingerprint.origin_key` of each file's SHA-256.
        origins: likewise of the SHA-256 of the picture it was derived from.
        phashes: perceptual hashes.
    """

    files: Keys = dataclasses.field(default_factory=lambda: np.empty(0, np.uint64))
    origins: Keys = dataclasses.field(default_factory=lambda: np.empty(0, np.uint64))
    phashes: Keys = dataclasses.field(default_factory=lambda: np.empty(0, np.uint64))

    def __post_init__(self) -> None:
        for field in FIELDS:
            keys = np.asarray(getattr(self, field))
            if keys.dtype != np.uint64 or keys.ndim != 1:
                raise ValueError(f"{field} must be uint64 of shape (n,), not {keys.dtype} of shape {keys.shape}")
            object.__setattr__(self, field, np.unique(keys))

    @classmethod
    def of(cls, files: Iterable[str] = (), origins: Iterable[str] = (), phashes: Iterable[int | None] = ()) -> Self:
        """From SHA-256s in hexadecimal (empty ones are left out) and perceptual hashes (None likewise)."""
        return cls(
            np.array([origin_key(sha256) for sha256 in files if sha256], np.uint64),
            np.array([origin_key(sha256) for sha256 in origins if sha256], np.uint64),
            np.array([phash for phash in phashes if phash is not None], np.uint64),
        )

    def joined(self, other: Seen) -> Seen:
        """What either has seen."""
        return Seen(*(np.concatenate([getattr(self, field), getattr(other, field)]) for field in FIELDS))

    def overlaps(self, sha256: str = "", origin: str = "", phash: int | None = None) -> str | None:
        """Why a picture counts as seen, or None where it does not. What is not known of it is not looked up.

        Args:
            sha256: of the picture's file.
            origin: SHA-256 of the picture it was derived from.
            phash: its perceptual hash.
        """
        if sha256 and _holds(self.files, origin_key(sha256)):
            return "the same file"
        # A file's own hash stands for its origin where it is derived from nothing, so each may be found as the other.
        if any(_holds(self.origins, origin_key(key)) for key in (origin, sha256) if key):
            return "derived from the same picture"
        if origin and _holds(self.files, origin_key(origin)):
            return "derived from a picture it was made with"
        if phash is not None and near(np.array([phash], np.uint64), self.phashes, DISTANCE)[0]:
            return f"looks the same (perceptual hashes within {DISTANCE} bits)"
        return None

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {field: getattr(self, field) for field in FIELDS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Raises ValueError where an array is missing, unknown, or no array of keys."""
        if set(arrays) != set(FIELDS):
            raise ValueError(f"must hold the arrays {', '.join(FIELDS)}, not {', '.join(sorted(arrays)) or 'none'}")
        return cls(*(arrays[field] for field in FIELDS))


def _holds(keys: Keys, key: np.uint64) -> bool:
    place = int(np.searchsorted(keys, key))
    return place < len(keys) and bool(keys[place] == key)
