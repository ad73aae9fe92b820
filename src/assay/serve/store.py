"""The jobs of a server on the disk: a kill at any moment loses nothing and doubles nothing.

All SQL is in this file; whoever uses the store knows `assay.serve.jobs.Jobs` alone.

- An upload is on the disk (`assay.serve.spool`) before its job is, and the job before its client hears of it.
- A worker claims inputs for a while. Where it dies, its claims lapse and others take them.
- An input's first result is kept and counted and, where it is the last one, ends the job, in one transaction.
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
from typing import Any, Self, get_args

from assay.data import lock
from assay.errors import JobError, OutputError
from assay.serve.jobs import CLAIM, RETENTION, Claimed, Input, Job, Jobs, JobState, Kind, News, Upload, Usage
from assay.serve.spool import Spool
from assay.types import Failure

SCHEMA = 1
"""Version of the tables. A file with a higher one is refused."""

BUSY = 10.0
"""Seconds to wait while another process writes."""

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
        state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'cancelled')),
        created REAL NOT NULL,
        started REAL,
        finished REAL,
        total INTEGER NOT NULL CHECK (total > 0),
        done INTEGER NOT NULL CHECK (done BETWEEN 0 AND total),
        version INTEGER NOT NULL,
        turn INTEGER NOT NULL,
        CHECK ((finished IS NULL) = (state IN ('queued', 'running'))),
        CHECK ((state = 'done') <= (done = total))
    ) STRICT
    """,
    "CREATE UNIQUE INDEX job_idempotency ON job (owner, idempotency) WHERE idempotency IS NOT NULL",
    "CREATE INDEX job_owner ON job (owner, number)",
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
        worker TEXT,
        expires REAL,
        tries INTEGER NOT NULL,
        result TEXT,
        version INTEGER,
        PRIMARY KEY (job, number),
        CHECK ((state = 'claimed') = (worker IS NOT NULL AND expires IS NOT NULL)),
        CHECK ((state = 'done') = (result IS NOT NULL AND version IS NOT NULL))
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE UNIQUE INDEX input_key ON input (key) WHERE key IS NOT NULL",
    "CREATE INDEX input_bytes ON input (bytes) WHERE key IS NOT NULL",
    "CREATE INDEX input_waiting ON input (job, number) WHERE state = 'waiting'",
    "CREATE INDEX input_claimed ON input (expires) WHERE state = 'claimed'",
    "CREATE INDEX input_version ON input (job, version) WHERE version IS NOT NULL",
)
_JOB = "id, owner, kind, options, kept, state, created, started, finished, total, done, version"
_INPUT = "number, name, key, bytes, sha256, state, result"
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


class Store(Jobs):
    """Jobs in a SQLite file, in WAL mode, which only a local disk holds.

    Threads of one process take turns at writing. A process that forks opens it afterwards, in each of the two: SQLite's
    locks do not outlive a fork. Where several processes write, take SQLite 3.51.3 or later: before it two that copy the
    log back at the same instant could, rarely, damage the file (sqlite.org/wal.html, "the WAL-reset bug").

    Args:
        path: of the file; made where it is not there, its folder too. Readable by its owner alone.
        spool: where the uploads are.
        busy: seconds to wait while another process writes.
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
        self._process, self._closed = os.getpid(), False
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
            "done": failed,
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

    def claim(self, worker: str, most: int = 8, seconds: float = CLAIM) -> list[Claimed]:
        claimed: list[Claimed] = []
        with self._write() as db:
            now = self._clock()
            _give_back(db, "expires <= ?", now)
            while len(claimed) < most:
                found = db.execute(
                    f"SELECT number FROM job WHERE finished IS NULL AND EXISTS ({_WAITING} AND input.job = job.number)"
                    " ORDER BY turn LIMIT 1"
                ).fetchall()
                if not found:
                    break
                # Whoever was served goes to the end of the line.
                [(id, kind, options)] = db.execute(
                    "UPDATE job SET turn = (SELECT max(turn) + 1 FROM job WHERE finished IS NULL), state = 'running',"
                    " version = version + (state = 'queued'), started = coalesce(started, ?) WHERE number = ?"
                    " RETURNING id, kind, options",
                    (now, *found[0]),
                ).fetchall()
                [(number, name, key, size, sha256, tries)] = db.execute(
                    "UPDATE input SET state = 'claimed', worker = ?1, expires = ?2, tries = tries + 1"
                    f" WHERE job = ?3 AND number = ({_WAITING} AND job = ?3 ORDER BY number LIMIT 1)"
                    " RETURNING number, name, key, bytes, sha256, tries",
                    (worker, now + seconds, *found[0]),
                ).fetchall()
                about = (id, kind, json.loads(options), number, json.loads(name), key, size, sha256)
                claimed.append(Claimed(*about, expires=now + seconds, tries=tries))
        return claimed

    def renew(self, worker: str, seconds: float = CLAIM) -> frozenset[tuple[str, int]]:
        with self._write() as db:
            db.execute(
                "UPDATE input SET expires = ? WHERE state = 'claimed' AND worker = ?", (self._clock() + seconds, worker)
            )
            held = db.execute(
                "SELECT job.id, input.number FROM input JOIN job ON job.number = input.job"
                " WHERE input.state = 'claimed' AND input.worker = ?",
                (worker,),
            ).fetchall()
        return frozenset(held)

    def finish(self, job: str, number: int, result: Mapping[str, Any]) -> bool:
        match result:
            case {"error": {"kind": str()}} if "score" not in result:
                pass
            case {"verdict": str()} if "error" not in result:
                pass
            case _:
                raise ValueError("neither a verdict nor a failure; give what their to_dict gives")
        told = _json(result)
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
                "UPDATE job SET done = done + 1, version = version + 1, started = coalesce(started, ?1),"
                " state = CASE WHEN done + 1 = total THEN 'done' ELSE 'running' END,"
                " finished = CASE WHEN done + 1 = total THEN ?1 END WHERE number = ?2 RETURNING version",
                (self._clock(), place),
            ).fetchall()
            db.execute(
                "UPDATE input SET state = 'done', worker = NULL, expires = NULL, result = ?, version = ?, key = ?"
                " WHERE job = ? AND number = ?",
                (told, version, key if kept else None, place, number),
            )
        if not kept:
            self._remove([key])
        return True

    def release(self, worker: str) -> int:
        with self._write() as db:
            return _give_back(db, "worker = ?", worker, counts=False)

    def recover(self, everything: bool = False) -> int:
        with self._write() as db:
            return _give_back(db, "expires <= ?", float("inf") if everything else self._clock())

    def cancel(self, id: str, owner: str) -> Job:
        removed: list[str] = []
        with self._write() as db:
            place, job = _found(db, id, owner)
            if job.finished is None:
                if not job.kept:
                    found = db.execute("SELECT key FROM input WHERE job = ? AND state <> 'done'", (place,))
                    removed = [key for (key,) in found.fetchall()]
                db.execute(
                    "UPDATE input SET state = 'waiting', worker = NULL, expires = NULL,"
                    " key = CASE WHEN ? THEN key END WHERE job = ? AND state <> 'done'",
                    (job.kept, place),
                )
                db.execute(
                    "UPDATE job SET state = 'cancelled', finished = ?, version = version + 1 WHERE number = ?",
                    (self._clock(), place),
                )
                _, job = _found(db, id, owner)
        self._remove(removed)
        return job

    def job(self, id: str, owner: str) -> Job:
        with self._read() as db:
            return _found(db, id, owner)[1]

    def jobs(self, owner: str, offset: int = 0, limit: int = 100) -> list[Job]:
        with self._read() as db:
            rows = db.execute(
                f"SELECT {_JOB} FROM job WHERE owner = ?3 ORDER BY number DESC LIMIT ?2 OFFSET ?1",
                (*_page(offset, limit), owner),
            ).fetchall()
        return [_job(row) for row in rows]

    def results(self, id: str, owner: str, offset: int = 0, limit: int = 100) -> list[Input]:
        with self._read() as db:
            place, _ = _found(db, id, owner)
            rows = db.execute(
                f"SELECT {_INPUT} FROM input WHERE job = ? AND number >= ? ORDER BY number LIMIT ?",
                (place, *_page(offset, limit)),
            ).fetchall()
        return [_input(row) for row in rows]

    def since(self, id: str, owner: str, version: int = 0, limit: int = 100) -> News:
        with self._read() as db:
            place, job = _found(db, id, owner)
            rows = db.execute(
                f"SELECT version, {_INPUT} FROM input WHERE job = ? AND version > ? ORDER BY version LIMIT ?",
                (place, *_page(version, limit)),
            ).fetchall()
        latest = rows[-1][0] if len(rows) == limit else job.version
        return News(job, tuple(_input(row) for _, *row in rows), latest)

    def delete(self, id: str, owner: str) -> None:
        with self._write() as db:
            place, _ = _found(db, id, owner)
            keys = _deleted(db, place)
        self._remove(keys)

    def expire(self, now: float | None = None, seconds: float = RETENTION) -> int:
        latest, count = (self._clock() if now is None else now) - seconds, 0
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
        with self._read() as db:
            return {key for (key,) in db.execute("SELECT key FROM input WHERE key IS NOT NULL")}

    def usage(self) -> Usage:
        with self._read() as db:
            jobs = dict(db.execute("SELECT state, count(*) FROM job GROUP BY state").fetchall())
            [(undone,)] = db.execute("SELECT total(total - done) FROM job WHERE finished IS NULL").fetchall()
            [(claimed,)] = db.execute("SELECT count(*) FROM input WHERE state = 'claimed'").fetchall()
            [(size,)] = db.execute(
                "SELECT total(bytes) FROM input INDEXED BY input_bytes WHERE key IS NOT NULL"
            ).fetchall()
        counts: dict[JobState, int] = {state: jobs.get(state, 0) for state in get_args(JobState)}
        return Usage(counts, int(undone) - claimed, claimed, int(size))

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(IndexError):
            while self._process == os.getpid():
                self._idle.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ── connections ──────────────────────────────────────────────────────────────────────────────────────────────────

    @contextlib.contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that writes, alone in doing so. It counts only where its block ends without an error."""
        self._usable()
        with self._writing, self._connection() as db:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")

    @contextlib.contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        """The store as it stands at one moment."""
        self._usable()
        with self._connection() as db:
            db.execute("BEGIN")
            yield db
            db.execute("COMMIT")

    def _usable(self) -> None:
        if self._closed:
            raise ValueError("this store is closed")
        if self._process != os.getpid():
            raise RuntimeError("this store was opened before the process forked; open it in each process")

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
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
            # Of two that turn to WAL at once SQLite refuses one, however long it is told to wait.
            with lock.held(self.path.parent, wait=True), self._connection() as db:
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
    """The version and `_INPUT` of new inputs. Each that is done has a version of its own, so that `since` can stop
    between any two."""
    rows: list[tuple[object, ...]] = []
    version = 1
    for number, given in enumerate(inputs):
        if isinstance(given, Failure):
            version += 1
            rows.append((version, number, json.dumps(given.input), None, 0, "", "done", _json(given.to_dict())))
        else:
            file = given.file
            rows.append((None, number, json.dumps(given.name), file.key, file.bytes, file.sha256, "waiting", None))
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
            f"INSERT INTO input (job, tries, version, {_INPUT}) VALUES (?, 0, ?, ?, ?, ?, ?, ?, ?, ?)",
            ((place, *given) for given in inputs),
        )
    except sqlite3.IntegrityError as error:
        raise ValueError("an upload is an input already; spool it again") from error
    return _job(row)


def _job(row: Sequence[Any]) -> Job:
    id, owner, kind, options, kept, *rest = row
    return Job(id, owner, kind, json.loads(options), bool(kept), *rest)


def _input(row: Sequence[Any]) -> Input:
    number, name, key, size, sha256, state, result = row
    return Input(number, json.loads(name), key, size, sha256, state, None if result is None else json.loads(result))


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


def _give_back(db: sqlite3.Connection, which: str, value: object, *, counts: bool = True) -> int:
    """Claims that become waiting inputs again, how many.

    Args:
        counts: whether the claim was a try.
    """
    return db.execute(
        f"UPDATE input SET state = 'waiting', worker = NULL, expires = NULL, tries = tries - ?"
        f" WHERE state = 'claimed' AND {which}",
        (int(not counts), value),
    ).rowcount


def _deleted(db: sqlite3.Connection, place: int) -> list[str]:
    """Deletes a job with its inputs; the keys of the uploads that it had."""
    found = db.execute("SELECT key FROM input WHERE job = ? AND key IS NOT NULL", (place,)).fetchall()
    db.execute("DELETE FROM job WHERE number = ?", (place,))
    return [key for (key,) in found]
