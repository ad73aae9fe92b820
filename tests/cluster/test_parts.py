from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import assay
from assay.errors import InputError
from assay.judge.scan import Summary
from assay.types import Box, Failure, Glimpse, Ruling, StreamScore, Track, Verdict

pytest.importorskip("fsspec", reason="needs fsspec, which the extra cluster installs")
pandas = pytest.importorskip("pandas", reason="needs pandas, which the extra cluster installs")

import pyarrow  # noqa: E402
from pyarrow import parquet  # noqa: E402

from assay.cluster import parts  # noqa: E402
from assay.cluster.parts import Part, Tally  # noqa: E402
from assay.cluster.storage import Folder  # noqa: E402


def verdict(name: str = "a.jpg", **fields: Any) -> Verdict:
    given: dict[str, Any] = {
        "verdict": Ruling.FAKE,
        "score": 0.1 + 0.2,
        "threshold": 0.7,
        "doubt": (0.3, 0.7),
        "fpr": 0.05,
        "streams": (StreamScore("grey", 0.9, faces=((Box(1, 2, 3, 4), Ruling.FAKE),), views=(0.9,)),),
        "reasons": ("one, “two”", "three"),
        "detector": {"name": "tiny", "version": "1", "sha256": "ab", "head": "nearest", "card": "cd"},
        "input": name,
        "sha256": "ef" * 32,
        "width": 80,
        "height": 64,
    }
    return Verdict(**given | fields)


CLIP = verdict(
    "clip.mp4",
    frames=((0, 0.25), (10, 0.5)),
    times=(0.0, 0.4),
    tracks=(Track(1, (Glimpse(0, 0.0, Box(0, 0, 9, 9), 0.5),), 0.5, Ruling.UNCERTAIN, 0.0),),
)

RESULTS = [
    verdict(),
    verdict("no stream.jpg", verdict=Ruling.UNCERTAIN, score=None, streams=(StreamScore("grey", None, "too small"),)),
    CLIP,
    Failure("odd \udcff\0.jpg", "missing", "no \udcfe"),
    verdict("a\\udcff.jpg"),
    verdict("new\nline.jpg"),
]


def written(folder: Path, number: int, *results: Verdict | Failure) -> Tally:
    part, summary = Part(), Summary()
    for result in results:
        part.write(result)
        if isinstance(result, Failure):
            summary.failed += 1
        else:
            summary.judged += 1
            summary.verdicts[str(result.verdict)] += 1
    tally, content = part.finished("plan", number, summary)
    Folder(str(folder)).write(f"part-{number:06d}.parquet", content)
    return tally


def test_results_come_back_as_they_were_told(tmp_path: Path) -> None:
    written(tmp_path, 1, *RESULTS[3:])
    written(tmp_path, 0, *RESULTS[:3])
    assert list(parts.results(tmp_path)) == [result.to_dict() for result in RESULTS]


def test_nothing_that_a_verdict_tells_is_left_out(detector: assay.Detector, flat: Callable[..., Any]) -> None:
    told = detector.judge(flat(200)).to_dict()
    assert set(told) | {"frames", "consistency", "tracks"} == set(CLIP.to_dict())
    assert parts.result(dict.fromkeys(parts.SCHEMA.names) | parts.row(detector.judge(flat(200)))) == told


def test_a_tally_stands_in_the_footer(tmp_path: Path) -> None:
    tally = written(tmp_path, 7, *RESULTS)
    assert tally == Tally("plan", 7, 5, 1, {"fake": 4, "real": 0, "uncertain": 1})
    assert parts.tally(Folder(str(tmp_path)), "part-000007.parquet") == tally


def test_a_part_that_is_torn_or_gone_has_no_tally(tmp_path: Path) -> None:
    written(tmp_path, 0, *RESULTS)
    folder, file = Folder(str(tmp_path)), tmp_path / "part-000000.parquet"
    assert parts.tally(folder, "part-000001.parquet") is None
    whole = file.read_bytes()
    for content in (b"", whole[:-1], whole[: len(whole) // 2], b"PAR1"):
        file.write_bytes(content)
        assert parts.tally(folder, file.name) is None
        with pytest.raises(InputError, match="torn"):
            list(parts.results(tmp_path))
    parquet.write_table(pyarrow.table({"input": ["a"]}), file)
    assert parts.tally(folder, file.name) is None


def test_pandas_reads_the_folder_and_passes_over_the_plan(tmp_path: Path) -> None:
    written(tmp_path, 0, *RESULTS)
    written(tmp_path, 1, RESULTS[0])
    (tmp_path / "_plan").mkdir()
    (tmp_path / "_plan" / "plan.json").write_text("{}")
    (tmp_path / ".part-000002.parquet.ab.part").write_bytes(b"half")
    frame = pandas.read_parquet(tmp_path)
    assert len(frame) == 7
    assert list(frame.columns) == parts.SCHEMA.names
    assert frame.score[0] == RESULTS[0].score  # type: ignore[union-attr]
    assert np.isnan(frame.score[3])


def test_memory_holds_some_rows_only(tmp_path: Path) -> None:
    part = Part()
    for number in range(1000):
        part.write(dataclasses.replace(CLIP, input=str(number)))
        assert len(part._rows) < 256
    _, content = part.finished("plan", 0, Summary(judged=1000))
    (tmp_path / "part-000000.parquet").write_bytes(content)
    assert [result["input"] for result in parts.results(tmp_path)] == list(map(str, range(1000)))


def test_a_report_shows_what_a_scan_found(tmp_path: Path) -> None:
    from assay.measure import page

    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.jpg")
    written(tmp_path, 0, *RESULTS)
    section = page.of_results(parts.results(tmp_path), "results", picture=None)
    assert section.told["kind"] == "scan"
