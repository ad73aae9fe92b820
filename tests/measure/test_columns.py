"""Detectors side by side in print: one column each, every figure, and what compares them."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from assay.measure import columns
from assay.measure.beside import Beside, beside
from assay.measure.curves import STATISTICS
from assay.measure.paired import Delong, McNemar
from assay.measure.report import NAMES
from assay.measure.robustness import conditions
from assay.types import Label, Sample


@pytest.fixture
def found(detector, samples: list[Sample], tmp_path: Path) -> Beside:
    (tmp_path / "broken.png").write_bytes(b"broken")
    rows = [*samples, Sample(str(tmp_path / "broken.png"), Label.REAL)]
    strict = dataclasses.replace(detector, threshold=0.7, doubt=(0.5, 0.7))
    under = conditions(["clean", "half+jpeg50"])
    return beside({"one": detector, "two [red]|": strict}, rows, conditions=under, by=["kind"], rounds=30)


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_there_is_a_column_a_detector_with_every_figure(found: Beside) -> None:
    text = columns.text(found, width=200)
    told = lines(text)
    one, two = found.evaluations.values()
    auc = one.metrics["auc"]
    cell = f"{auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})"
    assert f"AUC {cell} {cell}" in told
    tpr = [each.metrics["tpr"] for each in (one, two)]
    cells = [f"{100 * each.value:.1f} % ({100 * each.low:.1f} % to {100 * each.high:.1f} %)" for each in tpr]
    assert f"TPR at the threshold {' '.join(cells)}" in told
    assert cells[0] != cells[1]
    assert all(name in text for name in NAMES.values())
    assert "one 1 (abababababab): fake from 0.600 (chosen for 5.0 % FPR), uncertain from 0.500 to 0.600" in told
    assert any(line.startswith("two [red]| 1 (abababababab): fake from 0.700") for line in told)
    assert told.count("49 rows: 25 real, 24 fake; 1 could not be judged") == 2
    for name, each in found.evaluations.items():
        assert f"{name}: {each.base_rate_line}" in " ".join(told)
    assert "nan" not in text.lower()


def test_comparisons_stand_with_their_intervals_and_tests(found: Beside) -> None:
    told = lines(columns.text(found, width=200))
    [compared] = found.compared
    tpr = compared.differences["tpr"]
    assert tpr.value < 0
    assert f"TPR at the threshold {tpr.value:+.3f} ({tpr.low:+.3f} to {tpr.high:+.3f})" in told
    assert "AUC +0.000 (+0.000 to +0.000)" in told
    assert "rows 48" in told
    mistakes = compared.mcnemar
    both = f"{mistakes['all'].first_only} {mistakes['all'].second_only}"
    ps = " ".join(f"{mistakes[part].p:.3f}" for part in ("all", "real", "fake"))
    assert f"two [red]| 0.00 1.000 {both} {ps}" in told
    assert "not corrected" not in " ".join(told)


def test_small_p_values_and_tests_that_do_not_hold_are_shown_as_such(found: Beside) -> None:
    [compared] = found.compared
    nan = float("nan")
    none = dataclasses.replace(compared, second="third", delong=Delong(nan, nan, nan, nan, 3))
    tiny = dict.fromkeys(("all", "real", "fake"), McNemar(90, 3, 1e-9, 100))
    twice = dataclasses.replace(found, compared=(dataclasses.replace(compared, mcnemar=tiny), none))
    told = lines(columns.text(twice, width=220))
    assert "two [red]| 0.00 1.000 90 3 < 0.001 < 0.001 < 0.001" in told
    assert any(line.startswith("third – – ") for line in told)
    assert "p is not corrected for several tests" in " ".join(told)


def test_alterations_groups_audits_controls_and_failures_are_there(found: Beside) -> None:
    text = columns.text(found, width=200)
    told = lines(text)
    for name, words in STATISTICS.items():
        assert f"{words}, after alteration" in told
        values = [each.robustness["half+jpeg50"][name].value for each in found.evaluations.values()]
        cell = f"{values[0]:.3f}" if name in ("auc", "ece") else f"{100 * values[0]:.1f} %"
        assert any(line.startswith(f"half+jpeg50 {cell}") for line in told), name
    for title in (
        "AUC, after alteration: more than one",
        "verdicts changed, after alteration: more than one",
        "by generator, against all reals: AUC",
        "by generator, against all reals: fakes called fake",
        "reals by source: reals called fake",
        "by kind: AUC",
        "by kind: reals called fake",
        "one: fairness by kind: errors at the detector's threshold",
        "two [red]|: fairness by kind: largest gaps",
    ):
        assert title in told, title
    assert told.count("controls: what file and subject alone tell") == 1
    assert "without a score of two [red]|" in told
    assert text.count("broken.png: ") == 2
    flips = found.compared[0].robustness["half+jpeg50"]["flips"]
    assert f"half+jpeg50 {flips.value:+.3f} ({flips.low:+.3f} to {flips.high:+.3f})" in told
    crop = [each.groups["kind"]["crop"].figures["fpr"].value for each in found.evaluations.values()]
    start = told.index("by kind: reals called fake")
    row = next(line for line in told[start:] if line.startswith("crop *"))
    assert row.startswith(f"crop * {100 * crop[0]:.1f} %")
    assert f"{100 * crop[1]:.1f} %" in row


def test_markdown_tables_are_rectangular_and_hold_the_same(found: Beside) -> None:
    text = columns.markdown(found, level=3)
    parts = [[line for line in part.splitlines() if line.startswith("|")] for part in text.split("\n\n")]
    tables = [part for part in parts if part]
    assert len(tables) == len(list(columns.blocks(found)))
    for table in tables:
        assert len({line.replace(r"\|", "").count("|") for line in table}) == 1
    assert text.startswith("**one 1 (abababababab): fake from 0.600")
    assert r"two \[red\]\|" in text
    assert "### figures" in text


def test_a_terminal_gets_the_same_words_and_a_name_cannot_steer_it(found: Beside) -> None:
    bad = Beside(dict(zip(("\x1b[2J", "b"), found.evaluations.values(), strict=True)), ())
    file = io.StringIO()
    columns.show(bad, Console(file=file, width=160, force_terminal=True, color_system="truecolor"))
    assert "\x1b[1m" in file.getvalue()
    assert "\x1b[2J" not in file.getvalue() + columns.text(bad) + columns.markdown(bad)
    assert r"\x1b[2J" in file.getvalue()


def test_without_conditions_and_controls_their_tables_are_left_out(detector, samples: list[Sample]) -> None:
    text = columns.text(beside({"a": detector, "b": detector}, samples, rounds=5, with_controls=False), width=160)
    assert "alteration" not in text
    assert "controls" not in text
    assert "without a score" not in text
