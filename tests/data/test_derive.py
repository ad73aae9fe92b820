"""A derived set: the same whatever happens on the way, apart from its input, and true to where each picture is from."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from assay.data import derived, manifest
from assay.data.derivations import Derivation, Outcome, Piece, Source, derivations, find, limits_for
from assay.data.derive import chance, derive
from assay.data.table import Table
from assay.errors import InputError, ManifestError, MissingExtra, OutputError, RecipeError
from assay.types import Label, Sample


@dataclasses.dataclass(frozen=True)
class Stamped(Derivation):
    """Two pieces a picture, each with a number drawn for it; pictures that are all black give nothing."""

    name = "stamp"
    summary = "for tests"

    pieces: int = 2

    def derive(self, source: Source, rng: np.random.Generator) -> Outcome:
        if not source.still().any():
            return Outcome(reason="black")
        draws = rng.integers(2**31, size=self.pieces)
        return Outcome(
            tuple(
                Piece(f"{source.sha256} {draw}".encode(), ".txt", frame=number, groups={"draw": str(draw)})
                for number, draw in enumerate(draws.tolist())
            )
        )


@dataclasses.dataclass(frozen=True)
class Chosen(Stamped):
    """Stamps fakes; reals stay without a look at their files."""

    name = "choose"

    def unread(self, sample: Sample) -> Outcome | None:
        return Outcome(keep={"stamped": "no"}) if sample.label == Label.REAL else None


@dataclasses.dataclass(frozen=True)
class Forged(Derivation):
    """A plain piece and one that has a generator; the row stays."""

    name = "forge"
    summary = "for tests"

    def derive(self, source: Source, rng: np.random.Generator) -> Outcome:
        data = f"{source.sha256} {rng.integers(2**31)}".encode()
        return Outcome((Piece(data, ".txt"), Piece(data[::-1], ".txt", generator="forger")), keep={})


def png(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 3), (level, level // 2, 0)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def samples(tmp_path: Path) -> Table:
    """24 small pictures, reals and fakes, in three splits, in a folder of their own."""
    folder = tmp_path / "set"
    folder.mkdir()
    rows = []
    for number in range(24):
        path = folder / f"{number:02d}.png"
        path.write_bytes(png(number + 1))
        rows.append(
            Sample(
                str(path),
                Label(number % 2),
                generator="gan" if number % 2 else "",
                source=f"camera {number % 3}",
                subject=f"id{number}",
                video=f"clip{number // 2}",
                split=("train", "tune", "test", "")[number // 6],
                groups={"licence": "free"},
            )
        )
    return Table.of(rows)


def content(folder: Path) -> dict[str, bytes]:
    """Every published file of a derived set by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and derived.WORK not in path.parts
    }


def pictures(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in content(folder).items() if name.endswith(".txt")}


def test_a_copy_keeps_what_is_known_of_its_source(samples: Table, tmp_path: Path) -> None:
    result = derive(samples, tmp_path / "out", Stamped(), workers=0)
    assert (len(result.table), result.made) == (48, 48)
    source, copy = samples[7], result.table[14]
    sha256 = hashlib.sha256(Path(source.place).read_bytes()).hexdigest()
    assert copy.origin == sha256
    assert copy.sha256 == hashlib.sha256(Path(copy.place).read_bytes()).hexdigest()
    for name in ("label", "generator", "source", "subject", "video", "split"):
        assert getattr(copy, name) == getattr(source, name)
    assert copy.frame == 0
    assert copy.groups.keys() == {"licence", "draw", "derivation"}
    assert copy.groups["derivation"] == "stamp"
    assert Path(copy.place) == tmp_path / "out" / "tune" / "fake" / sha256[:2] / f"{sha256[:16]}-00.txt"


def test_its_manifest_reads_back_as_the_same_rows(samples: Table, tmp_path: Path) -> None:
    result = derive(samples, tmp_path / "out", Stamped(), workers=0)
    assert result.manifest == tmp_path / "out" / "manifest.csv"
    assert list(manifest.read(result.manifest)) == list(result.table)


def test_the_set_can_move_because_its_manifest_names_files_below_itself(samples: Table, tmp_path: Path) -> None:
    derive(samples, tmp_path / "out", Stamped(), workers=0)
    (tmp_path / "out").rename(tmp_path / "moved")
    assert all(Path(sample.place).is_file() for sample in manifest.read(tmp_path / "moved" / "manifest.csv"))


def test_origin_and_history_travel_through_two_derivations(samples: Table, tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True)
    class Copied(Derivation):
        name = "copy"
        summary = "for tests"

        def derive(self, source: Source, rng: np.random.Generator) -> Outcome:
            return Outcome((Piece(source.data + b"!", ".bin"),))

    first = derive(samples, tmp_path / "first", Copied(), workers=0)
    second = derive(manifest.read(first.manifest), tmp_path / "second", Copied(), workers=0)
    known = [hashlib.sha256(Path(sample.place).read_bytes()).hexdigest() for sample in samples]
    assert second.table.column("origin").tolist() == known
    assert {sample.groups["derivation"] for sample in second.table} == {"copy+copy"}
    given = Table.of([dataclasses.replace(sample, origin="ab" * 32) for sample in samples[:1]])
    assert derive(given, tmp_path / "third", Copied(), workers=0).table[0].origin == "ab" * 32


def test_two_workers_write_what_one_process_writes(samples: Table, tmp_path: Path) -> None:
    alone = derive(samples, tmp_path / "alone", Stamped(), workers=0)
    two = derive(samples, tmp_path / "two", Stamped(), workers=2)
    assert content(alone.manifest.parent) == content(two.manifest.parent)


def test_the_order_of_rows_changes_no_file(samples: Table, tmp_path: Path) -> None:
    derive(samples, tmp_path / "out", Stamped(), workers=0)
    derive(samples[::-1], tmp_path / "back", Stamped(), workers=0)
    assert pictures(tmp_path / "out") == pictures(tmp_path / "back")


def test_another_seed_draws_anew_and_the_same_seed_does_not(samples: Table, tmp_path: Path) -> None:
    derive(samples, tmp_path / "out", Stamped(), workers=0)
    derive(samples, tmp_path / "same", Stamped(), workers=0)
    derive(samples, tmp_path / "other", Stamped(), workers=0, seed=1)
    assert pictures(tmp_path / "out") == pictures(tmp_path / "same")
    assert pictures(tmp_path / "out").keys() == pictures(tmp_path / "other").keys()
    assert not set(pictures(tmp_path / "out").values()) & set(pictures(tmp_path / "other").values())


def test_chance_depends_on_name_seed_and_content() -> None:
    draws = {
        chance(name, seed, sha256).integers(2**62)
        for name in ("align", "degrade")
        for seed in (0, 1)
        for sha256 in ("aa" * 32, "ab" * 32)
    }
    assert len(draws) == 8
    assert chance("align", 0, "aa" * 32).random() == chance("align", 0, "aa" * 32).random()


class Stop(Exception):
    pass


def stopping_after(rows: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done >= rows:
            raise Stop

    return progress


def unbroken(samples: Table, folder: Path) -> dict[str, bytes]:
    derive(samples, folder, Stamped(), workers=0)
    return content(folder)


@pytest.mark.parametrize("rows", [1, 7, 23])
def test_a_run_that_was_stopped_goes_on_to_the_same_files(samples: Table, tmp_path: Path, rows: int) -> None:
    out = tmp_path / "out"
    with pytest.raises(Stop):
        derive(samples, out, Stamped(), workers=0, progress=stopping_after(rows))
    assert not (out / "manifest.csv").exists()
    before = {path: path.stat().st_ino for path in out.rglob("*.txt")}
    assert len(before) == 2 * rows
    derive(samples, out, Stamped(), workers=0)
    assert content(out) == unbroken(samples, tmp_path / "whole")
    assert all(path.stat().st_ino == inode for path, inode in before.items())


KILLED = """
import os, signal, sys
from test_derive import Stamped
from assay.data import manifest
from assay.data.derive import derive

def progress(done, total):
    if done == 9:
        print(*[child.pid for child in __import__("multiprocessing").active_children()], flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    derive(manifest.read(sys.argv[1]), sys.argv[2], Stamped(), workers=2, progress=progress)
"""


def test_a_run_that_was_killed_goes_on_to_the_same_files_and_leaves_no_process(samples: Table, tmp_path: Path) -> None:
    manifest.write(tmp_path / "set" / "all.csv", samples)
    (tmp_path / "killed.py").write_text(KILLED)
    command = [sys.executable, "killed.py", "set/all.csv", "out"]
    paths = {"PYTHONPATH": str(Path(__file__).parent)}
    run = subprocess.run(command, cwd=tmp_path, env=os.environ | paths, capture_output=True, text=True, timeout=60)
    assert run.returncode == -9, run.stderr
    # `run` returns when all ends of the pipe are closed: the workers hold it too, so they have ended.
    assert len(run.stdout.split()) == 2
    assert 0 < len(list((tmp_path / "out").rglob("*.txt"))) < 48
    with (tmp_path / "out" / ".derive" / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"row": 23, "sha2')
    (tmp_path / "out" / ".derive" / "77-0.part").write_bytes(b"half a pie")
    again = manifest.read(tmp_path / "set" / "all.csv")
    derive(again, tmp_path / "out", Stamped(), workers=0)
    derive(again, tmp_path / "whole", Stamped(), workers=0)
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert not list((tmp_path / "out").rglob("*.part"))
    made = {path: path.stat().st_ino for path in (tmp_path / "out").rglob("*.txt")}
    derive(again, tmp_path / "out", Stamped(), workers=0)
    assert {path: path.stat().st_ino for path in (tmp_path / "out").rglob("*.txt")} == made


def test_a_damaged_missing_or_outdated_copy_is_made_again(samples: Table, tmp_path: Path) -> None:
    out = tmp_path / "out"
    whole = derive(samples, out, Stamped(), workers=0)
    before = content(out)
    damaged, shorter, missing = (Path(whole.table[index].place) for index in (0, 5, 9))
    damaged.write_bytes(damaged.read_bytes()[::-1])
    shorter.write_bytes(b"")
    missing.unlink()
    derive(samples, out, Stamped(), workers=0)
    assert content(out) == before
    Path(samples[3].place).write_bytes(png(99))
    changed = derive(samples, out, Stamped(), workers=0)
    assert changed.table[6].origin == hashlib.sha256(png(99)).hexdigest()
    assert len(pictures(out)) == 48
    (tmp_path / "whole").mkdir()
    assert content(out) == unbroken(samples, tmp_path / "whole")


def test_a_piece_that_has_a_generator_is_a_fake_whatever_its_row_is(samples: Table, tmp_path: Path) -> None:
    rows = Table.of([*samples[6:8], dataclasses.replace(samples[8], label=None)])
    result = derive(rows, tmp_path / "out", Forged(), workers=0)
    assert result.made == 6
    for number, (row, folder) in enumerate(zip(rows, ("real", "fake", "unknown"), strict=True)):
        stays, plain, forged = result.table[3 * number : 3 * number + 3]
        for copy in (stays, plain):
            assert (copy.label, copy.generator) == (row.label, row.generator)
        assert (forged.label, forged.generator) == (Label.FAKE, "forger")
        for copy in (plain, forged):
            assert (copy.split, copy.subject, copy.origin) == ("tune", row.subject, stays.sha256)
            assert copy.groups == {"licence": "free", "derivation": "forge"}
        made = [Path(copy.place).relative_to(tmp_path / "out" / "tune") for copy in (plain, forged)]
        assert [(path.parts[0], path.stem[-3:]) for path in made] == [(folder, "-00"), ("fake", "-01")]
    assert list(manifest.read(result.manifest)) == list(result.table)


def test_a_run_that_was_stopped_knows_which_pieces_are_fakes(samples: Table, tmp_path: Path) -> None:
    whole = derive(samples, tmp_path / "whole", Forged(), workers=0)
    out = tmp_path / "out"
    with pytest.raises(Stop):
        derive(samples, out, Forged(), workers=0, progress=stopping_after(7))
    before = {path: path.stat().st_ino for path in out.rglob("*.txt")}
    assert len(before) == 14
    gone = next(path for path in sorted(before) if path.parts[-3:-1] == ("fake", path.name[:2]))
    del before[gone]
    gone.unlink()
    again = derive(samples, out, Forged(), workers=0)
    assert [(row.label, row.generator) for row in again.table] == [(row.label, row.generator) for row in whole.table]
    assert content(out) == content(tmp_path / "whole")
    # A row is done again as a whole: both of its pieces.
    assert sum(path.stat().st_ino == inode for path, inode in before.items()) >= 12


def test_notes_of_pieces_without_a_generator_are_as_they_always_were(samples: Table, tmp_path: Path) -> None:
    derive(samples, tmp_path / "out", Stamped(), workers=0)
    assert b"generator" not in (tmp_path / "out" / ".derive" / "journal.jsonl").read_bytes()


def test_a_fake_made_of_a_real_and_one_of_a_fake_of_the_same_content_get_names_of_their_own(
    samples: Table, tmp_path: Path
) -> None:
    Path(samples[1].place).write_bytes(png(1))  # row 0's bytes, in the same split but the other class
    out = tmp_path / "out"
    result = derive(samples[:2], out, Forged(), workers=0)
    stem = hashlib.sha256(png(1)).hexdigest()[:16]
    made = [Path(sample.place).relative_to(out / "train") for sample in result.table if sample.sha256 != sample.origin]
    assert [(path.parts[0], path.name) for path in made] == [
        ("real", f"{stem}-00.txt"),
        ("fake", f"{stem}-01.txt"),
        ("fake", f"{stem}b2-00.txt"),
        ("fake", f"{stem}b2-01.txt"),
    ]
    assert len(pictures(out)) == 4
    Path(result.table[2].place).unlink()
    assert list(derive(samples[:2], out, Forged(), workers=0).table) == list(result.table)


def test_a_line_of_the_journal_that_cannot_be_read_only_costs_its_row(samples: Table, tmp_path: Path) -> None:
    out = tmp_path / "out"
    before = unbroken(samples, out)
    journal = out / ".derive" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[4] = b"\0" * 20 + b"\n"
    lines.append(lines[6].replace(b'"row":6', b'"row":24'))
    lines[5] = lines[5].replace(b'"file":"', b'"file":"../../')
    journal.write_bytes(b"".join(lines))
    derive(samples, out, Stamped(), workers=0)
    assert content(out) == before


def test_equal_files_get_names_of_their_own(samples: Table, tmp_path: Path) -> None:
    for number in (2, 4):
        Path(samples[number].place).write_bytes(png(1))  # row 0's bytes, in the same split and class
    out = tmp_path / "out"
    result = derive(samples, out, Stamped(), workers=0)
    names = [Path(sample.place).name for sample in result.table if sample.origin == hashlib.sha256(png(1)).hexdigest()]
    stem = hashlib.sha256(png(1)).hexdigest()[:16]
    assert names == [f"{stem}{which}-0{piece}.txt" for which in ("", "b2", "b3") for piece in (0, 1)]
    Path(result.table[4].place).unlink()
    assert list(derive(samples, out, Stamped(), workers=0).table) == list(result.table)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda samples: (samples, Stamped(pieces=3), 0), "parameters.pieces is 2 there and 3 here"),
        (lambda samples: (samples, Stamped(), 5), "seed is 0 there and 5 here"),
        (lambda samples: (samples, Chosen(), 0), 'derivation is "stamp" there and "choose" here'),
        (lambda samples: (samples[:9], Stamped(), 0), "rows.count is 24 there and 9 here"),
        (
            lambda samples: (samples.with_column("source", ["x"] * 24), Stamped(), 0),
            "the column source of the rows differs",
        ),
    ],
)
def test_another_run_in_the_same_folder_is_refused_with_what_differs(
    samples: Table, tmp_path: Path, change: Callable[[Table], tuple[Table, Derivation, int]], named: str
) -> None:
    derive(samples, tmp_path / "out", Stamped(), workers=0)
    rows, derivation, seed = change(samples)
    before = content(tmp_path / "out")
    with pytest.raises(OutputError, match="holds another derived set") as caught:
        derive(rows, tmp_path / "out", derivation, workers=0, seed=seed)
    assert named in str(caught.value)
    assert content(tmp_path / "out") == before


def test_a_folder_with_other_files_is_left_alone(samples: Table, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    with pytest.raises(OutputError, match="holds other files"):
        derive(samples, tmp_path / "out", Stamped(), workers=0)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("out", ["set", "set/out", ".", "link"])
def test_an_output_that_is_not_apart_from_the_input_is_refused(samples: Table, tmp_path: Path, out: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "set")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match="not apart from the pictures"):
        derive(samples, tmp_path / out, Stamped(), workers=0)
    assert sorted(tmp_path.rglob("*")) == before


def test_every_failure_is_listed_and_the_rest_is_done(samples: Table, tmp_path: Path) -> None:
    out = tmp_path / "out"
    good = Path(samples[3].place).read_bytes()
    Path(samples[3].place).write_bytes(b"no picture")
    Path(samples[8].place).unlink()
    with pytest.raises(ManifestError, match="2 rows could not be derived from") as caught:
        derive(samples, out, Stamped(), workers=0)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["row 5", "row 10"]
    assert "not a picture" in caught.value.problems[0]
    assert samples[8].place in caught.value.problems[1]
    assert len(pictures(out)) == 44
    assert not (out / "manifest.csv").exists()

    result = derive(samples, out, Stamped(), workers=0, skip=True)
    assert len(result.table) == 44
    assert result.problems == caught.value.problems

    Path(samples[3].place).write_bytes(good)
    Path(samples[8].place).write_bytes(png(9))
    mended = derive(samples, out, Stamped(), workers=0)
    assert (len(mended.table), mended.problems) == (48, ())
    assert content(out) == unbroken(samples, tmp_path / "whole")


def test_a_failed_run_leaves_no_manifest_of_an_earlier_one_with_skip(samples: Table, tmp_path: Path) -> None:
    Path(samples[3].place).write_bytes(b"no picture")
    derive(samples, tmp_path / "out", Stamped(), workers=0, skip=True)
    with pytest.raises(ManifestError):
        derive(samples, tmp_path / "out", Stamped(), workers=0)
    assert not (tmp_path / "out" / "manifest.csv").exists()


def test_failures_carry_the_row_numbers_of_the_file_they_were_read_from(samples: Table, tmp_path: Path) -> None:
    Path(samples[20].place).write_bytes(b"no picture")
    with pytest.raises(ManifestError) as caught:
        derive(samples[[3, 20]], tmp_path / "out", Stamped(), workers=0)
    assert caught.value.problems[0].startswith("row 22: ")


def test_a_file_that_is_not_what_its_row_says_is_a_failure(samples: Table, tmp_path: Path) -> None:
    wrong = samples.with_column("sha256", ["ab" * 32] + [""] * 23)
    with pytest.raises(ManifestError, match="not what its sha256 says"):
        derive(wrong, tmp_path / "out", Stamped(), workers=0)


def test_rows_that_give_nothing_are_counted_by_reason(samples: Table, tmp_path: Path) -> None:
    Path(samples[3].place).write_bytes(png(0))
    result = derive(samples, tmp_path / "out", Stamped(), workers=0)
    assert result.left_out == {"black": 1}
    assert len(result.table) == 46
    assert derive(samples, tmp_path / "out", Stamped(), workers=0).left_out == {"black": 1}


def test_a_set_of_which_nothing_is_left_is_refused_with_the_reason(samples: Table, tmp_path: Path) -> None:
    Path(samples[0].place).write_bytes(png(0))
    with pytest.raises(ManifestError, match=r"not one picture came of 1 rows: black \(1\)"):
        derive(samples[:1], tmp_path / "out", Stamped(), workers=0)


def test_rows_that_need_no_look_stay_where_they_are_even_if_their_file_is_broken(
    samples: Table, tmp_path: Path
) -> None:
    Path(samples[0].place).write_bytes(b"no picture")
    seen: list[tuple[int, int]] = []
    result = derive(samples, tmp_path / "out", Chosen(), workers=0, progress=lambda *count: seen.append(count))
    assert len(result.table) == 12 + 24
    assert result.made == 24
    assert result.table[0] == dataclasses.replace(samples[0], groups={"licence": "free", "stamped": "no"})
    assert seen == [(count, 24) for count in range(1, 25)]
    assert list(manifest.read(result.manifest)) == list(result.table)


def test_a_full_disk_stops_the_run_and_the_next_one_goes_on(
    samples: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write = Path.write_bytes
    room = iter(range(11))

    def full(path: Path, data: bytes) -> int:
        if path.suffix == ".part" and next(room, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="free some space") as caught:
        derive(samples, out, Stamped(), workers=0)
    assert caught.value.kind == "disk"
    monkeypatch.undo()
    assert len(pictures(out)) == 10
    derive(samples, out, Stamped(), workers=0)
    assert content(out) == unbroken(samples, tmp_path / "whole")


class Short(io.FileIO):
    """A file on a disk that fills up: the sixth write takes only a part."""

    writes = 0

    def write(self, data: Any) -> int:
        self.writes += 1
        return super().write(data[:10] if self.writes == 6 else data)


def test_a_disk_that_fills_up_under_the_journal_leaves_no_torn_line(
    samples: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    opened = Path.open

    def short(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        journal = path.name == "journal.jsonl" and mode == "ab"
        return Short(path, "ab") if journal else opened(path, mode, *args, **options)

    monkeypatch.setattr(Path, "open", short)
    with pytest.raises(OutputError, match="free some space"):
        derive(samples, out, Stamped(), workers=0)
    monkeypatch.undo()
    journal = (out / ".derive" / "journal.jsonl").read_bytes()
    assert journal.count(b"\n") == 5
    assert journal.endswith(b"\n")
    derive(samples, out, Stamped(), workers=0)
    assert content(out) == unbroken(samples, tmp_path / "whole")


def test_a_run_goes_on_from_another_folder_that_names_the_same_files_otherwise(
    samples: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = derive(samples, tmp_path / "out", Stamped(), workers=0)
    monkeypatch.chdir(tmp_path / "set")
    relative = samples.with_column("path", [Path(sample.place).name for sample in samples])
    assert list(derive(relative, tmp_path / "out", Stamped(), workers=0).table) == list(before.table)


def test_a_second_run_in_the_same_folder_at_once_is_refused(samples: Table, tmp_path: Path) -> None:
    def second(done: int, total: int) -> None:
        if done == 3:
            with pytest.raises(OutputError, match="another process is writing"):
                derive(samples, tmp_path / "out", Stamped(), workers=0)

    assert len(derive(samples, tmp_path / "out", Stamped(), workers=0, progress=second).table) == 48


@dataclasses.dataclass(frozen=True)
class Fragile(Derivation):
    """Ends the process that it runs in, or fails in a way that nobody foresaw."""

    name = "fragile"
    summary = "for tests"

    end: bool

    def derive(self, source: Source, rng: np.random.Generator) -> Outcome:
        if self.end:
            os._exit(3)
        raise ZeroDivisionError


def test_a_worker_that_ends_early_is_told_with_what_to_do(samples: Table, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="fewer workers take less memory"):
        derive(samples, tmp_path / "out", Fragile(end=True), workers=1)


def test_a_fault_of_the_program_is_not_taken_for_a_fault_of_the_row(samples: Table, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        derive(samples, tmp_path / "out", Fragile(end=False), workers=0, skip=True)
    assert caught.value.__notes__ == [f"while deriving from {samples[0].place}"]


def test_what_is_not_installed_is_told_before_any_work(samples: Table, tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True)
    class Lacking(Stamped):
        def ready(self) -> None:
            raise MissingExtra("finding faces", "faces")

    with pytest.raises(MissingExtra):
        derive(samples, tmp_path / "out", Lacking(), workers=0)
    assert not (tmp_path / "out").exists()


def test_arguments_that_do_not_hold_are_refused_before_any_work(samples: Table, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="seed -1"):
        derive(samples, tmp_path / "out", Stamped(), seed=-1)
    with pytest.raises(RecipeError, match="workers -1"):
        derive(samples, tmp_path / "out", Stamped(), workers=-1)
    with pytest.raises(ManifestError, match="no rows"):
        derive([], tmp_path / "out", Stamped())
    astray = samples.with_column("split", ["../../escape"] * 24)
    with pytest.raises(ManifestError, match="no split called"):
        derive(astray, tmp_path / "out", Stamped())
    assert not (tmp_path / "out").exists()


def test_a_picture_of_several_frames_is_not_cut_down_to_its_first(tmp_path: Path) -> None:
    file = io.BytesIO()
    levels = [Image.new("L", (8, 8), level) for level in (10, 200, 90)]
    levels[0].save(file, "GIF", save_all=True, append_images=levels[1:])
    source = Source(Sample("a.gif", None), file.getvalue(), Stamped().limits)
    with pytest.raises(InputError, match="take its frames first"):
        source.still()


def test_a_picture_is_decoded_within_the_limits_of_its_derivation() -> None:
    source = Source(Sample("a.png", None), png(1), limits_for(2, pixels=11))
    with pytest.raises(InputError, match="more than 11"):
        source.still()


def test_a_piece_cannot_have_a_suffix_that_leads_elsewhere_and_no_row_vanishes_without_a_reason() -> None:
    with pytest.raises(ValueError, match="no suffix"):
        Piece(b"", "/../x")
    with pytest.raises(ValueError, match="without a reason"):
        Outcome()


def test_derivations_are_found_by_name_and_each_says_what_it_is() -> None:
    known = derivations()
    assert {"align", "augment", "degrade", "eyes", "faces", "frames", "resample", "selfblend"} == known.keys()
    for name, derivation in known.items():
        assert find(name) is derivation
        assert derivation.summary
    with pytest.raises(RecipeError, match="did you mean align"):
        find("alin")


def test_a_fingerprint_follows_the_parameters() -> None:
    assert Stamped().fingerprint() == Stamped(pieces=2).fingerprint()
    assert Stamped().fingerprint() != Stamped(pieces=3).fingerprint()
    assert Stamped().fingerprint() != Chosen().fingerprint()
