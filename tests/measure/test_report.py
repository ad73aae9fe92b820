"""Reports: every figure is there, aligned and in plain words, whatever the names hold."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from assay.measure import report
from assay.measure.evaluate import Evaluation, Trouble, evaluate
from assay.measure.fairness import audit
from assay.measure.robustness import CONDITIONS, robustness
from assay.metrics import Interval
from assay.types import Label, Sample


@pytest.fixture
def evaluation(detector, samples: list[Sample], tmp_path: Path) -> Evaluation:
    odd = [
        dataclasses.replace(sample, generator="a|b [red]c[/] *d*") if sample.generator == "rare" else sample
        for sample in samples
    ]
    (tmp_path / "broken.png").write_bytes(b"broken")
    rows = [*odd, Sample(str(tmp_path / "broken.png"), Label.REAL)]
    found = evaluate(detector, rows, by=["kind"], rounds=30)
    wanted = {name: CONDITIONS[name] for name in ("clean", "jpeg75")}
    after = robustness(detector, odd, wanted, rounds=0)
    after["jpeg75"]["flips"] = Interval(0.1, 0.05, 0.2, 50)
    for number, name in enumerate(("from_uncertain", "to_uncertain", "fake_to_real", "real_to_fake"), 1):
        after["jpeg75"][name] = Interval(number / 100, 0, 1, 50)
    return dataclasses.replace(found, robustness=after)


def words_of(line: str) -> str:
    return " ".join(line.split())


def test_the_text_holds_every_figure_with_its_interval(evaluation: Evaluation) -> None:
    text = report.text(evaluation, width=140)
    auc, tpr = evaluation.metrics["auc"], evaluation.metrics["tpr"]
    line = next(line for line in text.splitlines() if line.split()[:1] == ["AUC"])
    assert line.split() == ["AUC", f"{auc.value:.3f}", f"{auc.low:.3f}", "to", f"{auc.high:.3f}", "48"]
    assert f"{100 * tpr.value:.1f} %" in text
    for name in report.NAMES.values():
        assert name in text
    assert evaluation.base_rate_line in text
    assert "brightness 1 (abababababab): fake from 0.600 (chosen for 5.0 % FPR), uncertain from 0.500 to 0.600" in text
    assert "49 rows: 25 real, 24 fake; 1 could not be judged" in text


def test_the_text_holds_groups_controls_alterations_and_failures(evaluation: Evaluation) -> None:
    text = report.text(evaluation, width=160)
    for words in ("by generator, against all reals", "reals by source", "by kind", "jpeg75", "metadata classifier"):
        assert words in text
    assert "16 px thumbnail classifier" in text
    [altered, changed] = [line for line in map(words_of, text.splitlines()) if line.startswith("jpeg75")]
    figures = evaluation.robustness["jpeg75"]
    assert f" {figures['ece'].value:.3f} " in altered
    assert f" {100 * figures['accuracy'].value:.1f} % " in altered
    assert altered.endswith(" 48")
    assert changed == "jpeg75 10.0 % (5.0 % to 20.0 %) 4.0 % 3.0 % 2.0 % 1.0 % 50"
    assert any("broken.png: " in line and "not a" in line for line in text.splitlines())
    assert "* fewer than 20 rows" in text


def test_the_audit_shows_errors_gaps_warnings_and_what_is_not_applied(detector, samples: list[Sample]) -> None:
    rows = [
        dataclasses.replace(sample, groups={"sex": "f" if n % 24 < 21 else "m"}) for n, sample in enumerate(samples)
    ]
    measured = evaluate(detector, rows, by=["sex", "generator"], rounds=20)
    found = report.text(measured, width=200)
    part = measured.fairness["sex"].groups["f"]
    assert "fairness by sex: errors at the detector's threshold" in found
    assert f"{100 * part.fpr.value:.1f} % ({100 * part.fpr.low:.1f} % to {100 * part.fpr.high:.1f} %)" in found
    assert "%) *" in found
    assert 'false-positive rate: fewer than 20 reals, too few to say, in "m" (3)' in found
    assert "fairness by sex: thresholds for 5.0 % FPR in each group, NOT APPLIED" in found
    assert "a decision for people, and often unlawful" in found.replace("\n", " ")
    assert f"{part.own.threshold:.3f}" in found
    assert "nan" not in found.lower()
    assert "## fairness by sex: largest gaps" in report.markdown(measured)


def test_the_audits_gaps_stand_with_their_ends(evaluation: Evaluation) -> None:
    labels, groups = [0, 1] * 60, ["low"] * 60 + ["high"] * 60
    calls = [0, 1] * 30 + [1, 1] * 20 + [0, 0] * 10
    found = dataclasses.replace(evaluation, fairness={"k\x1b[2J": audit(labels, groups, called=calls, rounds=0)})
    lines = [" ".join(line.split()) for line in report.text(found, width=160).splitlines()]
    assert any(line.startswith("false-positive rate 66.7 % ") and line.endswith(" 0.00 low high") for line in lines)
    assert any(line.startswith("false-negative rate 33.3 % ") for line in lines)
    assert "equalized odds 66.7 % 0.00" in lines
    assert not any("NOT APPLIED" in line or "\x1b" in line for line in lines)


def test_plain_text_is_aligned_and_without_colour(evaluation: Evaluation) -> None:
    text = report.text(evaluation, width=120)
    assert "\x1b" not in text
    assert max(len(line) for line in text.splitlines() if ".png" not in line) <= 120
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if "95 % interval" in line)
    ends = {len(line) for line in lines[start + 2 : start + 2 + len(report.NAMES)]}
    assert len(ends) == 1


def test_a_name_with_markup_in_it_is_shown_as_it_is(evaluation: Evaluation) -> None:
    assert "a|b [red]c[/] *d*" in report.text(evaluation, width=160)
    row = next(line for line in report.markdown(evaluation).splitlines() if "red" in line)
    assert r"a\|b \[red\]c\[/\] \*d\*" in row


def test_markdown_tables_are_rectangular(evaluation: Evaluation) -> None:
    lines = report.markdown(evaluation, level=3).splitlines()
    assert any(line.startswith("### figures") for line in lines)
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("|"):
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    blocks = [block for block in blocks if block]
    assert len(blocks) == len(list(report.blocks(evaluation)))
    for block in blocks:
        assert len({line.replace(r"\|", "").count("|") for line in block}) == 1


def test_a_terminal_gets_the_same_words(evaluation: Evaluation) -> None:
    file = io.StringIO()
    report.show(evaluation, Console(file=file, width=160, force_terminal=True, color_system="truecolor"))
    assert "balanced accuracy" in file.getvalue()
    assert "\x1b[1m" in file.getvalue()


def test_what_is_not_defined_is_a_dash_and_seen_rows_are_named(detector, samples: list[Sample]) -> None:
    reals = [sample for sample in samples if sample.label is Label.REAL]
    found = evaluate(detector, reals, rounds=20)
    found = dataclasses.replace(found, rows=dataclasses.replace(found.rows, seen=3))
    text = report.text(found)
    assert "nan" not in text.lower()
    assert next(line for line in text.splitlines() if line.split()[:1] == ["AUC"]).split()[1] == "–"
    assert "3 SEEN in making the detector, so this is no test" in text


def test_more_failures_than_fit_are_counted(evaluation: Evaluation) -> None:
    rows = dataclasses.replace(evaluation.rows, failures=evaluation.rows.failures * 13)
    assert "… and 3 more" in report.text(dataclasses.replace(evaluation, rows=rows))


def test_a_file_name_cannot_steer_the_terminal(evaluation: Evaluation) -> None:
    nasty = Trouble("a\x1b[2J\n| b\udce4.png", "corrupt", "no picture")
    found = dataclasses.replace(evaluation, rows=dataclasses.replace(evaluation.rows, failures=(nasty,)))
    text, card = report.text(found, width=160), report.markdown(found)
    assert "\x1b" not in text + card
    assert (text + card).encode()
    assert r"a\x1b[2J\n| b\udce4.png: no picture" in text
    assert r"- a\\x1b\[2J \| b\\udce4.png: no picture" in card
