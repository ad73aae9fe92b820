"""What a worker does, without Ray."""

from __future__ import annotations

import dataclasses
import functools
import io
import os
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import assay
from answering import Reply, Server
from assay.errors import AssayError
from assay.image.decode import Limits
from assay.judge import bundle
from assay.judge.scan import expand, scan
from assay.judge.sink import Result, State

pytest.importorskip("fsspec", reason="needs fsspec, which the extra cluster installs")
pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow, which the extra cluster installs")

from pyarrow import parquet  # noqa: E402

from assay.cluster import inputs, parts, plan, reading, storage, work  # noqa: E402
from assay.cluster.parts import Part  # noqa: E402
from assay.cluster.storage import Folder  # noqa: E402
from assay.cluster.work import Job, Worker  # noqa: E402


class Kept:
    """A sink that keeps all."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def holds(self, name: str) -> State | None:
        return None

    def write(self, result: Result) -> None:
        self.told.append(result.to_dict())

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setattr(storage, "WAITS", ())
    monkeypatch.setattr(work, "WAITS", (0.0,))
    return place


@pytest.fixture
def files(bundle_folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in bundle_folder.iterdir()}


@pytest.fixture
def picture(flat: Callable[..., Any]) -> Callable[[int], bytes]:
    """`picture(grey)`: a PNG."""

    def make(grey: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(flat(grey)).save(file, "PNG")
        return file.getvalue()

    return make


@pytest.fixture
def planned(bundle_folder: Path, here: Path) -> Callable[..., Job]:
    """`planned(*paths)`: a plan of these, in the folder "out", and what to do with it."""
    sha256 = bundle.read(bundle_folder).card.sha256

    def make(*paths: str, column: str | None = None, most: int = 1000, batch: int = 8, **options: Any) -> Job:
        folder = Folder(str(here / "out"))
        folder.make()
        made = plan.make(
            folder,
            lambda add: inputs.gather(paths, add, column=column, rows=most),
            detector=sha256,
            asked=paths,
            base=str(here),
            batch=batch,
            most=most,
        )
        return Job(folder.place, made.id, str(here), sha256, batch=batch, **options)

    return make


def told() -> list[dict[str, Any]]:
    """All results there are."""
    return list(parts.results(Path("out")))


def plain(detector: assay.Detector, *paths: str, **options: Any) -> list[dict[str, Any]]:
    """What an ordinary scan tells."""
    kept = Kept()
    scan(detector, expand(paths), kept, **options)
    return kept.told


def test_a_worker_judges_as_an_ordinary_scan_does(
    detector: assay.Detector, files: dict[str, bytes], planned: Callable[..., Job], picture: Callable[[int], bytes]
) -> None:
    Path("f").mkdir()
    for grey in range(0, 250, 10):
        Path(f"f/{grey:03d}.png").write_bytes(picture(grey))
    Path("f/odd \udcff.png").write_bytes(picture(77))
    Path("f/torn.png").write_bytes(picture(9)[:200])
    Path("f/large.png").write_bytes(picture(9) + bytes(100_000))
    Path("f/loop.png").symlink_to("loop.png")
    limits = Limits(bytes=50_000)
    job = planned("f", "gone.jpg", "no*.jpg", limits=limits)
    done = Worker(job, files).judge(0)
    assert done == {"plan": job.plan, "chunk": 0, "judged": 26, "failed": 5, "verdicts": done["verdicts"]}
    assert sum(done["verdicts"].values()) == 26
    assert told() == plain(detector, "f", "gone.jpg", "no*.jpg", limits=limits)
    assert {result["error"]["kind"] for result in told() if "error" in result} >= {"missing", "too_many_bytes"}


def test_a_worker_finds_relative_names_from_any_folder(
    files: dict[str, bytes],
    planned: Callable[..., Job],
    picture: Callable[[int], bytes],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    here: Path,
) -> None:
    Path("a.png").write_bytes(picture(200))
    job = planned("a.png")
    monkeypatch.chdir(tmp_path)
    assert Worker(job, files).judge(0)["judged"] == 1
    monkeypatch.chdir(here)
    assert [result["input"] for result in told()] == ["a.png"]


def test_addresses_are_fetched_in_order_and_their_faults_told(
    detector: assay.Detector,
    files: dict[str, bytes],
    planned: Callable[..., Job],
    picture: Callable[[int], bytes],
    server: Server,
) -> None:
    slow = functools.partial(time.sleep, 0.02)
    addresses = [server.put(f"/{grey}.png", Reply(picture(grey), before=slow)) for grey in range(0, 250, 10)]
    addresses.insert(3, server.url("/gone.png"))
    addresses.insert(5, server.put("/torn.png", Reply(picture(9)[:200])))
    addresses.insert(7, server.put("/large.png", Reply(picture(9) + bytes(100_000))))
    addresses.insert(9, server.put("/secret.png", Reply(b"", 403)))
    Path("list.txt").write_text("\n".join(addresses))
    job = planned("list.txt", limits=Limits(bytes=50_000))
    Worker(job, files).judge(0)
    assert [result["input"] for result in told()] == addresses
    errors = {result["input"].rpartition("/")[2]: result["error"]["kind"] for result in told() if "error" in result}
    assert errors == {
        "gone.png": "missing",
        "torn.png": "truncated",
        "large.png": "too_many_bytes",
        "secret.png": "permission",
    }
    by_name = {result["input"].rpartition("/")[2]: result for result in told()}
    for grey in (0, 120, 240):
        alone = detector.judge(picture(grey)).to_dict()
        assert by_name[f"{grey}.png"] | {"input": "<bytes>"} == alone
    assert server.most > 1  # several at once


def test_what_a_tar_holds_is_judged_and_the_rest_passed_over(
    detector: assay.Detector, files: dict[str, bytes], planned: Callable[..., Job], picture: Callable[[int], bytes]
) -> None:
    with tarfile.open("s.tar", "w") as tar:
        for name in ("b.png", "b.json", "deep/a.PNG", ".hidden.png", "torn.png", "large.png"):
            content = {"torn.png": picture(9)[:200], "large.png": picture(9) + bytes(100_000)}.get(name, picture(200))
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    Worker(planned("s.tar", limits=Limits(bytes=50_000)), files).judge(0)
    names = ["s.tar::b.png", "s.tar::deep/a.PNG", "s.tar::torn.png", "s.tar::large.png"]
    assert [result["input"] for result in told()] == names
    # As if each had been named, which reads it from the tar.
    assert told() == plain(detector, *names, limits=Limits(bytes=50_000))


@pytest.mark.parametrize("cut", [0.5, 0.95])
def test_a_torn_tar_gives_what_it_holds_and_a_failure(
    files: dict[str, bytes], planned: Callable[..., Job], picture: Callable[[int], bytes], cut: float
) -> None:
    with tarfile.open("s.tar", "w") as tar:
        for number in range(4):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(picture(200))
            tar.addfile(member, io.BytesIO(picture(200)))
    whole = 4 * (512 + -(-len(picture(200)) // 512) * 512)
    Path("s.tar").write_bytes(Path("s.tar").read_bytes()[: int(cut * whole) - 600])
    done = Worker(planned("s.tar", "gone.tar"), files).judge(0)
    assert done["judged"] == (1 if cut == 0.5 else 3)
    assert done["failed"] == 1
    assert told()[-1]["input"] == "s.tar"
    assert told()[-1]["error"]["kind"] == "corrupt"


def test_cells_of_a_table_are_judged_in_order(
    detector: assay.Detector, files: dict[str, bytes], planned: Callable[..., Job], picture: Callable[[int], bytes]
) -> None:
    cells = [picture(grey) for grey in range(0, 240, 20)]
    cells[3] = None  # type: ignore[call-overload]
    cells[5] = b"no picture"
    parquet.write_table(
        pyarrow.table({"image": [cell and {"bytes": cell} for cell in cells]}), "t.parquet", row_group_size=4
    )
    job = planned("t.parquet", most=4)
    worker = Worker(job, files)
    assert [worker.judge(number)["judged"] for number in range(3)] == [3, 3, 4]
    names = [f"t.parquet::{number}/image" for number in range(12)]
    expected = plain(detector, *names)
    assert [result["error"]["kind"] for result in expected if "error" in result] == ["empty", "not_an_image"]
    found = told()
    assert found[3]["error"]["kind"] == "empty"
    assert [result for place, result in enumerate(found) if place != 3] == expected[:3] + expected[4:]


def test_a_table_that_changed_is_not_half_believed(
    files: dict[str, bytes], planned: Callable[..., Job], picture: Callable[[int], bytes]
) -> None:
    parquet.write_table(pyarrow.table({"image": [picture(200)] * 5}), "t.parquet")
    job = planned("t.parquet")
    parquet.write_table(pyarrow.table({"image": [picture(200)] * 4}), "t.parquet")
    assert Worker(job, files).judge(0)["failed"] == 1
    assert told()[-1]["error"]["kind"] == "corrupt"


def test_a_connection_that_breaks_off_inside_a_tar_is_tried_again(
    files: dict[str, bytes], planned: Callable[..., Job], picture: Callable[[int], bytes], server: Server
) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for number in range(3):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(picture(200))
            tar.addfile(member, io.BytesIO(picture(200)))
    whole = file.getvalue()
    address = server.put("/s.tar", Reply(whole[:6000], cut=len(whole) - 6000), Reply(whole))
    assert Worker(planned(address), files).judge(0)["judged"] == 3
    assert [result["input"] for result in told()] == [f"{address}::{number}.png" for number in range(3)]
    # Where it always does, the rest of it is one failure.
    address = server.put("/t.tar", Reply(whole[:12000], cut=len(whole) - 12000))
    assert Worker(planned(address), files).judge(0)["failed"] == 1
    assert told()[-1]["input"] == address
    assert told()[-1]["error"]["kind"] == "unreadable"


# ── once ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_chunk_that_is_done_is_not_done_again(
    files: dict[str, bytes],
    planned: Callable[..., Job],
    picture: Callable[[int], bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("a.png").write_bytes(picture(200))
    job = planned("a.png")
    first = Worker(job, files).judge(0)
    monkeypatch.setattr(work, "scan", None)
    assert Worker(job, files).judge(0) == first


def test_a_part_that_is_torn_or_of_an_older_plan_is_done_again(
    files: dict[str, bytes], planned: Callable[..., Job], picture: Callable[[int], bytes]
) -> None:
    Path("a.png").write_bytes(picture(200))
    part = Path("out/part-000000.parquet")
    Worker(planned("a.png"), files).judge(0)
    older = part.read_bytes()
    for content in (older[:-10], older):
        job = planned("a.png")
        part.write_bytes(content)
        assert Worker(job, files).judge(0)["plan"] == job.plan
        assert parts.tally(Folder("out"), part.name) is not None
    assert [path.name for path in Path("out").iterdir() if path.name != "_plan"] == [part.name]
    assert sorted(path.name for path in Path("out/_plan").iterdir()) == ["000000.jsonl", "plan.json"]


def test_a_worker_of_an_older_plan_writes_nothing(
    files: dict[str, bytes], planned: Callable[..., Job], picture: Callable[[int], bytes]
) -> None:
    Path("a.png").write_bytes(picture(200))
    worker = Worker(planned("a.png"), files)
    planned("a.png")  # as --fresh does
    error = worker.judge(0)["error"]
    assert error["kind"] == "output"
    assert "a folder that all of them share" in error["message"]
    assert not list(Path("out").glob("part-*"))


@pytest.mark.parametrize("spoilt", ["judge.json", "tiny.weights", "gone"])
def test_a_bundle_that_changed_on_its_way_is_refused(
    files: dict[str, bytes], planned: Callable[..., Job], spoilt: str
) -> None:
    if spoilt == "gone":
        del files["tiny.weights"]
    else:
        files[spoilt] = files[spoilt][:-1] + b"\0"
    error = Worker(planned("a.png"), files).judge(0)["error"]
    assert error["kind"] == ("torn" if spoilt == "gone" else "tampered")


def test_another_detector_than_the_plans_is_refused(files: dict[str, bytes], planned: Callable[..., Job]) -> None:
    job = dataclasses.replace(planned("a.png"), detector="0" * 64)
    assert Worker(job, files).judge(0)["error"]["kind"] == "tampered"


def test_a_bundle_leaves_nothing_behind(
    files: dict[str, bytes], planned: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    Worker(planned("a.png"), files)
    assert not list(scratch.iterdir())


# ── inputs that end the process ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of inputs over which a process ends, as by a crash of a decoder."""
    names: set[str] = set()
    real = work.loaded

    class Deadly:
        def __init__(self, detector: assay.Detector) -> None:
            self._detector = detector

        def judge_many(self, sources: Any, **options: Any) -> Any:
            def watched() -> Iterator[str]:
                for source in sources:
                    if Path(source).name in names:
                        os._exit(9)
                    yield source

            return self._detector.judge_many(watched(), **options)

    monkeypatch.setattr(work, "loaded", lambda job, files: Deadly(real(job, files)))
    return names


def in_a_process(job: Job, files: dict[str, bytes]) -> int:
    """Judge chunk 0 in a child; its exit status."""
    child = os.fork()
    if not child:
        try:
            Worker(job, files).judge(0)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_an_input_that_ends_the_process_becomes_a_failure(
    detector: assay.Detector,
    files: dict[str, bytes],
    planned: Callable[..., Job],
    picture: Callable[[int], bytes],
    deadly: set[str],
) -> None:
    names = [f"{number:02d}.png" for number in range(10)]
    for number, name in enumerate(names):
        Path(name).write_bytes(picture(20 * number))
    deadly.add("05.png")
    job = planned("gone.png", *names)
    statuses = [in_a_process(job, files)]
    while statuses[-1] == 9:
        statuses.append(in_a_process(job, files))
        assert len(statuses) < 20
    assert len(statuses) == 5  # twice in the common way, twice over that input, and through
    found = told()
    assert [result["input"] for result in found] == ["gone.png", *names]
    failed = {result["input"]: result["error"]["kind"] for result in found if "error" in result}
    assert failed == {"gone.png": "missing", "05.png": "crashed"}
    expected = {result["input"]: result for result in plain(detector, *names)}
    for result in found:
        if result["input"] not in failed:
            assert result["score"] == pytest.approx(expected[result["input"]]["score"], abs=1e-5)
    assert not list(Path("out/_plan").glob("*.tries"))


def test_a_machine_that_is_lost_once_makes_no_failure(
    files: dict[str, bytes], planned: Callable[..., Job], picture: Callable[[int], bytes], deadly: set[str]
) -> None:
    for name in ("a.png", "b.png"):
        Path(name).write_bytes(picture(200))
    job = planned("a.png", "b.png")
    deadly.add("b.png")
    assert [in_a_process(job, files) for _ in range(3)] == [9, 9, 9]
    deadly.clear()
    assert in_a_process(job, files) == 0
    assert [("error" in result) for result in told()] == [False, False]


def test_what_is_told_to_stop_a_scan_is_no_part(
    files: dict[str, bytes], planned: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*_: object, **__: object) -> None:
        raise AssayError("s3:// addresses need a library", kind="needs_extra")

    job = planned("http://host/a.png")
    monkeypatch.setattr(reading, "read", lacking)
    assert Worker(job, files).judge(0)["error"]["kind"] == "needs_extra"
    assert not list(Path("out").glob("part-*"))
    assert not list(Path("out/_plan").glob("*.tries"))


def test_a_part_takes_what_a_scan_writes(detector: assay.Detector, picture: Callable[[int], bytes]) -> None:
    Path("a.png").write_bytes(picture(200))
    part = Part()
    summary = scan(detector, ["a.png", "gone.png"], part)
    tally, content = part.finished("p", 3, summary)
    assert (tally.judged, tally.failed) == (1, 1)
    assert parquet.read_table(io.BytesIO(content)).num_rows == 2
