"""Embeddings of a data set's pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import assay
from assay.image import decode as decoding
from assay.image.view import View
from assay.judge.heads import LinearHead
from assay.judge.seen import Seen
from assay.measure import gather as module
from assay.measure.gather import gather, save
from assay.types import Label, Sample


@pytest.fixture
def detector(bundle_folder: Path) -> assay.Detector:
    """The tiny bundle: its embedding is a picture's mean colour."""
    return assay.load(bundle_folder, threads=1, device="cpu")


@pytest.fixture
def rows(tmp_path: Path, flat: Callable[..., Any]) -> list[Sample]:
    """Five pictures of different size, the last without a label."""
    samples = []
    for number in range(5):
        place = tmp_path / f"{number}.png"
        Image.fromarray(flat(30 + 40 * number, 40 + 30 * number, 64)).save(place)
        label = None if number == 4 else Label(number % 2)
        samples.append(Sample(str(place), label, generator="dog" if label else "", source=f"site {number // 2}"))
    return samples


def by_hand(detector: assay.Detector, place: str) -> Any:
    prepared = detector.prepare(place)
    (view,) = prepared.crops
    return detector.engine("grey").run(view.tensor(prepared.crops[view])).mean(axis=0)


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_each_picture_has_the_mean_of_the_embeddings_of_its_crops(
    detector: assay.Detector, rows: list[Sample], batch: int
) -> None:
    told: list[tuple[str, int, int]] = []
    found = gather(detector, rows, batch=batch, progress=lambda *where: told.append(where))
    (part,) = found.streams
    assert (part.stream, part.shared, part.vectors.shape) == ("grey", ("grey",), (5, 4))
    assert part.vectors.dtype == np.float32
    for vector, row in zip(part.vectors, rows, strict=True):
        assert vector == pytest.approx(by_hand(detector, row.place), abs=1e-6)
    assert part.labels.tolist() == [0, 1, 0, 1, -1]
    assert part.generators == ("", "dog", "", "dog", "")
    assert told[-1] == ("embedding", 5, 5)
    assert (found.n, found.seen, found.failures) == (5, 0, ())
    assert found.detector["sha256"] == detector.sha256


def test_each_file_is_decoded_once(
    detector: assay.Detector, rows: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def counted(source: Any) -> Any:
        asked.append(source)
        return decoding.decode(source)

    monkeypatch.setattr(module, "decode", counted)
    gather(detector, rows)
    assert sorted(asked) == sorted(row.place for row in rows)


def test_what_cannot_be_decoded_or_does_not_apply_has_no_embedding_and_is_listed(
    detector: assay.Detector, rows: list[Sample], tmp_path: Path, flat: Callable[..., Any]
) -> None:
    (tmp_path / "torn.png").write_bytes(Path(rows[0].place).read_bytes()[:200])
    Image.fromarray(flat(9, 8, 8)).save(tmp_path / "dot.png")
    odd = [Sample(str(tmp_path / name), Label.FAKE) for name in ("torn.png", "gone.png", "dot.png")]
    found = gather(detector, [rows[0], *odd, rows[1]], batch=2)
    (part,) = found.streams
    assert [row.place for row in part.samples] == [rows[0].place, rows[1].place]
    assert [(Path(each.place).name, each.kind) for each in found.failures] == [
        ("torn.png", "truncated"),
        ("gone.png", "missing"),
    ]
    assert [Path(each.place).name for each in part.not_applicable] == ["dot.png"]
    assert "16 px" in part.not_applicable[0].message
    assert part.vectors[1] == pytest.approx(by_hand(detector, rows[1].place), abs=1e-6)


def test_rows_the_detector_was_made_with_are_marked(parts: Any, rows: list[Sample], tmp_path: Path) -> None:
    parts.seen = Seen.of(files=[hashlib.sha256(Path(rows[2].place).read_bytes()).hexdigest()], origins=["ee" * 32])
    derived = Sample(rows[3].place, Label.FAKE, origin="ee" * 32)
    found = gather(assay.load(parts.write(tmp_path / "seen").folder, threads=1), [*rows[:3], derived])
    assert found.streams[0].seen.tolist() == [False, False, True, True]
    assert found.seen == 2


def test_streams_of_one_trunk_and_view_share_a_run_and_others_have_their_own(
    parts: Any, rows: list[Sample], tmp_path: Path
) -> None:
    parts.add("red")
    parts.add("middle", view=View(size=32, layout="centre", minimum=60))
    found = gather(assay.load(parts.write(tmp_path / "three").folder, threads=1), rows[:2])
    assert [(part.stream, part.shared) for part in found.streams] == [
        ("grey", ("grey", "red")),
        ("middle", ("middle",)),
    ]
    assert [len(part.samples) for part in found.streams] == [2, 1]


def test_streams_with_a_part_of_one_trunks_embedding_have_that_part(
    parts: Any, rows: list[Sample], tmp_path: Path
) -> None:
    parts.add("red")
    spans = {"grey": (0, 2), "red": (2, 3)}
    changed = []
    for stream in parts.card.streams:
        part = spans[stream.name]
        changed.append(stream.model_copy(update={"part": part, "embedding": part[1] - part[0]}))
        parts.heads[stream.name] = LinearHead(np.ones(part[1] - part[0]), 0.0)
    parts.card = parts.card.model_copy(update={"streams": tuple(changed)})
    detector = assay.load(parts.write(tmp_path / "parted").folder, threads=1, device="cpu")
    found = gather(detector, rows[:2])
    assert [(part.stream, part.shared) for part in found.streams] == [("grey", ("grey",)), ("red", ("red",))]
    whole = np.stack([by_hand(detector, row.place) for row in rows[:2]])
    for part in found.streams:
        np.testing.assert_allclose(part.vectors, whole[:, slice(*spans[part.stream])], atol=1e-6)


def test_no_row_that_applies_gives_an_empty_embedding(detector: assay.Detector, tmp_path: Path) -> None:
    found = gather(detector, [Sample(str(tmp_path / "gone.png"), Label.REAL)])
    assert found.streams[0].vectors.shape == (0, 4)


def test_a_number_that_is_not_finite_is_no_embedding(
    detector: assay.Detector, rows: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = detector.engine("grey")
    whole = engine.run
    monkeypatch.setattr(engine, "run", lambda batch: np.where(batch.mean() > 0, np.nan, whole(batch)))
    (part,) = gather(detector, rows[:4:3], batch=1).streams
    assert [row.place for row in part.samples] == [rows[0].place]
    assert "no finite number" in part.not_applicable[0].message


def test_pictures_of_one_clip_or_origin_stay_together_where_no_source_is_named(
    detector: assay.Detector, rows: list[Sample]
) -> None:
    place = rows[0].place
    named = [
        Sample(place, Label.REAL, source="a", video="v"),
        Sample(place, Label.REAL, source="a"),
        Sample(place, Label.REAL, video="v"),
        Sample(place, Label.REAL, video="v", origin="aa" * 32),
        Sample(place, Label.REAL),
        Sample(place, Label.REAL),
    ]
    sources = gather(detector, named).streams[0].sources
    assert sources[0] == sources[1] == "a"
    assert sources[2] == sources[3] == "v"
    assert len(set(sources)) == 4


def test_what_is_saved_is_read_without_unpickling(detector: assay.Detector, rows: list[Sample], tmp_path: Path) -> None:
    (part,) = gather(detector, rows).streams
    plane = np.arange(10.0).reshape(5, 2)
    save(part, tmp_path / "grey.npz", plane)
    with np.load(tmp_path / "grey.npz", allow_pickle=False) as read:
        assert (read["embedding"] == part.vectors).all()
        assert read["paths"].tolist() == [row.place for row in rows]
        assert read["labels"].tolist() == [0, 1, 0, 1, -1]
        assert read["generators"].tolist() == list(part.generators)
        assert read["sources"].tolist() == [row.source for row in rows]
        assert read["seen"].tolist() == [False] * 5
        assert (read["tsne"] == plane).all()
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []
