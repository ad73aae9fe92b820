"""`assay train`, from a manifest to a detector that judges, with a kill in between."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import assay
from assay import cli
from assay.data import manifest
from assay.errors import OverlapError
from assay.judge import bundle
from assay.learn import calibrate, tiles
from assay.learn.descend import Data, Machine, descend
from assay.learn.recipe import Recipe, find
from assay.measure.evaluate import evaluate
from assay.types import Label, Pixels, Sample, Verdict

SETTINGS = {
    "code.view.size": "48",
    "code.backbone.fields": '{"widths": [8, 16, 24], "blocks": [1, 1]}',
    "descend.crops.base": "64",
    "descend.crops.local": "32",
    "descend.tiles.side": "96",
    "descend.alter.max_ops": "1",
    "descend.optimiser.learning_rate": "0.003",
    "descend.pairs": "4",
    "descend.steps": "5",
    "descend.epochs": "4",
    "fit.records": "24",
    "calibrate.fpr": "0.2",
}

KILLED = """
import os, signal, torch
torch.set_num_threads(1)
from assay.learn import descend
descend._cpu_has_bf16 = lambda: False
Training = descend.Training
advance = Training.advance


def killed(training, batch):
    loss = advance(training, batch)
    if training.step == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    return loss


Training.advance = killed
from assay.cli import main
main()
"""

JUDGED = """
import json, sys


class Blocker:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("torch", "torchvision", "timm", "sklearn", "onnx", "safetensors"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Blocker())
import assay

detector = assay.load(sys.argv[1], threads=1)
print(json.dumps([detector.judge(place).to_dict() for place in sys.argv[2:]]))
"""


def picture(seed: int, fake: bool) -> Pixels:
    """Soft colours under a little noise, 96 x 80; a fake has a grid of brighter dots besides."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(60, 180, (5, 6, 3), dtype=np.uint8))
    pixels = np.array(coarse.resize((96, 80), Image.Resampling.BICUBIC)).astype(np.int64)
    pixels += rng.integers(-6, 7, pixels.shape)
    if fake:
        pixels[::2, ::2] += 60
    return np.clip(pixels, 0, 255).astype(np.uint8)


@dataclasses.dataclass
class Trained:
    """A run that was killed on its way, taken up, and finished."""

    data: Path
    out: Path
    arguments: list[str]
    killed: subprocess.CompletedProcess[str]
    steps_at_kill: int
    output: str
    decoded: set[str]

    @property
    def bundle(self) -> bundle.Bundle:
        return bundle.read(self.out / "bundle")

    def samples(self, split: str) -> list[Sample]:
        return manifest.select(manifest.read(self.data), split=split)


def recipe() -> Recipe:
    found = find("code24:trace")
    for place, value in SETTINGS.items():
        found = found.with_field(place, value)
    return found


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("train")
    rows = []
    for number in range(40):
        fake = bool(number % 2)
        split = "train" if number < 24 else "tune" if number < 36 else "test"
        place = folder / "pictures" / f"{number:02d}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(picture(number, fake)).save(place)
        groups = {"licence": "CC0" if number else "CC BY"}
        rows.append(
            Sample(str(place), Label(fake), "dots" if fake else "", f"source {number % 3}", split=split, groups=groups)
        )
    data, out = folder / "manifest.csv", folder / "out"
    manifest.write(data, rows)
    arguments = ["train", "code24:trace", "--data", str(data), "--out", str(out), "--workers", "0", "--device", "cpu"]
    arguments += [word for place, value in SETTINGS.items() for word in ("--set", f"{place}={value}")]
    arguments += ["--seed", "5", "--name", "dots", "--precision", "fp32"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, check=False)
    steps = len((out / "code.epochs.jsonl").read_text().splitlines()) * 5
    decoded: set[str] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "200")
        # Float32 on any processor, so that losses can be compared.
        patch.setattr("assay.learn.descend._cpu_has_bf16", lambda: False)
        for module in (tiles, calibrate):
            patch.setattr(module, "decode", _noting(module.decode, decoded))
        result = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return Trained(data, out, arguments, killed, steps, result.output, decoded)


def _noting(decode: Any, places: set[str]) -> Any:
    def noting(place: str, *rest: Any) -> Any:
        places.add(Path(place).name)
        return decode(place, *rest)

    return noting


def test_a_command_that_was_killed_goes_on_to_the_losses_of_one_that_was_not(trained: Trained, tmp_path: Path) -> None:
    assert trained.killed.returncode == -signal.SIGKILL, trained.killed.stderr
    assert trained.steps_at_kill == 5
    data = {
        split: Data(rows, tiles.build(rows, recipe().descend("code").tiles, tmp_path, seed=5, workers=0))
        for split in ("train", "tune")
        for rows in [trained.samples(split)]
    }
    machine = Machine("cpu", bf16=False, workers=0)
    stage = recipe().descend("code")
    unbroken = descend(recipe().streams[0], stage, data["train"], data["tune"], tmp_path, machine, seed=5)
    facts: Any = trained.bundle.card.training["streams"]
    assert facts["code"]["steps"] == unbroken.step == 20
    assert facts["code"]["kept_step"] == unbroken.best_step
    assert facts["code"]["tuning_auc"] == pytest.approx(unbroken.best, abs=1e-4)
    assert facts["code"]["loss"] == pytest.approx(np.mean(unbroken.losses), abs=1e-4)
    epochs = [json.loads(line) for line in (trained.out / "code.epochs.jsonl").read_text().splitlines()]
    assert [epoch["step"] for epoch in epochs] == [5, 10, 15, 20]
    means = [np.mean(unbroken.losses[step - 5 : step]) for step in (5, 10, 15, 20)]
    assert [epoch["loss"] for epoch in epochs] == pytest.approx(means, abs=1e-5)


def test_the_bundle_judges_where_torch_cannot_be_imported(trained: Trained) -> None:
    test = trained.samples("test")
    done = subprocess.run(
        [sys.executable, "-c", JUDGED, str(trained.out / "bundle"), *(sample.place for sample in test)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    verdicts = json.loads(done.stdout)
    assert all(verdict["detector"]["name"] == "dots" for verdict in verdicts)
    scores = [verdict["score"] for verdict in verdicts]
    # Twenty steps are enough to see dots.
    assert max(scores[::2]) < min(scores[1::2])
    here = assay.load(trained.out / "bundle", threads=1)
    judged = here.judge(test[0].place)
    assert isinstance(judged, Verdict)
    assert judged.score == pytest.approx(scores[0], abs=1e-6)


def test_test_rows_are_never_opened(trained: Trained) -> None:
    learnt = {Path(sample.place).name for split in ("train", "tune") for sample in trained.samples(split)}
    tested = {Path(sample.place).name for sample in trained.samples("test")}
    # The killed run decoded the tiles; the one after it read tuning pictures whole, to calibrate.
    assert trained.decoded == {Path(sample.place).name for sample in trained.samples("tune")}
    index = [json.loads(path.read_text()) for path in (trained.out / "tiles").glob("*.json")]
    assert sum(len(part["keys"]) for part in index) == len(learnt) == 36
    shas = {sha256 for part in index for sha256 in part["sha256"]}
    assert not shas & {_sha256(sample) for sample in trained.samples("test")}
    assert len(tested) == 4


def _sha256(sample: Sample) -> str:
    from assay.image.decode import decode

    return decode(sample.place).sha256


def test_the_card_says_what_it_was_made_from(trained: Trained) -> None:
    card = trained.bundle.card
    assert (card.name, card.recipe, card.precision) == ("dots", "code24:trace", "fp32")
    assert card.description == recipe().summary + "."
    assert card.data["train"] == {"real": {"source 0": 4, "source 1": 4, "source 2": 4}, "fake": {"dots": 12}}
    assert card.data["tune"] == {"real": {"source 0": 2, "source 1": 2, "source 2": 2}, "fake": {"dots": 6}}
    assert card.data["licences"] == {"CC BY": 1, "CC0": 35}
    assert "test" not in card.data


def test_the_card_says_how_it_was_trained(trained: Trained) -> None:
    card = trained.bundle.card
    assert card.training["seed"] == 5
    told = Recipe.model_validate({**card.training["recipe"], "expects": recipe().expects})  # type: ignore[dict-item]
    assert told.model_dump(mode="json") == recipe().model_dump(mode="json")
    assert str(card.training["machine"]).startswith("cpu, float32 forward")
    assert card.training["torch"] == torch.__version__.split("+")[0]
    assert card.engine.startswith("onnxruntime ")
    stream = card.streams[0]
    assert (stream.name, stream.backbone, stream.embedding) == ("code", "trace_cnn on both", 24)
    assert stream.view.size == 48
    assert stream.head.settings["records"] == 24


def test_three_heads_over_one_run_of_the_trunk_each_with_its_own_bar(trained: Trained) -> None:
    read = trained.bundle
    assert [(stream.name, stream.head.kind, stream.trunk) for stream in read.card.streams] == [
        ("code", "linear", "code"),
        ("code-nearest", "nearest", "code"),
        ("code-one_class", "one_class", "code"),
    ]
    assert read.card.streams[1].head.settings == {"most": 50_000, "records": 24}
    assert len({stream.view for stream in read.card.streams}) == 1
    assert read.judge.voters == ("code",)
    assert list(read.choices) == ["linear", "nearest", "one_class"]
    assert "code: the linear head judges by default, as the first that the recipe" in read.card.notes
    assert set(read.card.figures["signs"]) == set(read.judge.streams)  # type: ignore[arg-type]
    reals, fakes = trained.samples("test")[::2], trained.samples("test")[1::2]
    for head in ("linear", "nearest"):
        detector = assay.load(trained.out / "bundle", head=head, threads=1)
        scores = [[detector.judge(sample.place).score for sample in part] for part in (reals, fakes)]
        assert max(map(float, scores[0])) < min(map(float, scores[1])), head  # type: ignore[arg-type]


@pytest.mark.parametrize("head", ["nearest", "one_class"])
def test_what_was_calibrated_of_another_head_is_what_judges_with_it(trained: Trained, head: str) -> None:
    rule = trained.bundle.choices[head]  # type: ignore[index]
    detector = assay.load(trained.out / "bundle", head=head, threads=1)
    assert (detector.threshold, detector.doubt[0]) == (rule.threshold, rule.doubt_low)
    reals = [detector.judge(sample.place).score for sample in trained.samples("tune")[::2]]
    fakes = [detector.judge(sample.place).score for sample in trained.samples("tune")[1::2]]
    assert np.mean(np.array(reals) >= rule.threshold) == pytest.approx(rule.errors.false_fake)
    assert np.mean(np.array(fakes) < rule.doubt_low) == pytest.approx(rule.errors.false_real)


def test_the_card_and_the_terminal_show_the_signs_of_failure(trained: Trained) -> None:
    signs: Any = trained.bundle.card.figures["signs"]
    assert list(signs) == ["code", "code-nearest", "code-one_class"]
    assert [sign["name"] for sign in signs["code"]] == [
        "overlap of real and fake in the embedding",
        "clean-transformed gap, AUC",
        "augmented-plain gap, AUC",
        "false alarms at the threshold",
        "recall at the threshold",
        "balanced accuracy at one half",
    ]
    assert all(np.isfinite(sign["figure"]) for sign in signs["code"])
    assert "signs of failure" in trained.output
    assert "recall at the threshold" in trained.output


def test_what_was_calibrated_is_what_judges(trained: Trained) -> None:
    """The threshold and its errors come from verdicts on the tuning rows, to the digit."""
    rule = trained.bundle.judge.ensemble
    assert (rule.rows.real, rule.rows.fake, rule.fpr) == (6, 6, 0.2)
    detector = assay.load(trained.out / "bundle", threads=1)
    scores: dict[Label, list[float]] = {label: [] for label in Label}
    for sample in trained.samples("tune"):
        verdict = detector.judge(sample.place)
        assert verdict.score is not None
        assert sample.label is not None
        scores[sample.label].append(verdict.score)
    assert np.mean(np.array(scores[Label.REAL]) >= rule.threshold) == pytest.approx(rule.errors.false_fake)
    assert np.mean(np.array(scores[Label.FAKE]) < rule.doubt_low) == pytest.approx(rule.errors.false_real)


def test_training_and_tuning_rows_are_remembered_and_an_evaluation_on_them_refused(trained: Trained) -> None:
    detector = assay.load(trained.out / "bundle", threads=1)
    assert len(detector.seen.files) == 36
    for split in ("train", "tune"):
        rows = trained.samples(split)
        with pytest.raises(OverlapError) as caught:
            evaluate(detector, [rows[3], *trained.samples("test")])
        assert caught.value.rows == (rows[3].place,)
    found = evaluate(detector, trained.samples("test"), rounds=10, with_controls=False)
    assert not found.rows.failures
    assert found.to_dict()["metrics"]["auc"]["value"] == 1


def test_a_finished_folder_is_not_taken_up_by_another_run(trained: Trained) -> None:
    before = (trained.out / "bundle" / "card.json").read_bytes()
    for change, word in ((["--seed", "6"], "seed"), (["--set", "descend.pairs=5"], "recipe")):
        result = CliRunner().invoke(cli.app, [*trained.arguments, *change], catch_exceptions=False)
        assert result.exit_code == 2
        assert f"holds a run with another {word}; give another folder, or --fresh" in result.stderr
    assert (trained.out / "bundle" / "card.json").read_bytes() == before
