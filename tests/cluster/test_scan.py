"""Scans on a cluster: what the driver does, and real ones on nodes in this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import assay
from answering import Reply, Server
from assay.data import lock
from assay.errors import AssayError, OutputError
from assay.judge.scan import Summary, expand
from assay.judge.scan import scan as ordinary
from assay.judge.sink import Results

fsspec = pytest.importorskip("fsspec", reason="needs fsspec, which the extra cluster installs")
pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow, which the extra cluster installs")

from pyarrow import parquet  # noqa: E402

from assay.cluster import parts, scan  # noqa: E402
from assay.cluster.work import Job, Worker  # noqa: E402

if TYPE_CHECKING:
    from conftest import Nodes


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def photos(here: Path) -> Callable[[int], None]:
    """`photos(count)`: links to pictures that take some time to decode, and every ninth input broken."""

    def make(count: int) -> None:
        shades = np.linspace(0, 255, 700)[None, :, None] * np.ones((700, 1, 3))
        for number, dark in enumerate((1, 2, 4)):
            Image.fromarray((shades / dark).astype(np.uint8)).save(here / f"{number}.png")
        (here / "photos").mkdir()
        for number in range(count):
            (here / "photos" / f"{number:03d}.png").symlink_to(f"../{number % 3}.png" if number % 9 else "nowhere")

    return make


def plain(detector: assay.Detector, *paths: str, **options: Any) -> list[dict[str, Any]]:
    """What an ordinary scan finds."""
    out = Path("plain.jsonl")
    with Results(out, "json", detector.sha256, fresh=True) as results:
        ordinary(detector, expand(paths), results, **options)
    return [json.loads(line) for line in out.read_text().splitlines()]


def found(out: str = "out") -> list[dict[str, Any]]:
    return list(parts.results(Path(out)))


def times(out: str = "out") -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in Path(out).glob("part-*")}


def stop_after(count: int) -> Callable[[Summary], None]:
    """Ctrl-C, once so many inputs are done."""

    def progress(stands: Summary) -> None:
        if stands.done >= count:
            raise KeyboardInterrupt

    return progress


# ── the driver ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker, in this process and without Ray."""

    def judged(job: Job, files: dict[str, bytes], todo: Sequence[int], *_: object) -> Iterator[dict[str, Any]]:
        worker = Worker(job, files)
        for number in todo:
            yield worker.judge(number)

    monkeypatch.setattr(scan, "_judged", judged)


@pytest.mark.usefixtures("alone")
def test_a_scan_that_was_stopped_goes_on(
    detector: assay.Detector, bundle_folder: Path, photos: Callable[[int], None]
) -> None:
    photos(30)
    with pytest.raises(KeyboardInterrupt):
        scan.scan(bundle_folder, ["photos"], "out", most=4, batch=4, progress=stop_after(16))
    kept = times()
    assert 4 <= len(kept) < 8
    Path("photos/new.png").symlink_to("../0.png")  # the plan stands
    with pytest.raises(OutputError, match="other inputs"):
        scan.scan(bundle_folder, ["photos", "0.png"], "out")
    summary = scan.scan(bundle_folder, ["photos"], "out")
    assert summary.judged_before + summary.failed_before >= 16
    assert summary.done == 30
    assert {name: time for name, time in times().items() if name in kept} == kept
    Path("photos/new.png").unlink()
    assert found() == plain(detector, "photos")
    begun_anew = scan.scan(bundle_folder, ["0.png"], "out", fresh=True)
    assert (begun_anew.done, begun_anew.judged_before) == (1, 0)
    assert [result["input"] for result in found()] == ["0.png"]


@pytest.mark.usefixtures("alone")
def test_what_is_done_is_known_by_its_parts(bundle_folder: Path, photos: Callable[[int], None]) -> None:
    photos(20)
    for out in ("out", "older"):
        scan.scan(bundle_folder, ["photos"], out, most=4, batch=4)
    before, kept = found(), times()
    Path("out/part-000001.parquet").unlink()
    Path("out/part-000003.parquet").write_bytes(Path("out/part-000003.parquet").read_bytes()[:-9])
    Path("older/part-000004.parquet").replace("out/part-000004.parquet")
    # What killed workers leave, and what one of an older plan wrote last.
    for name in ("out/.part-000002.parquet.ab.part", "out/_plan/000002.tries", "out/part-000099.parquet"):
        Path(name).write_bytes(b"")
    seen: list[int] = []
    scan.scan(bundle_folder, ["photos"], "out", progress=lambda stands: seen.append(stands.done))
    assert seen == [12, 16, 20]
    assert found() == before
    assert {name for name, time in times().items() if kept.get(name) != time} == {
        "part-000001.parquet",
        "part-000003.parquet",
        "part-000004.parquet",
    }
    assert sorted(path.name for path in Path("out").iterdir()) == ["_plan", *sorted(kept)]
    assert not list(Path("out/_plan").glob("*.tries"))


@pytest.mark.usefixtures("alone")
def test_what_stops_a_worker_stops_the_scan_and_is_told(bundle_folder: Path, photos: Callable[[int], None]) -> None:
    photos(9)

    def lose(_: object) -> None:
        Path("out/_plan/plan.json").unlink()

    with pytest.raises(AssayError, match="does not find this scan") as caught:
        scan.scan(bundle_folder, ["photos"], "out", planned=lose)
    assert caught.value.kind == "output"


def test_nobody_judges_any_more_once_the_folder_is_let_go(
    bundle_folder: Path, photos: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(1)
    held: list[bool] = []

    def judged(*_: object) -> Iterator[dict[str, Any]]:
        try:
            yield {"error": {"kind": "disk", "message": "full"}}
        finally:
            with pytest.raises(OutputError, match="another process"), lock.held(Path("out")):
                pass
            held.append(True)

    monkeypatch.setattr(scan, "_judged", judged)
    with pytest.raises(AssayError, match="full"):
        scan.scan(bundle_folder, ["photos"], "out")
    assert held == [True]
    with lock.held(Path("out")):
        pass


@pytest.mark.usefixtures("alone")
def test_inputs_and_results_may_all_lie_at_addresses(
    detector: assay.Detector, bundle_folder: Path, photos: Callable[[int], None]
) -> None:
    photos(0)
    files = fsspec.filesystem("memory")
    try:
        pictures = [Path(f"{number}.png").read_bytes() for number in range(3)]
        for number in range(20):
            files.pipe_file(f"/bucket/photos/{number:02d}.png", pictures[number % 3] if number % 9 else b"no picture")
        files.pipe_file("/bucket/list.txt", b"photos/00.png\nother/a.png\nother/gone.png")
        files.pipe_file("/bucket/other/a.png", pictures[1])
        with files.open("/bucket/t.parquet", "wb") as file:
            parquet.write_table(pyarrow.table({"image": pictures}), file)
        asked = [f"memory://bucket/{name}" for name in ("photos/", "list.txt", "t.parquet")]
        with pytest.raises(KeyboardInterrupt):
            scan.scan(bundle_folder, asked, "memory://bucket/out", most=8, progress=stop_after(8))
        summary = scan.scan(bundle_folder, asked, "memory://bucket/out")
        assert (summary.done, summary.failed + summary.failed_before, summary.judged_before) == (25, 4, 7)
        files.get("/bucket/out", "out", recursive=True)
    finally:
        files.store.clear()
        files.pseudo_dirs[:] = [""]
    told = found()
    names = [f"memory:///bucket/photos/{number:02d}.png" for number in range(20)]
    names += [f"memory://bucket/{name}" for name in ("other/a.png", "other/gone.png")]
    assert [result["input"] for result in told] == [*names, *(f"{asked[2]}::{row}/image" for row in range(3))]
    kinds = {result["input"]: result["error"]["kind"] for result in told if "error" in result}
    assert kinds == dict.fromkeys(names[0:20:9], "not_an_image") | {names[21]: "missing"}
    for place, number in ((1, 1), (20, 1), (24, 2)):
        assert told[place] | {"input": "<bytes>"} == detector.judge(pictures[number]).to_dict()


# ── real clusters ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_scan_finds_what_an_ordinary_one_does_to_the_bit(
    nodes: Nodes, detector: assay.Detector, bundle_folder: Path, photos: Callable[[int], None], here: Path
) -> None:
    photos(30)
    Path("photos/odd \udcff\n.png").symlink_to("../1.png")
    with tarfile.open("s.tar", "w") as tar:
        for number in range(3):
            tar.add(f"{number}.png")
    parquet.write_table(
        pyarrow.table({"image": [Path(f"{number}.png").read_bytes() for number in range(3)]}), "t.parquet"
    )
    # By fsspec, as in a store that all machines reach.
    asked, out = ["photos", "gone*.jpg", "s.tar", f"local://{here}/t.parquet"], f"local://{here}/out"
    seen: list[int] = []
    summary = scan.scan(bundle_folder, asked, out, most=8, progress=lambda stands: seen.append(stands.done))
    held = [f"s.tar::{number}.png" for number in range(3)]
    expected = plain(detector, "photos", "gone*.jpg", *held, *(f"t.parquet::{row}/image" for row in range(3)))
    for row in range(3):
        expected[row - 3]["input"] = f"local://{here}/t.parquet::{row}/image"
    assert found() == expected
    assert summary.failed == sum("error" in result for result in expected) == 5
    assert summary.judged == len(expected) - 5 == sum(summary.verdicts.values())
    assert seen == sorted(seen)
    assert seen[-1] == len(expected) == 38
    assert len(seen) == len(times()) == 6
    # Again: all is there, and nothing is done.
    before = times()
    again = scan.scan(bundle_folder, asked, out)
    assert (again.judged_before, again.failed_before, again.judged, again.failed) == (33, 5, 0, 0)
    assert times() == before


def test_killed_workers_and_a_killed_node_lose_and_double_nothing(
    nodes: Nodes, detector: assay.Detector, bundle_folder: Path, photos: Callable[[int], None]
) -> None:
    photos(80)
    far = nodes.add()
    deeds: dict[int, Callable[[], None]] = {2: nodes.kill_worker, 5: lambda: nodes.kill(far)}
    chunks = 0

    def disturb(_: Summary) -> None:
        nonlocal chunks
        chunks += 1
        if chunks in deeds:
            deeds.pop(chunks)()

    try:
        summary = scan.scan(bundle_folder, ["photos"], "out", most=4, batch=4, progress=disturb)
    finally:
        if deeds:
            nodes.kill(far)
    assert not deeds
    expected = plain(detector, "photos")
    counts = Counter(result["input"] for result in found())
    assert set(counts) == {result["input"] for result in expected}  # nothing lost
    assert set(counts.values()) == {1}  # nothing doubled
    assert summary.done == 80
    for one, other in zip(found(), expected, strict=True):
        assert one["input"] == other["input"]
        assert one.get("score") == pytest.approx(other.get("score"), abs=1e-5)
        assert one.get("verdict") == other.get("verdict")
    assert [path.name for path in Path("out").iterdir() if not path.name.startswith("part-")] == ["_plan"]
    assert not list(Path("out/_plan").glob("*.tries"))


def test_a_driver_outside_the_cluster_is_told_what_was_read_there(
    nodes: Nodes, detector: assay.Detector, bundle_folder: Path, photos: Callable[[int], None], server: Server
) -> None:
    pytest.importorskip("grpc", reason="needs grpcio, which the extra cluster installs")
    photos(0)
    for number in range(3):
        server.put(f"/{number}.png", Reply(Path(f"{number}.png").read_bytes()))
    addresses = [server.url(f"/{name}.png") for name in (0, 1, "gone", 2)]
    Path("list.txt").write_text("\n".join(addresses))
    command = [sys.executable, "-m", "assay", "scan", "-d", str(bundle_folder), "list.txt"]
    done = subprocess.run([*command, "--on", nodes.client, "--out", "out"], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("3 judged: ")
    assert "1 could not be judged" in done.stderr
    assert done.stderr.count("\n") == 1
    told = found()
    assert [result["input"] for result in told] == addresses
    assert told[2]["error"]["kind"] == "missing"
    for place, number in ((0, 0), (1, 1), (3, 2)):
        expected = detector.judge(Path(f"{number}.png").read_bytes()).to_dict()
        assert told[place] | {"input": "<bytes>"} == expected
