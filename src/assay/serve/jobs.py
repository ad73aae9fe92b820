"""What a server keeps of its jobs (`assay.serve.store`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

from assay.serve.spool import Spooled

Kind = Literal["pictures", "video"]
JobState = Literal["queued", "running", "done"]
InputState = Literal["waiting", "claimed", "done"]
Word = Literal["fake", "real", "uncertain", "failed"]

WORDS: tuple[Word, ...] = get_args(Word)
"""What a result can say in a word."""


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
        state: "queued" until the first claim, then "running"; "done" once every input has a result.
        created, started, finished: seconds since 1970, UTC; None where it has not come to that.
        total: its inputs, at least one.
        counts: how many results say each of `WORDS`.
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
    counts: Mapping[Word, int]
    version: int

    @property
    def done(self) -> int:
        """Inputs that have a result."""
        return sum(self.counts.values())


@dataclasses.dataclass(frozen=True, slots=True)
class Input:
    """One input of a job.

    Args:
        number: its place in the job, counted from 0.
        name: as the client called it. Data only, never a path.
        key: of its upload in the spool; None once that is removed, or where there never was one.
        bytes, sha256: of its upload; 0 and empty where there never was one.
        state: "waiting", "claimed" or "done".
        result: a verdict or a failure as their `to_dict` gives it; None until it is done.
        provenance: what its file says of its origin, as `to_dict` gives it; None where nobody asked, or it failed. It
            stands beside the result and is no part of it.
        version: of its job when it was done; None before.
    """

    number: int
    name: str
    key: str | None
    bytes: int
    sha256: str
    state: InputState
    result: Mapping[str, Any] | None
    provenance: Mapping[str, Any] | None
    version: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Claimed:
    """An input that is to be judged.

    Args:
        job, options: its job's id and options.
        number, name, key: as in `Input`.
        tries: how often it was claimed, this time included; claims that were given back at a stop do not count. An
            input that brings down whoever judges it shows here.
    """

    job: str
    options: Mapping[str, Any]
    number: int
    name: str
    key: str
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
        waiting: inputs that nobody has begun with.
        bytes: of the uploads that are needed.
    """

    waiting: int
    bytes: int
