"""The index of shards: what is wrong with it, or with the tars beside it, is told before anything is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.data import index as documents
from assay.data import shards
from assay.data.index import INDEX, SUFFIXES, Index
from assay.errors import ManifestError
from assay.image import container
from assay.types import Label, Sample


def edit(folder: Path, change: Callable[[dict[str, Any]], None], name: str = INDEX) -> None:
    index = json.loads((folder / name).read_text())
    change(index)
    (folder / name).write_text(json.dumps(index))


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(ManifestError) as caught:
        call()
    return str(caught.value)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    samples = []
    for number in range(12):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(b"\xff\xd8\xff picture %d" % number)
        samples.append(Sample(str(path), Label(number >= 5), split="train"))
    shards.write(samples, tmp_path / "out", most=3)
    return tmp_path / "out"


def test_every_kind_of_file_that_is_read_has_a_name_in_a_tar() -> None:
    pictures = {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"}
    assert set(SUFFIXES) == pictures | container.VIDEOS


@pytest.mark.parametrize("name", ["../a.tar", "a/b.tar", "/etc/a.tar", "a.json", "C:a.tar", "..", "a\\b.tar", ".a.tar"])
def test_a_shard_whose_name_leads_elsewhere_is_refused(out: Path, name: str) -> None:
    edit(out, lambda index: index["shards"][0].update(name=name))
    assert "plain file name" in refused(lambda: Index.open(out))


@pytest.mark.parametrize(
    "change", [{"bytes": -1}, {"bytes": 1 << 60}, {"samples": 0}, {"sha256": "x"}, {"label": "maybe"}, {"split": "all"}]
)
def test_an_index_with_impossible_values_is_refused_with_their_place(out: Path, change: dict[str, Any]) -> None:
    edit(out, lambda index: index["shards"][1].update(change))
    assert f"shards.1.{next(iter(change))}" in refused(lambda: Index.open(out))


def test_an_index_that_names_a_shard_twice_is_refused(out: Path) -> None:
    edit(out, lambda index: index["shards"].append(index["shards"][0]))
    assert "twice" in refused(lambda: Index.open(out))


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"format": "other"}'])
def test_a_file_that_is_no_index_is_refused(out: Path, text: str) -> None:
    (out / "shards.json").write_text(text)
    assert "write the shards again" in refused(lambda: Index.open(out))


def test_an_index_of_a_later_version_says_so(out: Path) -> None:
    edit(out, lambda index: index.update(version=2))
    assert "version 2" in refused(lambda: Index.open(out))


def test_a_tar_that_is_missing_or_of_another_size_is_told_at_once(out: Path) -> None:
    (out / "train-real-000000.tar").unlink()
    (out / "train-fake-000001.tar").write_bytes(b"torn")
    with pytest.raises(ManifestError) as caught:
        Index.open(out)
    assert [line.partition(":")[0] for line in caught.value.problems] == [
        "train-real-000000.tar",
        "train-fake-000001.tar",
    ]


@pytest.mark.parametrize("where", ["pipe:cat shards.json", "file:///etc/passwd", "ftp://host/shards.json", "gs://b/x"])
def test_no_scheme_but_http_is_known(where: str) -> None:
    assert "folder or an http(s) address" in refused(lambda: Index.open(where))


def test_a_place_without_an_index_says_what_to_give(tmp_path: Path) -> None:
    assert "no such index" in refused(lambda: Index.open(tmp_path))
    assert "no such index" in refused(lambda: Index.open(tmp_path / "nowhere"))


def test_shards_of_a_class_are_chosen_and_a_wrong_choice_names_what_there_is(out: Path) -> None:
    index = Index.open(out)
    assert {shard.label for shard in index.select(split="train", label=Label.FAKE)} == {Label.FAKE}
    assert index.select() == index.shards == index.select(split=["train", "tune"])
    assert "train-fake, train-real" in refused(lambda: index.select(split="test"))


def test_a_stop_while_an_index_is_written_is_a_stop_and_leaves_the_one_that_was(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (out / INDEX).read_bytes()

    def stopped(label: Label | None) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(documents, "word", stopped)
    with pytest.raises(KeyboardInterrupt):
        documents.save(out / INDEX, documents.read(out / INDEX))
    assert (out / INDEX).read_bytes() == before
