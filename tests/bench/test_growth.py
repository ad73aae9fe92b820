"""The bench of growth: what is divided by what, on times that were made up, and one real scan."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from benches import loaded


@pytest.fixture(scope="module")
def growth(beside: None) -> ModuleType:
    return loaded("growth")


class Made:
    """Stands for a scan: `base` seconds and `each` for every file, and memory of one MiB for every hundred files."""

    def __init__(self, base: float, each: float) -> None:
        self.base, self.each = base, each
        self.asked: list[tuple[str, int]] = []

    def __call__(self, folder: Path, count: int) -> tuple[float, float]:
        assert count == sum(1 for path in folder.rglob("*") if path.is_file())
        self.asked.append((folder.name, count))
        return self.base + self.each * count, 100 + count / 100


def test_what_the_first_file_takes_is_taken_off_and_sizes_take_turns(growth: ModuleType, tmp_path: Path) -> None:
    scan = Made(base=0.5, each=0.01)
    found = growth.by_files((10, 1200), tmp_path, 2, scan, lambda told: None)
    assert scan.asked == [
        ("one", 1),
        *[("one", 1), ("10", 10), ("1200", 1200)],
        *[("one", 1), ("1200", 1200), ("10", 10)],
    ]
    few, many = found["sizes"]
    assert (few["files"], many["files"]) == (10, 1200)
    assert few["seconds_per_file"]["value"] == pytest.approx(0.01)
    assert many["times_first"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert many["mib_times_first"]["value"] == pytest.approx(112 / 100.1, rel=1e-3)
    assert found["first"]["seconds"]["value"] == pytest.approx(0.51)


def test_names_share_the_files_that_there_are(growth: ModuleType, tmp_path: Path) -> None:
    growth.small(tmp_path / "small", 6)
    files = sorted((tmp_path / "small").iterdir())
    folder = growth.linked(files, tmp_path / "many", 1001)
    names = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(names) == 1001
    assert {path.stat().st_ino for path in names} == {file.stat().st_ino for file in files}
    assert sorted(place.name for place in folder.iterdir()) == ["000", "001"]
    shown = [np.asarray(Image.open(file)) for file in files]
    assert {pixels.shape for pixels in shown} == {(96, 96, 3)}
    assert not any(np.array_equal(one, other) for one, other in itertools.combinations(shown, 2))


def test_a_scan_of_many_that_is_no_longer_than_of_one_is_no_figure(growth: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="quieter machine"):
        growth.by_files((10,), tmp_path, 1, Made(base=0.5, each=0.0), lambda told: None)


def test_large_pictures_have_their_size_and_something_everywhere(growth: ModuleType, tmp_path: Path) -> None:
    found = growth.large(tmp_path / "a.png", 0.7, "PNG")
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        pixels = np.asarray(image)
    assert found == pytest.approx(0.7, rel=0.01)
    assert pixels.shape[0] * pixels.shape[1] == round(found * 1e6)
    assert pixels[-64:, -64:].std() > 0.5
    growth.large(tmp_path / "b.png", 0.7, "PNG")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_megapixel_is_held_against_the_smallest_of_its_format(
    growth: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scan(folder: Path, count: int) -> tuple[float, float]:
        """A file takes a second for each megapixel, and a PNG three."""
        [file, *_] = sorted(path for path in folder.rglob("*") if path.is_file())
        with Image.open(file) as image:
            megapixels = image.width * image.height / 1e6
        taken = {".png": 3, ".jpeg": 1}[file.suffix] * megapixels
        return (0.25 if folder.name == "one-of-them" else 0.25 + taken * (count - 1)), 100 * megapixels

    found = growth.by_pixels({0.05: 4, 0.2: 2}, tmp_path, 1, scan, lambda told: None)
    rows = {(row["format"], row["pictures"]): row for row in found["sizes"]}
    assert rows["JPEG", 2]["seconds_per_megapixel"]["value"] == pytest.approx(1, rel=1e-3)
    assert rows["PNG", 4]["seconds_per_megapixel"]["value"] == pytest.approx(3, rel=1e-3)
    assert rows["PNG", 2]["seconds_per_picture"]["value"] == pytest.approx(0.6, rel=0.02)
    assert {row["per_megapixel_times_first"]["value"] for row in rows.values()} == {1.0}
    assert rows["JPEG", 2]["mib_times_first"]["value"] == pytest.approx(4, rel=0.05)
    assert rows["JPEG", 4]["bytes"] < rows["PNG", 4]["bytes"]


def test_a_real_scan_is_timed_and_has_a_peak(growth: ModuleType, bundle_folder: Path, tmp_path: Path) -> None:
    growth.small(tmp_path / "small", 3)
    # The parent's own memory is not the scan's.
    held = np.ones(1 << 28, np.uint8)
    seconds, mib = growth.scanned(tmp_path / "small", 3, str(bundle_folder), "onnxruntime")
    assert 0 < seconds < 60
    assert 30 < mib < held.nbytes / 2**20


def test_a_scan_that_fails_is_no_figure(growth: ModuleType, bundle_folder: Path, tmp_path: Path) -> None:
    growth.small(tmp_path / "small", 2)
    with pytest.raises(SystemExit, match="gave 2 results"):
        growth.scanned(tmp_path / "small", 3, str(bundle_folder), "onnxruntime")
    (tmp_path / "small" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(SystemExit, match="status 1"):
        growth.scanned(tmp_path / "small", 3, str(bundle_folder), "onnxruntime")
