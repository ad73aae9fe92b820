"""What `--data` may name."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from assay.cli import sources
from assay.data import manifest, shards
from assay.data.index import Index
from assay.data.table import Table
from assay.errors import ManifestError
from assay.types import Label, Sample


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """A folder of copies with its manifest."""
    samples = []
    for number in range(4):
        place = tmp_path / "copies" / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 20), (number, 0, 0)).save(place)
        samples.append(Sample(place=str(place), label=Label(number % 2), split="train" if number < 2 else "tune"))
    manifest.write(tmp_path / "copies" / "manifest.csv", samples)
    return tmp_path / "copies"


def test_training_takes_a_folder_of_copies_for_its_manifest_and_one_of_shards_for_its_index(
    copies: Path, tmp_path: Path
) -> None:
    assert len(sources.opened(str(copies))) == 4  # type: ignore[arg-type]
    shards.write(manifest.read(copies), tmp_path / "shards")
    for name in ("shards", "shards/shards.json"):
        assert isinstance(sources.opened(str(tmp_path / name)), Index)
    assert isinstance(sources.opened(str(tmp_path / "shards" / "manifest.csv")), Table)


def test_unfinished_shards_and_a_folder_of_pictures_say_what_to_do(copies: Path) -> None:
    (copies / "manifest.csv").unlink()
    with pytest.raises(ManifestError, match="assay data read LAYOUT"):
        sources.opened(str(copies))
    (copies / "unfinished.json").write_text("{}")
    with pytest.raises(ManifestError, match="not finished"):
        sources.opened(str(copies))


def test_an_address_is_for_training_only() -> None:
    with pytest.raises(ManifestError, match="only training reads from an address"):
        sources.rows("https://example.org/shards.json")


def test_rows_are_chosen_by_split_under_either_name_of_tune(copies: Path) -> None:
    assert {sample.split for sample in sources.rows(str(copies), ["val"])} == {"tune"}
    assert len(sources.rows(str(copies), ["train", "tune"])) == len(sources.rows(str(copies))) == 4
    with pytest.raises(ManifestError, match="no split called 'test'"):
        sources.rows(str(copies), ["train", "test"])
