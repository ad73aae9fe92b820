"""What a study leaves beside its runs: tables, figures, and the row for docs/log.md."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

from assay.studies import figure, table
from assay.studies.run import Report
from assay.studies.table import Tables

FILES = ("table.txt", "table.md", "report.json", "figure.svg", "log.md")


def write(report: Report, out: Path, command: str, *, rounds: int = 1000) -> Tables:
    """Make every file of `FILES` anew, each whole or not at all.

    Args:
        command: that was run, for the log's row.
        rounds: of the bootstrap; 0 leaves intervals out.

    Returns:
        What stands in them.
    """
    found = table.tables(report, rounds=rounds)
    contents = (
        table.text(found),
        table.markdown(found),
        json.dumps(table.to_dict(found), indent=1, allow_nan=False) + "\n",
        figure.svg(found),
        table.log_row(found, datetime.date.today().isoformat(), command) + "\n",
    )
    for name, content in zip(FILES, contents, strict=True):
        part = out / f".{name}.part"
        part.write_text(content, "utf-8")
        part.replace(out / name)
    return found
