"""Makes a derived data set: every picture of a set decoded, changed, written anew, with a manifest of the copies.

Which change it is stands in `assay.data.derivations`. Whatever it is, this holds:

- **Origin travels.** A copy has the origin of its source (the source's own SHA-256 where it has none), through any
  number of derivations in a row; so no split or test can take a copy for another picture.
- **Chance hangs on content.** What is drawn for a picture depends on the seed, the derivation's name and the file's
  SHA-256 alone: not on the order of rows, on workers, or on what was done before a kill.
- **Nothing is lost.** A rerun goes on where a run was stopped and ends with the same files. Rows that fail are listed,
  all of them, after the others are done.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import numpy.typing as npt

from assay.data import derived, manifest
from assay.data.derivations import Derivation, Piece, Source
from assay.data.derived import SPLITS, Entry, Folder, Made, Unnamed
from assay.data.table import Table, distinct
from assay.errors import AssayError, InputError, ManifestError, OutputError, RecipeError, unknown
from assay.image import place
from assay.types import Label, Sample

GROUP = "derivation"
"""The group of a copy that names what was done to it, the latest last: "faces+degrade"."""

_AHEAD = 4
"""Rows a worker may be ahead of the row that is waited for: what a stop throws away at most."""

_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Derived:
    """What came of a run.

    Args:
        manifest: of the derived set.
        table: its rows.
        made: how many of them are new files; the others are rows of the source that stay.
        left_out: how many rows of the source gave nothing, by reason.
        problems: rows that failed, each with its number and the reason (only with `skip`).
    """

    manifest: Path
    table: Table
    made: int
    left_out: Counter[str]
    problems: tuple[str, ...]


def derive(
    samples: Iterable[Sample],
    out: str | os.PathLike[str],
    derivation: Derivation,
    *,
    seed: int = 0,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
    skip: bool = False,
) -> Derived:
    """Writes a derived copy of a data set, with its manifest at `out/manifest.csv`.

    A row of the copy has its source's label, generator, source, subject, video, frame, split and groups (where the
    derivation does not say otherwise), its origin, its own SHA-256, and the group "derivation". Files are named
    `SPLIT/LABEL/HH/HASH-NN.suffix` after their own split and label and the first digits of the source's SHA-256.

    Killed at any moment, the same call goes on. Rows that failed are tried again; files of finished rows are compared
    with their SHA-256, and made anew where they are damaged or their source has changed.

    Args:
        samples: the rows; a `Table` keeps the row numbers of its file for messages.
        out: a new or empty folder, or one in which the same derivation of the same rows was begun. It may neither hold
            a picture of `samples` nor lie in a folder that does.
        derivation: what is done, with its parameters.
        seed: from 0; other seeds give other draws.
        workers: processes beside this one; 0 does all work in this one. They are spawned, so a script calls this under
            `if __name__ == "__main__":`.
        progress: called with (rows done, rows) after each row.
        skip: rows that fail are left out and counted, instead of an error at the end.

    Raises:
        ManifestError: there are no rows, or a split that does not exist; or rows failed: `problems` lists each with its
            number, the others are done, and no manifest was written.
        OutputError: `out` is not fit for it (kind "output"), or cannot be written (kind "disk").
        RecipeError: `seed` or `workers` is below 0.
        MissingExtra: the derivation needs something that is not installed.
    """
    if seed < 0 or workers < 0:
        raise RecipeError(f"seed {seed} and workers {workers} must both be 0 or more")
    table = Table.of(samples)
    _check_rows(table)
    derivation.ready()
    root = Path(out)
    _check_apart(table, root)
    plan = {
        "format": derived.FORMAT,
        "derivation": derivation.name,
        "version": derivation.version,
        "parameters": derivation.parameters(),
        "seed": seed,
        "rows": derived.rows_of(table),
    }
    with Folder(root, plan, table) as folder:
        drawn = _drawn(table, folder, derivation, seed)
        if not folder.done.all():
            # Of an earlier run with `skip`: it would pass for the manifest of what is now being made.
            (root / manifest.NAME).unlink(missing_ok=True)
        problems = _run(table, drawn, folder, derivation, seed, workers, progress)
        if problems and not skip:
            raise _refusal(root, problems)
        return _finished(table, folder, derivation, problems)


# ── before ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _check_rows(table: Table) -> None:
    if not len(table):
        raise ManifestError("no rows to derive from; check what was selected")
    for split in distinct(table.column("split"))[0].tolist():
        if split not in SPLITS:
            raise ManifestError(unknown("split", split, [name for name in SPLITS if name]))


def _check_apart(table: Table, out: Path) -> None:
    """Refuses an output folder that holds a picture of the input, or lies in a folder that does."""
    home = out.resolve()
    folders = {Path(place.split(address)[0]).parent for address in table.column("path").tolist()}
    for folder in sorted(folder.resolve() for folder in folders):
        if home == folder or home in folder.parents or folder in home.parents:
            raise OutputError(
                f"{out} is not apart from the pictures in {folder}; give a folder that neither holds any of them nor "
                "lies beside them"
            )


def _drawn(table: Table, folder: Folder, derivation: Derivation, seed: int) -> npt.NDArray[np.bool_]:
    """Which rows are of the share that the derivation asks for, (rows,).

    They are the ones whose content has the lowest hashes. So files are read beforehand, unless their rows say their
    SHA-256; those that cannot be read are not drawn and fail later on. Rows that are done and were drawn otherwise
    (a file was mended or changed since) are to be done again.
    """
    drawn = np.zeros(len(table), np.bool_)
    if derivation.drawn is None:
        return drawn
    ranks: list[tuple[bytes, int]] = []
    for row, sample in enumerate(table):
        if derivation.unread(sample) is not None:
            continue
        entry = folder.entry(row)
        with contextlib.suppress(InputError):
            sha256 = entry.sha256 if entry else sample.sha256.lower() or _content(sample.place, derivation)
            ranks.append((hashlib.sha256(f"share of {derivation.name} {seed} {sha256}".encode()).digest(), row))
    lowest = sorted(ranks)[: round(derivation.drawn * len(ranks))]
    drawn[[row for _, row in lowest]] = True
    for row in np.flatnonzero(folder.done).tolist():
        entry = folder.entry(row)
        if entry is not None and entry.drawn != drawn[row]:
            folder.forget(entry)
    return drawn


def _content(address: str, derivation: Derivation) -> str:
    return hashlib.sha256(place.read(address, derivation.limits.bytes + 1)).hexdigest()


# ── the work ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True, slots=True)
class _Task:
    """One row that is to be done."""

    row: int
    sample: Sample
    drawn: bool


@dataclasses.dataclass(frozen=True, slots=True)
class _Problem:
    """Why a row could not be done."""

    row: int
    why: str


@dataclasses.dataclass(frozen=True)
class _Worker:
    """All that a process must know to do rows."""

    derivation: Derivation
    seed: int
    root: Path
    work: Path

    def __call__(self, task: _Task) -> Made | _Problem:
        row, sample, limits = task.row, task.sample, self.derivation.limits
        # Before it is read: a change in between is then seen by the next run.
        stat = derived.source_stat(sample.place)
        try:
            source = Source(sample, place.read(sample.place, limits.bytes + 1), limits, drawn=task.drawn)
            if sample.sha256 and sample.sha256.lower() != source.sha256:
                return _Problem(row, "its content is not what its sha256 says; fetch it again or mend the row")
            outcome = self.derivation.derive(source, chance(self.derivation.name, self.seed, source.sha256))
        except InputError as error:
            return _Problem(row, str(error))
        except MemoryError:
            return _Problem(row, "not enough memory for it; use fewer workers or leave it out")
        except AssayError:
            raise
        except Exception as error:
            error.add_note(f"while deriving from {sample.place}")
            raise
        pieces = tuple(self._written(row, number, piece) for number, piece in enumerate(outcome.pieces))
        return Made(row, source.sha256, stat, pieces, outcome.keep, outcome.reason, task.drawn)

    def _written(self, row: int, number: int, piece: Piece) -> Unnamed:
        part = self.work / f"{row}-{number}.part"
        try:
            part.write_bytes(piece.data)
        except OSError as error:
            raise derived.disk(self.root, error) from error
        sha256 = hashlib.sha256(piece.data).hexdigest()
        return Unnamed(part, piece.suffix, sha256, piece.generator, piece.video, piece.frame, piece.groups)


def chance(name: str, seed: int, sha256: str) -> np.random.Generator:
    """The generator of one file under one derivation: another seed, derivation or content gives another."""
    return np.random.default_rng(int(hashlib.sha256(f"{name} {seed} {sha256}".encode()).hexdigest(), 16))


def _run(
    table: Table,
    drawn: npt.NDArray[np.bool_],
    folder: Folder,
    derivation: Derivation,
    seed: int,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> list[str]:
    """Does every row that is not done, in order, and gives what failed."""
    problems: list[str] = []
    finished = 0

    def count() -> None:
        nonlocal finished
        finished += 1
        if progress is not None:
            progress(finished, len(table))

    def todo() -> Iterator[_Task]:
        done = folder.done.copy()
        for row, sample in enumerate(table):
            if done[row] or derivation.unread(sample) is not None:
                count()
            else:
                yield _Task(row, sample, bool(drawn[row]))

    worker = _Worker(derivation, seed, folder.root, folder.work)
    with contextlib.closing(_results(worker, todo(), workers)) as results:
        for made in results:
            if isinstance(made, _Problem):
                number, address = table.row_numbers[made.row], table.column("path")[made.row]
                problems.append(f"row {number}: {address}: {made.why}")
            else:
                folder.finish(made)
            count()
    return problems


def _results(worker: _Worker, tasks: Iterator[_Task], workers: int) -> Generator[Made | _Problem, None, None]:
    """What `worker` makes of each row, in the order of rows: names of equal content depend on it."""
    if not workers:
        yield from map(worker, tasks)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_begin, initargs=(worker,)) as pool:
        waiting: collections.deque[Future[Made | _Problem]] = collections.deque()
        try:
            for task in tasks:
                waiting.append(pool.submit(_work, task))
                if len(waiting) >= _AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise OutputError(
                "a worker process ended before its work did: out of memory, killed, or the calling script lacks "
                '`if __name__ == "__main__":`. Run the same command again, it goes on; fewer workers take less memory'
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_worker: _Worker | None = None


def _begin(worker: _Worker) -> None:
    global _worker
    _worker = worker
    # Ctrl-C is the parent's to answer; and where the parent is killed, its workers must not stay behind.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(task: _Task) -> Made | _Problem:
    assert _worker is not None
    return _worker(task)


# ── after ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _refusal(root: Path, problems: list[str]) -> ManifestError:
    shown = "\n".join(f"  {problem}" for problem in problems[:_SHOWN])
    more = f"\n  … and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    count = "1 row" if len(problems) == 1 else f"{len(problems)} rows"
    return ManifestError(
        f"{root}: {count} could not be derived from; the others are done and no manifest was written. Mend them and "
        f"run again, or leave them out with --skip:\n{shown}{more}",
        problems,
    )


def _finished(table: Table, folder: Folder, derivation: Derivation, problems: list[str]) -> Derived:
    left_out: Counter[str] = Counter()
    made = 0

    def rows() -> Iterator[Sample]:
        nonlocal made
        for row, sample in enumerate(table):
            entry = folder.entry(row)
            if entry is not None:
                if entry.reason:
                    left_out[entry.reason] += 1
                made += len(entry.files)
                yield from _copies(sample, entry, folder.root, derivation.name)
            elif (outcome := derivation.unread(sample)) is not None:
                if outcome.reason:
                    left_out[outcome.reason] += 1
                if outcome.keep is not None:
                    yield _kept(sample, outcome.keep)

    copies = Table.of(rows())
    if not len(copies):
        why = "; ".join(f"{reason} ({count})" for reason, count in left_out.most_common(3)) or "every row failed"
        raise ManifestError(f"{folder.root}: not one picture came of {len(table)} rows: {why}", problems)
    path = folder.root / manifest.NAME
    try:
        manifest.write(path, copies)
    except OSError as error:
        raise derived.disk(folder.root, error) from error
    return Derived(path, copies, made, left_out, tuple(problems))


def _copies(sample: Sample, entry: Entry, root: Path, name: str) -> Iterator[Sample]:
    origin = sample.origin or entry.sha256
    if entry.keep is not None:
        yield dataclasses.replace(_kept(sample, entry.keep), origin=origin, sha256=entry.sha256)
    history = sample.groups.get(GROUP, "")
    for file in entry.files:
        yield dataclasses.replace(
            sample,
            place=str(root / file.file),
            label=Label.FAKE if file.generator else sample.label,
            generator=file.generator or sample.generator,
            video=file.video or sample.video,
            frame=sample.frame if file.frame is None else file.frame,
            origin=origin,
            sha256=file.sha256,
            groups={**sample.groups, **file.groups, GROUP: f"{history}+{name}" if history else name},
        )


def _kept(sample: Sample, groups: Mapping[str, str]) -> Sample:
    return dataclasses.replace(sample, groups={**sample.groups, **groups})
