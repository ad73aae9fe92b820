from __future__ import annotations

import csv
import errno
import importlib.util
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import assay
from assay import cli
from assay.cli import shell
from assay.cli import train as training
from assay.errors import AssayError, BundleError, InputError, ManifestError, MissingExtra, OverlapError, RecipeError
from assay.judge import scan as scanning
from assay.judge import sink


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle_folder: Path) -> Path:
    """A folder with two good pictures and a torn one; the tiny bundle is the only detector that is named."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ASSAY_BUNDLES", str(bundle_folder.parent))
    monkeypatch.setenv("COLUMNS", "200")
    return folder


@pytest.fixture
def photos(here: Path, flat: Callable[..., Any]) -> Path:
    (here / "photos").mkdir()
    Image.fromarray(flat(20)).save("photos/dark.png")
    Image.fromarray(flat(240)).save("photos/light.jpg")
    Path("photos/torn.png").write_bytes(Path("photos/dark.png").read_bytes()[:300])
    return Path("photos")


def run(*arguments: str, stdin: bytes = b"", code: int | None = None) -> Any:
    result = CliRunner().invoke(cli.app, list(arguments), input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.stderr
    if code is not None:
        assert result.exit_code == code, result.stderr
    return result


def scan(*arguments: str, **options: Any) -> Any:
    return run("scan", "-d", "tiny", *arguments, **options)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "assay", *arguments]


# ── scan ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_scan_prints_verdict_score_and_file_and_the_summary_apart(photos: Path) -> None:
    result = scan("photos", code=1)
    head, dark, light, torn = result.stdout.splitlines()
    assert head.split()[:3] == ["verdict", "score", "file"]
    assert re.match(r"real +0\.\d{3}  photos/dark\.png +score 0\.\d+ is below", dark)
    assert re.match(r"fake +[01]\.\d{3}  photos/light\.jpg +score", light)
    assert re.match(r"error +–  photos/torn\.png +\S", torn)
    assert "2 judged: 1 fake, 1 real, 0 uncertain; 1 could not be judged" in result.stderr


def test_a_json_line_has_the_keys_of_the_product(photos: Path, bundle_folder: Path) -> None:
    dark, light, torn = lines(scan("photos", "--json", code=1).stdout)
    loaded = assay.load(bundle_folder)
    assert dark["input"] == "photos/dark.png"
    assert (dark["verdict"], light["verdict"]) == ("real", "fake")
    assert light["score"] >= light["threshold"] == loaded.threshold
    assert light["fpr"] == loaded.fpr
    assert light["streams"] == [{"name": "grey", "score": light["score"]}]
    assert light["detector"] == {"name": "tiny", "version": "1", "sha256": loaded.sha256}
    assert (light["width"], light["height"]) == (80, 64)
    assert len(light["sha256"]) == 64
    assert set(torn) == {"input", "error"}
    assert torn["error"]["kind"] == "truncated"
    assert torn["error"]["message"]


def test_csv_goes_to_standard_output_with_a_header(photos: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(scan("photos", "--csv", code=1).stdout, newline="")))
    assert [row["verdict"] for row in rows] == ["real", "fake", ""]
    assert rows[2]["error_kind"] == "truncated"


@pytest.mark.parametrize("name", ["r.jsonl", "r.csv"])
def test_results_in_a_file_are_those_of_standard_output_and_nothing_is_printed(photos: Path, name: str) -> None:
    result = scan("photos", "--out", name, code=1)
    assert result.stdout == ""
    shown = scan("photos", "--json" if name.endswith("jsonl") else "--csv", code=1)
    assert Path(name).read_bytes() == shown.stdout_bytes


def test_a_scan_goes_on_with_its_file_and_still_says_that_some_failed(photos: Path) -> None:
    scan("photos/dark.png", "photos/torn.png", "--out", "r.jsonl", code=1)
    result = scan("photos/dark.png", "photos/torn.png", "photos/light.jpg", "--out", "r.jsonl", code=1)
    assert "1 judged" in result.stderr
    assert "2 were in r.jsonl before, 1 of them not judged" in result.stderr
    assert [line["input"] for line in lines(Path("r.jsonl").read_text())] == [
        "photos/dark.png",
        "photos/torn.png",
        "photos/light.jpg",
    ]
    scan("photos/dark.png", "--out", "r.jsonl", code=0)


def test_fresh_begins_anew(photos: Path) -> None:
    for _ in range(2):
        scan("photos/dark.png", "--out", "r.jsonl", "--fresh", code=0)
    assert len(lines(Path("r.jsonl").read_text())) == 1


def test_results_of_another_detector_are_refused(photos: Path) -> None:
    scan("photos/dark.png", "--out", "r.jsonl", code=0)
    text = Path("r.jsonl").read_text()
    Path("r.jsonl").write_text(text.replace(json.loads(text)["detector"]["sha256"], "ee" * 32))
    assert "another detector" in scan("photos", "--out", "r.jsonl", code=2).stderr


def test_paths_come_on_standard_input(photos: Path) -> None:
    result = scan("-", "--json", stdin=b"photos/dark.png\nphotos/light.jpg\n", code=0)
    assert [line["verdict"] for line in lines(result.stdout)] == ["real", "fake"]


def test_paths_on_standard_input_may_end_in_nul_bytes(photos: Path) -> None:
    (photos / "dark.png").rename(photos / "line\nbreak.png")
    [line] = lines(scan("-0", "-", "--json", stdin=b"photos/line\nbreak.png\0", code=0).stdout)
    assert line["input"] == "photos/line\nbreak.png"


def test_patterns_are_expanded_where_the_shell_did_not(photos: Path) -> None:
    [line] = lines(scan("photos/*.jpg", "--json", code=0).stdout)
    assert line["input"] == "photos/light.jpg"


def test_a_file_that_is_not_there_is_an_error_line_and_the_others_go_on(photos: Path) -> None:
    gone, dark = lines(scan("gone.jpg", "photos/dark.png", "--json", code=1).stdout)
    assert gone["error"]["kind"] == "missing"
    assert dark["verdict"] == "real"


def test_limits_are_flags(photos: Path) -> None:
    for flag, amount, kind in [("--max-bytes", "0.1k", "too_many_bytes"), ("--max-pixels", "5k", "too_many_pixels")]:
        [line] = lines(scan("photos/dark.png", flag, amount, "--json", code=1).stdout)
        assert line["error"]["kind"] == kind
    scan("photos/dark.png", "--max-bytes", "10MB", "--max-pixels", "1G", code=0)


def test_an_amount_that_is_none_is_a_usage_error(photos: Path) -> None:
    for amount in ["much", "-1", "0", "1T"]:
        assert "is not an amount" in scan("photos", f"--max-bytes={amount}", code=2).stderr


def test_frames_of_an_animation_are_as_many_as_asked_for(here: Path, flat: Callable[..., Any]) -> None:
    frames = [Image.fromarray(flat(level)) for level in (10, 60, 120, 180, 240)]
    frames[0].save("a.gif", save_all=True, append_images=frames[1:])
    [line] = lines(scan("a.gif", "--frames", "3", "--json", code=0).stdout)
    assert len(line["frames"]) == 3


def filmed(name: str, *levels: int) -> None:
    """A video, half a second a frame."""
    av = pytest.importorskip("av")
    with av.open(name, "w") as file:
        stream = file.add_stream("rawvideo", rate=2)
        stream.width, stream.height, stream.pix_fmt = 80, 64, "bgr24"
        for number, level in enumerate(levels):
            frame = av.VideoFrame.from_ndarray(np.full((64, 80, 3), level, np.uint8), format="bgr24")
            frame.pts = number
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def test_a_video_is_judged_as_often_as_asked_for_and_told_over_time(here: Path) -> None:
    filmed("a.avi", *range(10, 250, 10))
    [line] = lines(scan("a.avi", "--every", "2.5", "--json", code=0).stdout)
    assert [frame["time"] for frame in line["frames"]] == [0.0, 2.5, 5.0, 7.5, 10.0]
    assert set(line["consistency"]) == {"deviation", "change"}
    assert len(lines(scan("a.avi", "--json", code=0).stdout)[0]["frames"]) == 15
    assert len(lines(scan("a.avi", "--frames", "20", "--json", code=0).stdout)[0]["frames"]) == 20
    _, row, course = scan("a.avi", "--every", "2.5", code=0).stdout.splitlines()
    assert row.split()[2] == "a.avi"
    assert re.fullmatch(r" +0\.00 s \S{5} 10\.00 s, lowest 0\.00, highest 1\.00", course)


def test_the_limit_on_bytes_holds_for_videos_where_it_is_asked_for(here: Path) -> None:
    filmed("a.avi", 10, 20)
    [line] = lines(scan("a.avi", "--max-bytes", "1k", "--json", code=1).stdout)
    assert line["error"]["kind"] == "too_many_bytes"


def test_an_empty_folder_is_said_to_be_empty(here: Path) -> None:
    Path("empty").mkdir()
    result = scan("empty", code=0)
    assert "no pictures found" in result.stderr
    assert result.stdout == ""


def test_quiet_leaves_standard_error_empty(photos: Path) -> None:
    assert scan("photos", "--quiet", code=1).stderr == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photos", "--json", "--csv"], "choose one"),
        (["photos", "--fresh"], "needs --out"),
        (["photos", "--frames", "3", "--every", "1"], "choose one"),
        (["photos", "--every", "0"], "--every"),
        (["photos", "--out", "r.txt"], "end the name in .jsonl or .csv"),
        (["photos", "--out", "r.csv", "--json"], "does not go with"),
        (["photos", "--out", "none/r.csv"], "make it first"),
        (["photos", "--batch", "0"], "--batch"),
        ([], "PATH"),
    ],
)
def test_a_usage_error_says_what_to_do_and_exits_with_2(photos: Path, arguments: list[str], message: str) -> None:
    result = scan(*arguments, code=2)
    assert message in result.stderr
    assert result.stdout == ""
    assert not list(Path().glob("r.*"))


def test_an_unknown_detector_names_the_nearest(photos: Path) -> None:
    result = run("scan", "-d", "tinny", "photos", code=2)
    assert result.stderr.startswith("assay: no detector called 'tinny'; did you mean tiny?")


def test_markup_in_a_files_name_is_only_a_name(photos: Path) -> None:
    (photos / "dark.png").rename("[bold red]x.png")
    assert "[bold red]x.png" in scan("[bold red]x.png", code=0).stdout


def test_a_second_scan_into_one_file_is_told_so(photos: Path, bundle_folder: Path) -> None:
    with sink.Results("r.jsonl", "json", assay.load(bundle_folder).sha256):
        assert "another process is writing" in scan("photos", "--out", "r.jsonl", code=2).stderr


def test_a_full_disk_exits_with_1_and_says_how_to_go_on(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, result: Any) -> None:
        raise self._disk(OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(sink.Results, "write", full)
    assert "make room and run the same command again" in scan("photos", "--out", "r.jsonl", code=1).stderr


def test_ctrl_c_exits_with_130_and_says_how_to_go_on(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_write = sink.Results.write

    def write(self: Any, result: Any) -> None:
        real_write(self, result)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(sink.Results, "write", write)
        result = scan("photos", "--out", "r.jsonl", code=130)
    assert "stopped after" in result.stderr
    assert "run the same command again to go on" in result.stderr
    scan("photos", "--out", "r.jsonl", code=1)
    assert len(lines(Path("r.jsonl").read_text())) == 3


# ── the real command ─────────────────────────────────────────────────────────────────────────────────────────────────


def many(folder: str, count: int, flat: Callable[..., Any]) -> list[str]:
    Path(folder).mkdir()
    names = [f"{folder}/{number:03}.png" for number in range(count)]
    for number, name in enumerate(names):
        if number % 10 == 3:
            Path(name).write_bytes(b"no picture")
        else:
            Image.fromarray(flat(number % 256, 33, 35)).save(name)
    return names


def test_a_reader_that_leaves_is_no_error(here: Path, bundle_folder: Path, flat: Callable[..., Any]) -> None:
    many("f", 60, flat)
    process = subprocess.Popen(
        command("scan", "-d", str(bundle_folder), "f", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(240) in (shell.PIPE_CLOSED, shell.SOME_FAILED)
    assert b"Traceback" not in errors
    assert b"Broken" not in errors


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    "verb",
    [
        ["scan", "photos/dark.png", "--json", "-d"],
        ["scan", "photos/dark.png", "--csv", "-d"],
        ["scan", "photos/dark.png", "-d"],
        ["detectors"],
    ],
)
def test_standard_output_on_a_full_disk_is_one_line_of_error(
    photos: Path, bundle_folder: Path, verb: list[str]
) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command(*verb, str(bundle_folder)),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.decode().startswith("assay: cannot write the results (No space left on device)")
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


def test_kill_minus_9_loses_nothing(here: Path, bundle_folder: Path, flat: Callable[..., Any]) -> None:
    names = many("f", 150, flat)
    arguments = command("scan", "-d", str(bundle_folder), "f", "--out", "r.jsonl", "--batch", "2", "-q")
    out = Path("r.jsonl")
    sizes = []
    for target in (1, 8_000, 30_000):
        process = subprocess.Popen(arguments)
        deadline = time.monotonic() + 240
        while process.poll() is None and (not out.exists() or out.stat().st_size < target):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        sizes.append(out.stat().st_size)
    assert subprocess.run(arguments, check=False).returncode == 1
    assert sizes[0] < out.stat().st_size, "the first kill came before the end"
    found = lines(out.read_text())
    assert [line["input"] for line in found] == names
    assert [line["input"] for line in found if "error" in line] == names[3::10]
    assert subprocess.run(arguments, check=False).returncode == 1
    assert lines(out.read_text()) == found


def test_an_interrupt_of_the_real_command_exits_with_130(
    here: Path, bundle_folder: Path, flat: Callable[..., Any]
) -> None:
    names = many("f", 150, flat)
    arguments = command("scan", "-d", str(bundle_folder), "f", "--out", "r.jsonl", "--batch", "1")
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE)
    while not Path("r.jsonl").exists() or not Path("r.jsonl").stat().st_size:
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=240)
    assert b"Traceback" not in errors
    if process.returncode != 1:  # It may have been done before the signal came.
        assert process.returncode == 130
        assert b"run the same command again to go on" in errors
    subprocess.run(arguments, check=False, stderr=subprocess.DEVNULL)
    assert [line["input"] for line in lines(Path("r.jsonl").read_text())] == names


def on_a_terminal(arguments: list[str], *, stdout: bool, stderr: bool) -> tuple[str, str]:
    """What a command writes to (the terminal, the pipe) when the named streams are a terminal."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    for name in ("NO_COLOR", "FORCE_COLOR"):
        environment.pop(name, None)
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=follower if stdout else subprocess.PIPE,
        stderr=follower if stderr else subprocess.DEVNULL,
        env=environment,
    )
    os.close(follower)
    seen, piped = bytearray(), bytearray()
    sources = [leader, *([process.stdout.fileno()] if process.stdout else [])]
    while sources:
        for source in select.select(sources, [], [], 240)[0]:
            try:
                data = os.read(source, 1 << 16)
            except OSError:  # The terminal's last user has gone.
                data = b""
            (seen if source == leader else piped).extend(data)
            if not data:
                sources.remove(source)
    process.wait(240)
    os.close(leader)
    if process.stdout:
        process.stdout.close()
    return seen.decode(errors="surrogateescape"), piped.decode()


def test_a_terminal_gets_colours_and_escaped_names(here: Path, bundle_folder: Path, flat: Callable[..., Any]) -> None:
    Image.fromarray(flat(240)).save("a\x1b[7m[red].png")
    seen, _ = on_a_terminal(command("scan", "-d", str(bundle_folder), "a\x1b[7m[red].png"), stdout=True, stderr=True)
    assert "\x1b[1;31mfake" in seen
    assert "a\\x1b[7m[red].png" in seen
    assert "\x1b[7m" not in seen


def test_progress_is_on_the_terminal_and_results_alone_are_in_the_pipe(
    here: Path, bundle_folder: Path, flat: Callable[..., Any]
) -> None:
    names = many("f", 40, flat)
    seen, piped = on_a_terminal(
        command("scan", "-d", str(bundle_folder), "f", "--json", "--batch", "1"), stdout=False, stderr=True
    )
    assert [line["input"] for line in lines(piped)] == names
    assert "judging" in seen
    assert "36 judged" in seen
    seen, piped = on_a_terminal(
        command("scan", "-d", str(bundle_folder), names[0], "--json"), stdout=False, stderr=True
    )
    assert seen == "", "a few files need no progress and no summary"


def test_rows_and_bar_share_a_terminal_without_loss(here: Path, bundle_folder: Path, flat: Callable[..., Any]) -> None:
    names = many("f", 40, flat)
    seen, _ = on_a_terminal(command("scan", "-d", str(bundle_folder), "f", "--batch", "1"), stdout=True, stderr=True)
    for name in names:
        assert seen.count(name) == 1


def test_a_pipe_gets_no_colours(photos: Path, bundle_folder: Path) -> None:
    done = subprocess.run(command("scan", "-d", str(bundle_folder), "photos"), capture_output=True, check=False)
    assert b"\x1b" not in done.stdout + done.stderr


def test_a_console_that_cannot_show_a_character_does_not_stop_the_run(
    here: Path, bundle_folder: Path, flat: Callable[..., Any]
) -> None:
    Image.fromarray(flat(240)).save("雨.png")
    done = subprocess.run(
        command("scan", "-d", str(bundle_folder), "雨.png", "gone.png"),
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 1
    assert b"\\u96e8.png" in done.stdout


def test_scanning_loads_no_training_library(photos: Path, bundle_folder: Path) -> None:
    code = (
        "import sys; sys.argv = ['assay', 'scan', '-q', '-d', sys.argv[1], 'photos/dark.png']\n"
        "import atexit; atexit.register(lambda: print(*sorted({name.partition('.')[0] for name in sys.modules})))\n"
        "from assay.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(bundle_folder)], capture_output=True, check=True, text=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "onnxruntime" in loaded
    assert not loaded & {"torch", "torchvision", "timm", "sklearn", "onnx", "scipy", "rich"}


def test_help_loads_nothing_heavy() -> None:
    code = "import sys, assay.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert not set(done.stdout.split()) & {"onnxruntime", "PIL", "pydantic", "rich", "torch", "assay.judge"}


# ── every verb ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_version_is_printed() -> None:
    assert run("--version", code=0).stdout == f"assay {assay.__version__}\n"


def test_the_console_script_and_the_module_are_one_command() -> None:
    done = subprocess.run(command("--version"), capture_output=True, check=True, text=True)
    assert done.stdout == f"assay {assay.__version__}\n"


def test_no_verb_and_an_unknown_verb_are_usage_errors() -> None:
    assert run(code=2)
    assert run("judge", code=2).stdout == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BundleError("torn\x1b[2J"), 2),
        (RecipeError("no"), 2),
        (ManifestError("no"), 2),
        (OverlapError("no"), 2),
        (MissingExtra("training", "train"), 2),
        (InputError("no", kind="missing"), 1),
        (AssayError("no"), 2),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141),
    ],
)
def test_what_goes_wrong_on_purpose_is_one_line_and_a_status(
    error: BaseException, code: int, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(assay, "load", fail)
    result = scan("photos", code=code)
    assert result.stdout == ""
    assert "\x1b" not in result.stderr
    if isinstance(error, AssayError):
        assert result.stderr.startswith("assay: ")
        assert result.stderr.count("\n") == 1


def test_a_fault_of_ours_keeps_its_traceback(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(scanning, "scan", fail)
    with pytest.raises(ZeroDivisionError):
        scan("photos")


# ── detectors ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_detectors_lists_what_is_installed() -> None:
    text = run("detectors", code=0).stdout
    assert "tiny 1: Calls bright pictures fake." in text
    assert "It knows nothing" not in text
    assert "It can't tell real from fake." in text
    assert "mean colour" in text
    assert "at most 5% of real pictures are called fake" in text
    assert "nothing yet" in text


def test_detectors_shows_measured_figures_with_their_intervals(bundle_folder: Path) -> None:
    from assay.judge import bundle

    bundle.amend(bundle_folder, figures={"unseen": {"auc": {"value": 0.91234, "low": 0.88, "high": 0.94, "n": 700}}})
    for arguments in (["detectors"], ["detectors", "tiny"]):
        assert re.search(r"unseen auc +0\.912 \(0\.88 to 0\.94\), n = 700", run(*arguments, code=0).stdout)


def test_one_detector_is_shown_with_its_whole_card(bundle_folder: Path) -> None:
    text = run("detectors", str(bundle_folder), code=0).stdout
    for part in ("It knows nothing of pictures.", "at a score of 0.7000 or more", "from 0.3000 up to", "sources: none"):
        assert part in text
    assert assay.load(bundle_folder).sha256 in text


def test_detectors_for_machines_are_json_lines(bundle_folder: Path) -> None:
    entries = {entry["name"]: entry for entry in lines(run("detectors", "--json", code=0).stdout)}
    tiny = entries["tiny"]
    assert tiny["sha256"] == assay.load(bundle_folder).sha256
    assert tiny["bytes"] == sum(path.stat().st_size for path in bundle_folder.iterdir())
    assert (tiny["threshold"], tiny["doubt"], tiny["fpr"]) == (0.7, [0.3, 0.7], 0.05)


def test_a_spoilt_detector_is_named_and_the_others_are_listed(bundle_folder: Path, parts: Any) -> None:
    (bundle_folder / "judge.json").write_text("{}")
    parts.write(bundle_folder.parent / "whole")
    result = run("detectors", code=2)
    assert "judge.json" in result.stderr
    assert "tiny 1" in result.stdout
    assert "judge.json" in run("detectors", "tiny", code=2).stderr


# ── evaluate ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def data(here: Path, flat: Callable[..., Any]) -> str:
    rows = ["path,label,split,source,camera"]
    for number in range(24):
        fake, split = number % 2, "train" if number >= 16 else "test"
        level = (200 if fake else 30) + number
        name = f"{number}.png"
        Image.fromarray(flat(level, 40 + number, 50)).save(name)
        rows.append(f"{name},{'fake' if fake else 'real'},{split},s{number},c{number % 3}")
    Path("m.csv").write_text("\n".join(rows))
    return "m.csv"


def evaluate(*arguments: str, code: int = 0) -> Any:
    return run("evaluate", "tiny", "--rounds", "20", *arguments, code=code)


def test_an_evaluation_is_one_json_object(data: str) -> None:
    [found] = lines(evaluate("--data", data, "--by", "camera", "--json").stdout)
    assert found["rows"]["n"] == 16
    assert {"value", "low", "high"} <= set(found["metrics"]["auc"])
    assert found["metrics"]["auc"]["value"] == 1.0
    assert "camera" in found["groups"]
    assert found["controls"]


def test_an_evaluation_audits_the_columns_it_is_given(data: str) -> None:
    [found] = lines(evaluate("--data", data, "--by", "format", "--by", "camera*split", "--json").stdout)
    assert set(found["fairness"]["camera*split"]["groups"]) == {"c0*test", "c1*test", "c2*test"}
    assert found["fairness"]["format"]["groups"]["PNG"]["n_real"] == 8
    assert "NOT APPLIED" in evaluate("--data", data, "--by", "camera").stdout
    assert "no column called 'camra'; did you mean camera" in evaluate("--data", data, "--by", "camra", code=2).stderr


def test_an_evaluation_is_a_report_for_people(data: str) -> None:
    text = evaluate("--data", data).stdout
    assert "where 1 picture in 100 is fake" in text.replace("\n", " ")


def test_an_evaluation_takes_the_split_that_was_asked_for(data: str) -> None:
    [found] = lines(evaluate("--data", data, "--split", "train", "--json").stdout)
    assert found["rows"]["n"] == 8
    assert "split called 'tset'; did you mean test?" in evaluate("--data", data, "--split", "tset", code=2).stderr


def test_controls_may_be_fitted_on_other_rows(data: str) -> None:
    for rows in ("train", "m.csv"):
        [found] = lines(evaluate("--data", data, "--train", rows, "--json").stdout)
        assert found["controls"]


def test_robustness_is_measured_when_asked_for(data: str) -> None:
    [found] = lines(evaluate("--data", data, "--robustness", "--json").stdout)
    assert {"clean", "jpeg75"} <= set(found["robustness"])


def test_rows_that_the_detector_has_seen_are_refused(data: str, bundle_folder: Path, parts: Any) -> None:
    import hashlib

    from assay.judge.seen import Seen

    parts.seen = Seen.of(files=[hashlib.sha256(Path("0.png").read_bytes()).hexdigest()], origins=[], phashes=[])
    parts.write(bundle_folder)
    assert "0.png" in evaluate("--data", data, code=2).stderr
    [found] = lines(evaluate("--data", data, "--allow-seen", "--json").stdout)
    assert found["rows"]["seen"] == 1


def test_a_manifest_at_fault_is_refused_with_its_rows(data: str) -> None:
    Path("bad.csv").write_text("path,label\n0.png,real\ngone.png,fake\n1.png,perhaps\n")
    result = evaluate("--data", "bad.csv", code=2)
    assert "row 3" in result.stderr
    assert "row 4" in result.stderr
    assert result.stdout == ""


def test_rows_that_cannot_be_judged_exit_with_1(data: str) -> None:
    Path("0.png").write_bytes(b"no picture")
    result = evaluate("--data", data, "--json", code=1)
    assert lines(result.stdout)[0]["rows"]["failed"] == 1
    assert "1 row" in result.stderr


# ── train ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `train` was called with."""
    called: dict[str, Any] = {}

    def train(recipe: Any, samples: Any, out: Any, **options: Any) -> None:
        called.update(options, recipe=recipe, samples=samples, out=out)

    monkeypatch.setattr(training, "_trainer", lambda: train)
    return called


def test_training_is_called_with_what_was_asked_for(data: str, trained: dict[str, Any]) -> None:
    run(
        *("train", "code24", "--data", data, "--out", "new", "--minutes", "1.5", "--fresh", "--workers", "3"),
        *("--device", "cpu", "--seed", "7", "--set", "descend.pairs=16", "--set", "calibrate.fpr=0.01"),
        *("--name", "mine", "--precision", "fp32", "--cache", "tiles"),
        code=0,
    )
    recipe = trained.pop("recipe")
    assert recipe.name == "code24"
    assert {stage.stage: stage for stage in recipe.stages}["descend"].pairs == 16
    assert {stage.stage: stage for stage in recipe.stages}["calibrate"].fpr == 0.01
    assert len(trained.pop("samples")) == 24
    assert trained == {
        "out": Path("new"),
        "minutes": 1.5,
        "resume": False,
        "workers": 3,
        "device": "cpu",
        "seed": 7,
        "name": "mine",
        "precision": "fp32",
        "cache": Path("tiles"),
    }


def test_training_goes_on_by_itself_and_the_size_is_chosen(data: str, trained: dict[str, Any]) -> None:
    run("train", "code24", "--data", data, "--out", "new", code=0)
    small = trained["recipe"]
    assert trained["resume"] is True
    run("train", "code24", "--data", data, "--out", "new", "--size", "paper", code=0)
    assert trained["recipe"] != small


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cod24"], "did you mean code24"),
        (["code24", "--set", "descend.pears=3"], "did you mean pairs"),
        (["code24", "--set", "descend.pairs"], "write KEY=VALUE"),
        (["code24", "--set", "descend.pairs=many"], "cannot set descend.pairs"),
        (["code24", "--size", "big"], "neither small nor paper"),
        (["code24", "--device", "tpu"], "none of auto, cpu, cuda"),
        (["code24", "--precision", "int4"], "none of fp32, fp16 and int8"),
    ],
)
def test_a_training_that_cannot_be_says_why(
    arguments: list[str], message: str, data: str, trained: dict[str, Any]
) -> None:
    result = run("train", *arguments, "--data", data, "--out", "new", code=2)
    assert message in result.stderr
    assert not trained


@pytest.mark.skipif(importlib.util.find_spec("assay.learn.train") is None, reason="there is no training yet")
def test_training_without_its_libraries_names_the_extra(data: str) -> None:
    code = (
        "import sys\n"
        "class Blocker:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] in ('torch', 'torchvision', 'timm', 'sklearn', 'onnx'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
        "from assay.cli import main; main()"
    )
    arguments = ["train", "code24", "--data", data, "--out", "new"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'assay: training needs an extra: pip install "assay[train]"\n'
