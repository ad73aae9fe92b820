"""What a server keeps of its jobs, and `Jobs`: what it needs of whatever keeps them.

`assay.serve.store.Store` is the one there is. A server database would take its place behind the same methods.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from assay.serve.spool import Spooled
from assay.types import Failure

Kind = Literal["pictures", "video"]
JobState = Literal["queued", "running", "done", "cancelled"]
InputState = Literal["waiting", "claimed", "done"]

CLAIM = 60.0
"""Seconds for which a claim holds unless it is renewed."""

RETENTION = 86_400.0
"""Seconds that a job stays after its end."""


@dataclasses.dataclass(frozen=True, slots=True)
class Upload:
    """One input as it comes in.

    Args:
        name: as the client called it. Data only, never a path.
        file: what `Spool` made of it.
    """

    name: str
    file: Spooled


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """A job as it stood when it was asked for.

    Args:
        id: 24 characters that cannot be guessed, fit for a URL.
        owner: hash of the API key that made it; empty where there are none.
        kind: "pictures" or "video".
        options: a JSON object.
        kept: whether its uploads stay until it is deleted.
        state: "queued" until the first claim, then "running"; at the end "done" or "cancelled".
        created, started, finished: seconds since 1970, UTC; None where it has not come to that.
        total: its inputs, at least one.
        done: those that have a result.
        version: grows with everything that happens to the job.
    """

    id: str
    owner: str
    kind: Kind
    options: Mapping[str, Any]
    kept: bool
    state: JobState
    created: float
    started: float | None
    finished: float | None
    total: int
    done: int
    version: int


@dataclasses.dataclass(frozen=True, slots=True)
class Input:
    """One input of a job.

    Args:
        number: its place in the job, counted from 0.
        name: as the client called it. Data only, never a path.
        key: of its upload in the spool; None once that is removed, or where there never was one.
        bytes, sha256: of its upload; 0 and empty where there never was one.
        state: "waiting", "claimed" or "done"; one that was not done when its job was cancelled stays "waiting".
        result: a verdict or a failure as their `to_dict` gives it; None until it is done.
    """

    number: int
    name: str
    key: str | None
    bytes: int
    sha256: str
    state: InputState
    result: Mapping[str, Any] | None


@dataclasses.dataclass(frozen=True, slots=True)
class Claimed:
    """An input that a worker is to judge.

    Args:
        job, kind, options: its job's id, kind and options.
        number, name, key, bytes, sha256: as in `Input`.
        expires: when others may take it, in seconds since 1970, UTC.
        tries: how often it was claimed, this time included; claims that were released do not count. An input that
            brings down whoever judges it shows here.
    """

    job: str
    kind: Kind
    options: Mapping[str, Any]
    number: int
    name: str
    key: str
    bytes: int
    sha256: str
    expires: float
    tries: int


@dataclasses.dataclass(frozen=True, slots=True)
class News:
    """What happened to a job since a version of it.

    Args:
        job: as it stands.
        inputs: those that were done since, in the order in which that happened.
        version: what to ask with next time. Below the job's where more is to be had at once.
    """

    job: Job
    inputs: tuple[Input, ...]
    version: int


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """How full a store is.

    Args:
        jobs: how many there are in each state.
        waiting, claimed: inputs of jobs that have not ended.
        bytes: of the uploads that are needed.
    """

    jobs: Mapping[JobState, int]
    waiting: int
    claimed: int
    bytes: int


class Jobs(Protocol):
    """What a server needs of a store of jobs. Usable from several threads and from several processes.

    Every method raises `OutputError` where the store cannot be read or written (kind disk, output) or another process
    holds it for long (busy); then nothing has changed.
    """

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
        ...

    def claim(self, worker: str, most: int = 8, seconds: float = CLAIM) -> list[Claimed]:
        """Takes inputs to judge. No other worker gets them while the claim holds.

        The open jobs take turns, the one that has waited longest first, and each gives its next input. So a picture
        that comes after a folder of thousands waits for one of them, not for all.

        Args:
            worker: a name that no other worker has.
            most: how many to take.
            seconds: how long the claim holds unless it is renewed.

        Returns:
            As many as there are, up to `most`; those whose claim lapsed are among them.
        """
        ...

    def renew(self, worker: str, seconds: float = CLAIM) -> frozenset[tuple[str, int]]:
        """Lets all claims of a worker hold for `seconds` from now.

        Returns:
            (job, number) of each. What is missing was done, taken by others, cancelled or deleted: leave it.
        """
        ...

    def finish(self, job: str, number: int, result: Mapping[str, Any]) -> bool:
        """Gives an input its result, whoever claimed it. The first one stays.

        Args:
            result: a verdict or a failure as their `to_dict` gives it, its `input` being the name that clients shall
                see.

        Returns:
            False where nothing changed: it had a result, its job was cancelled, or there is no such input (any more).

        Raises:
            ValueError: that is no result, or no JSON.
        """
        ...

    def release(self, worker: str) -> int:
        """Gives back what a worker claimed, as it does before it leaves. Returns how many."""
        ...

    def recover(self, everything: bool = False) -> int:
        """Gives back claims that lapsed, as `claim` also does. Returns how many.

        Args:
            everything: all claims, for the start of the one process that judges; others' would be done twice.
        """
        ...

    def cancel(self, id: str, owner: str) -> Job:
        """Ends a job. Its results stay; what is being judged is not recorded any more. One that has ended stays so.

        Raises:
            JobError: missing: the owner has no such job.
        """
        ...

    def job(self, id: str, owner: str) -> Job:
        """A job of that owner.

        Raises:
            JobError: missing: the owner has no such job.
        """
        ...

    def jobs(self, owner: str, offset: int = 0, limit: int = 100) -> list[Job]:
        """The owner's jobs, the newest first.

        Raises:
            ValueError: `offset` is below 0, or `limit` below 1; so with `results` and `since`.
        """
        ...

    def results(self, id: str, owner: str, offset: int = 0, limit: int = 100) -> list[Input]:
        """Inputs `offset` up to `offset + limit` of a job in their order, done or not.

        Raises:
            JobError: missing: the owner has no such job.
        """
        ...

    def since(self, id: str, owner: str, version: int = 0, limit: int = 100) -> News:
        """What happened since a version of a job, for a stream of events.

        Asking on with `News.version` gives each input that is done once, and misses none.

        Args:
            version: `News.version` of the time before; 0 for all there is.
            limit: inputs in one answer, at least one.

        Raises:
            JobError: missing: the owner has no such job.
        """
        ...

    def delete(self, id: str, owner: str) -> None:
        """Deletes a job, its results and its uploads, whatever its state.

        Raises:
            JobError: missing: the owner has no such job.
        """
        ...

    def expire(self, now: float | None = None, seconds: float = RETENTION) -> int:
        """Deletes the jobs that ended `seconds` or longer before `now`, with all they have. Returns how many.

        Args:
            now: seconds since 1970, UTC; None for the present.
        """
        ...

    def keys(self) -> set[str]:
        """Keys of the uploads that are needed, for `Spool.sweep`."""
        ...

    def usage(self) -> Usage:
        """How full the store is."""
        ...

    def close(self) -> None:
        """Lets go of the store. Closing twice does nothing."""
        ...
