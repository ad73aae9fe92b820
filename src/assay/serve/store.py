"""The jobs of a server on the disk: a kill at any moment loses nothing and doubles nothing.

All SQL is in this file. A store belongs to one process (`assay.serve.service` locks the folder), so what it finds
claimed when it begins was cut short by a kill.

- An upload is on the disk (`assay.serve.spool`) before its job is, and the job before its client hears of it.
- An input's first result is kept and counted and, where it is the last one, ends the job, in one transaction. What its
  file says of its origin is kept with it, in a column of its own.
- An upload is removed after the transaction that says so. A kill between the two leaves an orphan for `Spool.sweep`.

Therefore `synchronous=FULL`. With NORMAL a power cut can take back the last transactions but not the removals that
followed them, and an input would wait whose upload is gone. It costs one `fsync` for each transaction that writes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast, get_args

from assay.errors import JobError, OutputError
from assay.serve.jobs import WORDS, Claimed, Input, Job, Kind, News, Upload, Usage, Word
from assay.serve.spool import Spool
from assay.types import Failure

SCHEMA = 1
"""Version of the tables. A file with a higher one is refused."""

BUSY = 10.0
"""Seconds to wait while another process, such as one that makes a copy, holds it."""

_APPLICATION = int.from_bytes(b"asay")
_ID_BYTES = 18
_LARGEST = 2**63 - 1

_TABLES = (
    """
    CREATE TABLE job (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        kind TEXT NOT NULL,
        options TEXT NOT NULL,
        kept INTEGER NOT NULL CHECK (kept IN (0, 1)),
        idempotency TEXT,
        request TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done')),
        created REAL NOT NULL,
        started REAL,
        finished REAL,
        total INTEGER NOT NULL CHECK (total > 0),
        fake INTEGER NOT NULL,
        real INTEGER NOT NULL,
        uncertain INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        version INTEGER NOT NULL,
        turn INTEGER NOT NULL,
        CHECK (fake + real + uncertain + failed <= total),
        CHECK ((finished IS NOT NULL) = (fake + real + uncertain + failed = total)),
        CHECK ((finished IS NOT NULL) = (state = 'done'))
    ) STRICT
    """,
    "CREATE UNIQUE INDEX job_idempotency ON job (owner, idempotency) WHERE idempotency IS NOT NULL",
    "CREATE INDEX job_state ON job (state)",
    "CREATE INDEX job_turn ON job (turn) WHERE finished IS NULL",
    "CREATE INDEX job_finished ON job (finished) WHERE finished IS NOT NULL",
    # A name may hold what UTF-8 cannot, so it is kept as JSON. The key is there as long as the upload is needed.
    """
    CREATE TABLE input (
        job INTEGER NOT NULL REFERENCES job (number) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        name TEXT NOT NULL,
        key TEXT,
        bytes INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('waiting', 'claimed', 'done')),
        tries INTEGER NOT NULL,
        result TEXT,
        provenance TEXT,
        version INTEGER,
        PRIMARY KEY (job, number),
        CHECK ((state = 'done') = (result IS NOT NULL AND version IS NOT NULL))
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE UNIQUE INDEX input_key ON input (key) WHERE key IS NOT NULL",
    "CREATE INDEX input_bytes ON input (bytes) WHERE key IS NOT NULL",
    "CREATE INDEX input_waiting ON input (job, number) WHERE state = 'waiting'",
    "CREATE INDEX input_claimed ON input (job) WHERE state = 'claimed'",
    "CREATE INDEX input_version ON input (job, version) WHERE version IS NOT NULL",
)
_JOB = f"id, owner, kind, options, kept, state, created, started, finished, total, version, {', '.join(WORDS)}"
_DONE = " + ".join(WORDS)
_INPUT = "number, name, key, bytes, sha256, state, result, provenance, version"
# Left alone, SQLite walks through all that is done of a long job.
_WAITING = "SELECT number FROM input INDEXED BY input_waiting WHERE state = 'waiting'"

_ERRORS = {
    sqlite3.SQLITE_BUSY: ("busy", "another process holds it for long; try again in a moment"),
    sqlite3.SQLITE_LOCKED: ("busy", "another process holds it for long; try again in a moment"),
    sqlite3.SQLITE_CORRUPT: ("output", "it is damaged; put back a copy, or move it away to start afresh"),
    sqlite3.SQLITE_NOTADB: ("output", "not a store of jobs; choose another place"),
    sqlite3.SQLITE_FULL: ("disk", "the disk is full; make room and try again"),
    sqlite3.SQLITE_IOERR: ("disk", "the disk failed; mend that and try again"),
    sqlite3.SQLITE_READONLY: ("disk", "it cannot be written to; see to its permissions and those of its folder"),
    sqlite3.SQLITE_CANTOPEN: ("disk", "it cannot be opened; see to its permissions and those of its folder"),
    sqlite3.SQLITE_PERM: ("disk", "it cannot be opened; see to its permissions and those of its folder"),
}


class Store:
    """Jobs in a SQLite file, in WAL mode, which only a local disk holds. Usable from several threads, which take turns
    at writing.

    Every method raises `OutputError` where the store cannot be read or written (kind disk, output) or another process
    holds it for long (busy); then nothing has changed.

    Args:
        path: of the file; made where it is not there, its folder too. Readable by its owner alone.
        spool: where the uploads are.
        busy: seconds to wait while another process holds it.
        clock: seconds since 1970, UTC.

    Raises:
        OutputError: the file is not a store of jobs, of a newer version (output), or cannot be written (disk); SQLite
            is older than 3.37 (output).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        spool: Spool,
        *,
        busy: float = BUSY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if sqlite3.sqlite_version_info < (3, 37):
            raise OutputError(
                f"SQLite {sqlite3.sqlite_version} is too old for a store of jobs; 3.37 or later is needed"
            )
        self.path = Path(path).absolute()
        self._spool, self._busy, self._clock = spool, busy, clock
        self._idle: list[sqlite3.Connection] = []
        self._writing = threading.Lock()
        self._closed = False
        self._prepare()

    def create(
        self,
        owner: str,
        kind: Kind,
        options: Mapping[str, Any],
        inputs: Sequence[Upload | Failure],
        keep: bool = False,
        *,
        idempotency: str | None = None,
    ) -> Job:
        """Makes a job, whole or not at all. When it returns, no kill and no power cut loses it.

        Args:
            options: a JSON object.
            inputs: at least one. A `Failure` is an input that failed on the way, and is done from the start.
            keep: its uploads, until the job is deleted; else each goes when its input is done.
            idempotency: the client's name for this request. Where its owner has a job by that name, that job is
                returned, none is made, and uploads that no job has are removed.

        Raises:
            JobError: conflict: the owner used `idempotency` for another request.
            ValueError: there are no inputs, an unknown kind, an upload of another job, or options that are not JSON.
        """
        if kind not in get_args(Kind):
            raise ValueError(f"a job of kind {kind!r}; known: {', '.join(get_args(Kind))}")
        if not inputs:
            raise ValueError("a job without inputs; give one or more")
        rows, failed, now = _rows(inputs), sum(isinstance(given, Failure) for given in inputs), self._clock()
        over = failed == len(inputs)
        fresh: dict[str, object] = {
            "id": secrets.token_urlsafe(_ID_BYTES),
            "owner": owner,
            "kind": kind,
            "options": _json(options),
            "kept": int(keep),
            "idempotency": idempotency,
            "request": _request(kind, options, inputs, keep),
            "state": "done" if over else "queued",
            "created": now,
            "finished": now if over else None,
            "total": len(inputs),
            **dict.fromkeys(WORDS, 0),
            "failed": failed,
            "version": 1 + failed,
        }
        with self._write() as db:
            found = db.execute(
                f"SELECT request, {_JOB} FROM job WHERE owner = ? AND idempotency = ?", (owner, idempotency)
            ).fetchall()
            if not found:
                return _inserted(db, fresh, rows)
            keys = {given.file.key for given in inputs if isinstance(given, Upload)}
            spare = [key for key in keys if not db.execute("SELECT 1 FROM input WHERE key = ?", (key,)).fetchall()]
        self._remove(spare)
        [(request, *job)] = found
        if request != fresh["request"]:
            raise JobError(
                f"the key {idempotency!r} was used before, with other inputs or options; take another key",
                kind="conflict",
            )
        return _job(job)

    def claim(self, most: int = 8) -> list[Claimed]:
        """Takes inputs to judge, as many as there are, up to `most`.

        The open jobs take turns, the one that has waited longest first, and each gives its next input. So a picture
        that comes after a folder of thousands waits for one of them, not for all.
        """
        claimed: list[Claimed] = []
        with self._write() as db:
            while len(claimed) < most:
                found = db.execute(
                    f"SELECT number FROM job WHERE finished IS NULL AND EXISTS ({_WAITING} AND input.job = job.number)"
                    " ORDER BY turn LIMIT 1"
                ).fetchall()
                if not found:
                    break
                # Whoever was served goes to the end of the line.
                [(id, options)] = db.execute(
                    "UPDATE job SET turn = (SELECT max(turn) + 1 FROM job WHERE finished IS NULL), state = 'running',"
                    " version = version + (state = 'queued'), started = coalesce(started, ?) WHERE number = ?"
                    " RETURNING id, options",
                    (self._clock(), *found[0]),
                ).fetchall()
                [(number, name, key, tries)] = db.execute(
                    "UPDATE input SET state = 'claimed', tries = tries + 1"
                    f" WHERE job = ?1 AND number = ({_WAITING} AND job = ?1 ORDER BY number LIMIT 1)"
                    " RETURNING number, name, key, tries",
                    found[0],
                ).fetchall()
                claimed.append(Claimed(id, json.loads(options), number, json.loads(name), key, tries))
        return claimed

    def give_back(self, *, tried: bool) -> int:
        """Lets all that is claimed wait again, at the start or the end of the process that judges. Returns how many.

        Args:
            tried: whether judging was cut short, by a kill, and counts as a try.
        """
        with self._write() as db:
            return db.execute(
                "UPDATE input SET state = 'waiting', tries = tries - ? WHERE state = 'claimed'",
                (int(not tried),),
            ).rowcount

    def finish(
        self, job: str, number: int, result: Mapping[str, Any], provenance: Mapping[str, Any] | None = None
    ) -> bool:
        """Gives an input its result, claimed or not. The first one stays.

        Args:
            result: a verdict or a failure as their `to_dict` gives it, its `input` being the name that clients shall
                see.
            provenance: what its file says of its origin, as `to_dict` gives it; None where nobody asked.

        Returns:
            False where nothing changed: it had a result, or there is no such input (any more).

        Raises:
            ValueError: that is no result, or no JSON.
        """
        word, told = _word(result), _json(result)
        said = None if provenance is None else _json(provenance)
        with self._write() as db:
            found = db.execute(
                "SELECT job.number, job.kept, input.key FROM job JOIN input ON input.job = job.number"
                " WHERE job.id = ? AND job.finished IS NULL AND input.number = ? AND input.state <> 'done'",
                (job, number),
            ).fetchall()
            if not found:
                return False
            [(place, kept, key)] = found
            [(version,)] = db.execute(
                f"UPDATE job SET {word} = {word} + 1, version = version + 1, started = coalesce(started, ?1),"
                f" state = CASE WHEN {_DONE} + 1 = total THEN 'done' ELSE 'running' END,"
                f" finished = CASE WHEN {_DONE} + 1 = total THEN ?1 END WHERE number = ?2 RETURNING version",
                (self._clock(), place),
            ).fetchall()
            db.execute(
                "UPDATE input SET state = 'done', result = ?, provenance = ?, version = ?, key = ?"
                " WHERE job = ? AND number = ?",
                (told, said, version, key if kept else None, place, number),
            )
        if not kept:
            self._remove([key])
        return True

    def job(self, id: str, owner: str) -> Job:
        """A job of that owner.

        Raises:
            JobError: missing: the owner has no such job.
        """
        with self._read() as db:
            return _found(db, id, owner)[1]

    def results(self, id: str, owner: str, offset: int = 0, limit: int = 100) -> list[Input]:
        """Inputs `offset` up to `offset + limit` of a job in their order, done or not.

        Raises:
            JobError: missing: the owner has no such job.
            ValueError: `offset` is below 0, or `limit` below 1; so with `since`.
        """
        with self._read() as db:
            place, _ = _found(db, id, owner)
            rows = db.execute(
                f"SELECT {_INPUT} FROM input WHERE job = ? AND number >= ? ORDER BY number LIMIT ?",
                (place, *_page(offset, limit)),
            ).fetchall()
        return [_input(row) for row in rows]

    def since(self, id: str, owner: str, version: int = 0, limit: int = 100) -> News:
        """What happened since a version of a job, for a stream of events.

        Asking on with `News.version`, or with the version of any of its inputs, gives each input that is done once, and
        misses none.

        Args:
            version: where to go on; 0 for all there is.
            limit: inputs in one answer, at least one.

        Raises:
            JobError: missing: the owner has no such job.
        """
        with self._read() as db:
            place, job = _found(db, id, owner)
            rows = db.execute(
                f"SELECT {_INPUT} FROM input WHERE job = ? AND version > ? ORDER BY version LIMIT ?",
                (place, *_page(version, limit)),
            ).fetchall()
        latest = rows[-1][-1] if len(rows) == limit else job.version
        return News(job, tuple(_input(row) for row in rows), latest)

    def delete(self, id: str, owner: str) -> None:
        """Deletes a job, its results and its uploads, whatever its state.

        Raises:
            JobError: missing: the owner has no such job.
        """
        with self._write() as db:
            place, _ = _found(db, id, owner)
            keys = _deleted(db, place)
        self._remove(keys)

    def expire(self, seconds: float) -> int:
        """Deletes the jobs that ended so many seconds ago or earlier, with all they have. Returns how many."""
        latest, count = self._clock() - seconds, 0
        while True:
            # One at a time, so that others can write in between however many there are.
            with self._write() as db:
                found = db.execute("SELECT number FROM job WHERE finished <= ? LIMIT 1", (latest,)).fetchall()
                if not found:
                    return count
                keys = _deleted(db, *found[0])
            self._remove(keys)
            count += 1

    def keys(self) -> set[str]:
        """Keys of the uploads that are needed, for `Spool.sweep`."""
        with self._read() as db:
            return {key for (key,) in db.execute("SELECT key FROM input WHERE key IS NOT NULL")}

    def usage(self) -> Usage:
        """How full the store is."""
        with self._read() as db:
            [(waiting,)] = db.execute(f"SELECT count(*) FROM ({_WAITING})").fetchall()
            [(size,)] = db.execute(
                "SELECT total(bytes) FROM input INDEXED BY input_bytes WHERE key IS NOT NULL"
            ).fetchall()
        return Usage(waiting, int(size))

    def close(self) -> None:
        """Lets go of the store. Closing twice does nothing."""
        self._closed = True
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ── connections ──────────────────────────────────────────────────────────────────────────────────────────────────

    @contextlib.contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that writes, alone in doing so. It counts only where its block ends without an error."""
        with self._writing, self._connection() as db:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")

    @contextlib.contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        """The store as it stands at one moment."""
        with self._connection() as db:
            db.execute("BEGIN")
            yield db
            db.execute("COMMIT")

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        if self._closed:
            raise ValueError("this store is closed")
        db: sqlite3.Connection | None = None
        try:
            try:
                db = self._idle.pop()
            except IndexError:
                db = self._connect()
            yield db
        except sqlite3.Error as error:
            # The high bits say more of the same.
            kind, message = _ERRORS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, ("", ""))
            if not kind:
                raise
            raise OutputError(f"{self.path}: {message} ({error})", kind=kind) from error
        finally:
            if db is not None:
                with contextlib.suppress(sqlite3.Error):
                    db.rollback()
                if db.in_transaction:
                    db.close()
                else:
                    self._idle.append(db)
                if self._closed:
                    self.close()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=self._busy, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA synchronous = FULL")
        return db

    def _prepare(self) -> None:
        """The file with its tables, of the version that is known here."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                # SQLite's own would be readable by all. It opens a file that is there itself: closing a second handle
                # to it lets go of the locks that this process has on it.
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            with self._connection() as db:
                self._check(db)
        except BaseException as error:
            self.close()
            if not isinstance(error, OSError):
                raise
            raise OutputError(f"{self.path}: cannot be made ({error.strerror}); choose another place") from error

    def _check(self, db: sqlite3.Connection) -> None:
        [(application,)] = db.execute("PRAGMA application_id").fetchall()
        [(version,)] = db.execute("PRAGMA user_version").fetchall()
        [(tables,)] = db.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        if application != _APPLICATION and (application or version or tables):
            raise OutputError(f"{self.path}: not a store of jobs; choose another place")
        if version > SCHEMA:
            raise OutputError(
                f"{self.path}: written by a newer assay (its tables are version {version}, known here is {SCHEMA}); "
                "upgrade assay, or choose another place"
            )
        [(mode,)] = db.execute("PRAGMA journal_mode = WAL").fetchall()
        if mode != "wal":
            raise OutputError(f"{self.path}: SQLite cannot keep its log there ({mode}); choose a place on a local disk")
        if not tables:
            db.execute("BEGIN IMMEDIATE")
            for statement in _TABLES:
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {_APPLICATION}")
            db.execute(f"PRAGMA user_version = {SCHEMA}")
            db.execute("COMMIT")

    def _remove(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._spool.remove(key)


def _json(value: Mapping[str, Any]) -> str:
    """ASCII only: text that UTF-8 cannot hold stays as \\udcXX escapes."""
    return json.dumps(dict(value), ensure_ascii=True, allow_nan=False)


def _word(result: Mapping[str, Any]) -> Word:
    """What a result says, in a word."""
    match result:
        case {"error": {"kind": str()}} if "score" not in result:
            return "failed"
        case {"verdict": word} if "error" not in result and word in WORDS[:3]:
            return cast(Word, word)
    raise ValueError("neither a verdict nor a failure; give what their to_dict gives")


def _request(kind: Kind, options: Mapping[str, Any], inputs: Sequence[Upload | Failure], keep: bool) -> str:
    """A hash of what a client asked for, the same whenever it asks for it."""
    asked: list[object] = [kind, dict(options), keep]
    for given in inputs:
        if isinstance(given, Failure):
            asked.append([given.input, given.kind])
        else:
            asked.append([given.name, given.file.bytes, given.file.sha256])
    return hashlib.sha256(json.dumps(asked, sort_keys=True, allow_nan=False).encode("ascii")).hexdigest()


def _rows(inputs: Sequence[Upload | Failure]) -> list[tuple[object, ...]]:
    """`_INPUT` of new inputs. Each that is done has a version of its own, so that `since` can stop between any two."""
    rows: list[tuple[object, ...]] = []
    version = 1
    for number, given in enumerate(inputs):
        if isinstance(given, Failure):
            version += 1
            told = _json(given.to_dict())
            rows.append((number, json.dumps(given.input), None, 0, "", "done", told, None, version))
        else:
            file = (given.file.key, given.file.bytes, given.file.sha256)
            rows.append((number, json.dumps(given.name), *file, "waiting", None, None, None))
    return rows


def _inserted(db: sqlite3.Connection, job: Mapping[str, object], inputs: Sequence[tuple[object, ...]]) -> Job:
    """A new job with its inputs, the last in the line of those that wait."""
    [(place, *row)] = db.execute(
        f"INSERT INTO job ({', '.join(job)}, turn) VALUES (:{', :'.join(job)},"
        f" (SELECT coalesce(max(turn), 0) + 1 FROM job WHERE finished IS NULL)) RETURNING number, {_JOB}",
        job,
    ).fetchall()
    try:
        db.executemany(
            f"INSERT INTO input (job, tries, {_INPUT}) VALUES (?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            ((place, *given) for given in inputs),
        )
    except sqlite3.IntegrityError as error:
        raise ValueError("an upload is an input already; spool it again") from error
    return _job(row)


def _job(row: Sequence[Any]) -> Job:
    id, owner, kind, options, kept, state, created, started, finished, total, version, *counts = row
    about = (id, owner, kind, json.loads(options), bool(kept), state, created, started, finished, total)
    return Job(*about, dict(zip(WORDS, counts, strict=True)), version)


def _input(row: Sequence[Any]) -> Input:
    number, name, key, size, sha256, state, result, provenance, version = row
    told, said = (None if text is None else json.loads(text) for text in (result, provenance))
    return Input(number, json.loads(name), key, size, sha256, state, told, said, version)


def _page(offset: int, limit: int) -> tuple[int, int]:
    """The same, as SQLite can hold it; to SQLite a limit below 0 is none."""
    if offset < 0 or limit < 1:
        raise ValueError(f"{limit} from {offset} on; give 1 or more, from 0 or more on")
    return min(offset, _LARGEST), min(limit, _LARGEST)


def _found(db: sqlite3.Connection, id: str, owner: str) -> tuple[int, Job]:
    """A job's place in the table, and the job."""
    found = db.execute(f"SELECT number, {_JOB} FROM job WHERE id = ? AND owner = ?", (id, owner)).fetchall()
    if not found:
        raise JobError("no such job; it was deleted, its time is over, or it is another owner's")
    [(place, *job)] = found
    return place, _job(job)


def _deleted(db: sqlite3.Connection, place: int) -> list[str]:
    """Deletes a job with its inputs; the keys of the uploads that it had."""
    found = db.execute("SELECT key FROM input WHERE job = ? AND key IS NOT NULL", (place,)).fetchall()
    db.execute("DELETE FROM job WHERE number = ?", (place,))
    return [key for (key,) in found]
