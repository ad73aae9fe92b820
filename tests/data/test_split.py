"""Splits: what belongs together stays together, a row keeps its split, and what is lost is said."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from assay.data.split import Part, across, assign, leave_out, summary
from assay.data.table import TEXT, Table
from assay.errors import ManifestError
from assay.types import Label, Sample

REAL, FAKE = Label.REAL, Label.FAKE
HALVES = {"train": 0.5, "test": 0.5}


def sample(number: int, label: Label = REAL, **about: object) -> Sample:
    groups = {name: about.pop(name) for name in list(about) if name not in Sample.__slots__}
    return Sample(f"set/{label.name.lower()}/{number}.png", label, groups=groups, **about)


def splits(table: Table) -> list[str]:
    return table.column("split").tolist()


def faces(rows: int = 2000, people: int = 200) -> list[Sample]:
    """A real of somebody, then a fake that swaps two."""
    random = np.random.default_rng(0)
    made = []
    for number in range(rows // 2):
        a, b = random.choice(people, 2, replace=False)
        made.append(sample(number, subject=f"id{a}"))
        made.append(sample(number, FAKE, subject=f"id{a}+id{b}", generator="swap"))
    return made


def aligned(records: int = 300) -> list[Sample]:
    """As D3: of each real one fake by each of four generators."""
    made = []
    for number in range(records):
        made.append(sample(number, record=f"r{number}", source="web"))
        made += [
            dataclasses.replace(
                sample(number, FAKE, record=f"r{number}", generator=f"gen{k}"), place=f"{k}/{number}.png"
            )
            for k in range(4)
        ]
    return made


def test_rows_of_one_key_have_one_split_and_shares_are_about_what_was_asked_for() -> None:
    rows = [sample(number, video=f"clip {number // 5}") for number in range(10_000)]
    found = assign(Table.of(rows), by="video")
    assert across(found.table, "video") == 0
    assert found.across == {}
    counts = {part.split: part.rows for part in summary(found.table)}
    assert counts["train"] == pytest.approx(8000, abs=250)
    assert counts["tune"] == pytest.approx(1000, abs=200)
    assert counts["test"] == pytest.approx(1000, abs=200)


def test_a_row_keeps_its_split_when_rows_come_go_or_change_places() -> None:
    rows = faces()
    before = dict(zip([row.place for row in rows], splits(assign(Table.of(rows)).table), strict=True))
    kept = rows[::3][::-1] + [sample(9000 + number, subject=f"new {number}") for number in range(500)]
    after = zip([row.place for row in kept], splits(assign(Table.of(kept)).table), strict=True)
    assert all(before.get(place, split) == split for place, split in after)


def test_the_split_of_a_key_is_the_same_on_every_machine_and_in_every_version() -> None:
    rows = [sample(number, subject=f"id{number}") for number in range(24)]
    letters = {"train": "r", "tune": "u", "test": "t"}
    thirds = {"train": 0.4, "tune": 0.3, "test": 0.3}
    assert "".join(letters[split] for split in splits(assign(Table.of(rows), shares=thirds).table)) == GOLDEN


GOLDEN = "truturrruturutrrututrtru"


def test_another_seed_gives_other_splits() -> None:
    table = Table.of(faces())
    assert splits(assign(table, seed=0).table) == splits(assign(table, seed=0).table)
    assert splits(assign(table, seed=0).table) != splits(assign(table, seed=1).table)


def test_a_swap_of_people_in_different_splits_is_left_out_and_counted() -> None:
    rows = faces()
    found = assign(Table.of(rows), shares=HALVES)
    of = {row.subject: split for row, split in zip(rows, splits(found.table), strict=True) if row.label is REAL}
    lost = 0
    for number, (row, split) in enumerate(zip(rows, splits(found.table), strict=True)):
        a, _, b = row.subject.partition("+")
        if b and a in of and b in of:
            assert split == (of[a] if of[a] == of[b] else "")
        lost += split == ""
        assert (number in found.left_out) == (split == "")
    assert 0.4 < lost / (len(rows) / 2) < 0.6
    assert across(found.table, "subject") == 0


def test_together_keeps_every_row_and_still_leaks_nothing() -> None:
    pairs = [sample(n, FAKE, subject=f"id{n}+id{n + 1}") for n in range(0, 2000, 2)]
    rows = [sample(n, subject=f"id{n}") for n in range(2000)] + pairs
    found = assign(Table.of(rows), together=True)
    assert not len(found.left_out)
    assert across(found.table, "subject") == 0
    test_fakes = next(part.rows for part in summary(found.table) if part[:2] == ("test", FAKE))
    assert test_fakes == pytest.approx(100, abs=40)


def test_together_ties_rows_by_every_column_that_is_named() -> None:
    random = np.random.default_rng(3)
    rows = [
        sample(number, subject=f"id{random.integers(900)}", video=f"v{random.integers(900)}") for number in range(500)
    ]
    one = assign(Table.of(rows), by=("subject", "video"), shares=HALVES)
    both = assign(Table.of(rows), by=("subject", "video"), shares=HALVES, together=True)
    assert one.across["video"] > 0
    assert both.across == {}
    assert set(splits(both.table)) == {"train", "test"}


def test_rows_without_a_key_fall_back_to_origin_then_hash_then_path_and_are_counted() -> None:
    rows = [sample(0, subject="a"), sample(1, origin="ab" * 32), sample(2, origin="AB" * 32, sha256="01" * 32)]
    rows += [sample(3, sha256="ef" * 32), sample(4), sample(5, video="ignored")]
    found = assign(Table.of(rows))
    assert found.keyed == {"subject": 1, "origin": 2, "sha256": 1, "path": 2}
    assert splits(found.table)[1] == splits(found.table)[2]
    assert "" not in splits(found.table)


def test_several_columns_are_tried_in_order() -> None:
    rows = [sample(number, video=f"v{number}", subject="one" if number < 50 else "") for number in range(200)]
    found = assign(Table.of(rows), by=("subject", "video"), shares=HALVES)
    assert found.keyed == {"subject": 50, "video": 150}
    assert len(set(splits(found.table)[:50])) == 1


def test_a_generator_splits_fakes_only() -> None:
    rows = [sample(n, FAKE, generator=f"gen{n % 40}") for n in range(400)]
    rows += [sample(n, origin=f"{n:064x}", generator="camera") for n in range(400)]
    found = assign(Table.of(rows), by="generator", shares=HALVES)
    assert found.keyed == {"generator": 400, "origin": 400}
    fakes = found.table[found.table.labels == FAKE]
    assert across(fakes, "generator") == 0
    reals = {part.split: part.rows for part in summary(found.table) if part.label is REAL}
    assert reals["test"] == pytest.approx(200, abs=50)


def test_what_a_split_fails_to_hold_together_is_said() -> None:
    rows = [sample(n, source=f"s{n % 2}", origin=f"{n // 2:064x}") for n in range(100)]
    by_source = next(found for seed in range(9) if (found := assign(Table.of(rows), "source", HALVES, seed)).across)
    assert by_source.across == {"origin": 50}


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({"train": 0.8, "test": 0.1}, "add up to 1, not 0.9"),
        ({"train": 1.2, "test": -0.2}, "at least 0"),
        ({"train": 0.9, "tset": 0.1}, "did you mean test"),
        ({"train": float("nan"), "test": 1.0}, "add up to 1"),
        ({}, "add up to 1"),
    ],
)
def test_shares_that_do_not_hold_are_refused(shares: dict[str, float], words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        assign(Table.of([sample(0)]), shares=shares)


def test_an_unknown_column_is_refused() -> None:
    with pytest.raises(ManifestError, match="subject"):
        assign(Table.of([sample(0)]), by="subjekt")


def test_a_whole_share_takes_every_row() -> None:
    rows = [sample(number) for number in range(300)]
    assert set(splits(assign(Table.of(rows), shares={"test": 1.0}).table)) == {"test"}
    assert set(splits(assign(Table.of(rows), shares={"train": 1.0}).table)) == {"train"}


def test_an_empty_table_stays_empty() -> None:
    for together in (False, True):
        assert len(assign(Table.of([]), together=together).table) == 0
    assert summary(Table.of([])) == []


def test_a_generator_that_is_left_out_is_all_the_fakes_that_are_tested() -> None:
    rows = [sample(n, FAKE, generator=f"gen{n % 4}") for n in range(400)] + [sample(n) for n in range(400)]
    found = leave_out(Table.of(rows), generator="gen2")
    parts = {(part.split, part.key): part.rows for part in summary(found.table, "generator")}
    assert parts["test", "gen2"] == 100
    assert {key for split, key in parts if split == "test"} == {"gen2", ""}
    assert sum(count for (_, key), count in parts.items() if key == "gen2") == 100
    assert parts["train", ""] == pytest.approx(320, abs=30)
    assert parts["test", ""] == pytest.approx(40, abs=25)
    assert not len(found.left_out)
    assert sum(parts[split, f"gen{k}"] for split in ("train", "tune") for k in (0, 1, 3)) == 300


def test_families_of_a_real_and_its_fakes_stay_on_one_side_and_what_cannot_is_left_out() -> None:
    table = Table.of(aligned())
    found = leave_out(table, HALVES, generator="gen1")
    assert across(found.table, "record") == 0
    assert found.across == {}
    parts = {(part.split, part.key): part.rows for part in summary(found.table, "generator")}
    assert parts["test", "gen1"] == parts["test", ""] == parts["", "gen0"] == parts["", "gen3"]
    assert parts["train", "gen0"] == parts["train", ""] == parts["", "gen1"] == 300 - parts["test", ""]
    assert ("train", "gen1") not in parts
    assert ("test", "gen0") not in parts
    assert parts["test", ""] == pytest.approx(150, abs=40)


def test_a_source_of_both_classes_that_is_left_out_is_the_whole_test() -> None:
    rows = [sample(n, Label(n % 2), source=f"s{n % 5}") for n in range(500)]
    found = leave_out(Table.of(rows), source=["s1", "s3"])
    tested = found.table[found.table.column("split") == "test"]
    assert set(tested.column("source").tolist()) == {"s1", "s3"}
    assert len(tested) == 200
    assert set(splits(found.table)) == {"train", "tune", "test"}


def test_no_value_of_a_related_column_is_on_both_sides_whatever_the_table() -> None:
    random = np.random.default_rng(7)
    for trial in range(20):
        rows = []
        for number in range(200):
            label = Label(int(random.integers(2)))
            rows.append(
                sample(
                    number,
                    label,
                    generator=f"gen{random.integers(3)}" if label else "",
                    subject=f"id{random.integers(400)}" + (f"+id{random.integers(400)}" if label else ""),
                    video=f"v{random.integers(300)}" if random.random() < 0.5 else "",
                    origin=f"{random.integers(150):064x}" if random.random() < 0.3 else "",
                )
            )
        found = leave_out(Table.of(rows), HALVES, seed=trial, generator="gen0")
        assert found.across == {}
        tested = found.table[found.table.column("split") == "test"]
        assert set(tested.column("generator").tolist()) == {"", "gen0"}
        learned = found.table[np.isin(found.table.column("split"), np.array(["train", "tune"], TEXT))]
        assert "gen0" not in learned.column("generator").tolist()


def test_rows_of_unknown_class_are_never_tested_by_leaving_out() -> None:
    rows = [*aligned(40), *(dataclasses.replace(sample(n), label=None, place=f"u{n}.png") for n in range(50))]
    found = leave_out(Table.of(rows), HALVES, generator="gen1")
    assert all(part.label is not None for part in summary(found.table) if part.split == "test")


def test_leaving_out_refuses_what_it_cannot_do() -> None:
    table = Table.of(aligned(20))
    with pytest.raises(ManifestError, match="did you mean gen1"):
        leave_out(table, generator="gen_1")
    with pytest.raises(ManifestError, match="one column"):
        leave_out(table, generator="gen1", source="web")
    with pytest.raises(ManifestError, match="train and test both need a share"):
        leave_out(table, {"train": 1.0}, generator="gen1")
    linked = Table.of([dataclasses.replace(row, subject="everybody") for row in aligned(20)])
    with pytest.raises(ManifestError, match="linked by subject"):
        leave_out(linked, {"train": 0.9999, "test": 0.0001}, generator="gen1")
    with pytest.raises(ManifestError, match="gives train rows of one class or none"):
        leave_out(linked, {"train": 0.0001, "test": 0.9999}, generator="gen1")


def test_the_summary_counts_every_row_once_in_the_order_of_splits_and_classes() -> None:
    rows = [sample(0, FAKE, split="test"), sample(1, split="train"), sample(2), sample(3, FAKE, split="train")]
    rows += [sample(4, FAKE, split="train", generator="b"), dataclasses.replace(sample(5), label=None, split="tune")]
    assert summary(Table.of(rows), "generator") == [
        Part("train", REAL, "", 1),
        Part("train", FAKE, "", 1),
        Part("train", FAKE, "b", 1),
        Part("tune", None, "", 1),
        Part("test", FAKE, "", 1),
        Part("", REAL, "", 1),
    ]
    assert sum(part.rows for part in summary(Table.of(rows))) == len(rows)


def test_a_column_that_ends_one_of_numpys_sorts_is_split() -> None:
    # NumPy 2.4.6 ends the process on this column where it may sort as it likes.
    paths = np.array([f"{number // 1000}/{number}.jpg" for number in range(200_000)], TEXT)
    found = assign(Table({"path": paths}, np.zeros(len(paths), np.int8)), by="path")
    assert sum(part.rows for part in summary(found.table)) == len(paths)
