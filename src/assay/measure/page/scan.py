"""A scan's section of a report: how many were called what, scores, results, what failed, the detector's card."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from assay.errors import BundleError
from assay.judge import bundle, markup
from assay.judge.bundle import Bundle
from assay.judge.markup import name, text
from assay.measure.page import plots
from assay.measure.page.frame import Section, figure, grid, of_pairs, scrolled
from assay.measure.page.tally import BINS, WORDS, Judged, Maker, Tally, tally
from assay.measure.report import percent
from assay.types import Ruling

Picture = Callable[[str, str], "bytes | str"]
"""Of an input's name and SHA-256: a small JPEG file, or why there is none."""

_CARDS = 3
"""Most detectors whose cards are shown."""

_FIGURES = 6


def section(
    lines: Iterable[Mapping[str, Any] | None],
    heading: str,
    identity: str,
    *,
    rows: int,
    picture: Picture | None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Section:
    """The section of results.

    Args:
        lines: as JSON lines hold them; None for one that was cut off. Gone through once.
        heading: plain text.
        identity: begins what is named in the page: letters, digits and "-".
        rows: most results shown, and most failures.
        picture: thumbnails; None for none.
        progress: told how far it is: ("counting", done, done), ("thumbnails", done, total).

    Raises:
        ValueError: a line is no result.
    """
    found = tally(lines, rows, None if progress is None else lambda done: progress("counting", done, done))
    body = [*_counts(found), *_histogram(found, identity)]
    pictures: list[bytes | str] = []
    if picture is not None:
        for number, row in enumerate(found.rows, 1):
            pictures.append(picture(row.name, row.sha256))
            if progress is not None:
                progress("thumbnails", number, len(found.rows))
    body += [*_results(found, pictures, identity), *_failures(found), *_cards(found)]
    told = {
        "kind": "scan",
        **{str(word): found.words[word] for word in WORDS},
        "failed": found.failed,
        "shown": len(found.rows),
        "failures_shown": len(found.failures),
        "thumbnails": sum(isinstance(each, bytes) for each in pictures),
        "unfinished": found.unfinished,
    }
    return Section(heading, body, told)


def _counts(found: Tally) -> Iterator[str]:
    total = found.judged + found.failed
    yield f"<p>{total:,} inputs: {found.judged:,} judged, {found.failed:,} could not be judged.</p>"
    yield from scrolled("counts")
    yield "<table><caption>How many were called what</caption>"
    yield '<thead><tr><th scope="col">verdict</th><th scope="col" class="number">inputs</th>'
    yield '<th scope="col" class="number">of those judged</th></tr></thead><tbody>'
    for word in WORDS:
        share = percent(found.words[word] / found.judged if found.judged else math.nan)
        yield f'<tr><th scope="row">{_word(word)}</th><td class="number">{found.words[word]:,}</td>'
        yield f'<td class="number">{share}</td></tr>'
    yield f'<tr><th scope="row">{_word("failed")}</th><td class="number">{found.failed:,}</td>'
    yield '<td class="number">–</td></tr></tbody></table></div>'
    notes = []
    if found.without:
        notes.append(f"{found.without:,} of the uncertain ones have no score, as nothing applied to them")
    if found.unfinished:
        notes.append("the last record was cut off, as by a stop, and is left out; run the scan again to go on")
    for bar in _common(found.bars):
        band = f"uncertain from {bar.low:.3f}" if bar.low < bar.threshold else "never uncertain where there is a score"
        notes.append(
            f"{found.bars[bar]:,} were compared with these: fake from a score of {bar.threshold:.3f}, {band}; "
            f"the threshold was set so that at most {percent(bar.fpr)} of real pictures are called fake: "
            f"if all {found.bars[bar]:,} were real, and like those it was set on, up to about "
            f"{bar.fpr * found.bars[bar]:,.0f} would be called fake"
        )
    if len(found.bars) > _CARDS:
        notes.append("further thresholds are in the file")
    yield from markup.listed(notes)


def _histogram(found: Tally, identity: str) -> Iterator[str]:
    scored = found.judged - found.without
    if not scored:
        return
    [bar, *others] = _common(found.bars) or [None]
    told = f"How many of {scored:,} scores lie in each step of {1 / BINS:.2f}, by verdict"
    if bar is not None:
        told += f"; fake from {bar.threshold:.3f}"
        told += f", uncertain from {bar.low:.3f}" if bar.low < bar.threshold else ""
    if others:
        told += " (the commonest of several thresholds)"
    rows = [
        (f"{place / BINS:.2f} to {(place + 1) / BINS:.2f}", *(f"{found.bins[word][place]:,}" for word in WORDS))
        for place in range(BINS)
    ]
    numbers = grid("Scores by step, the upper end left out but for the last", ("score", *WORDS), rows)
    yield "<h3>Scores</h3>"
    yield from figure(
        plots.histogram(found.bins, bar, f"Scores, n = {scored:,}"), told, [*numbers], f"{identity}-scores"
    )


def _results(found: Tally, pictures: list[bytes | str], identity: str) -> Iterator[str]:
    yield "<h3>Results</h3>"
    yield f"<p>{_shown(len(found.rows), found.judged)}</p>"
    if not found.rows:
        return
    yield f'<div data-results id="{identity}-results"><div class="tools" hidden>'
    yield '<label>Rows that hold <input type="search" autocomplete="off" spellcheck="false"></label>'
    options = "".join(f'<option value="{word}">{word}</option>' for word in WORDS)
    yield f'<label>Verdict <select><option value="">all</option>{options}</select></label><output></output></div>'
    yield from scrolled("results")
    yield '<table class="results" role="table"><caption>What was said of each input</caption>'
    yield '<thead role="rowgroup"><tr role="row">'
    yield '<th scope="col" role="columnheader" class="number" data-sort="number">record</th>'
    yield '<th scope="col" role="columnheader">picture</th>' if pictures else ""
    yield '<th scope="col" role="columnheader" data-sort="text">input</th>'
    yield '<th scope="col" role="columnheader" data-sort="text">verdict</th>'
    yield '<th scope="col" role="columnheader" class="number" data-sort="number">score</th>'
    yield '<th scope="col" role="columnheader">size in px</th>'
    yield '<th scope="col" role="columnheader">why</th></tr></thead><tbody role="rowgroup">'
    for place, row in enumerate(found.rows):
        yield from _row(row, pictures[place] if pictures else None)
    yield "</tbody></table></div></div>"


def _row(row: Judged, picture: bytes | str | None) -> Iterator[str]:
    # Where it is narrow a row is laid out as no row: its parts say what they are.
    yield f'<tr role="row" data-word="{row.word}">{_cell("number record", f"{row.number}")}'
    if isinstance(picture, bytes):
        yield _cell("thumb", f'<img alt="" src="{markup.data(picture, "jpeg")}">')
    elif picture is not None:
        yield _cell("thumb soft", text(picture))
    yield f'<th scope="row" role="rowheader" class="name">{name(_short(row.name))}</th>'
    yield _cell("verdict", _word(row.word))
    yield _cell("number score", "–" if row.score is None else f"{row.score:.3f}")
    yield _cell("size", f"{row.width} × {row.height}" if row.width and row.height else "–")
    yield f"{_cell('why', '<br>'.join(name(line) for line in row.told))}</tr>"


def _cell(kind: str, content: str) -> str:
    return f'<td role="cell" class="{kind}">{content}</td>'


def _failures(found: Tally) -> Iterator[str]:
    if not found.failed:
        return
    yield "<h3>What could not be judged</h3>"
    kinds = [(kind, f"{count:,}") for kind, count in found.kinds.most_common()]
    yield from grid("Why, and how often", ("kind", "inputs"), kinds)
    shown = len(found.failures)
    more = f"; {found.failed - shown:,} more are counted above and not listed" if shown < found.failed else ""
    yield f"<p>The first {shown:,} of {found.failed:,} in the file{more}.</p>"
    if found.failures:
        yield from scrolled("failures")
        yield "<table><caption>What happened, and what to do</caption><thead><tr>"
        yield '<th scope="col" class="number">record</th><th scope="col">input</th><th scope="col">kind</th>'
        yield '<th scope="col" class="why">what to do</th></tr></thead><tbody>'
        for failed in found.failures:
            yield f'<tr><td class="number">{failed.number}</td><th scope="row">{name(_short(failed.name))}</th>'
            yield f"<td>{name(failed.kind)}</td><td>{name(failed.message)}</td></tr>"
        yield "</tbody></table></div>"


def _cards(found: Tally) -> Iterator[str]:
    for maker in _common(found.makers):
        yield f"<h3>The detector: {name(maker.name)} {name(maker.version)}</h3>"
        yield f'<p class="soft">{found.makers[maker]:,} results; SHA-256 {name(maker.sha256)}</p>'
        read = _installed(maker)
        if read is None:
            yield "<p>Its card is not installed here, so its limits and figures are not shown.</p>"
        else:
            yield from _card(read)
    if len(found.makers) > _CARDS:
        yield "<p>Further detectors judged some of the results; the file names them.</p>"


def _card(read: Bundle) -> Iterator[str]:
    """What it is good for, what it cannot do, its most telling figures."""
    card = read.card
    yield f"<p>{name(card.description)}</p>"
    if card.limits:
        yield "<p>What it cannot do:</p>"
        yield from markup.listed(card.limits)
    headline = card.figures.get("headline")
    rows = [
        (figure, *_figure(value))
        for figure, value in (headline.items() if isinstance(headline, dict) else ())
        if isinstance(value, dict) and isinstance(value.get("value"), int | float)
    ][:_FIGURES]
    if rows:
        yield from grid("What was measured of it", ("", "value", "95 % interval", "rows"), rows)
    summary = card.data.get("summary")
    pairs = [("made from", summary)] if isinstance(summary, str) else []
    yield from of_pairs("How it came about", [*pairs, ("created", f"{card.created}"), ("recipe", card.recipe)])


def _figure(told: Mapping[str, Any]) -> tuple[str, str, str]:
    ends = [told.get(end) for end in ("low", "high")]
    between = " to ".join(f"{end:.3f}" for end in ends if isinstance(end, int | float))
    return f"{told['value']:.3f}", between or "–", f"{told.get('n', '–')}"


def _installed(maker: Maker) -> Bundle | None:
    """The bundle whose card has that hash; a name alone is not enough."""
    for folder in bundle.installed():
        try:
            told = json.loads((folder / bundle.CARD).read_bytes())
            if isinstance(told, dict) and told.get("sha256") == maker.card:
                return bundle.read(folder)
        except (OSError, ValueError, RecursionError, BundleError):
            continue
    return None


def _common(counted: Any) -> list[Any]:
    """The commonest few of what was told apart."""
    return [key for key, _ in counted.most_common() if key is not None][:_CARDS]


def _shown(shown: int, judged: int) -> str:
    order = "fake ones first, then uncertain, then real, each by score from the highest"
    if shown == judged:
        return f"All {judged:,} results: {order}."
    return (
        f"{shown:,} of {judged:,} results: {order}. The other {judged - shown:,} are counted above and not listed; "
        "--rows lists more, and the file holds all."
    )


def _word(word: Ruling | str) -> str:
    return f'<span class="word {word}">{word}</span>'


def _short(words: str) -> str:
    return words if len(words) <= 1000 else f"{words[:1000]} … ({len(words) - 1000} more characters)"
