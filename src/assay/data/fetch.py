"""Pictures of a list of addresses, fetched because the user asked for it: once each, politely, and with a record.

D3's hub has only the URLs of its reals (`assay.data.layouts.d3`); LAION's were written by strangers, years ago. So:

- **Where to**: http and https only, over at most `HOPS` redirections, and to public addresses only
  (`assay.data.remote.Lines`).
- **How**: one connection at a time to a host, and a pause before the next; `at_once` hosts together. Busy servers are
  asked again after a growing wait, or after the one they name in Retry-After. A host that cannot be reached is left
  alone for the rest of the run.
- **What its owner wants** (*ours*): robots.txt is obeyed (RFC 9309; read by Python's `urllib.robotparser`, which knows
  prefixes and Crawl-delay, but no wildcards), under the name `assay`. A picture that comes with `X-Robots-Tag` noai,
  noimageai, noindex or noimageindex is not kept: the default of img2dataset, with which LAION's pictures are usually
  fetched.
- **What is kept**: a whole picture that decodes, unchanged, named by its id, with the suffix of its content.

Everything that was asked for has a line in `RECORD`, beside the pictures; one folder, one writer.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import csv
import dataclasses
import datetime
import email.utils
import hashlib
import heapq
import http.client
import json
import os
import socket
import ssl
import string
import time
import urllib.error
import urllib.parse
import urllib.robotparser
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from assay.data import lock, remote
from assay.errors import InputError, ManifestError, OutputError
from assay.image import container
from assay.image.decode import Limits, decode

RECORD = "fetched.jsonl"
"""One line of JSON for each answer, only ever added to; the last line of an id counts."""

LARGEST = 32 << 20
"""Bytes of one picture."""

PAUSE = 0.5
"""Seconds between two requests to one host."""

AT_ONCE = 8
HOPS = 5
"""Redirections that are followed for one picture."""

LONGEST = 120.0
"""Seconds that one answer may take in all, and that a Retry-After or a Crawl-delay is obeyed for."""

GONE = frozenset({"gone", "dns"})
"""Kinds that are never asked for again: HTTP 404 or 410, and no such host."""

FINAL = frozenset({"address", "refused", "not_a_picture"})
"""Kinds that another try would not change."""

KINDS = {
    "gone": "nothing is there any more (HTTP 404 or 410)",
    "dns": "there is no such host any more",
    "address": "the id or URL cannot be used",
    "refused": "the server refuses (HTTP 401, 403, …), or redirects without end",
    "not_a_picture": "what came is no picture that can be decoded",
    "robots": "robots.txt asks not to",
    "opt_out": "X-Robots-Tag asks not to use the picture",
    "private": "the host is not on the public internet",
    "too_many_bytes": "more bytes than allowed",
    "needs_extra": "decoding needs an extra",
    "certificate": "the server's certificate does not hold",
    "unreachable": "the host could not be reached",
    "timeout": "the answer took too long",
    "cut": "the connection was cut",
    "busy": "the server is busy or broken (HTTP 429 or 5xx)",
}
"""What a record's `kind` says; null where the picture is there."""

_SUFFIXES = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tif",
    "AVIF": ".avif",
    "HEIF": ".heic",
}
_AGENT = "assay"
_HEADERS = {
    "User-Agent": f"{_AGENT} (fetches pictures of a list once, for research on fake pictures)",
    # Servers that may choose would send WebP to who takes it; the set is of what they send when nothing is asked for.
    "Accept": "*/*",
    "Accept-Encoding": "identity",
}
_OPT_OUT = frozenset({"noai", "noimageai", "noindex", "noimageindex"})
_AHEAD = 10_000
"""Addresses that are read ahead, so that there are hosts to turn to while one pauses."""
_HOSTS = 20_000
"""Hosts that are remembered; those without work are forgotten above."""
_ROBOTS_BYTES = 512 << 10
_ID_BYTES = 200
_SYNC_SECONDS = 5.0
_TICK = 0.25
_DOWN = frozenset({"dns", "private", "unreachable", "certificate"})
_AGAIN = frozenset({"unreachable", "timeout", "cut", "busy"})


@dataclasses.dataclass(frozen=True, slots=True)
class Fetched:
    """What became of a list.

    Args:
        listed: ids in it.
        counts: "fetched" and `KINDS` that occurred, over all ids of the list, those of earlier runs included.
        asked: ids that were asked for in this run.
        bytes: of the pictures that came in this run.
        folder: where they lie.
    """

    listed: int
    counts: Counter[str]
    asked: int
    bytes: int
    folder: Path

    @property
    def whole(self) -> bool:
        """Whether every picture of the list is there."""
        return self.counts["fetched"] == self.listed


def fetch(
    urls: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    again: bool = False,
    private: bool = False,
    robots: bool = True,
    largest: int = LARGEST,
    at_once: int = AT_ONCE,
    pause: float = PAUSE,
    progress: Callable[[int, int], None] | None = None,
) -> Fetched:
    """Fetches the pictures of a list into a folder; run again, it goes on where it was stopped.

    Args:
        urls: a CSV with the columns id and url, as `assay data read d3 --set urls=FILE` writes it. Of several rows of
            an id the first counts.
        out: made where it is not there. A picture becomes `ID.SUFFIX`; what of an id is no plain letter, digit, "-",
            "_" or "~" is percent-encoded.
        again: ask once more for what failed before, but for kinds in `GONE` and `FINAL`.
        private: go to addresses that are not public, and through the proxy that the environment names.
        robots: obey robots.txt and X-Robots-Tag.
        largest: bytes a picture may have.
        at_once: connections, each to another host.
        pause: seconds between two requests to one host; a robots.txt may ask for more.
        progress: called with the number of ids done and of all.

    Raises:
        ManifestError: the list cannot be read.
        OutputError: the folder cannot be written, or another process writes to it.
        ValueError: `largest` or `at_once` is below 1, or `pause` below 0.
    """
    if largest < 1 or at_once < 1 or pause < 0:
        raise ValueError("largest and at_once are 1 or more, pause is 0 or more")
    folder, source = Path(out), Path(urls)
    total = sum(1 for _ in _rows(source))  # a fault of the list is told before anything is asked for
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}); choose another --out") from error
    with lock.held(folder), _Record(folder) as record:
        run = _Run(record, _Asker(folder, private, robots, largest), at_once, pause, robots)
        return run.over(source, total, again, progress)


# ── the list ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _rows(source: Path) -> Iterator[tuple[str, str]]:
    """Id and url of each row; ids that came before are passed over."""
    seen: set[str] = set()
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            columns = {name.strip().lower(): name for name in rows.fieldnames or () if name}
            if not {"id", "url"} <= columns.keys():
                raise ManifestError(
                    f"{source}: no columns id and url; give the list that assay data read d3 --set urls=FILE writes"
                )
            for row in rows:
                name = (row[columns["id"]] or "").strip()
                if name not in seen:
                    seen.add(name)
                    yield name, (row[columns["url"]] or "").strip()
    except OSError as error:
        raise ManifestError(f"{source}: cannot be read ({error.strerror}); check the name of the list") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{source}: no CSV in UTF-8 ({error}); write the list anew") from error


def _stem(name: str) -> str:
    """A file name that stands for one id alone and leads nowhere. Dots too: a reader takes the id to end at one."""
    return urllib.parse.quote(name, safe="").replace(".", "%2E")


# ── the record ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(slots=True)
class _Past:
    """What the record holds of an id; `url` is a hash, since millions are remembered."""

    kind: str | None
    url: int
    file: str
    bytes: int


class _Record:
    """The lines of `RECORD`. One answer is one `write()`; a last line that a crash cut short is cut off."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.past: dict[str, _Past] = {}
        self._path = folder / RECORD

    def __enter__(self) -> _Record:
        for part in self.folder.glob(".*.part"):  # of a run that was killed
            part.unlink(missing_ok=True)
        try:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
            self._handle = os.open(self._path, flags, 0o666)
            end = 0
            with self._path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    if not line.endswith(b"\n"):
                        break
                    self._learn(line, number)
                    end += len(line)
            os.truncate(self._handle, end)
        except OSError as error:
            raise self._cannot(error) from error
        self._end, self._synced = end, time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            os.fsync(self._handle)
        os.close(self._handle)

    def has(self, name: str) -> bool:
        """Whether the picture of an id is there, as it came."""
        past = self.past.get(name)
        if past is None or past.kind is not None:
            return False
        try:
            return (self.folder / past.file).stat().st_size == past.bytes
        except OSError:
            return False

    def write(self, name: str, url: str, found: _Answer) -> None:
        line = {
            "id": name,
            "url": url,
            "final_url": found.at or None,
            "status": found.status,
            "kind": found.kind,
            "message": found.message,
            "file": found.file or None,
            "bytes": found.size,
            "sha256": found.sha256 or None,
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        data = json.dumps(line).encode("ascii") + b"\n"
        try:
            written = 0
            while written < len(data):
                written += os.write(self._handle, data[written:])
            self._end += len(data)
            if time.monotonic() - self._synced > _SYNC_SECONDS:
                os.fsync(self._handle)
                self._synced = time.monotonic()
        except OSError as error:
            with contextlib.suppress(OSError):
                os.truncate(self._handle, self._end)
            raise self._cannot(error) from error
        self.past[name] = _Past(found.kind, hash(url), found.file, found.size or 0)

    def _learn(self, line: bytes, number: int) -> None:
        try:
            match json.loads(line):
                case {"id": str(name), "url": str(url), "kind": str() | None as kind, "file": file, "bytes": size}:
                    # The name comes from the id again, so that no line leads out of the folder.
                    file = f"{_stem(name)}{Path(str(file)).suffix}" if file else ""
                    self.past[name] = _Past(kind, hash(url), file, size if isinstance(size, int) else 0)
                    return
        except ValueError:
            pass
        raise OutputError(f"{self._path}:{number}: not a record of fetched pictures; fetch into another folder")

    def _cannot(self, error: OSError) -> OutputError:
        return OutputError(
            f"{self._path}: cannot write ({error.strerror}); mend that and run the same command again to go on",
            kind="disk",
        )


# ── one request ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True, slots=True)
class _Answer:
    """What came of one request; `onward` where it leads elsewhere, `wait` what Retry-After says, in seconds."""

    at: str
    kind: str | None = None
    message: str | None = None
    status: int | None = None
    onward: str = ""
    wait: float = 0.0
    file: str = ""
    size: int | None = None
    sha256: str = ""
    body: bytes = b""


class _Asker:
    """Asks, checks what comes, and puts pictures into the folder. Used by several threads at once."""

    def __init__(self, folder: Path, private: bool, robots: bool, largest: int) -> None:
        self.lines = remote.Lines(private, _HEADERS)
        self._folder, self._robots, self._largest = folder, robots, largest
        self._limits = Limits(bytes=largest, frames=1)
        self._heard = False

    def picture(self, name: str, url: str) -> _Answer:
        """The answer to one request for a picture, which is in the folder where the answer has no kind."""
        found = self._asked(url, self._largest)
        if found.kind is not None or found.onward:
            return found
        try:
            form = container.identify(found.body) if found.body else ""
            if form not in _SUFFIXES:
                what = f"{form} is a video" if form else "it is empty"
                return dataclasses.replace(found, kind="not_a_picture", message=what, body=b"")
            decode(found.body, self._limits)
        except InputError as error:
            kind = "needs_extra" if error.kind == "needs_extra" else "not_a_picture"
            return dataclasses.replace(found, kind=kind, message=str(error), body=b"")
        file = f"{_stem(name)}{_SUFFIXES[form]}"
        part = self._folder / f".{file}.part"
        try:
            part.write_bytes(found.body)
            part.replace(self._folder / file)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise OutputError(
                f"{self._folder / file}: cannot write ({error.strerror}); mend that and run the same command again",
                kind="disk",
            ) from error
        digest = hashlib.sha256(found.body).hexdigest()
        return dataclasses.replace(found, file=file, sha256=digest, body=b"")

    def rules(self, url: str) -> urllib.robotparser.RobotFileParser | _Answer:
        """What a site's robots.txt says, or why that cannot be known (RFC 9309, 2.3.1)."""
        parser = urllib.robotparser.RobotFileParser()
        at = start = urllib.parse.urljoin(url, "/robots.txt")
        for _ in range(HOPS + 1):
            found = self._asked(at, _ROBOTS_BYTES, rules=True)
            if not found.onward:
                break
            at = found.onward
        if found.kind not in (None, "gone", "refused"):
            # What holds for where it was sent to does not hold for this host.
            elsewhere = found.at != start and found.kind not in _AGAIN
            return dataclasses.replace(found, kind="unreachable") if elsewhere else found
        lines = [] if found.onward else found.body.decode("utf-8", "replace").splitlines()
        parser.parse([line for line in lines if _parses(line)])
        return parser

    def _asked(self, url: str, most: int, rules: bool = False) -> _Answer:
        began = time.monotonic()
        try:
            with contextlib.closing(self.lines.ask(url)) as response:
                self._heard = True
                found = self._read(url, response, most, rules)
            # A connection that was cut for its length may look like one that ended.
            late = time.monotonic() - began > LONGEST and found.body
            return _Answer(url, "timeout", f"more than {LONGEST:.0f} s", found.status) if late else found
        except (OSError, http.client.HTTPException, ValueError) as error:
            return self._failed(url, error)

    def _read(self, url: str, response: Any, most: int, rules: bool) -> _Answer:
        status = response.status
        if status in (301, 302, 303, 307, 308):
            try:
                # Headers are read as Latin-1; whatever their bytes meant, percent-encoded they stay the same.
                led = urllib.parse.quote(response.headers["Location"] or "", string.punctuation, "iso-8859-1")
                onward = remote.sendable(urllib.parse.urljoin(url, led))
            except ValueError as error:
                return _Answer(url, "refused", f"redirected to nowhere usable: {error}", status)
            return _Answer(url, status=status, onward=onward)
        if status in (404, 410):
            return _Answer(url, "gone", f"HTTP {status}", status)
        if status in (408, 425, 429) or status >= 500:
            return _Answer(url, "busy", f"HTTP {status}", status, wait=_seconds(response.headers["Retry-After"]))
        if status != http.HTTPStatus.OK:
            return _Answer(url, "refused", f"HTTP {status}", status)
        if not rules and self._robots and (marks := _marks(response.headers.get_all("X-Robots-Tag", []))):
            return _Answer(url, "opt_out", f"X-Robots-Tag: {', '.join(sorted(marks))}", status)
        body: bytes = response.read(most if rules else most + 1)
        if len(body) > most:
            return _Answer(url, "too_many_bytes", f"more than {most:,} bytes", status)
        if response.length and len(body) < most:
            return _Answer(url, "cut", f"{response.length:,} bytes are missing", status)
        return _Answer(url, status=status, body=body, size=len(body))

    def _failed(self, url: str, error: Exception) -> _Answer:
        cause = getattr(error, "reason", error)
        words = str(cause) or type(cause).__name__
        if isinstance(cause, remote.NotPublic):
            return _Answer(url, "private", words)
        if isinstance(cause, socket.gaierror):
            # Where no host at all has answered yet, it may well be this machine that is not connected.
            gone = self._heard and cause.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None))
            return _Answer(url, "dns" if gone else "unreachable", f"its name cannot be resolved ({words})")
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _Answer(url, "certificate", words)
        if isinstance(error, urllib.error.URLError):
            return _Answer(url, "timeout" if isinstance(cause, TimeoutError) else "unreachable", words)
        if isinstance(error, ValueError | http.client.InvalidURL):
            return _Answer(url, "address", words)
        return _Answer(url, "timeout" if isinstance(error, TimeoutError) else "cut", words)


def _parses(line: str) -> bool:
    """Whether a line of a robots.txt is one that Python's parser survives."""
    try:
        urllib.parse.urlparse(urllib.parse.unquote(line.partition(":")[2].strip()))
    except ValueError:
        return False
    return True


def _allows(rules: urllib.robotparser.RobotFileParser, url: str) -> bool:
    try:
        return rules.can_fetch(_AGENT, url)
    except ValueError:  # an address that is none once it is decoded
        return False


def _marks(tags: list[str]) -> set[str]:
    """Words of X-Robots-Tag headers that ask not to use a picture, for all or for us: `noai`, `assay: noai`."""
    found: set[str] = set()
    for tag in tags:
        agent, colon, words = tag.partition(":")
        if colon and "," not in agent:
            if agent.strip().lower() not in (_AGENT, "*"):
                continue
            tag = words
        found |= {word.strip().lower() for word in tag.split(",")} & _OPT_OUT
    return found


def _seconds(after: str | None) -> float:
    """What a Retry-After header says, as seconds or as a date; 0 where it says nothing."""
    if not after:
        return 0.0
    if after.strip().isdecimal():
        return float(after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


# ── who is asked when ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(slots=True)
class _Job:
    name: str
    url: str
    at: str
    tries: int = 0
    hops: int = 0


@dataclasses.dataclass(slots=True)
class _Host:
    """A host's queue. `down` is what became of it where nothing more is asked of it in this run."""

    name: str
    jobs: collections.deque[_Job]
    rules: dict[str, urllib.robotparser.RobotFileParser]
    busy: bool = False
    ready: float = 0.0
    tries: int = 0
    down: _Answer | None = None


class _Hosts:
    """Queues by host; gives work of hosts that are neither being asked nor pausing."""

    def __init__(self) -> None:
        self.waiting = 0
        self._hosts: dict[str, _Host] = {}
        self._ready: list[tuple[float, int, _Host]] = []
        self._count = 0

    def add(self, job: _Job, first: bool = False) -> None:
        name = urllib.parse.urlsplit(job.at).hostname or ""
        host = self._hosts.setdefault(name, _Host(name, collections.deque(), {}))
        (host.jobs.appendleft if first else host.jobs.append)(job)
        self.waiting += 1
        if len(host.jobs) == 1 and not host.busy:
            self._push(host)

    def take(self) -> _Host | None:
        """A host with a job, its own until `give` is called."""
        if not self._ready or self._ready[0][0] > time.monotonic():
            return None
        host = heapq.heappop(self._ready)[2]
        host.busy = True
        return host

    def next(self, host: _Host) -> _Job:
        self.waiting -= 1
        return host.jobs.popleft()

    def give(self, host: _Host, wait: float) -> None:
        """A host may be asked again after so many seconds."""
        host.busy, host.ready = False, time.monotonic() + wait
        if host.jobs:
            self._push(host)
        elif len(self._hosts) > _HOSTS:
            now = time.monotonic()
            idle = [one.name for one in self._hosts.values() if not (one.jobs or one.busy or one.ready > now)]
            for name in idle:
                del self._hosts[name]

    def soonest(self) -> float:
        """Seconds until some host is ready."""
        return max(0.0, self._ready[0][0] - time.monotonic()) if self._ready else _TICK

    def _push(self, host: _Host) -> None:
        self._count += 1
        heapq.heappush(self._ready, (host.ready, self._count, host))


_Work = dict["concurrent.futures.Future[Any]", tuple[_Host, _Job | None]]


class _Run:
    """One pass over a list. All decisions fall in the calling thread; others only ask and write pictures."""

    def __init__(self, record: _Record, asker: _Asker, at_once: int, pause: float, robots: bool) -> None:
        self._record, self._asker = record, asker
        self._at_once, self._pause, self._robots = at_once, pause, robots
        self._hosts = _Hosts()
        self._done = self._asked = self._bytes = 0
        self._counts: Counter[str] = Counter()

    def over(self, source: Path, total: int, again: bool, progress: Callable[[int, int], None] | None) -> Fetched:
        rows = _rows(source)
        more = True
        work: _Work = {}
        pool = concurrent.futures.ThreadPoolExecutor(self._at_once, thread_name_prefix="assay-fetch")
        told = -1
        try:
            while more or work or self._hosts.waiting:
                while more and self._hosts.waiting < _AHEAD:
                    row = next(rows, None)
                    more = row is not None
                    if row is not None:
                        self._row(*row, again)
                while len(work) < self._at_once and (host := self._hosts.take()):
                    self._start(host, pool, work)
                self._settle(work)
                self._asker.lines.cut(LONGEST)
                if progress is not None and self._done != told:
                    told = self._done
                    progress(told, total)
        finally:
            for future in work:
                future.cancel()
            self._asker.lines.end()  # so that Ctrl-C need not wait for a slow answer
            pool.shutdown(cancel_futures=True)
        return Fetched(total, self._counts, self._asked, self._bytes, self._record.folder)

    def _row(self, name: str, url: str, again: bool) -> None:
        past = self._record.past.get(name)
        if past is not None:
            if past.kind is None:
                finished = self._record.has(name)
            else:
                lasting = past.kind in GONE or past.kind in FINAL or not again
                finished = lasting and past.url == hash(url)
            if finished:
                self._count(past.kind)
                return
        self._asked += 1
        try:
            if not name or len(_stem(name)) > _ID_BYTES:
                raise ValueError(f"the id is empty or longer than {_ID_BYTES} characters")
            job = _Job(name, url, remote.sendable(url))
        except ValueError as error:
            self._end(name, url, _Answer("", "address", str(error)))
            return
        self._hosts.add(job)

    def _start(self, host: _Host, pool: concurrent.futures.ThreadPoolExecutor, work: _Work) -> None:
        """The next request to a host; what needs none is settled here."""
        job = self._hosts.next(host)
        site = urllib.parse.urljoin(job.at, "/")
        if host.down is not None:
            self._end(job.name, job.url, dataclasses.replace(host.down, at=job.at))
            self._hosts.give(host, 0.0)
        elif not self._robots:
            work[pool.submit(self._asker.picture, job.name, job.at)] = (host, job)
        elif site not in host.rules:
            self._hosts.add(job, first=True)
            work[pool.submit(self._asker.rules, site)] = (host, None)
        elif not _allows(host.rules[site], job.at):
            self._end(job.name, job.url, _Answer(job.at, "robots", "robots.txt asks not to fetch it"))
            self._hosts.give(host, 0.0)
        else:
            work[pool.submit(self._asker.picture, job.name, job.at)] = (host, job)

    def _settle(self, work: _Work) -> None:
        """Waits for an answer, or until another host is ready, and takes what came."""
        free = len(work) < self._at_once
        wait = min(_TICK, self._hosts.soonest()) if free else _TICK
        if not work:
            if self._hosts.waiting:
                time.sleep(wait)
            return
        for future in concurrent.futures.wait(work, wait, concurrent.futures.FIRST_COMPLETED).done:
            host, job = work.pop(future)
            found = future.result()
            if isinstance(found, urllib.robotparser.RobotFileParser):
                site = urllib.parse.urljoin(host.jobs[0].at, "/")
                host.rules[site], host.tries = found, 0
                self._hosts.give(host, 0.0)
            elif job is None:
                self._without_rules(host, found)
            else:
                self._answered(host, job, found)

    def _without_rules(self, host: _Host, found: _Answer) -> None:
        """A robots.txt that a server cannot give forbids everything (RFC 9309, 2.3.1.4)."""
        wait = self._wait(found, host.tries)
        if wait is None:
            host.down = dataclasses.replace(found, message=f"its robots.txt: {found.message}")
            wait = 0.0
        host.tries += 1
        self._hosts.give(host, wait)

    def _answered(self, host: _Host, job: _Job, found: _Answer) -> None:
        pause = self._rest(host, job)
        if found.onward:
            if job.hops < HOPS:
                job.hops, job.tries, job.at = job.hops + 1, 0, found.onward
                self._hosts.give(host, pause)
                self._hosts.add(job)
                return
            found = _Answer(found.at, "refused", f"more than {HOPS} redirections", found.status)
        wait = self._wait(found, job.tries)
        if wait is not None:
            job.tries += 1
            self._hosts.add(job, first=True)
            self._hosts.give(host, max(wait, pause))
            return
        if found.kind in _DOWN or found.wait > LONGEST:
            host.down = found
        self._end(job.name, job.url, found)
        self._hosts.give(host, pause)

    def _wait(self, found: _Answer, tries: int) -> float | None:
        """Seconds until a request is made again; None where it is not."""
        if found.kind not in _AGAIN or tries >= len(remote.WAITS) or found.wait > LONGEST:
            return None
        return max(remote.WAITS[tries], found.wait)

    def _rest(self, host: _Host, job: _Job) -> float:
        rules = host.rules.get(urllib.parse.urljoin(job.at, "/"))
        asked = rules.crawl_delay(_AGENT) if rules is not None else None
        return max(self._pause, min(float(asked or 0), LONGEST))

    def _end(self, name: str, url: str, found: _Answer) -> None:
        self._record.write(name, url, found)
        self._count(found.kind)
        self._bytes += (found.size or 0) if found.kind is None else 0

    def _count(self, kind: str | None) -> None:
        self._done += 1
        self._counts[kind or "fetched"] += 1
