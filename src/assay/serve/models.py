"""What the API gives, as its OpenAPI description says it. `Verdict.to_dict`, `Explanation.to_dict` and
`Provenance.to_dict` make it; these models describe that and check nothing."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

Word = Literal["fake", "real", "uncertain"]
Score = Annotated[float, pydantic.Field(ge=0, le=1)]
Corners = Annotated[
    list[int],
    pydantic.Field(min_length=4, max_length=4, description="left, top, right, bottom in px; right, bottom excluded"),
]


class Open(pydantic.BaseModel):
    """Fields stay from version to version; more may be added."""

    model_config = pydantic.ConfigDict(extra="allow")


class Problem(pydantic.BaseModel):
    kind: str = pydantic.Field(description="a stable word for machines")
    message: str = pydantic.Field(description="what happened and what to do")


class Error(pydantic.BaseModel):
    error: Problem

    model_config = pydantic.ConfigDict(
        json_schema_extra={"examples": [{"error": {"kind": "truncated", "message": "the JPEG file ends before …"}}]}
    )


class Face(Open):
    box: Corners
    score: Score
    verdict: Word


class Stream(Open):
    name: str
    score: Score | None = pydantic.Field(None, description="P(fake); absent where the stream does not apply")
    applies: bool = True
    reason: str = pydantic.Field("", description="why it does not apply")
    faces: list[Face] = []


class Frame(Open):
    frame: int = pydantic.Field(description="its number in the clip, from 0")
    score: Score
    time: float | None = pydantic.Field(None, description="seconds since the first frame")


class Which(Open):
    name: str
    version: str
    sha256: str


class Verdict(Open):
    """What a detector says of one picture or clip. 1 is fake everywhere."""

    model_config = pydantic.ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "input": "photo.jpg",
                    "sha256": "9b6eab61fb7093d046d4b9b2b6b9f9e870ca6256af1ed57786927def352752d4",
                    "verdict": "fake",
                    "score": 0.93,
                    "threshold": 0.71,
                    "doubt": [0.52, 0.71],
                    "fpr": 0.05,
                    "streams": [{"name": "code", "score": 0.93}],
                    "reasons": ["score 0.93 is at or above the threshold 0.71"],
                    "detector": {"name": "assay-code24", "version": "1", "sha256": "fad182dd3748b05d7ba2…"},
                    "width": 640,
                    "height": 480,
                }
            ]
        },
    )

    input: str = pydantic.Field(description="the name that the client gave")
    sha256: str = pydantic.Field(description="of the file's bytes")
    verdict: Word
    score: Score | None = pydantic.Field(description="calibrated P(fake); null where no stream applied")
    threshold: Score = pydantic.Field(description="a score at or above it is called fake")
    doubt: list[float] = pydantic.Field(
        min_length=2, max_length=2, description="[low, high) of scores that are called uncertain; high is `threshold`"
    )
    fpr: float = pydantic.Field(description="the false-positive rate that `threshold` was chosen for")
    streams: list[Stream]
    reasons: list[str] = pydantic.Field(description="short sentences, the most important first")
    detector: Which
    width: int
    height: int
    frames: list[Frame] = pydantic.Field([], description="the judged frames of a clip")


class Sign(Open):
    kind: str
    says: Literal["generated", "edited", "camera", "nothing certain"]
    title: str
    detail: dict[str, str]
    verified: Literal["valid", "invalid", "untrusted", ""]


class Provenance(Open):
    """What the file says of its own origin. It can be forged and stripped, and no score takes it into account."""

    signs: list[Sign]
    unread: list[str]
    told: str


class Judged(Open):
    verdict: Verdict
    provenance: Provenance | None
    faces: list[Corners] | None = pydantic.Field(
        description="of a still picture, where faces were judged; null where no stream of the detector looks at faces"
    )


class Explained(Open):
    explanation: dict[str, Any] = pydantic.Field(
        description="verdict, frame, toward, streams (crops, parts of the picture, attention), sentences"
    )
    width: int
    height: int
    maps: dict[str, str] = pydantic.Field(
        description="by stream: a data URI of a grey PNG, 255 where most speaks for what was asked; at most 512 px"
    )
    map: str | None = pydantic.Field(description="the mean of the maps; null where there is none")


class Altered(Open):
    verdict: Verdict
    preview: str = pydantic.Field(description="a data URI of a JPEG, at most 512 px on its longer side")


class Counts(pydantic.BaseModel):
    fake: int
    real: int
    uncertain: int
    failed: int


class Job(Open):
    """How far a job is."""

    model_config = pydantic.ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "id": "APEFEY1SlbWPEKgy3Q0tuuIC",
                    "kind": "pictures",
                    "state": "running",
                    "total": 100,
                    "finished": 31,
                    "created": 1767312000.0,
                    "started": 1767312000.2,
                    "ended": None,
                    "counts": {"fake": 3, "real": 25, "uncertain": 2, "failed": 1},
                    "keep": False,
                    "detector": "assay-code24",
                    "every": None,
                    "provenance": False,
                }
            ]
        },
    )

    id: str
    kind: Literal["pictures", "video"]
    state: Literal["queued", "running", "done"]
    total: int = pydantic.Field(description="inputs")
    finished: int = pydantic.Field(description="inputs that have a result")
    created: float = pydantic.Field(description="seconds since 1970, UTC")
    started: float | None
    ended: float | None
    counts: Counts
    keep: bool
    detector: str
    every: float | None
    provenance: bool


class Failure(Open):
    """An input that could not be judged. Never a score."""

    input: str
    error: Problem


class Result(Open):
    number: int = pydantic.Field(description="its place in the job, from 0")
    name: str
    result: Verdict | Failure | None = pydantic.Field(description="null until it is done")
    provenance: Provenance | None = pydantic.Field(
        description="null until it is done, where the job did not ask for it, and where the file could not be judged"
    )


class Results(pydantic.BaseModel):
    results: list[Result]
    total: int


class Detector(Open):
    name: str
    version: str
    sha256: str
    summary: str = pydantic.Field(description="one line")
    default: bool


class Errors(Open):
    false_fake: float = pydantic.Field(description="of real pictures, called fake")
    false_real: float = pydantic.Field(description="of fake pictures, called real")
    decided: float = pydantic.Field(description="of all, not called uncertain")


class Rows(Open):
    real: int
    fake: int


class Card(Detector):
    """All of a detector's card, and what its thresholds were chosen on."""

    description: str
    limits: list[str] = pydantic.Field(description="what it can't do")
    threshold: Score
    doubt: list[float] = pydantic.Field(min_length=2, max_length=2)
    fpr: float
    errors: Errors = pydantic.Field(description="rates on the tuning pictures, at these thresholds")
    rows: Rows = pydantic.Field(description="how many tuning pictures there were")


class Detectors(pydantic.BaseModel):
    detectors: list[Detector]
    fetches: bool = pydantic.Field(description="whether `/v1/fetch` gets pictures from addresses")


class State(Open):
    state: str
