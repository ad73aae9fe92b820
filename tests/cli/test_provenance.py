"""`assay provenance`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image, PngImagePlugin
from typer.testing import CliRunner

from assay import cli
from assay.image.provenance.sign import BESIDE, NOTHING


def run(*line: object) -> Any:
    return CliRunner().invoke(cli.app, ["provenance", *map(str, line)], catch_exceptions=False)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a picture that says nothing, one of a camera, one of a generator, and no picture."""
    plain = Image.new("RGB", (8, 8))
    plain.save(tmp_path / "plain.png")
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "Canon", "EOS R5"
    plain.save(tmp_path / "camera.jpg", exif=exif)
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a cat\x1b[31m\nSteps: 20, Sampler: Euler a, Seed: 42")
    plain.save(tmp_path / "made.png", pnginfo=info)
    (tmp_path / "torn.png").write_bytes(b"no picture")
    return tmp_path


def test_signs_are_told_in_words_with_what_they_are_worth(pictures: Path) -> None:
    told = run(pictures / "plain.png", pictures / "camera.jpg", pictures / "made.png")
    assert (told.exit_code, told.stderr) == (0, "")
    plain, camera, made = told.stdout.split(str(pictures))[1:]
    assert plain == f"/plain.png\n  {NOTHING}\n"
    assert "  camera (exif): Its Exif data say that a camera took it: Canon EOS R5.\n    make: Canon\n" in camera
    assert "  generated (generator): " in made
    assert "    seed: 42\n" in made
    assert camera.endswith(f"  {BESIDE}\n")
    assert made.endswith(f"  {BESIDE}\n")


def test_what_a_file_holds_cannot_steer_the_terminal(pictures: Path) -> None:
    told = run(pictures / "made.png")
    assert "\x1b" not in told.stdout
    assert r"\x1b[31m" in told.stdout


def test_machines_get_an_object_a_line(pictures: Path) -> None:
    told = run(pictures / "made.png", pictures / "plain.png", "--json")
    made, plain = map(json.loads, told.stdout.splitlines())
    assert made["input"] == str(pictures / "made.png")
    assert made["signs"][0]["says"] == "generated"
    assert set(made["signs"][0]) == {"kind", "says", "title", "detail", "verified"}
    assert plain == {"input": str(pictures / "plain.png"), "signs": [], "unread": [], "told": NOTHING}


def test_a_file_that_cannot_be_read_is_named_and_the_others_go_on(pictures: Path) -> None:
    line = (pictures / "torn.png", pictures / "none.png", pictures / "camera.jpg")
    told = run(*line)
    assert told.exit_code == 1
    assert "torn.png: not a picture" in told.stderr
    assert "none.png: no such file" in told.stderr
    assert "Canon" in told.stdout
    told = run(*line, "--json")
    assert told.exit_code == 1
    torn, none, camera = map(json.loads, told.stdout.splitlines())
    assert (torn["error"]["kind"], none["error"]["kind"]) == ("not_an_image", "missing")
    assert camera["signs"]


def test_certificates_to_trust_are_checked_before_any_work(pictures: Path) -> None:
    for file in (pictures / "none.pem", pictures / "torn.png"):
        told = run(pictures / "camera.jpg", "--trust", file)
        assert (told.exit_code, told.stdout) == (2, "")
        assert "--trust" in told.stderr


def test_certificates_to_trust_reach_the_reader(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.image import provenance

    (pictures / "roots.pem").write_text("certificates")
    given = []
    real = provenance.provenance
    monkeypatch.setattr(provenance.c2pa, "holds_certificates", "certificates".__eq__)
    monkeypatch.setattr(provenance, "provenance", lambda path, **more: given.append(more) or real(path))
    assert run(pictures / "camera.jpg", "--trust", pictures / "roots.pem").exit_code == 0
    assert given == [{"trusted": "certificates"}]


def test_it_loads_no_network_and_no_library_for_pictures_without_a_record(pictures: Path) -> None:
    code = (
        "import sys; sys.argv = ['assay', 'provenance', sys.argv[1]]\n"
        "import atexit; atexit.register(lambda: print(*sorted({name.partition('.')[0] for name in sys.modules})))\n"
        "from assay.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(pictures / "camera.jpg")], capture_output=True, check=True, text=True
    )
    assert not set(done.stdout.splitlines()[-1].split()) & {"torch", "onnxruntime", "c2pa", "requests", "cryptography"}
