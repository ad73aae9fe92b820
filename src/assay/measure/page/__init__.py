"""A report as a web page in one file: scans, evaluations and comparisons, a section each.

What a file is, its content tells. The page needs no script to be read (`assay.judge.markup`): its one script sorts and
filters the results. All that is told of inputs is escaped, and what names a thing is isolated, so that a name from
right to left moves nothing around it. Every plot has its numbers in a table beneath it.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import assay
from assay.errors import InputError
from assay.judge import markup
from assay.judge.markup import name
from assay.measure.page import evaluation, frame, scan, stored
from assay.measure.page.frame import Section
from assay.measure.page.picture import thumbnail
from assay.measure.page.scan import Picture

__all__ = ["ROWS", "Picture", "Section", "of_evaluation", "of_file", "of_results", "report", "thumbnail"]

ROWS = 200
"""Results of a scan that are shown unless more are asked for."""

Progress = Callable[[str, int, int], None]


def of_file(
    path: str | os.PathLike[str],
    number: int = 1,
    *,
    rows: int = ROWS,
    picture: Picture | None = thumbnail,
    progress: Progress | None = None,
) -> Section:
    """A section of what `assay scan --out` or `assay evaluate --json` wrote, JSON lines, CSV or JSON.

    Memory does not grow with the number of results.

    Args:
        number: of the section in its report; each another.
        rows: most results shown of a scan, and most failures.
        picture: makes the thumbnails; None for none.
        progress: told how far it is.

    Raises:
        InputError: the file cannot be read, or is none of these; the message says what to do.
    """
    held, file = stored.open_file(path)
    heading, place = os.fspath(path), os.fspath(path)
    with file:
        try:
            if isinstance(held, stored.Found):
                return evaluation.section(held, heading, f"part-{number}")
            return scan.section(held.lines, heading, f"part-{number}", rows=rows, picture=picture, progress=progress)
        except ValueError as error:
            raise InputError(f"{place}: {error}", kind="corrupt") from error


def of_results(
    results: Iterable[Mapping[str, Any]],
    heading: str,
    number: int = 1,
    *,
    rows: int = ROWS,
    picture: Picture | None = thumbnail,
) -> Section:
    """A section of results that are no file: of what `Verdict.to_dict` and `Failure.to_dict` give.

    Raises:
        ValueError: one is no result.
    """
    return scan.section(results, heading, f"part-{number}", rows=rows, picture=picture)


def of_evaluation(told: Mapping[str, Any], heading: str, number: int = 1) -> Section:
    """A section of what `Evaluation.to_dict` or `Beside.to_dict` gives.

    Raises:
        ValueError: it is something else.
    """
    return evaluation.section(stored.found(told), heading, f"part-{number}")


def report(sections: Sequence[Section], title: str = "Report", *, day: datetime.date | None = None) -> str:
    """The text of an HTML file.

    Args:
        sections: at least one.
        day: that it was made; today where not given.
    """
    several = len(sections) > 1
    made = day or datetime.datetime.now(datetime.UTC).date()
    body = ['<a class="skip" href="#main">To the content</a>', "<header>", f"<h1>{name(title)}</h1>"]
    body.append(f'<p class="soft">made {made} by assay {markup.text(assay.__version__)}; a score is P(fake)</p>')
    body.append("</header>")
    if several:
        links = (f'<li><a href="#part-{at}">{name(each.heading)}</a></li>' for at, each in enumerate(sections, 1))
        body += ['<nav aria-label="Sections"><ul>', *links, "</ul></nav>"]
    body.append('<main id="main" tabindex="-1">')
    for at, each in enumerate(sections, 1):
        body += [f'<section id="part-{at}" aria-labelledby="part-{at}-heading">']
        body += [f'<h2 id="part-{at}-heading">{_KINDS[str(each.told["kind"])]}: {name(each.heading)}</h2>']
        body += [*each.lines, "</section>"]
    body.append("</main>")
    script = frame.SCRIPT if any(each.told["kind"] == "scan" for each in sections) else ""
    return markup.document(title, body, style=frame.STYLE, script=script)


_KINDS = {"scan": "Scan", "evaluation": "Evaluation", "comparison": "Comparison of detectors"}
