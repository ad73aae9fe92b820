"""The report as people and machines read it."""

from __future__ import annotations

import dataclasses
import json

from assay.data.table import Table
from assay.measure.check import Shortcut, check
from assay.measure.check import report as printed
from assay.measure.controls import Control
from assay.metrics import Interval
from checked import NOTE, Many, both, read, row


def test_a_report_is_json_that_holds_every_problem(many: Many) -> None:
    rows = [*many("jpg", "png", 24), row(900, None, subject="x")]
    told = json.loads(json.dumps(check(Table.of(rows), rounds=10).to_dict(), allow_nan=False))
    assert told["honest"] is False
    assert told["counts"]["train"] == {"real": 6, "fake": 6, "": 0}
    missing = next(found for found in told["findings"] if found["kind"] == "missing")
    assert missing["count"] == 1
    assert missing["problems"][0]["row"] == 26
    assert [found["severity"] for found in told["findings"]] == sorted(
        (found["severity"] for found in told["findings"]), key=["error", "warning", "note"].index
    )


def test_the_printed_report_names_kinds_counts_rows_and_shortcuts(many: Many) -> None:
    rows = many("jpg", "png", 40) + [row(900 + number, None) for number in range(14)]
    text = printed.text(check(Table.of(rows), rounds=20), width=120)
    assert "error: missing (14): pictures that cannot be read" in text
    assert "  row 42: 900.png: " in text
    assert "… and 4 more" in text
    line = next(line for line in text.splitlines() if line.startswith("    format"))
    assert line.split() == ["format", "1.000", "1.000–1.000", "20", "20", "error"]
    assert text.rstrip().splitlines()[-1].startswith("not fit to train or measure on as it stands: 2 errors, ")


def test_a_name_cannot_steer_the_terminal_or_become_markup() -> None:
    rows = both("train", 0, video="[red]\x1b[2Jv") + both("test", 2, video="[red]\x1b[2Jv")
    text = printed.text(read(rows))
    assert "[red]\\x1b[2Jv (2 train, 2 test)" in text


def test_tables_keep_to_80_columns_and_no_row_wraps(many: Many) -> None:
    report = check(Table.of(many("jpg", "png")), rounds=20)
    lines = printed.text(report, width=80).splitlines()
    table = lines[: next(number for number, line in enumerate(lines) if line.startswith("all rows: "))]
    assert max(len(line) for line in table) <= 80
    for name in ("bytes per pixel", "metadata classifier", "thumbnail classifier"):
        assert [line.split()[-2:] for line in table if line.startswith(f"    {name} ")]


def test_an_interval_is_turned_to_the_side_of_its_figure() -> None:
    control = Control(Interval(0.3, 0.25, 0.45, 40))
    short = Shortcut("pixels", "all rows", control, NOTE, 15, 25)
    text = printed.text(dataclasses.replace(read(both("train", 0)), shortcuts=(short,)))
    line = next(line for line in text.splitlines() if line.startswith("    pixels"))
    assert line.split() == ["pixels", "0.700", "0.550–0.750", "15", "25"]


def test_what_was_not_looked_at_is_said_whether_the_table_holds_or_not() -> None:
    sound, faulty = read(both("train", 0)), read([row(0)])
    assert sound.honest
    assert not faulty.honest
    for report in (sound, faulty):
        assert "files were not looked for, and the pictures were not looked at" in printed.verdict(report)
