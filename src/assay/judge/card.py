"""The card of a bundle: what a detector is, what it saw, what it expects, what was measured.

The card is the root of trust: it holds the hash of every other file, and its own hash names the detector.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import numpy.typing as npt
import pydantic

from assay.image.runs import Runs
from assay.image.view import IMAGENET_MEAN, IMAGENET_STD, View
from assay.judge.rule import HeadKind

FORMAT: Literal[1] = 1
"""The version of the folder's layout that this assay reads and writes."""

Name = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\z")]
"""A word that is safe as the start of a file's name, on every system."""

Hash = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{64}\z")]
Free = dict[str, pydantic.JsonValue]

_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")


class HeadCard(pydantic.BaseModel):
    """What turns a stream's embedding into a raw score; its arrays are in `heads.npz`.

    Args:
        kind: "linear" (logistic regression or a trained layer), "nearest" (distance to the nearest known real and
            fake), "one_class" (a one-class SVM that knows reals only) or "mlp" (a multi-layer perceptron).
        settings: what it was fitted with, for the reader (such as C, nu, the most references).
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    kind: HeadKind
    settings: Free = {}


class StreamCard(pydantic.BaseModel):
    """One stream: a view, a trunk and a head.

    Args:
        name: the stream, as verdicts name it: of a stream with several heads, NAME with the default one and NAME-KIND
            with the others.
        view: how it sees a picture.
        trunk: stem of the trunk's files. Streams with the same trunk and an equal view share one run of it.
        head: what makes a score of the embedding.
        parameters: of the trunk.
        embedding: width d of the embedding.
        part: first and last number (excluded) of what is the stream's in its trunk's embedding, where several streams
            share a trunk and each has numbers of its own; None: all. `assay.judge.bundle.read` refuses one that ends
            behind what the trunk gives.
        runs: what the trunk counts, where that is all it does: judging then needs no graph. None for networks.
        backbone: the architecture, by its timm name where it has one.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    name: Name
    view: View
    trunk: Name
    head: HeadCard
    parameters: int = pydantic.Field(ge=0)
    embedding: int = pydantic.Field(ge=1)
    part: tuple[Annotated[int, pydantic.Field(ge=0)], Annotated[int, pydantic.Field(ge=1)]] | None = None
    runs: Runs | None = None
    backbone: str

    @pydantic.model_validator(mode="after")
    def _part_is_as_wide(self) -> Self:
        if self.part is not None and self.part[1] - self.part[0] != self.embedding:
            raise ValueError(f"the part {self.part} of the embedding is not {self.embedding} wide")
        return self

    @pydantic.model_validator(mode="after")
    def _runs_are_the_embedding(self) -> Self:
        if self.runs is not None and (self.part is not None or self.runs.width != self.embedding):
            raise ValueError(f"{self.runs.width} shares are counted, and the embedding has {self.embedding} numbers")
        if self.runs is not None and (self.view.mean, self.view.std) != (IMAGENET_MEAN, IMAGENET_STD):
            raise ValueError("what is counted needs a view that normalises with ImageNet's mean and deviation")
        return self

    def own(self, embedding: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What is the stream's of its trunk's embeddings, (n, embedding) of (n, width)."""
        return embedding if self.part is None else embedding[:, slice(*self.part)]


class Card(pydantic.BaseModel):
    """What a detector is.

    Args:
        format_version: of the folder's layout.
        name, version: of the detector.
        description: for a layperson.
        recipe: name of the recipe that made it.
        created: the day it was made.
        assay: the version of assay that wrote it.
        streams: at least one; names differ.
        data: what it was made from: sources, counts, licences.
        figures: what was measured of it; empty until then.
        limits: what it can't do, one sentence each.
        notes: anything else a user must know.
        engine: what ran its networks, or counted, when its figures were measured, by name and version.
        precision: of the stored trunks.
        training: commit, seed, steps, minutes, class of machine.
        files: SHA-256 of every other file in the folder, by its name. Filled in when the bundle is written.
        sha256: of this card without this field (see `digest`). Filled in when the bundle is written.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = FORMAT
    name: Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\z")]
    version: str = pydantic.Field(min_length=1)
    description: str = pydantic.Field(min_length=1)
    recipe: str
    created: datetime.date
    assay: str
    streams: tuple[StreamCard, ...] = pydantic.Field(min_length=1)
    data: Free = {}
    figures: Free = {}
    limits: tuple[str, ...] = ()
    notes: str = ""
    engine: str
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    training: Free = {}
    files: dict[str, Hash] = {}
    sha256: Hash | Literal[""] = ""

    @pydantic.model_validator(mode="after")
    def _holds(self) -> Self:
        names = [stream.name for stream in self.streams]
        if len(set(names)) < len(names):
            raise ValueError(f"two streams have the same name: {', '.join(names)}")
        counted: dict[str, Runs | None] = {}
        for stream in self.streams:
            if counted.setdefault(stream.trunk, stream.runs) != stream.runs:
                raise ValueError(f"streams with the trunk {stream.trunk!r} say different things of what it counts")
        for name in self.files:
            if not safe(name) or name == "card.json":
                raise ValueError(f"files: {name!r} is not a plain file name inside the bundle")
        return self

    @property
    def counts(self) -> bool:
        """Whether all that its trunks do is to count, so that judging needs no runtime."""
        return all(stream.runs is not None for stream in self.streams)


def safe(name: str) -> bool:
    """Whether a file's name stays inside the folder: letters, digits, `_`, `-` and single dots between them."""
    return _FILE.fullmatch(name) is not None


def digest(card: Mapping[str, Any]) -> str:
    """The card's own hash: SHA-256 of its canonical JSON (sorted keys, no spaces, UTF-8) without `sha256`.

    Args:
        card: the card as parsed from, or about to be written as, JSON. The parsed text is hashed rather than the
            model, so that a field that a later assay adds with a default does not change an old card's hash.

    Raises:
        ValueError: a value has no canonical JSON (NaN, infinity, half of a surrogate pair).
    """
    content = {key: value for key, value in card.items() if key != "sha256"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
