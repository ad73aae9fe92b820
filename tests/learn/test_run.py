"""A folder holds one run: it is taken up by that run alone, and cleared of nothing that is not its own."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from assay.data.table import Table
from assay.errors import ManifestError, RecipeError
from assay.learn.recipe import MLP, InfoNCE, Linear, Nearest, OneClass, Recipe, SupCon
from assay.learn.rows import described, labels_of, learning_rows
from assay.learn.run import Run, claim, lent
from assay.types import Label, Sample


@pytest.fixture
def rows(samples: list[Sample]) -> dict[str, Table]:
    return learning_rows(samples)


@pytest.fixture
def run(recipe: Recipe, rows: dict[str, Table]) -> Run:
    return Run.of(recipe, rows, seed=0)


def test_a_run_is_taken_up_by_itself(run: Run, tmp_path: Path) -> None:
    for _ in range(2):
        claim(tmp_path / "out", run, resume=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["run.json"]


@pytest.mark.parametrize("change", ["recipe", "seed", "manifest", "order of the manifest", "count of the manifest"])
def test_another_run_is_refused_and_told_what_differs(
    change: str, run: Run, recipe: Recipe, rows: dict[str, Table], tmp_path: Path
) -> None:
    train = rows["train"]
    other = {
        "recipe": Run.of(recipe.set(descend__pairs=5), rows, 0),
        "seed": Run.of(recipe, rows, 1),
        "manifest": Run.of(recipe, rows | {"train": [dataclasses.replace(train[0], source="new"), *train[1:]]}, 0),
        "order of the manifest": Run.of(recipe, rows | {"train": train[::-1]}, 0),
        "count of the manifest": Run.of(recipe, rows | {"train": train[1:]}, 0),
    }[change]
    claim(tmp_path, run, resume=True)
    word = change.split()[-1]
    with pytest.raises(RecipeError, match=rf"holds a run with another {word}; give another folder, or --fresh"):
        claim(tmp_path, other, resume=True)


def test_what_is_for_the_reader_only_does_not_make_another_run(
    run: Run, recipe: Recipe, rows: dict[str, Table], tmp_path: Path
) -> None:
    claim(tmp_path, run, resume=True)
    claim(tmp_path, Run.of(recipe.set(name="tiny:variant", summary="Another word"), rows, 0), resume=True)


def test_the_key_of_a_run_is_that_of_what_makes_it(run: Run, recipe: Recipe, rows: dict[str, Table]) -> None:
    assert Run.of(recipe.set(name="tiny:variant", summary="Another word"), rows, 0).key == run.key
    others = [
        Run.of(recipe.set(descend__pairs=5), rows, 0),
        Run.of(recipe, rows, 1),
        Run.of(recipe, rows | {"train": rows["train"][1:]}, 0),
    ]
    assert len({run.key, *(other.key for other in others)}) == 4


def test_a_field_at_its_default_makes_no_other_key(run: Run, recipe: Recipe, rows: dict[str, Table]) -> None:
    said = recipe.set(descend__loss__temperature=0.1)
    bare = recipe.model_dump()
    for stage in bare["stages"]:
        stage.get("loss", {}).pop("temperature", None)
    assert Run.of(Recipe.model_validate(bare), rows, 0).key == Run.of(said, rows, 0).key == run.key


def test_parts_that_have_nothing_but_their_kind_to_tell_make_keys_of_their_own(
    recipe: Recipe, rows: dict[str, Table]
) -> None:
    losses = [Run.of(recipe.set(descend__loss=loss), rows, 0).key for loss in (InfoNCE(), SupCon())]
    assert len(set(losses)) == 2
    heads = [Run.of(recipe.set(a__heads=[head]), rows, 0).key for head in (Linear(), Nearest(), OneClass(), MLP())]
    assert len(set(heads)) == 4


@pytest.mark.parametrize("group", ["secondary", "teacher"])
def test_which_rows_are_secondary_and_what_a_teacher_said_makes_the_run(
    group: str, run: Run, recipe: Recipe, rows: dict[str, Table]
) -> None:
    marked = rows["train"].with_column(group, ["1", *[""] * 15])
    other = Run.of(recipe, rows | {"train": marked}, 0)
    assert other.differences(run) == ["manifest"]
    assert other.key != run.key
    # What says nothing of any row makes no other run.
    assert Run.of(recipe, rows | {"train": rows["train"].with_column(group, [""] * 16)}, 0) == run


HEADS_ALONE: list[dict[str, Any]] = [
    {"a__heads": [Nearest(), Linear()]},
    {"a__heads__linear__C": 1.0},
    {"a__pool": "top"},
    {"fit__records": 8},
    {"fit__altered": 0},
    {"calibrate__rule": "majority"},
    {"calibrate__fpr": 0.1},
]
"""What leaves the networks as they are."""


@pytest.mark.parametrize("change", HEADS_ALONE, ids=lambda change: next(iter(change)))
def test_other_heads_on_the_same_networks_are_taken_up_and_only_what_hangs_on_heads_is_removed(
    change: dict[str, Any], run: Run, recipe: Recipe, rows: dict[str, Table], tmp_path: Path
) -> None:
    assert claim(tmp_path, run, resume=True) is False
    for name in ("a.checkpoint.safetensors", "a.best.safetensors", "a.epochs.jsonl"):
        (tmp_path / name).write_text("left")
    for name in ("bundle", "graphs", "tiles", "embeddings", "separation"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("left")
    other = Run.of(recipe.set(**change), rows, 0)
    assert claim(tmp_path, other, resume=True) is True
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.best.safetensors",
        "a.checkpoint.safetensors",
        "a.epochs.jsonl",
        "embeddings",
        "run.json",
        "separation",
        "tiles",
    ]
    # The folder holds the other run now.
    assert claim(tmp_path, other, resume=True) is False
    assert Run.model_validate_json((tmp_path / "run.json").read_bytes()).differences(other) == []


@pytest.mark.parametrize(
    "change",
    [
        {"descend__loss__temperature": 0.2},
        {"descend__secondary_weight": 2.0},
        {"descend__patience": 2},
        {"derive": ["augment"]},
        {"a__view__size": 40},
        {"a__backbone__front": "pixels"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_networks_are_refused_with_whatever_heads(
    change: dict[str, Any], run: Run, recipe: Recipe, rows: dict[str, Table], tmp_path: Path
) -> None:
    claim(tmp_path, run, resume=True)
    (tmp_path / "graphs").mkdir()
    for recipe_of in (recipe.set(**change), recipe.set(**change, fit__records=8)):
        with pytest.raises(RecipeError, match="holds a run with another recipe"):
            claim(tmp_path, Run.of(recipe_of, rows, 0), resume=True)
    assert (tmp_path / "graphs").exists()


def test_other_heads_on_other_rows_are_refused(
    run: Run, recipe: Recipe, rows: dict[str, Table], tmp_path: Path
) -> None:
    claim(tmp_path, run, resume=True)
    with pytest.raises(RecipeError, match="holds a run with another recipe and seed"):
        claim(tmp_path, Run.of(recipe.set(fit__records=8), rows, 1), resume=True)


def test_a_recipe_that_a_card_tells_is_known_again(recipe: Recipe) -> None:
    told = json.loads(recipe.model_dump_json(exclude={"expects"}))
    assert Run.told(told, recipe)
    assert not Run.told(told, recipe.set(descend__pairs=5))
    assert not Run.told(None, recipe)


def test_a_data_set_may_move_as_a_whole(run: Run, recipe: Recipe, rows: dict[str, Table], tmp_path: Path) -> None:
    claim(tmp_path, run, resume=True)
    moved = {
        split: [dataclasses.replace(sample, place=f"/elsewhere/{Path(sample.place).name}") for sample in part]
        for split, part in rows.items()
    }
    claim(tmp_path, Run.of(recipe, moved, 0), resume=True)


def test_the_note_of_an_earlier_version_is_understood(run: Run, tmp_path: Path) -> None:
    """It had no hash of the manifest, and lacked fields that a recipe got since."""
    note = run.model_dump(mode="json")
    del note["manifest"]
    del note["recipe"]["stages"][0]["loss"]["bce"]
    old = run.model_copy(update={"recipe": run.recipe.set(descend__loss__bce=0.0)})
    (tmp_path / "run.json").write_text(json.dumps(note))
    claim(tmp_path, old, resume=True)
    with pytest.raises(RecipeError, match="another recipe"):
        claim(tmp_path, run, resume=True)


def test_beginning_anew_removes_what_the_run_left_and_nothing_else(run: Run, tmp_path: Path) -> None:
    claim(tmp_path, run, resume=True)
    for name in ("a.checkpoint.safetensors", "a.best.safetensors", "a.epochs.jsonl", "notes.txt"):
        (tmp_path / name).write_text("left")
    for name in ("bundle", "graphs", "tiles", "embeddings", "separation"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("left")
    other = run.model_copy(update={"seed": 1})
    claim(tmp_path, other, resume=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "run.json", "tiles"]
    claim(tmp_path, other, resume=True)


@pytest.mark.parametrize("resume", [True, False])
def test_a_folder_with_something_else_in_it_is_left_alone(run: Run, tmp_path: Path, resume: bool) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RecipeError, match="is not empty and holds no run; give another folder"):
        claim(tmp_path, run, resume=resume)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_note_that_is_torn_is_refused_with_a_way_out(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"recipe": ')
    with pytest.raises(RecipeError, match=r"cannot be read, so its run cannot be taken up; .*--fresh"):
        claim(tmp_path, run, resume=True)
    claim(tmp_path, run, resume=False)
    claim(tmp_path, run, resume=True)


# ── networks of another run ──────────────────────────────────────────────────────────────────────────────────────────


def finished(folder: Path, run: Run) -> Path:
    """A run's folder, done, with a word of its own in each file."""
    claim(folder, run, resume=True)
    for name in ("a.checkpoint.safetensors", "a.best.safetensors", "a.epochs.jsonl"):
        (folder / name).write_text(f"{name} of {folder.name}")
    for name in ("bundle", "graphs", "tiles", "embeddings", "separation"):
        (folder / name).mkdir()
        (folder / name / "file").write_text(f"{name} of {folder.name}")
    return folder


@pytest.mark.parametrize("change", HEADS_ALONE, ids=lambda change: next(iter(change)))
def test_a_run_with_other_heads_alone_takes_the_networks_and_embeddings_of_one_that_is_done(
    change: dict[str, Any], run: Run, recipe: Recipe, rows: dict[str, Table], tmp_path: Path
) -> None:
    other, mine = finished(tmp_path / "other", run), tmp_path / "mine"
    asked = Run.of(recipe.set(**change), rows, 0)
    assert lent(mine, asked, [other])
    assert sorted(path.name for path in mine.iterdir()) == [
        "a.best.safetensors",
        "a.checkpoint.safetensors",
        "a.epochs.jsonl",
        "embeddings",
        "run.json",
    ]
    for name in ("a.best.safetensors", "a.checkpoint.safetensors", "a.epochs.jsonl", "embeddings/file"):
        assert (mine / name).read_text() == (other / name).read_text()
    # It is that run's own folder now, and goes on as one.
    assert claim(mine, asked, resume=True) is False
    assert Run.model_validate_json((mine / "run.json").read_bytes()).differences(asked) == []
    # Copies: whatever becomes of them is nothing to the other.
    (mine / "a.best.safetensors").write_text("trained on")
    assert (other / "a.best.safetensors").read_text() == "a.best.safetensors of other"


@pytest.mark.parametrize("other", ["networks", "seed", "rows", "the same run", "not done", "no run", "nowhere"])
def test_from_any_other_run_nothing_is_taken(
    other: str, run: Run, recipe: Recipe, rows: dict[str, Table], tmp_path: Path
) -> None:
    asked = recipe.set(fit__records=8)
    wanted = {
        "networks": Run.of(asked.set(descend__pairs=5), rows, 0),
        "seed": Run.of(asked, rows, 1),
        "rows": Run.of(asked, rows | {"train": rows["train"][1:]}, 0),
        "the same run": run,
    }.get(other, Run.of(asked, rows, 0))
    folder = finished(tmp_path / "other", run)
    if other == "not done":
        (folder / "bundle" / "file").unlink()
        (folder / "bundle").rmdir()
    elif other == "no run":
        (folder / "run.json").unlink()
    elif other == "nowhere":
        folder = tmp_path / "nowhere"
    assert not lent(tmp_path / "mine", wanted, [folder])
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("note", ["torn", "empty", "no text", "no recipe", "no file"])
def test_a_folder_whose_note_cannot_be_read_is_passed_over(
    note: str, run: Run, recipe: Recipe, rows: dict[str, Table], tmp_path: Path
) -> None:
    spoiled, other = finished(tmp_path / "a", run), finished(tmp_path / "b", run)
    (spoiled / "run.json").unlink()
    if note == "no file":
        (spoiled / "run.json").mkdir()
    else:
        told = {"torn": b'{"recipe": ', "empty": b"", "no text": b"\xff\xfe", "no recipe": b'{"recipe": {}}'}[note]
        (spoiled / "run.json").write_bytes(told)
    asked = Run.of(recipe.set(fit__records=8), rows, 0)
    assert not lent(tmp_path / "mine", asked, [spoiled])
    assert not (tmp_path / "mine").exists()
    assert lent(tmp_path / "mine", asked, [spoiled, other])
    assert (tmp_path / "mine" / "a.best.safetensors").read_text() == "a.best.safetensors of b"
    # In a run's own folder it stays a fault.
    with pytest.raises(RecipeError, match="cannot be read, so its run cannot be taken up"):
        claim(spoiled, asked, resume=True)


def test_a_folder_that_may_not_be_looked_into_is_passed_over(
    run: Run, recipe: Recipe, rows: dict[str, Table], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = finished(tmp_path / "other", run)
    exists = Path.exists

    def refused(path: Path) -> bool:
        if path.parent == other:
            raise PermissionError(13, "Permission denied", str(path))
        return exists(path)

    monkeypatch.setattr(Path, "exists", refused)
    assert not lent(tmp_path / "mine", Run.of(recipe.set(fit__records=8), rows, 0), [other])


def test_the_first_run_that_fits_lends(run: Run, recipe: Recipe, rows: dict[str, Table], tmp_path: Path) -> None:
    strange = finished(tmp_path / "strange", run.model_copy(update={"seed": 1}))
    others = [strange, finished(tmp_path / "one", run), finished(tmp_path / "two", run)]
    assert lent(tmp_path / "mine", Run.of(recipe.set(fit__records=8), rows, 0), others)
    assert (tmp_path / "mine" / "a.best.safetensors").read_text() == "a.best.safetensors of one"


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_training_and_tuning_rows_are_learnt_from(samples: list[Sample]) -> None:
    others = [dataclasses.replace(sample, split=split) for sample in samples[:4] for split in ("test", "")]
    rows = learning_rows([*others, *samples])
    assert {split: len(part) for split, part in rows.items()} == {"train": 16, "tune": 8}
    assert {sample.split for part in rows.values() for sample in part} == {"train", "tune"}


def test_every_fault_of_a_manifest_is_listed(samples: list[Sample]) -> None:
    unlabelled = dataclasses.replace(samples[2], label=None)
    tune = [sample for sample in samples if sample.split == "tune" and sample.label == Label.REAL]
    with pytest.raises(ManifestError) as caught:
        learning_rows([*samples[:2], unlabelled, *samples[3:16], *tune])
    assert caught.value.problems == (
        f"{unlabelled.place}: no label",
        "split 'tune' has 0 fake rows; training needs 2 or more of each class",
    )


def test_a_label_that_is_not_known_never_counts_as_real(samples: list[Sample]) -> None:
    assert labels_of(samples[:4]).tolist() == [0, 1, 0, 1]
    with pytest.raises(ManifestError, match="has no label"):
        labels_of([dataclasses.replace(samples[0], label=None)])


def test_a_card_counts_rows_by_split_class_and_source(rows: dict[str, Table]) -> None:
    licences = ["CC0"] + [""] * (len(rows["tune"]) - 1)
    table = described(rows | {"tune": rows["tune"].with_column("licence", licences)})
    assert table["train"] == {"real": {"source 0": 4, "source 2": 4}, "fake": {"dots": 8}}
    assert table["tune"]["fake"] == {"dots": 4}
    assert table["licences"] == {"CC0": 1, "not recorded": 23}
