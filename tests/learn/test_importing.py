"""From published weights to a bundle that judges."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import save_file
from transformers import ViTConfig, ViTModel

import assay
from assay.data import manifest
from assay.data.table import Table
from assay.errors import OverlapError, RecipeError
from assay.image.decode import decode
from assay.judge import bundle
from assay.judge.engine import Engine
from assay.learn import importing
from assay.learn.importing import import_weights
from assay.measure.evaluate import evaluate
from assay.types import Sample, Verdict

SETTINGS = {"fit.records": 16, "calibrate.fpr": 0.25}


@dataclasses.dataclass
class Imported:
    """What an import left, and what it said."""

    out: Path
    model: ViTModel
    weights: Path
    said: str

    @property
    def bundle(self) -> bundle.Bundle:
        return bundle.read(self.out / "bundle")


def published(folder: Path) -> ViTModel:
    torch.manual_seed(0)
    small = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    model = ViTModel(ViTConfig(**small, image_size=32, patch_size=8)).eval()
    model.save_pretrained(folder)
    (folder / "sklearn").mkdir()
    (folder / "sklearn" / "knn.sav").write_bytes(b"\x80\x04}.")
    return model


def with_test_row(samples: Sequence[Sample], folder: Path) -> list[Sample]:
    """The rows and one more of split "test", whose file is no picture."""
    (folder / "test.png").write_bytes(b"no picture")
    return [*samples, dataclasses.replace(samples[0], place=str(folder / "test.png"), split="test", origin="")]


@pytest.fixture(scope="module")
def imported(samples: list[Sample], tmp_path_factory: pytest.TempPathFactory) -> Imported:
    folder = tmp_path_factory.mktemp("import")
    model, said = published(folder / "CoDE"), io.StringIO()
    rows = with_test_row(samples, folder)
    console = Console(file=said, width=200)
    out = folder / "out"
    options: dict[str, Any] = {"workers": 0, "device": "cpu", "precision": "fp32", "console": console}
    import_weights("code24", str(folder / "CoDE"), rows, out, settings=SETTINGS, **options)
    return Imported(out, model, folder / "CoDE", said.getvalue())


def test_the_bundles_trunk_embeds_as_the_published_network(imported: Imported, samples: list[Sample]) -> None:
    stream = imported.bundle.card.streams[0]
    engine = Engine(imported.out / "bundle", stream.trunk, device="cpu")
    views = stream.view.tensor(np.concatenate([stream.view.crops(decode(s.place).pixels) for s in samples[:4]]))
    with torch.no_grad():
        expected = imported.model(torch.from_numpy(views)).last_hidden_state[:, 0].numpy()
    assert np.abs(engine.run(views) - expected).max() < 1e-4


def test_the_bundle_judges_with_each_head_and_names_the_pictures_it_saw(
    imported: Imported, samples: list[Sample], tmp_path: Path
) -> None:
    kinds = [stream.head.kind for stream in imported.bundle.card.streams]
    assert kinds == ["linear", "nearest", "one_class"]
    fresh = tmp_path / "fresh.png"
    Image.fromarray(np.random.default_rng(5).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(fresh)
    for kind in kinds:
        judged = assay.load(imported.out / "bundle", head=kind, threads=1, device="cpu").judge(fresh)
        assert isinstance(judged, Verdict)
        assert 0 <= judged.score <= 1
    manifest.write(tmp_path / "m.csv", [dataclasses.replace(sample, split="test") for sample in samples])
    with pytest.raises(OverlapError):
        evaluate(assay.load(imported.out / "bundle", threads=1, device="cpu"), manifest.read(tmp_path / "m.csv"))


def test_the_card_says_where_the_weights_are_from_and_what_is_ours(imported: Imported) -> None:
    card = imported.bundle.card
    assert (card.name, card.recipe) == ("code24-released", "code24:released")
    origin: Any = card.data["weights"]
    assert origin["from"] == "CoDE"
    assert origin["files"] == {
        name: hashlib.sha256((imported.weights / name).read_bytes()).hexdigest()
        for name in ("config.json", "model.safetensors")
    }
    assert (origin["naming"], origin["revision"]) == ("transformers", "not recorded")
    assert "see the source" in origin["licence"]
    assert {"train", "tune", "licences"} <= set(card.data)
    assert any("D3" in limit for limit in card.limits)
    assert "Its heads were fitted on the training rows" in card.notes
    assert "sklearn/knn.sav beside them were not opened" in card.notes
    # Nothing of the maker's machine travels with it.
    assert str(imported.out) not in json.dumps(card.model_dump(mode="json"))


def test_pickles_beside_the_weights_are_said_to_stay_closed(imported: Imported) -> None:
    assert "left closed, because unpickling can run code: sklearn/knn.sav; heads are fitted" in imported.said


def test_the_parameters_are_kept_in_timms_naming_for_torch(imported: Imported) -> None:
    from assay.learn.nn.backbones import build
    from assay.learn.recipe import Backbone

    training: Any = imported.bundle.card.training
    [stream] = training["recipe"]["streams"]
    kept = imported.out / "weights" / stream["backbone"]["weights"]
    trunk = build(Backbone(**stream["backbone"] | {"weights": str(kept)}), 32).eval()
    views = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(trunk(views), imported.model(views).last_hidden_state[:, 0], atol=1e-4)


def test_the_same_import_may_be_run_again_and_another_not_over_it(
    imported: Imported, samples: list[Sample], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: list[Any] = []

    def train(recipe: Any, data: Any, out: Path, **options: Any) -> Path:
        ran.append(recipe)
        return out / "bundle"

    monkeypatch.setattr(importing, "train", train)
    monkeypatch.setattr(importing, "_say", lambda *_: None)
    rows = with_test_row(samples, tmp_path)
    place = str(imported.weights)
    import_weights("code24", place, rows, imported.out, settings=SETTINGS)
    assert len(ran) == 1
    with pytest.raises(RecipeError, match="holds a run with another recipe"):
        import_weights("code24", place, rows, imported.out, settings={"code.view.layout": "grid"})
    with pytest.raises(RecipeError, match="holds a run with another seed"):
        import_weights("code24", place, rows, imported.out, settings=SETTINGS, seed=3)


# ── refused before any work ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("system", "settings", "message"),
    [
        ("code24", {"code.view.size": 64}, "are for views of 32 px, and are not stretched to 64"),
        ("code24", {"code.backbone.fields": {"depth": 1, "num_heads": 2}}, "does not fit test_vit: .* differ"),
        ("code24", {"code.backbone.weights": "x.safetensors"}, "of code.backbone only fields can be set"),
        ("code24", {"code.backbone.name": "test_convnext"}, "of code.backbone only fields can be set"),
        ("code24", {"fit.record": 3}, "did you mean records"),
        ("timm:vit_tiny_patch16_224", {}, "CoDE does not fit vit_tiny_patch16_224: .* parameters differ"),
        ("drift26", {}, "no system with published weights called 'drift26'"),
    ],
)
def test_what_cannot_work_is_refused_and_leaves_nothing(
    system: str,
    settings: dict[str, Any],
    message: str,
    imported: Imported,
    samples: list[Sample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(imported.weights.parent)
    with pytest.raises(RecipeError, match=message):
        import_weights(system, "CoDE", samples, tmp_path / "out", settings=settings)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_in_it_is_left_alone(
    imported: Imported, samples: list[Sample], tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RecipeError, match="is not empty and holds no run"):
        import_weights("code24", str(imported.weights), samples, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_any_network_of_timm_is_planned_with_its_own_name(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm

    given: dict[str, Any] = {}

    def train(recipe: Any, data: Any, out: Path, **options: Any) -> Path:
        given.update(options, recipe=recipe, rows=len(data))
        return out / "bundle"

    monkeypatch.setattr(importing, "train", train)
    monkeypatch.setattr(importing, "_say", lambda *_: None)
    save_file(timm.create_model("test_convnext").state_dict(), tmp_path / "w.safetensors")
    settings = {"test_convnext.view.size": "64"}
    place = str(tmp_path / "w.safetensors")
    import_weights("timm:test_convnext", place, Table.of(samples), tmp_path / "out", settings=settings, name="mine")
    [stream] = given["recipe"].streams
    assert (given["recipe"].name, given["name"], stream.view.size) == ("timm:test_convnext", "mine", 64)
    assert Path(stream.backbone.weights).parent == tmp_path / "out" / "weights"
    assert Path(stream.backbone.weights).is_file()


def test_tuning_rows_are_scored_and_test_rows_are_not_looked_at(imported: Imported, samples: list[Sample]) -> None:
    # The file of the test row is no picture: to open it would have ended the import.
    tune = sum(sample.split == "tune" for sample in samples)
    rows = imported.bundle.judge.ensemble.rows
    assert rows.real + rows.fake == tune
