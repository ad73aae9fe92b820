from __future__ import annotations

import io
import itertools
import os
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import assay
from assay.errors import OutputError
from assay.image.decode import DEFAULT, Limits
from assay.judge.scan import Summary, expand, scan
from assay.judge.sink import Result, Results, State
from assay.types import Failure, Ruling, Verdict


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tests name files relative to an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"")


def names(*paths: str, stdin: bytes | None = None, null: bool = False) -> list[str]:
    found = list(expand(paths, stdin=None if stdin is None else io.BytesIO(stdin), null=null))
    assert all(isinstance(item, str) for item in found), found
    return [item for item in found if isinstance(item, str)]


def failures(*paths: str) -> list[tuple[str, str]]:
    return [(item.input, item.kind) for item in expand(paths) if isinstance(item, Failure)]


# ── what paths stand for ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_folder_is_the_pictures_in_it_in_order() -> None:
    touch("f/b.jpg", "f/a.PNG", "f/notes.txt", "f/c/z.webp", "f/c/deep/x.heic", "f/d.tiff", "f/noending")
    assert names("f") == ["f/a.PNG", "f/b.jpg", "f/c/deep/x.heic", "f/c/z.webp", "f/d.tiff"]
    assert names("f/") == names("f")


def test_a_folders_videos_are_inputs_too_but_typescript_is_no_video() -> None:
    touch("f/a.mp4", "f/b.MOV", "f/c/d.webm", "f/e.mkv", "f/g.avi", "f/h.mpg", "f/i.ts", "f/j.wmv")
    assert names("f") == ["f/a.mp4", "f/b.MOV", "f/c/d.webm", "f/e.mkv", "f/g.avi", "f/h.mpg", "f/j.wmv"]
    assert names("f/i.ts") == ["f/i.ts"]


def test_hidden_files_and_folders_are_passed_over_unless_named() -> None:
    touch("f/.a.jpg", "f/.git/b.jpg", "f/c.jpg", ".h/d.jpg")
    assert names("f") == ["f/c.jpg"]
    assert names("f/.a.jpg") == ["f/.a.jpg"]
    assert names(".h") == [".h/d.jpg"]


def test_a_file_that_is_named_is_tried_whatever_its_ending() -> None:
    touch("notes.txt")
    assert names("notes.txt", "missing.jpg") == ["notes.txt", "missing.jpg"]


def test_names_stay_as_they_were_given() -> None:
    touch("f/a.jpg")
    assert names("./f/a.jpg") == ["./f/a.jpg"]
    assert names("f/../f") == ["f/../f/a.jpg"]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a.jpg", "a.jpg"], ["a.jpg"]),
        (["a.jpg", "./a.jpg", "f/../a.jpg"], ["a.jpg"]),
        (["f/b.jpg", "f"], ["f/b.jpg", "f/c/d.jpg"]),
        (["f", "f/b.jpg", "f/c/d.jpg", "f"], ["f/b.jpg", "f/c/d.jpg"]),
        (["f/c", "f"], ["f/c/d.jpg", "f/b.jpg"]),
        (["f", "f/e.txt"], ["f/b.jpg", "f/c/d.jpg", "f/e.txt"]),
        (["gone.jpg", "./gone.jpg", "no/gone.jpg", "./no/gone.jpg"], ["gone.jpg", "no/gone.jpg"]),
        (["*.jpg", "a.jpg"], ["a.jpg"]),
        (["link", "f/b.jpg"], ["link/b.jpg", "link/c/d.jpg"]),
    ],
)
def test_an_entry_that_several_paths_lead_to_comes_once(paths: list[str], expected: list[str]) -> None:
    touch("a.jpg", "f/b.jpg", "f/c/d.jpg", "f/e.txt")
    Path("link").symlink_to("f")
    assert names(*paths) == expected


def test_two_links_to_one_picture_are_two_inputs() -> None:
    touch("f/a.jpg")
    Path("f/b.jpg").symlink_to("a.jpg")
    os.link("f/a.jpg", "f/c.jpg")
    assert names("f") == ["f/a.jpg", "f/b.jpg", "f/c.jpg"]


def test_a_link_back_up_is_an_error_line_and_the_walk_ends() -> None:
    touch("f/a.jpg", "f/sub/b.jpg")
    Path("f/sub/up").symlink_to("..")
    Path("f/self").symlink_to(".")
    assert [item for item in expand(["f"]) if isinstance(item, str)] == ["f/a.jpg", "f/sub/b.jpg"]
    assert failures("f") == [("f/self", "not_a_file"), ("f/sub/up", "not_a_file")]


def test_a_folder_is_walked_once_even_where_links_lead_to_it() -> None:
    touch("f/x/a.jpg")
    Path("f/y").symlink_to("x")
    assert names("f") == ["f/x/a.jpg"]


def test_links_that_lead_nowhere_are_inputs_so_that_judging_says_so() -> None:
    Path("f").mkdir()
    Path("f/broken.jpg").symlink_to("nowhere")
    Path("f/loop.jpg").symlink_to("loop.jpg")
    assert names("f") == ["f/broken.jpg", "f/loop.jpg"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_folder_without_permission_is_an_error_line() -> None:
    touch("f/locked/a.jpg", "f/z.jpg")
    Path("f/locked").chmod(0)
    try:
        assert failures("f") == [("f/locked", "permission")]
        assert "f/z.jpg" in list(expand(["f"]))
    finally:
        Path("f/locked").chmod(0o700)


def test_a_folder_that_fails_is_an_error_line_and_the_walk_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    touch("f/a/1.jpg", "f/b/2.jpg", "f/c/3.jpg", "f/d.jpg")
    real_scandir = os.scandir

    def scandir(path: str) -> Any:
        if path.endswith("/a"):
            raise PermissionError(13, "Permission denied")
        if path.endswith("/b"):
            raise FileNotFoundError(2, "No such file or directory")
        return real_scandir(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = [item if isinstance(item, str) else (item.input, item.kind) for item in expand(["f"])]
    assert found == [("f/a", "permission"), ("f/b", "missing"), "f/c/3.jpg", "f/d.jpg"]


def test_a_pattern_is_what_it_matches_and_a_file_of_that_very_name_wins() -> None:
    touch("p/b.jpg", "p/a.jpg", "p/q/c.jpg", "p/[x].jpg", "p/x.jpg")
    assert names("p/?.jpg") == ["p/a.jpg", "p/b.jpg", "p/x.jpg"]
    assert names("p/**/c.jpg") == ["p/q/c.jpg"]
    assert names("p/[x].jpg") == ["p/[x].jpg"]
    assert names("p/[ab].jpg") == ["p/a.jpg", "p/b.jpg"]
    assert names("[p]") == ["p/[x].jpg", "p/a.jpg", "p/b.jpg", "p/q/c.jpg", "p/x.jpg"]


def test_a_pattern_that_matches_nothing_is_an_error_line() -> None:
    assert failures("none/*.jpg") == [("none/*.jpg", "missing")]


def test_a_pattern_through_a_loop_of_links_gives_each_entry_once() -> None:
    touch("f/a.jpg")
    Path("f/self").symlink_to(".")
    assert names("f/**/*.jpg") == ["f/a.jpg"]


def test_stdin_gives_one_path_a_line_and_folders_are_walked() -> None:
    touch("a b.jpg", "f/c.jpg", "d*.jpg")
    assert names("-", stdin=b"a b.jpg\n\nf\nd*.jpg\na b.jpg\nlast") == ["a b.jpg", "f/c.jpg", "d*.jpg", "last"]


def test_stdin_with_nul_bytes_takes_names_with_newlines() -> None:
    assert names("-", stdin=b"a\nb.jpg\0c.jpg\0", null=True) == ["a\nb.jpg", "c.jpg"]


def test_stdin_takes_names_that_are_no_utf8_and_nonsense_with_nul_bytes() -> None:
    assert names("-", stdin=b"\xff\xfe.jpg\na\0b.jpg\n") == ["\udcff\udcfe.jpg", "a\0b.jpg"]


def test_a_long_list_on_stdin_is_split_across_reads() -> None:
    paths = [f"{'x' * 100}{number}.jpg" for number in range(3000)]
    assert names("-", stdin="\n".join(paths).encode()) == paths


def test_names_with_newlines_and_odd_bytes_come_through() -> None:
    odd = [b"f/line\nbreak.jpg", b"f/\xff\xfe.jpg", "f/雨.jpg".encode()]
    Path("f").mkdir()
    for name in odd:
        Path(os.fsdecode(name)).write_bytes(b"")
    assert sorted(map(os.fsencode, names("f"))) == sorted(odd)


def test_a_tree_deeper_than_pythons_stack_is_walked() -> None:
    depth = 1100
    descriptors = [os.open(".", os.O_RDONLY)]
    for _ in range(depth):
        os.mkdir("d", dir_fd=descriptors[-1])
        descriptors.append(os.open("d", os.O_RDONLY, dir_fd=descriptors[-1]))
    os.close(os.open("a.jpg", os.O_CREAT, dir_fd=descriptors[-1]))
    try:
        assert names("d") == ["d/" * depth + "a.jpg"]
    finally:
        os.unlink("a.jpg", dir_fd=descriptors[-1])
        for descriptor, above in zip(reversed(descriptors), reversed(descriptors[:-1]), strict=False):
            os.close(descriptor)
            os.rmdir("d", dir_fd=above)
        os.close(descriptors[0])


def test_the_walk_is_lazy(monkeypatch: pytest.MonkeyPatch) -> None:
    touch("f/a/1.jpg", "f/b/2.jpg")
    listed: list[str] = []
    real_scandir = os.scandir

    def scandir(path: str) -> Any:
        listed.append(path)
        return real_scandir(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert next(expand(["f"])) == "f/a/1.jpg"
    assert listed == ["f", "f/a"]


# ── a run over them ──────────────────────────────────────────────────────────────────────────────────────────────────


class Fake:
    """Judges by name: "bad" fails, "stop" is Ctrl-C."""

    def __init__(self) -> None:
        self.judged: list[str] = []
        self.closed = False
        self.every: float | None = None

    def judge_many(
        self,
        sources: Iterable[str],
        *,
        limits: Limits = DEFAULT,
        batch: int = 8,
        workers: int = 2,
        every: float | None = None,
    ) -> Iterator[Result]:
        self.every = every
        drawing = iter(sources)
        try:
            while part := list(itertools.islice(drawing, batch)):
                for name in part:
                    yield self.one(name)
        finally:
            self.closed = True

    def one(self, name: str) -> Result:
        if "stop" in name:
            raise KeyboardInterrupt
        self.judged.append(name)
        if "bad" in name:
            return Failure(name, "truncated", "get it again")
        return Verdict(
            verdict=Ruling.REAL,
            score=0.1,
            threshold=0.7,
            doubt=(0.3, 0.7),
            fpr=0.05,
            streams=(),
            reasons=(),
            detector={"name": "fake", "version": "1", "sha256": "ab" * 32},
            input=name,
            sha256="cd" * 32,
            width=1,
            height=1,
        )


class Memory:
    """A sink that remembers."""

    def __init__(self, before: dict[str, State] | None = None) -> None:
        self.results: list[Result] = []
        self.before = before or {}

    def holds(self, name: str) -> State | None:
        return self.before.get(name)

    def write(self, result: Result) -> None:
        self.results.append(result)

    def close(self) -> None: ...


def test_every_input_has_one_result_in_order_and_failures_are_among_them() -> None:
    lost = Failure("folder", "permission", "ask its owner")
    inputs: list[str | Failure] = [lost, *(f"{n}.jpg" for n in range(9)), lost, lost, "bad.jpg", "z.jpg", lost]
    sink = Memory()
    summary = scan(Fake(), inputs, sink, batch=4)
    assert [result.input for result in sink.results] == [
        item if isinstance(item, str) else item.input for item in inputs
    ]
    assert (summary.judged, summary.failed, summary.done) == (10, 5, 15)
    assert summary.verdicts == {"fake": 0, "real": 10, "uncertain": 0}
    assert summary.seconds > 0


def test_inputs_that_the_sink_holds_are_passed_over_and_counted() -> None:
    detector, sink = Fake(), Memory({"a.jpg": "judged", "b.jpg": "failed"})
    summary = scan(detector, ["a.jpg", "b.jpg", "c.jpg"], sink)
    assert detector.judged == ["c.jpg"]
    assert (summary.judged_before, summary.failed_before, summary.judged, summary.done) == (1, 1, 1, 3)


def test_how_often_a_video_is_looked_at_is_handed_on() -> None:
    detector = Fake()
    scan(detector, ["a.mp4"], Memory(), every=0.5)
    assert detector.every == 0.5


def test_nothing_to_judge_is_an_empty_summary() -> None:
    assert scan(Fake(), [], Memory()).done == 0


def test_progress_is_told_after_each_result() -> None:
    told: list[int] = []

    def progress(summary: Summary) -> None:
        told.append(summary.done)

    scan(Fake(), ["a.jpg", "bad.jpg", "c.jpg"], Memory(), progress=progress)
    assert told == [1, 2, 3]


def test_ctrl_c_leaves_what_was_done_and_the_next_run_does_the_rest(here: Path) -> None:
    out, first, inputs = here / "r.jsonl", Fake(), ["a.jpg", "bad.jpg", "stop.jpg", "d.jpg"]
    with pytest.raises(KeyboardInterrupt), Results(out, "json", "ab" * 32) as results:
        scan(first, inputs, results)
    assert first.closed
    second = Fake()
    second.one = lambda name: Fake.one(second, name.replace("stop", "go"))  # type: ignore[method-assign]
    with Results(out, "json", "ab" * 32) as results:
        scan(second, inputs, results)
    assert second.judged == ["go.jpg", "d.jpg"]
    assert [line.split(b'"')[3] for line in out.read_bytes().splitlines()] == [name.encode() for name in inputs]


def test_a_sink_that_fails_stops_the_run_and_ends_the_decoding() -> None:
    class Full(Memory):
        def write(self, result: Result) -> None:
            raise OutputError("full", kind="disk")

    detector = Fake()
    with pytest.raises(OutputError, match="full") as caught:
        scan(detector, ["a.jpg", "b.jpg"], Full())
    assert detector.closed, "not only when the error is forgotten"
    assert caught.value.kind == "disk"


def test_a_result_carries_the_name_that_was_given() -> None:
    class Renaming(Fake):
        def one(self, name: str) -> Result:
            return super().one(name.upper())

    sink = Memory()
    scan(Renaming(), ["a.jpg"], sink)
    assert sink.results[0].input == "a.jpg"


def test_memory_does_not_grow_with_the_number_of_inputs() -> None:
    class Nothing(Memory):
        def write(self, result: Result) -> None: ...

    class Forgetful(Fake):
        def one(self, name: str) -> Result:
            return Failure(name, "truncated", "get it again")

    def peak(count: int) -> int:
        tracemalloc.start()
        scan(Forgetful(), (f"folder/{number:09}.jpg" for number in range(count)), Nothing())
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(100)
    assert peak(20_000) < peak(500) + 50_000


def test_the_real_detector_judges_good_files_and_reports_bad_ones(
    detector: assay.Detector, flat: Callable[..., Any], here: Path
) -> None:
    Path("f").mkdir()
    for number in range(5):
        Image.fromarray(flat(40 * number)).save(f"f/{number}.png")
    touch("f/empty.jpg")
    Path("f/torn.png").write_bytes(Path("f/0.png").read_bytes()[:200])
    sink = Memory()
    summary = scan(detector, expand(["f", "gone.jpg"]), sink, batch=2)
    kinds = {result.input: result.kind for result in sink.results if isinstance(result, Failure)}
    assert kinds == {"f/empty.jpg": "empty", "f/torn.png": "truncated", "gone.jpg": "missing"}
    assert summary.judged == 5
    assert [result.input for result in sink.results] == [*(f"f/{n}.png" for n in range(5)), *kinds]
