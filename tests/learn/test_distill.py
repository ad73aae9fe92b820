"""Distillation: what a teacher says of training rows, and the ordinary student that is made of it."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import assay
from assay.data import manifest
from assay.data.table import Table
from assay.errors import ManifestError, OverlapError, RecipeError
from assay.judge import bundle
from assay.learn.batches import TEACHER
from assay.learn.distill import folders, recipe_of, seeing, taught, tried
from assay.learn.recipe import CrossEntropy, Tiles, find
from assay.learn.rows import learning_rows
from assay.learn.run import Run
from assay.learn.train import train
from assay.measure.evaluate import evaluate
from assay.types import Label, Sample, Verdict

Judged = list[str]


@pytest.fixture
def rows(tmp_path: Path, flat: Callable[..., Any]) -> Table:
    """Training rows among tuning, test and other ones; the third is too small for the teacher."""
    told = [
        ("train", 40, 80),
        ("test", 210, 80),
        ("train", 200, 10),
        ("tune", 60, 80),
        ("train", 220, 80),
        ("", 70, 80),
        ("train", 120, 80),
        ("tune", 190, 80),
        ("train", 180, 80),
    ]
    samples = []
    for number, (split, grey, width) in enumerate(told):
        place = tmp_path / f"{number}.png"
        Image.fromarray(flat(grey, width, 64 if width > 16 else 12)).save(place)
        fake = grey > 150
        samples.append(
            Sample(
                str(place), Label(fake), "lamp" * fake, f"s{number % 2}", split=split, groups={"domain": f"d{number}"}
            )
        )
    return Table.of(samples)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Judged:
    """The places that any detector was given to judge."""
    noted: Judged = []
    real = assay.Detector.judge_many

    def noting(self: assay.Detector, sources: Any, **options: Any) -> Any:
        places = list(sources)
        noted.extend(places)
        return real(self, places, **options)

    monkeypatch.setattr(assay.Detector, "judge_many", noting)
    return noted


def test_training_rows_alone_are_judged_and_the_others_stay_as_and_where_they_are(
    rows: Table, detector: assay.Detector, judged: Judged, tmp_path: Path
) -> None:
    table = taught(rows, detector, tmp_path / "made" / "taught.csv")
    assert judged == [sample.place for sample in rows if sample.split == "train"]
    assert table.column("path").tolist() == rows.column("path").tolist()
    for before, after in zip(rows, table, strict=True):
        groups = {name: cell for name, cell in after.groups.items() if name != TEACHER}
        assert dataclasses.replace(after, split=before.split, groups=groups) == before
    # Where no stream applies there is nothing to be taught.
    assert table.column("split").tolist() == ["train", "test", "", "tune", "train", "", "train", "tune", "train"]
    assert [bool(cell) for cell in table.column(TEACHER)] == [n in (0, 4, 6, 8) for n in range(9)]


def test_soft_labels_are_the_scores_that_the_teacher_gives(
    rows: Table, voters: Path, tmp_path: Path, bundle_folder: Path
) -> None:
    for number, (folder, vote) in enumerate(((bundle_folder, None), (voters, None), (voters, "majority"))):
        teacher = assay.load(folder, vote=vote, threads=1, device="cpu")
        table = taught(rows, teacher, tmp_path / f"{number}.csv")
        told = {
            sample.place: float(cell)
            for sample, cell in zip(table, table.column(TEACHER).tolist(), strict=True)
            if cell
        }
        assert len(told) == 4
        for place, score in told.items():
            verdict = assay.load(folder, vote=vote, threads=1, device="cpu").judge(place)
            assert isinstance(verdict, Verdict)
            assert score == verdict.score


def test_pictures_that_cannot_be_decoded_are_all_named_and_nothing_is_written(
    rows: Table, detector: assay.Detector, tmp_path: Path
) -> None:
    for number in (4, 6):
        (tmp_path / f"{number}.png").write_bytes(b"no picture")
    (tmp_path / "3.png").write_bytes(b"a tuning row, which the teacher never sees")
    with pytest.raises(ManifestError, match="2 training pictures cannot be judged") as told:
        taught(rows, detector, tmp_path / "made" / "taught.csv")
    assert [problem.partition(": ")[0] for problem in told.value.problems] == [
        str(tmp_path / "4.png"),
        str(tmp_path / "6.png"),
    ]
    assert not (tmp_path / "made").exists()


def test_a_class_that_the_teacher_applies_to_nowhere_cannot_be_taught(
    rows: Table, detector: assay.Detector, tmp_path: Path
) -> None:
    with pytest.raises(ManifestError, match="tiny applies to no fake training picture"):
        taught(rows[[0, 2, 3, 7]], detector, tmp_path / "taught.csv")
    assert not (tmp_path / "taught.csv").exists()


def test_rows_are_judged_once_for_a_teacher_and_anew_for_another_or_for_other_rows(
    rows: Table, detector: assay.Detector, voters: Path, judged: Judged, tmp_path: Path
) -> None:
    file = tmp_path / "taught.csv"
    first = taught(rows, detector, file)
    written = file.read_bytes()
    judged.clear()
    again = taught(rows, detector, file)
    assert judged == []
    assert file.read_bytes() == written
    assert list(again) == list(first)
    # A note that was never written, because something ended the process, is as good as no file.
    file.with_suffix(".json").unlink()
    assert list(taught(rows, detector, file)) == list(first)
    assert len(judged) == 5
    for other in (assay.load(voters, device="cpu"), assay.load(voters, vote="majority", device="cpu")):
        judged.clear()
        assert list(taught(rows, other, file)) != list(first)
        assert len(judged) == 5
    judged.clear()
    taught(rows[[0, 1, 3, 4, 7]], detector, file)
    assert len(judged) == 2
    flipped = Table({name: rows.column(name) for name in rows.columns if name != "label"}, 1 - rows.labels)
    taught(rows, detector, file)
    judged.clear()
    taught(flipped, detector, file)
    assert len(judged) == 5


def test_what_was_kept_follows_pictures_that_moved_and_columns_that_changed(
    rows: Table, detector: assay.Detector, judged: Judged, tmp_path: Path
) -> None:
    first = taught(rows, detector, tmp_path / "taught.csv")
    judged.clear()
    moved = tmp_path / "moved"
    moved.mkdir()
    places = [shutil.copy(place, moved) for place in rows.column("path")]
    other = rows.with_column("path", places).with_column("domain", ["one"] * len(rows))
    table = taught(other, detector, tmp_path / "taught.csv")
    assert judged == []
    assert table.column("path").tolist() == places
    assert set(table.column("domain").tolist()) == {"one"}
    assert table.column(TEACHER).tolist() == first.column(TEACHER).tolist()
    assert table.column("split").tolist() == first.column("split").tolist()


def test_soft_labels_are_kept_as_a_manifest_and_tell_runs_apart(
    table: Table, detector: assay.Detector, voters: Path, tmp_path: Path
) -> None:
    mine = taught(table, detector, tmp_path / "mine.csv")
    kept = manifest.read(tmp_path / "mine.csv")
    assert kept.column(TEACHER).tolist() == mine.column(TEACHER).tolist()
    other = taught(table, assay.load(voters, device="cpu"), tmp_path / "other.csv")
    recipe = find("distilled")
    keys = [Run.of(recipe, learning_rows(each), 0).key for each in (table, mine, kept, other)]
    assert keys[1] == keys[2]
    assert len(set(keys)) == 3


def test_a_student_sees_crops_as_large_as_its_teachers_first_stream(voters: Path) -> None:
    teacher = assay.load(voters, device="cpu")
    recipe = recipe_of("trace_cnn", teacher)
    assert (recipe.name, recipe.streams[0].backbone.name) == ("distilled", "trace_cnn")
    assert recipe.streams[0].view.size == 32
    assert recipe.descend("student").crops.base == 37
    labels = recipe_of("trace_cnn", teacher, "paper", variant="labels")
    assert (labels.name, labels.fit("student").teacher) == ("distilled:labels", 0.0)
    loss = labels.descend("student").loss
    assert isinstance(loss, CrossEntropy)
    assert loss.teacher == 0.0
    assert labels.streams[0].view.layout == "centre"
    with pytest.raises(RecipeError, match="did you mean labels"):
        recipe_of("trace_cnn", teacher, variant="label")
    assert seeing(recipe, 224).descend("student").crops.base == 256


def test_a_network_that_cannot_be_made_is_told_of_without_a_picture(detector: assay.Detector) -> None:
    with pytest.raises(RecipeError, match="no network called 'mobilenetv3_smal_100'; did you mean"):
        tried(recipe_of("mobilenetv3_smal_100", detector))
    with pytest.raises(RecipeError, match="takes no views of 36 px"):
        tried(seeing(recipe_of("vit_tiny_patch16_224", detector), 36))
    tried(recipe_of("trace_cnn", detector))


def test_folders_of_students_are_safe_and_their_own() -> None:
    odd = ["trace_cnn", "hf-hub:timm/vit_tiny", "..", "../../etc", "naïve net", "trace_cnn", "resnet18.a1_in1k"]
    found = folders(odd)
    assert list(found) == list(dict.fromkeys(odd))
    assert found["trace_cnn"] == "trace_cnn"
    assert found["resnet18.a1_in1k"] == "resnet18.a1_in1k"
    assert found["hf-hub:timm/vit_tiny"] == "hf-hub-timm-vit_tiny"
    assert found["../../etc"] == "etc"
    for folder in found.values():
        assert Path(folder).name == folder
        assert folder.isascii()
        assert not folder.startswith((".", "-"))


@pytest.mark.parametrize("pair", [("a/b", "a:b"), ("Net", "net"), ("..", "/")])
def test_students_that_would_share_a_folder_are_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(RecipeError) as told:
        folders(pair)
    assert f"the students {pair[0]} and {pair[1]} would share the folder" in str(told.value)


def test_a_student_is_an_ordinary_detector_that_has_seen_what_its_teacher_saw(
    table: Table, detector: assay.Detector, tmp_path: Path, picture: Callable[..., Any]
) -> None:
    recipe = recipe_of("trace_cnn", detector).set(
        student__backbone__fields={"widths": (8, 8, 16), "blocks": (1, 1)},
        descend__tiles=Tiles(side=64, each=1, reduce_above=None),
        descend__pairs=4,
        descend__steps=2,
        descend__epochs=1,
        fit__records=16,
        calibrate__fpr=0.25,
    )
    rows = taught(table, detector, tmp_path / "taught.csv")
    made = train(
        recipe,
        rows,
        tmp_path / "student",
        teacher=detector,
        name="pupil",
        workers=0,
        device="cpu",
        console=Console(file=io.StringIO()),
    )
    read = bundle.read(made)
    assert read.card.training["teacher"] == {"name": "tiny", "version": "1", "sha256": detector.sha256}
    student = assay.load(made, threads=1, device="cpu")
    assert (student.name, [stream.name for stream in student.streams]) == ("pupil", ["student"])
    tested = []
    for number in range(4):
        place = tmp_path / f"test-{number}.png"
        Image.fromarray(picture(100 + number, bool(number % 2))).save(place)
        digest = hashlib.sha256(place.read_bytes()).hexdigest()
        tested.append(Sample(str(place), Label(number % 2), split="test", sha256=digest, origin=digest))
    scores = [student.judge(sample.place).score for sample in tested]
    assert all(score is not None and 0 <= score <= 1 for score in scores)
    assert evaluate(student, tested, with_controls=False, rounds=0).rows.seen == 0
    # The teacher's, its own training row, its own tuning row.
    of_teacher = dataclasses.replace(tested[0], origin="cd" * 32)
    for seen in (of_teacher, table[0], table[20]):
        with pytest.raises(OverlapError, match="1 of these 5 rows"):
            evaluate(student, [*tested, seen], with_controls=False, rounds=0)
    assert np.isin(detector.seen.phashes, read.seen.phashes).all()
