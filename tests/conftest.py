"""A detector small enough to be made in a test: bright pictures are "fake", dark ones "real"."""

from __future__ import annotations

import dataclasses
import datetime
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import assay
from answering import outside, server  # noqa: F401
from assay.image.view import View
from assay.judge import bundle
from assay.judge.card import Card, HeadCard, StreamCard
from assay.judge.heads import Head, LinearHead, NearestHead, OneClassHead
from assay.judge.rule import EnsembleRule, Errors, HeadKind, Judge, Rows, StreamRule
from assay.judge.seen import Seen
from tiny import WEIGHTS, tiny_graph

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs so, and what the tests start and interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclasses.dataclass
class Parts:
    """What `bundle.write` takes."""

    card: Card
    judge: Judge
    files: dict[str, bytes | Path]
    heads: dict[str, Head]
    seen: Seen

    def write(self, folder: Path) -> bundle.Bundle:
        return bundle.write(folder, self.card, self.judge, files=self.files, heads=self.heads, seen=self.seen)

    def add(self, name: str, *, view: View | None = None, threshold: float = 0.7, doubt_low: float = 0.3) -> None:
        """A further stream on the tiny trunk; it looks at the reds only."""
        streams = (*self.card.streams, stream_card(name, view or self.card.streams[0].view))
        self.card = self.card.model_copy(update={"streams": streams})
        rule = StreamRule(threshold=threshold, doubt_low=doubt_low, fpr=0.05)
        self.judge = self.judge.model_copy(update={"streams": {**self.judge.streams, name: rule}})
        self.heads[name] = LinearHead(np.array([4.0, 0, 0, 0]), 0.0)

    def add_heads(self) -> None:
        """Beside the linear head of "grey" two more, which call bright pictures fake too: nearest and one-class."""
        dark = np.full((1, 4), -1.0)
        self.heads["grey-nearest"] = NearestHead(dark.astype(np.float16), -dark.astype(np.float16))
        self.heads["grey-one_class"] = OneClassHead(dark, np.ones(1), intercept=0.0, gamma=1.0, degree=1)
        kinds: dict[str, HeadKind] = {"grey-nearest": "nearest", "grey-one_class": "one_class"}
        view, bars = self.card.streams[0].view, {"nearest": (0.9, 0.2), "one_class": (0.6, 0.6)}
        others = tuple(stream_card(name, view, kind) for name, kind in kinds.items())
        self.card = self.card.model_copy(update={"streams": (*self.card.streams, *others)})
        rules, alternatives = dict(self.judge.streams), {}
        for name, kind in kinds.items():
            bar = {"threshold": bars[kind][0], "doubt_low": bars[kind][1]}
            rules[name] = StreamRule(fpr=0.05, **bar)
            alternatives[kind] = self.judge.ensemble.model_copy(update=bar)
        self.judge = Judge(streams=rules, ensemble=self.judge.ensemble, voters=("grey",), alternatives=alternatives)

    def add_votes(self) -> None:
        """Beside "grey" the voters "red" (pictures from 24 px) and "blue" (from 60 px), and all rules to vote by."""
        for name, weights, minimum, threshold in (("red", [4.0, 0, 0, 0], 24, 0.85), ("blue", [0, 0, 4.0, 0], 60, 0.9)):
            self.add(name, view=View(size=32, layout="grid", across=3, minimum=minimum), threshold=threshold)
            self.heads[name] = LinearHead(np.array(weights), 0.0)
        streams = dict(self.judge.streams)
        streams["grey"] = streams["grey"].model_copy(update={"threshold": 0.8, "doubt_low": 0.2, "fpr": 0.02})
        streams["red"] = streams["red"].model_copy(update={"slope": 2.0, "offset": -1.0})

        def rule(threshold: float, **fields: Any) -> EnsembleRule:
            return self.judge.ensemble.model_copy(update={"threshold": threshold, **fields})

        self.judge = Judge(
            streams=streams,
            ensemble=rule(0.7, method="modified_majority", slope=6.0),
            rules={
                "majority": rule(0.65, method="majority", slope=5.0),
                "mean": rule(0.6),
                "plain_mean": rule(0.55, method="plain_mean", slope=4.0),
                "best": rule(0.85, voters=("red",)),
                "grey": rule(0.8, voters=("grey",)),
                "red": rule(0.85, voters=("red",)),
                "blue": rule(0.9, voters=("blue",)),
            },
        )


def stream_card(name: str, view: View, kind: HeadKind = "linear") -> StreamCard:
    return StreamCard(
        name=name,
        view=view,
        trunk="tiny",
        head=HeadCard(kind=kind, settings={"C": 0.316} if kind == "linear" else {}),
        parameters=WEIGHTS.size,
        embedding=4,
        backbone="mean colour",
    )


@pytest.fixture
def parts() -> Parts:
    """The parts of a tiny bundle with one stream, "grey": crops of 32 px on a grid, pictures from 16 px."""
    return Parts(
        card=Card(
            name="tiny",
            version="1",
            description="Calls bright pictures fake. It knows nothing of pictures.",
            recipe="none",
            created=datetime.date(2026, 1, 2),
            assay="0",
            streams=(stream_card("grey", View(size=32, layout="grid", across=3, minimum=16)),),
            data={"sources": ["none"], "share": 0.1},
            limits=("It can't tell real from fake.",),
            engine="onnxruntime",
        ),
        judge=Judge(
            streams={"grey": StreamRule(threshold=0.7, doubt_low=0.3, fpr=0.05)},
            ensemble=EnsembleRule(
                threshold=0.7,
                doubt_low=0.3,
                fpr=0.05,
                errors=Errors(false_fake=0.04, false_real=0.1, decided=0.8),
                rows=Rows(real=100, fake=90),
            ),
        ),
        files={
            "tiny.judge.onnx": tiny_graph(),
            "tiny.explain.onnx": tiny_graph(explain=True),
            "tiny.weights": WEIGHTS.tobytes(),
        },
        heads={"grey": LinearHead(np.array([0, 0, 0, 4.0]), 0.0)},
        seen=Seen.of(files=["ab" * 32], origins=["cd" * 32], phashes=[0x0123_4567_89AB_CDEF]),
    )


@pytest.fixture
def bundle_folder(parts: Parts, tmp_path: Path) -> Path:
    """A tiny bundle on disk that the test may spoil."""
    return parts.write(tmp_path / "tiny").folder


@pytest.fixture
def detector(bundle_folder: Path) -> assay.Detector:
    """The tiny bundle, ready to judge."""
    return assay.load(bundle_folder, threads=1, device="cpu")


@pytest.fixture
def voters(parts: Parts, tmp_path: Path) -> Path:
    """A bundle on disk with three streams that can vote by every rule."""
    parts.add_votes()
    return parts.write(tmp_path / "voters").folder


@pytest.fixture
def flat() -> Callable[..., np.ndarray[Any, np.dtype[np.uint8]]]:
    """`flat(grey, width, height)`: a picture of one grey level with a little noise, the same each time."""

    def make(grey: int, width: int = 80, height: int = 64) -> np.ndarray[Any, np.dtype[np.uint8]]:
        noise = np.random.default_rng(grey).integers(-3, 4, (height, width, 3))
        return np.clip(grey + noise, 0, 255).astype(np.uint8)

    return make


@pytest.fixture
def greys(flat: Callable[..., Any]) -> Callable[[Path], None]:
    """`greys(folder)`: three dark pictures, real, and three bright ones, fake, and their manifest."""

    def write(folder: Path) -> None:
        rows = []
        for number, grey in enumerate((20, 40, 60, 180, 200, 220)):
            Image.fromarray(flat(grey)).save(folder / f"{number}.png")
            rows.append(f"{number}.png,{'fake' if grey > 100 else 'real'}\n")
        (folder / "manifest.csv").write_text("path,label\n" + "".join(rows))

    return write


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """So small a network waits longer for its threads than it computes."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
