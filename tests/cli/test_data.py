"""`assay data`: what a person types, what comes out, and with which exit status."""

from __future__ import annotations

import functools
import http.server
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from assay import cli
from assay.data import layouts, manifest
from assay.data.derivations import derivations
from assay.data.index import Index
from assay.image.faces import Face
from assay.image.mtcnn import Mtcnn
from assay.types import Box, Label, Pixels


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, ["data", *arguments], catch_exceptions=False)


def picture(path: Path, seed: int, size: tuple[int, int] = (70, 60), **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 7, 3), dtype=np.uint8))
    coarse.resize(size).save(path, **options)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An ImageFolder: six reals as JPEG, six fakes as PNG of another size, one of them torn, and a text file."""
    root = tmp_path / "set"
    for number in range(6):
        picture(root / "real" / f"{number}.jpg", number, quality=70 + number)
        picture(root / "fake" / f"{number}.png", 100 + number, (64, 64))
    (root / "fake" / "notes.txt").write_text("not a picture")
    return root


@pytest.fixture
def table(tree: Path) -> Path:
    out = tree.parent / "manifest.csv"
    assert run("read", "imagefolder", str(tree), "--out", str(out)).exit_code == 0
    return out


def test_layouts_are_listed_with_a_line_each_and_shown_whole_by_name() -> None:
    listed = run("layouts").stdout
    assert [line.split()[0] for line in listed.splitlines()] == list(layouts.layouts())
    shown = run("layouts", "celebdf").stdout
    assert "List_of_testing_videos.txt" in shown
    assert "read from: " in shown
    assert json.loads(run("layouts", "celebdf", "--json").stdout)["name"] == "celebdf"
    unknown = run("layouts", "celebd")
    assert unknown.exit_code == 2
    assert "did you mean celebdf" in unknown.stderr


def test_reading_says_what_was_found_and_what_was_left_out(tree: Path) -> None:
    out = tree.parent / "manifest.parquet"
    result = run("read", "imagefolder", str(tree), "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "6 real" in result.stdout
    assert "6 fake" in result.stdout
    assert "left out 1: " in result.stdout
    assert "notes.txt" in result.stdout
    assert len(manifest.read(out)) == 12
    told = json.loads(run("read", "imagefolder", str(tree), "--out", str(out), "--json").stdout)
    assert told["rows"] == 12
    assert [left["count"] for left in told["left_out"]] == [1]


def test_a_tree_of_another_shape_is_refused_with_what_was_expected(tree: Path) -> None:
    result = run("read", "celebdf", str(tree), "--out", str(tree.parent / "m.csv"))
    assert result.exit_code == 2
    assert "is not laid out as celebdf" in result.stderr
    assert "Celeb-synthesis" in result.stderr
    assert not (tree.parent / "m.csv").exists()


def test_an_output_that_is_no_manifest_is_refused_before_anything_is_read(tree: Path) -> None:
    result = run("read", "imagefolder", str(tree), "--out", "table.xlsx")
    assert result.exit_code == 2
    assert ".parquet" in result.stderr
    result = run("read", "imagefolder", str(tree), "--out", "m.csv", "--set", "reel=x")
    assert result.exit_code == 2
    assert "did you mean real" in result.stderr


def test_a_check_names_rows_and_decides_the_exit_status(table: Path, tree: Path) -> None:
    rows = list(manifest.read(table))
    clean = run("check", str(table), "--json")
    assert json.loads(clean.stdout)["honest"] is (clean.exit_code == 0)
    (tree / "fake" / "0.png").write_bytes(b"torn")
    result = run("check", str(table))
    assert result.exit_code == 1
    assert "not fit to train or measure on" in result.stdout
    row = next(number for number, sample in enumerate(rows, start=2) if sample.place.endswith("fake/0.png"))
    assert f"row {row}" in result.stdout
    quick = run("check", str(table), "--table")
    assert "the pictures were not looked at" in quick.stdout
    assert quick.exit_code == 0


def test_a_faulty_manifest_is_checked_and_not_refused(table: Path) -> None:
    table.write_text(table.read_text().replace("real,", "reel,", 1))
    result = run("check", str(table), "--table")
    assert result.exit_code == 1
    assert "did you mean real" in result.stdout


def test_splits_are_shared_out_and_stay(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "split.csv"
    result = run("split", str(table), "--by", "path", "--shares", "0.5,0.2,0.3", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "12 rows by path" in result.stdout
    first = {Path(sample.place).name: sample.split for sample in manifest.read(out)}
    assert set(first.values()) <= {"train", "tune", "test"}
    again = run("split", str(table), "--by", "path", "--shares", "0.5,0.2,0.3", "--out", str(out), "--json")
    assert sum(part["rows"] for part in json.loads(again.stdout)["counts"]) == 12
    assert first == {Path(sample.place).name: sample.split for sample in manifest.read(out)}
    for wrong in (["--shares", "1,2"], ["--leave-out", "generator"], []):
        assert run("split", str(table), "--out", str(out), *wrong).exit_code == 2


def test_a_generator_is_left_out_for_the_test(table: Path, tmp_path: Path) -> None:
    rows = manifest.read(table)
    generator = np.where(rows.labels == 1, np.where(np.arange(12) % 2, "sdxl", "flux"), "")
    manifest.write(table, rows.with_column("generator", generator))
    result = run("split", str(table), "--leave-out", "generator=sdxl", "--shares", "0.5,0,0.5", "--out", str(table))
    assert result.exit_code == 0, result.output
    tested = {sample.generator for sample in manifest.select(manifest.read(table), split="test", label=1)}  # type: ignore[arg-type]
    assert tested == {"sdxl"}
    wrong = run("split", str(table), "--leave-out", "generator=sdx", "--out", str(table))
    assert wrong.exit_code == 2
    assert "did you mean sdxl" in wrong.stderr


def test_shards_are_written_and_written_again(table: Path, tmp_path: Path) -> None:
    for _ in range(2):
        result = run("shard", str(table), "--out", str(tmp_path / "shards"), "--most", "4")
        assert result.exit_code == 0, result.output
        assert "12 samples in 4 shards" in result.stdout
    assert Index.open(tmp_path / "shards").samples == 12
    other = run("shard", str(table), "--out", str(tmp_path / "shards"), "--most", "5")
    assert other.exit_code == 2
    assert "most" in other.stderr


def test_every_derivation_is_a_verb_that_tells_its_parameters() -> None:
    listed = run("--help").stdout
    for name in derivations():
        assert f"\n  {name} " in listed
        shown = run(name, "--help").stdout
        assert "Parameters, for --set:" in shown
        assert f"assay data {name} manifest.csv" in shown


def test_aligning_flattens_what_the_files_tell(table: Path, tmp_path: Path) -> None:
    arguments = ["align", str(table), "--out", str(tmp_path / "aligned"), "--workers", "0"]
    result = run(*arguments, "--set", "side=48", "--set", "draw.quality=[60,80]")
    assert result.exit_code == 0, result.output
    assert "12 files made, 12 rows" in result.stdout
    rows = manifest.read(tmp_path / "aligned" / "manifest.csv")
    assert {Image.open(sample.place).size for sample in rows} == {(48, 48)}
    assert all(sample.origin and sample.origin != sample.sha256 for sample in rows)


def test_a_parameter_that_does_not_exist_names_the_nearest(table: Path, tmp_path: Path) -> None:
    for setting, words in (("sid=3", "did you mean side"), ("side", "write KEY=VALUE"), ("draw.quality=9", "quality")):
        result = run("align", str(table), "--out", str(tmp_path / "a"), "--set", setting)
        assert result.exit_code == 2
        assert words in result.stderr
    assert not (tmp_path / "a").exists()


def test_rows_that_fail_are_listed_and_may_be_left_out(table: Path, tree: Path, tmp_path: Path) -> None:
    (tree / "fake" / "0.png").write_bytes(b"torn")
    arguments = ["degrade", str(table), "--out", str(tmp_path / "degraded"), "--workers", "0"]
    refused = run(*arguments)
    assert refused.exit_code == 1
    assert "0.png" in refused.stderr
    assert refused.stdout == ""
    kept = run(*arguments, "--skip")
    assert kept.exit_code == 1
    assert "11 files made" in kept.stdout
    assert "1 row failed and left out:" in kept.stderr
    assert len(manifest.read(tmp_path / "degraded" / "manifest.csv")) == 11


def test_of_many_rows_that_fail_the_rest_is_counted(table: Path, tree: Path, tmp_path: Path) -> None:
    for number in range(5, 27):
        (tree / "fake" / f"{number}.png").write_bytes(b"torn")
    run("read", "imagefolder", str(tree), "--out", str(table))
    shown = run("degrade", str(table), "--out", str(tmp_path / "degraded"), "--workers", "0", "--skip").stderr
    assert "22 rows failed" in shown
    assert shown.count("\n  row ") == 20
    assert shown.endswith("… and 2 more\n")


def test_where_every_row_fails_the_reasons_are_listed_though_they_might_be_left_out(
    table: Path, tree: Path, tmp_path: Path
) -> None:
    for path in (*tree.glob("real/*"), *tree.glob("fake/*.png")):
        path.write_bytes(b"torn")
    result = run("degrade", str(table), "--out", str(tmp_path / "degraded"), "--workers", "0", "--skip")
    assert result.exit_code == 1
    assert result.stderr.count("not a picture or video by its content") == 12


@pytest.mark.parametrize("verb", ["degrade", "shard"])
def test_machines_are_told_what_was_made_and_what_failed(table: Path, tree: Path, tmp_path: Path, verb: str) -> None:
    (tree / "fake" / "0.png").write_bytes(b"")
    out = tmp_path / "out"
    rows = manifest.read(table, check=False)
    number = int(rows.row_numbers[rows.column("path").tolist().index(str(tree / "fake" / "0.png"))])
    refused = run(verb, str(table), "--out", str(out), "--json")
    assert refused.exit_code == 1
    told = json.loads(refused.stdout)
    assert told["manifest"] is None
    assert [problem.split(":")[0] for problem in told["problems"]] == [f"row {number}"]
    kept = run(verb, str(table), "--out", str(out), "--json", "--skip")
    assert kept.exit_code == 1
    told = json.loads(kept.stdout)
    assert len(manifest.read(told["manifest"])) == told["rows"] == 11
    assert {part["label"]: part["rows"] for part in told["counts"]} == {"real": 6, "fake": 5}
    if verb == "shard":
        assert told["left_out"] == [{"row": number, "kind": "empty"}]
        assert (told["shards"], told["index"]) == (2, str(out / "shards.json"))
        assert told["bytes"] == sum(path.stat().st_size for path in out.glob("*.tar"))
    else:
        assert (told["made"], told["left_out"], len(told["problems"])) == (11, [], 1)


def test_what_reading_and_splitting_wrote_is_told_to_machines(table: Path, tree: Path) -> None:
    for arguments in (["read", "imagefolder", str(tree)], ["split", str(table), "--by", "path"]):
        told = json.loads(run(*arguments, "--out", str(table), "--json").stdout)
        assert (told["manifest"], told["rows"]) == (str(table), 12)


def test_a_manifest_that_cannot_be_written_is_told_before_the_work(
    table: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("it was read")

    monkeypatch.setattr(layouts, "read", never)
    out = str(tree / "fake" / "0.png" / "m.csv")
    for arguments in (["read", "imagefolder", str(tree)], ["split", str(table), "--by", "path"]):
        result = run(*arguments, "--out", out)
        assert result.exit_code == 1
        assert "cannot be written" in result.stderr


def test_a_split_that_no_row_has_names_the_nearest_or_says_how_to_split(table: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    for verb in ("degrade", "shard"):
        unsplit = run(verb, str(table), "--out", out, "--split", "test")
        assert unsplit.exit_code == 2
        assert f"no row has a split; run: assay data split {table}" in unsplit.stderr
    run("split", str(table), "--by", "path", "--shares", "0.5,0.25,0.25", "--out", str(table))
    wrong = run("degrade", str(table), "--out", out, "--split", "trian")
    assert wrong.exit_code == 2
    assert "did you mean train" in wrong.stderr
    assert not Path(out).exists()
    assert run("degrade", str(table), "--out", out, "--split", "val", "--workers", "0").exit_code == 0
    assert {sample.split for sample in manifest.read(out)} == {"tune"}


def test_shards_need_a_thread(table: Path, tmp_path: Path) -> None:
    result = run("shard", str(table), "--out", str(tmp_path / "shards"), "--workers", "0")
    assert result.exit_code == 2
    assert "--workers" in result.stderr


def test_a_folder_of_pictures_in_place_of_a_manifest_says_to_read_it_first(tree: Path) -> None:
    result = run("check", str(tree))
    assert result.exit_code == 2
    assert "read the data set in it first: assay data read LAYOUT" in result.stderr


SLOW = """
import sys, time
from assay.data import shards
from assay.image import place

read = place.read
def slowly(*arguments, **named):
    time.sleep(0.1)
    return read(*arguments, **named)
place.read = slowly
from assay.cli import main
main()
"""


@pytest.mark.parametrize(
    ("verb", "options", "made"),
    [("degrade", ["--workers", "0"], "*/*/*/*"), ("shard", ["--workers", "1", "--most", "1"], "*.tar")],
)
def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(
    table: Path, tmp_path: Path, verb: str, options: list[str], made: str
) -> None:
    out = tmp_path / "out"
    arguments = [verb, str(table), "--out", str(out), *options]
    command = [sys.executable, "-c", SLOW, "data", *arguments]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while len(list(out.glob(made))) < 2 and running.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    stdout, stderr = running.communicate(timeout=60)
    assert (running.returncode, stdout) == (130, ""), stderr
    assert stderr == f"assay: stopped; what is done is kept in {out}: run the same command again to go on\n"
    before = {path: path.stat().st_mtime_ns for path in out.glob(made)}
    assert 2 <= len(before) < 12
    # The signal may fall between a file and the note that it is whole; that one file is then made again.
    before.pop(max(before, key=lambda path: before[path]))
    assert run(*arguments).exit_code == 0
    assert len(manifest.read(out)) == 12
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert run(verb, str(table), "--out", str(tmp_path / "unbroken"), *options).exit_code == 0
    assert content(out, made) == content(tmp_path / "unbroken", made)


def content(folder: Path, pattern: str) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob(pattern)}


def test_a_folder_of_shards_or_copies_stands_for_its_manifest(table: Path, tmp_path: Path) -> None:
    run("shard", str(table), "--out", str(tmp_path / "shards"))
    assert json.loads(run("check", str(tmp_path / "shards"), "--json").stdout)["rows"] == 12


def test_crops_and_masked_eyes_of_one_manifest_search_each_picture_once(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = 0

    def detect(detector: Mtcnn, pixels: Pixels) -> list[Face]:
        nonlocal shown
        shown += 1
        return [Face(Box(5, 5, 45, 45), 0.97, ((15, 20), (35, 20), (25, 30), (18, 38), (32, 38)))]

    monkeypatch.setattr(Mtcnn, "detect", detect)
    score = ("--set", "search.score=0.95", "--workers", "0")
    cropped = run("faces", str(table), "--out", str(tmp_path / "faces"), *score)
    assert cropped.exit_code == 0, cropped.output
    assert "12 crops of faces" in cropped.stdout
    masked = run("eyes", str(table), "--out", str(tmp_path / "eyes"), *score, "--json")
    assert json.loads(masked.stdout)["tally"] == {"with a face that only an enhanced copy shows": 0}
    assert shown == 12
    found = Path(f"{table}.faces.jsonl").read_text().splitlines()
    assert len(found) == 12
    assert all("score 0.95" in line for line in found)
    again = run("faces", str(table), "--out", str(tmp_path / "all"), *score, "--set", "which=all")
    assert again.exit_code == 0
    assert shown == 12
    assert "search.score=0.9" in run("faces", "--help").stdout


def test_self_blended_copies_of_an_ordinary_manifest_are_fakes(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def detect(detector: Mtcnn, pixels: Pixels) -> list[Face]:
        return [Face(Box(5, 5, 45, 45), 0.97, ((15, 20), (35, 20), (25, 30), (18, 38), (32, 38)))]

    monkeypatch.setattr(Mtcnn, "detect", detect)
    arguments = ("selfblend", str(table), "--out", str(tmp_path / "blended"), "--workers", "0")
    result = run(*arguments, "--set", "share=0.5", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["rows"], told["made"], told["left_out"]) == (15, 3, [])
    assert told["tally"]["self-blended copies"] == 3
    rows = manifest.read(tmp_path / "blended" / "manifest.csv")
    assert Counter((row.label, row.generator) for row in rows) == Counter(
        {(Label.REAL, ""): 6, (Label.FAKE, ""): 6, (Label.FAKE, "self-blended"): 3}
    )


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A list of two pictures, of which the server at loopback has one."""
    served = tmp_path / "served"
    picture(served / "a.png", 1)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(served))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        urls = tmp_path / "urls.csv"
        at = f"http://127.0.0.1:{server.server_address[1]}"
        urls.write_text(f"id,url\n17,{at}/a.png\n18,{at}/b.png\n")
        yield urls
        server.shutdown()
        thread.join()


def test_fetching_says_what_came_and_what_did_not_and_the_exit_status_too(web: Path, tmp_path: Path) -> None:
    out = tmp_path / "reals"
    options = ("fetch", str(web), "--out", str(out), "--allow-private", "--pause", "0")
    result = run(*options)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"1 of 2 pictures in {out}; 2 asked for in this run",
        "1 not: nothing is there any more (HTTP 404 or 410) (gone)",
    ]
    assert result.stderr == ""
    assert (out / "17.png").read_bytes() == (tmp_path / "served" / "a.png").read_bytes()
    told = json.loads(run(*options, "--json").stdout)
    assert (told["listed"], told["asked"], told["counts"]) == (2, 0, {"fetched": 1, "gone": 1})
    assert Path(told["record"]).is_file()
    web.write_text("".join(web.read_text().splitlines(keepends=True)[:2]))
    assert run(*options).exit_code == 0


def test_fetching_from_private_addresses_must_be_allowed(web: Path, tmp_path: Path) -> None:
    result = run("fetch", str(web), "--out", str(tmp_path / "reals"))
    assert result.exit_code == 1
    assert "2 not: the host is not on the public internet (private)" in result.stdout
    assert "--again" in result.stderr


@pytest.mark.parametrize("wrong", [["--at-once", "0"], ["--pause", "-1"], ["--largest", "much"], []])
def test_fetching_wants_a_list_and_sensible_numbers(web: Path, tmp_path: Path, wrong: list[str]) -> None:
    if not wrong:
        web.write_text("name\nx\n")
    result = run("fetch", str(web), "--out", str(tmp_path / "reals"), *wrong)
    assert result.exit_code == 2
    assert not (tmp_path / "reals").exists()
    assert wrong or "assay data read d3" in result.stderr
