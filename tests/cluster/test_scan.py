"""Scans on a real cluster of two nodes in this machine."""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import assay
from answering import Reply, Server
from assay.errors import AssayError, OutputError
from assay.judge.scan import Summary, expand
from assay.judge.scan import scan as ordinary
from assay.judge.sink import Results

# Not imported here: the cluster's settings have to be there before.
if importlib.util.find_spec("ray") is None:
    pytest.skip("needs ray, which the extra cluster installs", allow_module_level=True)

from assay.cluster import parts, scan

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


def plain(detector: assay.Detector, *paths: str) -> list[dict[str, Any]]:
    """What an ordinary scan finds."""
    out = Path("plain.jsonl")
    with Results(out, "json", detector.sha256, fresh=True) as results:
        ordinary(detector, expand(paths), results)
    return [json.loads(line) for line in out.read_text().splitlines()]


def found(out: str = "out") -> list[dict[str, Any]]:
    return list(parts.results(Path(out)))


def times(out: str = "out") -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in Path(out).glob("part-*")}


def test_a_scan_finds_what_an_ordinary_one_does_to_the_bit(
    nodes: Nodes, detector: assay.Detector, bundle_folder: Path, photos: Callable[[int], None]
) -> None:
    photos(40)
    Path("photos/odd \udcff\n.png").symlink_to("../1.png")
    seen: list[int] = []
    summary = scan.scan(
        bundle_folder, ["photos", "gone*.jpg"], "out", most=8, progress=lambda stands: seen.append(stands.done)
    )
    expected = plain(detector, "photos", "gone*.jpg")
    assert found() == expected
    assert summary.failed == sum("error" in result for result in expected) == 6
    assert summary.judged == len(expected) - 6 == sum(summary.verdicts.values())
    assert seen == sorted(seen)
    assert seen[-1] == len(expected) == 42
    assert len(seen) == len(times()) == 6
    # Again: all is there, and nothing is done.
    before = times()
    again = scan.scan(bundle_folder, ["photos", "gone*.jpg"], "out")
    assert (again.judged_before, again.failed_before, again.judged, again.failed) == (36, 6, 0, 0)
    assert times() == before


def test_killed_workers_and_a_killed_node_lose_and_double_nothing(
    nodes: Nodes, detector: assay.Detector, bundle_folder: Path, photos: Callable[[int], None]
) -> None:
    photos(120)
    deeds: dict[int, Callable[[], object]] = {2: nodes.kill_worker, 5: nodes.kill_worker, 8: nodes.kill_far}
    chunks = 0

    def disturb(_: Summary) -> None:
        nonlocal chunks
        chunks += 1
        if chunks in deeds:
            deeds.pop(chunks)()

    try:
        summary = scan.scan(bundle_folder, ["photos"], "out", most=4, batch=4, progress=disturb)
    finally:
        nodes.revive()
    assert not deeds
    expected = plain(detector, "photos")
    counts = Counter(result["input"] for result in found())
    assert set(counts) == {result["input"] for result in expected}  # nothing lost
    assert set(counts.values()) == {1}  # nothing doubled
    assert summary.done == 120
    for one, other in zip(found(), expected, strict=True):
        assert one["input"] == other["input"]
        assert one.get("score") == pytest.approx(other.get("score"), abs=1e-5)
        assert one.get("verdict") == other.get("verdict")
    assert [path.name for path in Path("out").iterdir() if not path.name.startswith("part-")] == ["_plan"]
    assert not list(Path("out/_plan").glob("*.tries"))


def test_a_scan_that_was_stopped_goes_on(
    nodes: Nodes, detector: assay.Detector, bundle_folder: Path, photos: Callable[[int], None]
) -> None:
    photos(60)

    def stop(stands: Summary) -> None:
        if stands.done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan.scan(bundle_folder, ["photos"], "out", most=4, batch=4, progress=stop)
    kept = times()
    assert 4 <= len(kept) < 15
    Path("photos/new.png").symlink_to("../0.png")  # the plan stands
    with pytest.raises(OutputError, match="other inputs"):
        scan.scan(bundle_folder, ["photos", "0.png"], "out")
    summary = scan.scan(bundle_folder, ["photos"], "out")
    assert summary.judged_before + summary.failed_before >= 16
    assert summary.done == 60
    assert {name: time for name, time in times().items() if name in kept} == kept
    Path("photos/new.png").unlink()
    assert [result["input"] for result in found()] == [result["input"] for result in plain(detector, "photos")]


def test_what_stops_a_worker_stops_the_scan_and_is_told(
    nodes: Nodes, bundle_folder: Path, photos: Callable[[int], None]
) -> None:
    photos(9)

    def lose(_: object) -> None:
        Path("out/_plan/plan.json").unlink()

    with pytest.raises(AssayError, match="does not find this scan") as caught:
        scan.scan(bundle_folder, ["photos"], "out", planned=lose)
    assert caught.value.kind == "output"


def test_a_driver_outside_the_cluster_reads_addresses_and_tars_there(
    nodes: Nodes, detector: assay.Detector, bundle_folder: Path, photos: Callable[[int], None], server: Server
) -> None:
    pytest.importorskip("grpc", reason="needs grpcio, which the extra cluster installs")
    photos(1)
    with tarfile.open("s.tar", "w") as tar:
        for number in range(3):
            tar.add(f"{number}.png")
    for number in range(3):
        server.put(f"/{number}.png", Reply(Path(f"{number}.png").read_bytes()))
    addresses = [server.url(f"/{number}.png") for number in range(3)]
    Path("list.txt").write_text("\n".join([*addresses, server.url("/gone.png")]))
    command = [sys.executable, "-m", "assay", "scan", "-d", str(bundle_folder), "list.txt", "s.tar"]
    done = subprocess.run([*command, "--on", nodes.client, "--out", "out"], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("6 judged: ")
    assert "1 could not be judged" in done.stderr
    assert done.stderr.count("\n") == 1
    names = [*addresses, server.url("/gone.png"), *(f"s.tar::{number}.png" for number in range(3))]
    assert [result["input"] for result in found()] == names
    for number in range(3):
        told = detector.judge(io.BytesIO(Path(f"{number}.png").read_bytes()).getvalue()).to_dict()
        assert found()[number] | {"input": "<bytes>"} == told
        assert found()[4 + number] | {"input": "<bytes>"} == told
