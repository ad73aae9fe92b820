"""What a detector has seen: keys of its own, and those of whoever taught it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from assay.judge.seen import FIELDS, Seen

ONE, TWO, THREE, FOUR = (hashlib.sha256(bytes([number])).hexdigest() for number in range(4))


def test_what_either_has_seen_counts_as_seen_by_both_together() -> None:
    student = Seen.of(files=[ONE], origins=[TWO], phashes=[0, 1])
    teacher = Seen.of(files=[THREE], phashes=[1, 2**63 + 2**40 - 1])
    both = student.joined(teacher)
    assert both.overlaps(ONE) == both.overlaps(THREE) == "the same file"
    assert both.overlaps(TWO) == "derived from the same picture"
    assert both.overlaps(origin=THREE) == "derived from a picture it was made with"
    assert both.overlaps(phash=2**63 + 2**40 - 2) == "looks the same (perceptual hashes within 4 bits)"
    assert both.overlaps(FOUR, origin=FOUR, phash=2**64 - 1) is None
    # Neither alone knew it all.
    assert student.overlaps(THREE) is None
    assert teacher.overlaps(ONE) is None


def test_keys_that_both_have_stand_once_and_in_order_whichever_is_asked() -> None:
    student = Seen.of(files=[ONE, TWO], origins=[FOUR], phashes=[9, 5])
    teacher = Seen.of(files=[TWO, THREE], origins=[FOUR], phashes=[5, 7])
    both, other = student.joined(teacher), teacher.joined(student)
    assert (len(both.files), len(both.origins), both.phashes.tolist()) == (3, 1, [5, 7, 9])
    for field in FIELDS:
        keys = getattr(both, field)
        assert keys.dtype == np.uint64
        assert (np.diff(keys) > 0).all()
        assert np.array_equal(keys, getattr(other, field))


@pytest.mark.parametrize("seen", [Seen(), Seen.of(files=[ONE], origins=[TWO], phashes=[3])])
def test_nothing_is_added_by_whoever_has_seen_nothing(seen: Seen) -> None:
    for both in (seen.joined(Seen()), Seen().joined(seen)):
        assert {field: getattr(both, field).tolist() for field in FIELDS} == {
            field: getattr(seen, field).tolist() for field in FIELDS
        }
        assert Seen.from_arrays(both.to_arrays()).files.tolist() == seen.files.tolist()
