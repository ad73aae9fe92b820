"""The search's arithmetic, on scores that were made up: who may learn from what, what decides, and how it is told."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from assay.learn.crossfit import Scored
from assay.types import Label, Sample
from benches import loaded

HEADS = ("texture", "texture-nearest", "texture-one_class")


@pytest.fixture(scope="module")
def search(beside: None) -> ModuleType:
    return loaded("search")


def row(number: int, label: Label, name: str, fold: str = "one", **groups: str) -> Sample:
    fake = label is Label.FAKE
    return Sample(
        place=f"{number}.png", label=label, generator=name if fake else "", source="s" if fake else name,
        origin=f"{number:064x}", split="train", groups={"fold": fold} | groups,
    )  # fmt: skip


@pytest.fixture(scope="module")
def scored() -> Scored:
    """Two folds of two reals and two fakes; the second fold's network gives scores of ten times the size."""
    samples, folds, raws = [], [], []
    for fold, size in (("one", 1.0), ("two", 10.0)):
        for place, (label, name) in enumerate([(0, "cam a"), (0, "cam b"), (1, "gen a"), (1, "gen b")]):
            samples.append(row(len(samples), Label(label), f"{name} {fold}", fold))
            folds.append(fold)
            # One fake of each fold lies below both reals; its second crop is surer, and the other way.
            middle = [0.0, 1.0, 2.0, -1.0][place]
            raws.append(np.array([middle - 0.5, middle + 0.5]) * size)
    clean = {head: tuple(raws) for head in HEADS}
    worse = {head: tuple(raw[::-1] * 0 + 1 for raw in raws) for head in HEADS}
    scale = {fold: dict.fromkeys(HEADS, (0.0, size)) for fold, size in (("one", 1.0), ("two", 10.0))}
    conditions = {"clean": clean, "jpeg75": worse, "half": clean}
    return Scored(tuple(samples), tuple(folds), conditions, {"one": 3, "two": 3}, scale)


def test_every_arm_has_a_recipe_that_holds(search: ModuleType) -> None:
    recipes = {name: arm.recipe() for name, arm in search.ARMS.items()}
    assert len({json.dumps(r.model_dump(mode="json"), sort_keys=True) for r in recipes.values()}) >= len(recipes) - 6
    assert recipes["vit"].frozen("texture") is False
    assert recipes["base"].frozen("texture") is True


def test_an_arm_learns_from_the_kinds_of_pictures_that_it_names(search: ModuleType) -> None:
    real, fake = row(0, Label.REAL, "cam"), row(1, Label.FAKE, "gen")
    remade, blended = row(2, Label.FAKE, "assay", remade="1"), row(3, Label.FAKE, "self", blended="1")
    tuned = dataclasses.replace(row(4, Label.FAKE, "gen"), split="tune")
    rows = [real, fake, remade, blended, tuned]

    def of(name: str) -> list[tuple[str, str]]:
        return [(s.place, s.groups["secondary"]) for s in search.learned(rows, search.ARMS[name])]

    assert of("base") == [("0.png", ""), ("1.png", ""), ("4.png", "")]
    assert of("remade") == [("0.png", ""), ("1.png", ""), ("2.png", "1"), ("4.png", "")]
    assert of("only-remade") == [("0.png", ""), ("2.png", ""), ("4.png", "")]


def test_what_decides_is_the_mean_over_folds_and_conditions(search: ModuleType, scored: Scored) -> None:
    assert search.by_fold(scored) == {"one": 0.5, "two": 0.5}
    assert search.by_fold(scored, condition="jpeg75") == {"one": 0.5, "two": 0.5}
    truth = tuple(np.array([int(sample.label or 0)]) for sample in scored.samples)
    better = dataclasses.replace(scored, raws=scored.raws | {"clean": dict.fromkeys(HEADS, truth)})
    assert search.merit(better) == 0.75
    assert search._lead(better, scored).startswith("+0.250")
    # Fold one: 3 and 0 against 0 and 1; fold two, whose scores count a tenth: 2.1 and -0.9 against 0 and 1.
    assert search._together(better, scored) == pytest.approx(np.mean([2.5 / 4, 0.5, 0.5, 0.5]))


def test_arms_are_compared_with_the_rung_s_own_reference(search: ModuleType, scored: Scored) -> None:
    truth = tuple(np.array([int(sample.label or 0)]) for sample in scored.samples)
    told = {condition: {HEADS[0]: truth} for condition in scored.raws}
    better = dataclasses.replace(scored, raws=told)
    found = {"patch": [scored], "trace": [better, scored]}
    head, _, *rows = search.compared(found, ["one", "two"], "patch", scored)
    names = [cell.strip() for cell in head.strip("|").split("|")]
    first, second = (
        dict(zip(names, [cell.strip() for cell in row.strip("|").split("|")], strict=True)) for row in rows
    )
    assert (first["arm"], first["seeds"], first["AUC"]) == ("trace", "2", "0.750")
    # One lead for each seed; the second is the reference itself.
    assert first["less patch"].startswith("+0.500 (")
    assert first["less patch"].endswith(", +0.000 (+0.000 to +0.000)")
    assert (first["one clean"], first["two jpeg75"]) == ("0.750", "0.750")
    # A recipe without a head is not given another's figure.
    assert (first["nearest"], second["nearest"], second["one-class"]) == ("–", "0.500", "0.500")
    assert second["less patch"] == "–"
    with_shipped = search._together(better, scored)
    assert first["with every-picture-no-moments-weak"] == f"{with_shipped:.3f}"
    assert search.compared(found, ["one", "two"], "base", None)[2].count("–") == 4


def test_scores_of_networks_apart_are_on_one_scale(search: ModuleType, scored: Scored) -> None:
    assert search._levels(scored, "clean").tolist() == [0, 1, 2, -1, 0, 1, 2, -1]
    sure = search._sure(scored)["clean"]
    weights = np.exp([2.5, 1.5])
    assert sure[2] == pytest.approx((2.5 * weights[0] + 1.5 * weights[1]) / weights.sum())
    assert sure[6] == pytest.approx(sure[2])
    assert search._two_sizes(scored)["clean"].tolist() == [0, 1, 2, -1, 0, 1, 2, -1]


def test_thresholds_come_from_the_other_folds(scored: Scored) -> None:
    ship = loaded("ship")
    found: dict[str, Any] = ship.held(scored, "texture")
    assert found["families"]["one"]["clean"]["auc"]["value"] == 0.5
    # Of two reals no threshold lets 5 % pass but one above both: 1 on the common scale.
    rates = {name: cell["value"] for name, cell in found["real_sources"].items()}
    assert set(rates) == {"cam a one", "cam b one", "cam a two", "cam b two"}
    assert set(rates.values()) == {0.0}
    loud = (np.array([50.0]), *scored.raws["clean"]["texture"][1:])
    clean = dict(scored.raws["clean"]) | {"texture": loud}
    found = ship.held(dataclasses.replace(scored, raws=scored.raws | {"clean": clean}), "texture")
    rates = {name: cell["value"] for name, cell in found["real_sources"].items()}
    assert rates == {"cam a one": 1.0, "cam b one": 0.0, "cam a two": 0.0, "cam b two": 0.0}
    none = {"value": 0.5, "low": None, "high": None, "n": 2}
    controls = {fold: {"metadata": none, "thumbnail": none | {"low": 0.4, "high": 0.6}} for fold in ("one", "two")}
    told = ship.told(found | {"controls": controls})
    assert "worst 1.000 (cam a one)" in told
    assert "| facts of the file | – | – |" in told
    assert "| a thumbnail of 16 px | 0.500 (0.400–0.600) | 0.500 (0.400–0.600) |" in told


def test_attention_is_as_strong_as_does_best_on_the_other_folds(search: ModuleType, scored: Scored) -> None:
    # In fold one a fake is found by its surest crop alone; in fold two the surest crop misleads.
    real, fake = np.array([0.3, 0.3]), np.array([1.5, -1.2])
    raws = [real, real, fake, fake]
    real, fake = np.array([-0.1, 1.5, -0.9]), np.array([0.5, 0.5])
    raws += [real, real, fake, fake]
    conditions = {name: {head: tuple(raws) for head in HEADS} for name in ("clean", "jpeg75", "half")}
    flat = {fold: dict.fromkeys(HEADS, (0.0, 1.0)) for fold in ("one", "two")}
    made = dataclasses.replace(scored, raws=conditions, scale=flat)
    one, two = np.array(made.folds) == "one", np.array(made.folds) == "two"

    def best(among: Any) -> float:
        return float(max(search.POWERS, key=lambda power: search._merit_of(made, search._sure(made, power), among)))

    assert best(one) != best(two)
    found = search._attention(made)["clean"]
    assert found[one] == pytest.approx(search._sure(made, best(two))["clean"][one])
    assert found[two] == pytest.approx(search._sure(made, best(one))["clean"][two])


def test_controls_are_fitted_outside_the_fold_that_they_are_told_of(beside: None, tmp_path: Path) -> None:
    facts = loaded("facts")
    random, rows = np.random.default_rng(0), []
    for number in range(96):
        label, fold = Label(number % 2), ("one", "two")[number // 2 % 2]
        # Fakes are blue in fold two; in fold one it is the reals.
        blue = (label is Label.FAKE) == (fold == "two")
        pixels = random.integers(0, 60, (32, 32, 3), dtype=np.uint8)
        pixels[..., 2] += 150 * blue
        place = tmp_path / f"{number}.png"
        Image.fromarray(pixels).save(place)
        name = f"{'gen' if label else 'cam'} {fold} {number % 3}"
        rows.append(dataclasses.replace(row(number, label, name, fold), place=str(place)))
    kept = tmp_path / "kept.json"
    found = facts.by_fold(rows, rows, kept)
    assert found["one"]["thumbnail"]["value"] < 0.05
    assert found["two"]["thumbnail"]["value"] < 0.05
    assert found["one"]["thumbnail"]["n"] == 48
    for sample in rows:
        Path(sample.place).unlink()
    assert facts.by_fold(rows, rows, kept) == found
    assert facts.by_fold(rows, rows[:50], kept)["one"]["thumbnail"]["n"] == 0


def test_a_generator_has_a_family() -> None:
    gather = loaded("gather")
    names = {
        "stylegan2-faces (boredhumans.com)": "gan", "thisrentaldoesnotexist.com": "gan", "sd1.5": "sd1",
        "nano-banana-pro": "gpt", "gpt-4o-image": "gpt", "unknown-mix (real-or-ai-game)": "web", "flux-pro": "modern",
        "vqgan-transformer (S-FLCKR)": "modern", "sd3.5": "modern", "sd2.0": "modern",
    }  # fmt: skip
    assert {name: gather.family(row(0, Label.FAKE, name)) for name in names} == names
    assert gather.family(row(0, Label.REAL, "stylegan")) == ""


def test_a_generator_whose_training_failed_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pseudo = loaded("pseudo")
    (tmp_path / "maker.json").write_text(json.dumps({"record": {"psnr": 12.0}}))
    assert not pseudo._faithful(tmp_path)
    assert "12.0 dB" in capsys.readouterr().err
    (tmp_path / "maker.json").write_text(json.dumps({"record": {"psnr": 30.0}}))
    assert pseudo._faithful(tmp_path)
