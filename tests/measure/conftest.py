"""A small data set on disk and a detector whose every score is known."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay.errors import InputError
from assay.image.decode import decode
from assay.judge.seen import Seen
from assay.types import Failure, Label, Pixels, Ruling, Sample, StreamScore, Verdict


def painted(score: float, seed: int, side: int = 64) -> Pixels:
    """A picture with a texture of its own whose mean level says which score `Brightness` gives it."""
    random = np.random.default_rng(seed)
    blocks = random.normal(size=(8, 8, 1)).repeat(side // 8, axis=0).repeat(side // 8, axis=1)
    texture = 24 * np.tanh(blocks) * np.ones(3)
    return np.clip(score * 255 + texture - texture.mean(), 0, 255).astype(np.uint8)


@dataclasses.dataclass
class Brightness:
    """A detector that takes bright pictures for fakes. Green ones are outside of what it judges."""

    name: str = "brightness"
    threshold: float = 0.6
    doubt: tuple[float, float] = (0.5, 0.6)
    fpr: float = 0.05
    seen: Seen = dataclasses.field(default_factory=Seen)
    asked: list[object] = dataclasses.field(default_factory=list)

    def judge_many(self, sources: Iterable[object]) -> Iterator[Verdict | Failure]:
        for source in sources:
            self.asked.append(source)
            name = source if isinstance(source, str) else "<array>"
            try:
                picture = decode(source)
            except InputError as error:
                yield Failure(name, error.kind, str(error))
                continue
            red, green, _ = picture.pixels.reshape(-1, 3).mean(axis=0) / 255
            score = None if green > red + 0.3 else float(red)
            ruling = Ruling.UNCERTAIN
            if score is not None and not self.doubt[0] <= score < self.doubt[1]:
                ruling = Ruling.FAKE if score >= self.threshold else Ruling.REAL
            yield Verdict(
                ruling,
                score,
                self.threshold,
                self.doubt,
                self.fpr,
                (StreamScore("level", score, "" if score is not None else "too green"),),
                (),
                {"name": self.name, "version": "1", "sha256": "ab" * 32},
                name,
                picture.sha256,
                picture.width,
                picture.height,
            )


@pytest.fixture
def detector() -> Brightness:
    return Brightness()


@pytest.fixture
def paint() -> Callable[..., Pixels]:
    return painted


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Sample]:
    """Write one picture and give its sample: put("a.png", score, Label.REAL, …)."""
    count = iter(range(10_000))

    def write(name: str, score: float, label: Label | None, *, quality: int | None = None, **about: object) -> Sample:
        file = io.BytesIO()
        options = {} if quality is None else {"quality": quality}
        image = Image.fromarray(painted(score, next(count)))
        image.save(file, "PNG" if name.endswith("png") else "JPEG", **options)
        (tmp_path / name).write_bytes(file.getvalue())
        return Sample(str(tmp_path / name), label, **about)

    return write


@pytest.fixture
def samples(put: Callable[..., Sample]) -> list[Sample]:
    """24 reals of two cameras and 24 fakes of two generators; the detector errs on some of both."""
    random = np.random.default_rng(0)
    made = []
    for number in range(24):
        camera = f"camera {number % 2}"
        made.append(
            put(
                f"real{number}.png",
                float(random.uniform(0.25, 0.65)),
                Label.REAL,
                source=camera,
                groups={"kind": "crop" if number < 4 else "whole"},
            )
        )
    for number in range(24):
        few = number < 3
        made.append(
            put(
                f"fake{number}.png",
                float(random.uniform(0.45, 0.8)),
                Label.FAKE,
                source=f"site {number % 3}",
                generator="rare" if few else "common",
                groups={"kind": "crop" if number < 4 else "whole"},
            )
        )
    return made
