"""Each picture of a data set is searched for faces once, whatever happens in between."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay.data.faces import ENDING, FaceCache, Faces, Progress, beside, can_keep, faces_in, faces_of, searcher
from assay.errors import OutputError, RecipeError
from assay.image.decode import DEFAULT, decode
from assay.image.faces import Face, Found
from assay.types import Box, Failure, Pixels, Sample


class Counting:
    """Sees a face in the upper left corner of every bright picture, and counts what it is shown."""

    def __init__(self, name: str = "counting", pause: float = 0) -> None:
        self.name = name
        self.pause = pause
        self.shown = 0
        self._lock = threading.Lock()

    def detect(self, pixels: Pixels) -> list[Face]:
        with self._lock:
            self.shown += 1
        time.sleep(self.pause)
        return [face(int(pixels[0, 0, 0]))] if pixels.mean() > 100 else []


def face(edge: int = 40) -> Face:
    points = ((1.5, 2.25), (3.5, 2.25), (2.5, 3.0), (1.75, 4.0), (3.25, 4.0))
    return Face(Box(0, 0, edge, 40), 0.987654, points)


def found(sha256: str = "ab" * 32, *faces: Face) -> Faces:
    return Faces(sha256, 64, 48, ((0, Found(faces or (face(),), "plain")),), 1, "16/15")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return tmp_path / "manifest.csv"


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Ten bright pictures and two dark ones."""
    made = []
    for number in range(12):
        path = tmp_path / f"{number}.png"
        level = 150 + number if number < 10 else number
        Image.new("RGB", (64, 48), (level, level, level)).save(path)
        made.append(Sample(str(path), None))
    return made


def with_hashes(samples: list[Sample]) -> list[Sample]:
    return [
        dataclasses.replace(sample, sha256=hashlib.sha256(Path(sample.place).read_bytes()).hexdigest())
        for sample in samples
    ]


def look(samples: list[Sample], manifest: Path, detector: Counting, **options: object) -> list[Faces | Failure]:
    given = list(faces_of(samples, manifest, detector, retry=False, **options))  # type: ignore[arg-type]
    assert [sample for sample, _ in given] == samples
    return [result for _, result in given]


def test_every_sample_has_its_faces_in_order(samples: list[Sample], manifest: Path) -> None:
    results = look(samples, manifest, Counting())
    for number, result in enumerate(results):
        assert isinstance(result, Faces)
        assert result.first.faces == ((face(150 + number),) if number < 10 else ())
        assert (result.width, result.height) == (64, 48)


def test_a_picture_is_never_searched_twice(samples: list[Sample], manifest: Path) -> None:
    first = look(samples, manifest, Counting())
    again = Counting()
    assert look(samples, manifest, again) == first
    assert again.shown == 0


def test_a_sample_that_states_its_hash_needs_no_file(samples: list[Sample], manifest: Path) -> None:
    samples = with_hashes(samples)
    first = look(samples, manifest, Counting())
    for sample in samples:
        Path(sample.place).unlink()
    assert look(samples, manifest, Counting()) == first


def test_files_are_known_by_content_wherever_they_lie(samples: list[Sample], manifest: Path, tmp_path: Path) -> None:
    look(samples, manifest, Counting())
    moved = tmp_path / "elsewhere.png"
    Path(samples[0].place).rename(moved)
    detector = Counting()
    look([Sample(str(moved), None)], manifest, detector)
    assert detector.shown == 0


def test_copies_of_a_picture_that_are_in_work_at_once_are_searched_once(samples: list[Sample], manifest: Path) -> None:
    detector = Counting(pause=0.05)
    results = look([samples[0]] * 12, manifest, detector, workers=6)
    assert detector.shown == 1
    assert len(set(map(id, results))) <= 12
    assert all(result == results[0] for result in results)


def test_another_detector_or_way_of_searching_looks_again(samples: list[Sample], manifest: Path) -> None:
    look(samples, manifest, Counting("one"))
    other, retrying = Counting("other"), Counting("one")
    look(samples, manifest, other)
    assert other.shown == 12
    list(faces_of(samples, manifest, retrying, retry=True))
    assert retrying.shown > 12  # The dark ones several times.
    assert searcher(other) != searcher(other, retry=False)


def test_a_file_that_cannot_be_read_is_an_error_and_not_a_picture_without_a_face(
    samples: list[Sample], manifest: Path
) -> None:
    Path(samples[1].place).write_bytes(b"this is no picture, whatever it is called")
    Path(samples[2].place).unlink()
    torn = Path(samples[3].place).read_bytes()
    Path(samples[3].place).write_bytes(torn[: len(torn) // 2])
    results = look(samples, manifest, Counting())
    kinds = [result.kind for result in results if isinstance(result, Failure)]
    assert kinds == ["not_an_image", "missing", "truncated"]
    assert isinstance(results[4], Faces)
    Path(samples[3].place).write_bytes(torn)
    assert isinstance(look(samples, manifest, Counting())[3], Faces)


def test_every_frame_of_an_animation_is_searched(tmp_path: Path, manifest: Path) -> None:
    path = tmp_path / "a.gif"
    frames = [Image.new("RGB", (64, 48), (level,) * 3) for level in (200, 10, 180, 20)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    sample = Sample(str(path), None)
    (result,) = look([sample], manifest, Counting())
    assert isinstance(result, Faces)
    assert [bool(seen.faces) for _, seen in result.frames] == [True, False, True, False]
    assert result.at(2) == result.frames[2][1]
    assert result.at(9) is None
    detector = Counting()
    fewer = dataclasses.replace(DEFAULT, frames=2)
    for _ in range(2):
        look([sample], manifest, detector, limits=fewer)
        look([sample], manifest, detector)
    assert detector.shown == 2


def test_what_a_crash_tore_is_passed_over_and_the_next_line_stands_alone(samples: list[Sample], manifest: Path) -> None:
    look(samples[:4], manifest, Counting(), workers=1)
    cache = Path(f"{manifest}{ENDING}")
    cache.write_bytes(cache.read_bytes()[:-25])
    detector = Counting()
    look(samples[:6], manifest, detector)
    assert detector.shown == 3
    assert len(cache.read_bytes().splitlines()) == 7
    last = Counting()
    look(samples[:6], manifest, last)
    assert last.shown == 0


def test_one_picture_is_looked_up_or_searched_and_written_down(samples: list[Sample], manifest: Path) -> None:
    detector = Counting()
    picture = decode(samples[0].place)
    known, fresh = faces_in(picture, detector, retry=False)
    assert fresh
    assert not beside(manifest).exists()
    with FaceCache(manifest, searcher(detector, retry=False)) as cache:
        assert [faces_in(picture, detector, cache, retry=False) for _ in range(2)] == [(known, True), (known, False)]
    assert detector.shown == 2
    assert look(samples[:1], manifest, detector) == [known]
    assert detector.shown == 2


def test_a_folder_stands_for_the_manifest_in_it(samples: list[Sample], manifest: Path) -> None:
    assert beside(manifest.parent) == manifest.parent.with_name(f"{manifest.parent.name}{ENDING}")
    manifest.touch()
    assert beside(manifest.parent) == beside(f"{manifest.parent}/") == beside(manifest) == Path(f"{manifest}{ENDING}")


def test_a_place_that_cannot_be_written_is_known_beforehand(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_keep(manifest)
    assert not can_keep(manifest.parent / "gone" / "manifest.csv")
    locked: set[Path] = {manifest.parent}
    monkeypatch.setattr(os, "access", lambda path, mode: path not in locked)
    assert not can_keep(manifest)
    beside(manifest).touch()
    assert can_keep(manifest)
    locked.add(beside(manifest))
    assert not can_keep(manifest)


def test_stopping_keeps_what_was_found_and_ends_the_threads(samples: list[Sample], manifest: Path) -> None:
    before = threading.active_count()
    running = faces_of(samples, manifest, Counting(), retry=False, workers=2)
    for _ in range(3):
        next(running)
    running.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    detector = Counting()
    look(samples, manifest, detector)
    assert detector.shown <= 9


def test_samples_are_taken_as_they_are_needed(samples: list[Sample], manifest: Path) -> None:
    taken = 0

    def endless() -> Iterator[Sample]:
        nonlocal taken
        while True:
            taken += 1
            yield samples[taken % 12]

    running = faces_of(endless(), manifest, Counting(), retry=False, workers=2)
    for _ in range(5):
        next(running)
    running.close()  # type: ignore[attr-defined]
    assert taken <= 5 + 9


def test_progress_counts_every_sample(samples: list[Sample], manifest: Path) -> None:
    seen: list[Progress] = []
    look(samples[6:9], manifest, Counting())
    Path(samples[0].place).unlink()
    look(samples, manifest, Counting(), progress=lambda tally: seen.append(dataclasses.replace(tally)))
    assert [tally.done for tally in seen] == list(range(1, 13))
    assert seen[-1] == Progress(searched=8, known=3, failed=1, without=2)


def test_an_error_of_the_detectors_own_stops_the_run_and_is_no_result(samples: list[Sample], manifest: Path) -> None:
    class Broken(Counting):
        def detect(self, pixels: Pixels) -> list[Face]:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        look(samples, manifest, Broken())
    assert not Path(f"{manifest}{ENDING}").exists()


def test_no_worker_is_refused(samples: list[Sample], manifest: Path) -> None:
    with pytest.raises(RecipeError, match="1 or more"):
        faces_of(samples, manifest, Counting(), workers=0)


def test_a_line_says_what_it_is_and_holds_no_picture(manifest: Path) -> None:
    with FaceCache(manifest, "detector") as cache:
        cache.put(found())
    (line,) = Path(f"{manifest}{ENDING}").read_text().splitlines()
    record = json.loads(line)
    assert record["sha256"] == "ab" * 32
    assert record["detector"] == "detector"
    assert Faces.from_dict(record) == found()


def test_lines_of_another_process_are_seen_while_both_are_open(manifest: Path) -> None:
    with FaceCache(manifest, "detector") as one, FaceCache(manifest, "detector") as other:
        assert one.get("ab" * 32) is None
        other.put(found())
        assert one.get("AB" * 32) == found()
        assert one.get("cd" * 32) is None


def _write(manifest: Path, first: int) -> None:
    with FaceCache(manifest, "detector") as cache:
        for number in range(first, first + 150):
            cache.put(found(f"{number:064x}"[::-1], *([face()] * (number % 5 + 1))))


def test_several_processes_may_add_lines_at_once(manifest: Path) -> None:
    start = multiprocessing.get_context("fork")
    processes = [start.Process(target=_write, args=(manifest, 1000 * number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    with FaceCache(manifest, "detector") as cache:
        assert len(cache) == 450
        for first in (0, 1000, 2000):
            for number in range(first, first + 150):
                held = cache.get(f"{number:064x}"[::-1])
                assert held is not None
                assert len(held.first.faces) == number % 5 + 1


def test_a_file_that_holds_something_else_is_refused(manifest: Path) -> None:
    cache = Path(f"{manifest}{ENDING}")
    for content in ('{"a": 1}\n', "[]\n", '{"detector": "detector"}\n', '{"detector": "detector", "sha256": 3}\n'):
        cache.write_text(content)
        with pytest.raises(OutputError, match="move it away"):
            FaceCache(manifest, "detector")
        assert cache.read_text() == content


def test_a_cache_that_was_written_over_is_searched_anew(manifest: Path) -> None:
    with FaceCache(manifest, "detector") as cache:
        cache.put(found())
        assert cache.get("ab" * 32) is not None
        with Path(f"{manifest}{ENDING}").open("r+b") as file:
            file.write(b"#" * 20)
        assert cache.get("ab" * 32) is None


def test_a_full_disk_is_an_error_that_says_what_to_do(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FaceCache(manifest, "detector")
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:30]))
    with pytest.raises(OutputError, match="make room") as caught:
        cache.put(found())
    assert caught.value.kind == "disk"
    monkeypatch.undo()
    cache.put(found("cd" * 32))
    assert cache.get("cd" * 32) is not None
    assert cache.get("ab" * 32) is None


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path, samples: list[Sample]) -> None:
    with pytest.raises(OutputError, match="can't be written"):
        list(faces_of(samples, tmp_path / "gone" / "manifest.csv", Counting(), retry=False))


def test_what_was_found_survives_json() -> None:
    known = Faces("ab" * 32, 64, 48, ((0, Found((face(), face(50)), "padded")), (7, Found(()))), 30, "16/15")
    assert Faces.from_dict(json.loads(json.dumps(known.to_dict()))) == known
    assert known.any
    for broken in ({}, {**known.to_dict(), "frames": []}, {**known.to_dict(), "frames": [{"frame": 1}]}):
        with pytest.raises(ValueError, match="not what was found"):
            Faces.from_dict(broken)


def test_pictures_are_decoded_as_everywhere(tmp_path: Path, manifest: Path) -> None:
    """A picture that lies on its side is searched the right way up."""
    pixels = np.full((40, 80, 3), 200, np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    (result,) = look([Sample(str(tmp_path / "a.jpg"), None)], manifest, Counting())
    assert isinstance(result, Faces)
    assert (result.width, result.height) == (40, 80)
