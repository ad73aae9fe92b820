"""Published weights are read from folders, files and the hub, and nothing in them can run."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file

from assay.errors import RecipeError
from assay.learn.weights import read

ONE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4)}


class Bomb:
    """Makes a file as soon as it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_a_folder_tells_its_config_its_hashes_and_what_stays_closed(tmp_path: Path) -> None:
    save_file(ONE, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    (tmp_path / "sklearn").mkdir()
    for name in ("knn.sav", "svm.joblib"):
        (tmp_path / "sklearn" / name).write_bytes(b"")
    found = read(str(tmp_path))
    assert torch.equal(found.tensors["a.weight"], ONE["a.weight"])
    assert found.config == {"model_type": "vit"}
    assert found.closed == ("sklearn/knn.sav", "sklearn/svm.joblib")
    assert (found.source, found.revision) == (tmp_path.name, "")
    assert found.files == {
        name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        for name in ("config.json", "model.safetensors")
    }


def test_a_file_is_read_alone(tmp_path: Path) -> None:
    save_file(ONE, tmp_path / "w.safetensors")
    (tmp_path / "config.json").write_text("not JSON")
    found = read(str(tmp_path / "w.safetensors"))
    assert (set(found.tensors), found.config, found.source) == (set(ONE), {}, "w.safetensors")
    assert set(found.files) == {"w.safetensors"}


def test_shards_are_put_together_and_a_lost_one_is_named(tmp_path: Path) -> None:
    names = {"a.weight": "x-1.safetensors", "b": "x-2.safetensors"}
    for key, name in names.items():
        save_file({key: ONE[key]}, tmp_path / name)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    found = read(str(tmp_path))
    assert set(found.tensors) == set(ONE)
    assert set(found.files) == {*names.values(), "model.safetensors.index.json"}
    (tmp_path / "x-2.safetensors").unlink()
    with pytest.raises(RecipeError, match=r"lacks x-2\.safetensors"):
        read(str(tmp_path))


@pytest.mark.parametrize("name", ["../up.safetensors", "/etc/passwd", "x.bin"])
def test_an_index_cannot_lead_out_of_its_folder(name: str, tmp_path: Path) -> None:
    place = tmp_path / "in"
    place.mkdir()
    save_file(ONE, tmp_path / "up.safetensors")
    (place / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a.weight": name}}))
    with pytest.raises(RecipeError, match="is no index of safetensors files"):
        read(str(place))


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_torch_file_of_plain_tensors_is_read(wrapped: bool, tmp_path: Path) -> None:
    held = {f"module.{name}": tensor for name, tensor in ONE.items()}
    torch.save({"model": held, "epoch": 3} if wrapped else held, tmp_path / "pytorch_model.bin")
    for place in (tmp_path, tmp_path / "pytorch_model.bin"):
        assert set(read(str(place)).tensors) == set(ONE)


def test_a_torch_file_that_would_run_something_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    torch.save({"a": Bomb(mark)}, tmp_path / "w.pth")
    with pytest.raises(RecipeError, match=r"unpickling it could run code.*save_file"):
        read(str(tmp_path / "w.pth"))
    assert not mark.exists()


@pytest.mark.parametrize("suffix", [".joblib", ".sav", ".pkl", ".PICKLE"])
def test_a_pickle_is_not_even_looked_at(suffix: str, tmp_path: Path) -> None:
    place = tmp_path / f"head{suffix}"
    save_file(ONE, place)
    with pytest.raises(RecipeError, match=r"is a pickle, and opening one can run code.*fitted anew on your rows"):
        read(str(place))


def test_safetensors_come_before_torch_files(tmp_path: Path) -> None:
    save_file(ONE, tmp_path / "model.safetensors")
    (tmp_path / "pytorch_model.bin").write_bytes(b"torn")
    assert set(read(str(tmp_path)).tensors) == set(ONE)


def test_half_precision_is_widened_and_what_is_not_finite_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2).bfloat16(), "n": torch.ones(1, dtype=torch.int64)}, tmp_path / "h.safetensors")
    tensors = read(str(tmp_path / "h.safetensors")).tensors
    assert (tensors["a"].dtype, tensors["n"].dtype) == (torch.float32, torch.int64)
    save_file({"a": torch.tensor([1.0, torch.nan])}, tmp_path / "n.safetensors")
    with pytest.raises(RecipeError, match="a holds numbers that are not finite"):
        read(str(tmp_path / "n.safetensors"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("model.safetensors", b"\x08\0\0", "is torn"),
        ("pytorch_model.bin", b"no zip", "cannot be read as plain tensors"),
        ("heads.sav", b"", r"holds neither .*heads\.sav would have to be unpickled"),
        ("notes.txt", b"", "holds neither model.safetensors"),
        ("config.json", b"[1]", "holds no object"),
    ],
)
def test_a_folder_that_gives_nothing_says_what_to_do(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecipeError, match=message):
        read(str(tmp_path))


def test_several_files_without_an_index_are_not_guessed_at(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_file(ONE, tmp_path / f"{name}.safetensors")
    with pytest.raises(RecipeError, match="which one is meant is not known"):
        read(str(tmp_path))
    (tmp_path / "b.safetensors").unlink()
    assert set(read(str(tmp_path)).tensors) == set(ONE)


# ── the hub ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """What the hub is asked for; its answer is a snapshot of one file."""
    snapshot = tmp_path / "snapshots" / ("ab" * 20)
    snapshot.mkdir(parents=True)
    save_file(ONE, snapshot / "model.safetensors")
    found: list[dict[str, Any]] = []

    def download(repository: str, **options: Any) -> str:
        found.append({"repository": repository} | options)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return found


@pytest.mark.parametrize("revision", [None, "v1.0"])
def test_a_repository_is_fetched_without_its_pickles(revision: str | None, asked: list[dict[str, Any]]) -> None:
    found = read("aimagelab/CoDE" + (f"@{revision}" if revision else ""))
    assert (found.source, found.revision) == ("aimagelab/CoDE", "ab" * 20)
    [request] = asked
    assert (request["repository"], request["revision"]) == ("aimagelab/CoDE", revision)
    assert set(request["allow_patterns"]) == {"config.json", "*.safetensors", "*.safetensors.index.json"}


@pytest.mark.parametrize(
    "place",
    ["owner/model.safetensors", "owner/heads.sav", "./CoDE", "/owner/name", "a/b/c", "CoDE", "here/CoDE", "../x"],
)
def test_a_slip_in_a_path_asks_no_network(
    place: str, asked: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    with pytest.raises(RecipeError, match=r"no weights at .*OWNER/NAME"):
        read(place)
    assert asked == []


def test_what_lies_here_wins_over_the_hub(
    asked: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "aimagelab" / "CoDE"
    place.mkdir(parents=True)
    save_file(ONE, place / "model.safetensors")
    assert read("aimagelab/CoDE").source == "CoDE"
    assert asked == []


def test_without_a_network_the_message_says_how_to_give_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: Any, **__: Any) -> str:
        raise LocalEntryNotFoundError("An error happened while trying to locate the files on the Hub.\nMore.")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(RecipeError, match=r"cannot fetch a/b .*: An error .*Hub\. Without a network.*give the folder"):
        read("a/b")
