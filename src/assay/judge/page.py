"""An explanation as a web page in one file: verdict, each stream's part, its maps over the picture.

The page asks nobody for anything (`assay.judge.markup`). Whatever is told of the input is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from assay.judge import film, heat, markup
from assay.judge.explain import Explanation, Look
from assay.judge.heat import ANCHORS
from assay.judge.markup import Table, listed, table, text
from assay.types import Verdict

LONGEST = 1024
"""Longer side in px of the pictures on the page."""

_START = 70

_SCRIPT = """
const strength = document.getElementById("strength");
strength.addEventListener("input", () => {
  document.documentElement.style.setProperty("--strength", strength.value / 100);
});
"""

_STYLE = """
:root { --strength: START; }
.maps { display: flex; flex-wrap: wrap; gap: 1rem; } figure { flex: 1 1 18rem; max-width: WIDTHpx; }
.stack { background: url("PICTURE") 0 0 / 100% 100%; aspect-ratio: RATIO; }
.stack img { display: block; width: 100%; height: 100%; opacity: var(--strength); }
.scale { height: 0.8rem; max-width: 18rem; background: linear-gradient(to right, COLOURS); }
.controls { position: sticky; top: 0; padding: 0.5rem 0; background: var(--ground); }
input[type=range] { width: min(18rem, 100%); vertical-align: middle; }
"""


def page(explanation: Explanation, tables: Mapping[str, Table] | None = None) -> str:
    """The text of an HTML file.

    Args:
        tables: further figures, by their heading.
    """
    verdict = explanation.verdict
    picture = heat.grey(explanation.pixels, LONGEST)
    style = _styled(_data(picture), picture.shape[1], picture.shape[0])
    score = "no score" if verdict.score is None else f"P(fake) {verdict.score:.3f}"
    name = verdict.detector
    of_frames = f", {film.frame(explanation.frame, explanation.time)}" if verdict.frames else ""
    lines = [
        "<main>",
        f"<h1>{text(f'{verdict.verdict}, {score}')}</h1>",
        f'<p class="soft">{markup.name(verdict.input)}, {verdict.width} × {verdict.height} px{of_frames}; '
        f"{text(name['name'])} {text(name['version'])}</p>",
        *listed(verdict.reasons),
        *_film(verdict),
        '<p class="controls"><label for="strength">Strength of the colours</label> '
        f'<input type="range" id="strength" min="0" max="100" value="{_START}"></p>',
        '<div class="scale" role="img" aria-label="Scale of the colours, from dark for 0 to light for 1"></div>',
        '<p class="soft">0 to 1, from dark to light</p>',
    ]
    for look in explanation.streams:
        lines += _section(look, explanation)
    for heading, rows in (tables or {}).items():
        lines += [f"<h2>{text(heading)}</h2>", *table(rows)]
    lines.append("</main>")
    return markup.document(f"{verdict.verdict}: {verdict.input}", lines, style=style, script=_SCRIPT)


def _film(verdict: Verdict) -> list[str]:
    """A clip's scores over time and the faces that were followed."""
    course = film.course(verdict)
    tracks = listed([film.described(track) for track in verdict.tracks])
    return [f'<p class="soft">{text(course)}</p>', *tracks] if course else tracks


def _section(look: Look, explanation: Explanation) -> Iterator[str]:
    """One stream: its score, its part in words, its maps, its crops."""
    yield f"<h2>{text(look.name)}{'' if look.score is None else f': P(fake) {look.score:.3f}'}</h2>"
    yield from listed(look.sentences(explanation.toward))
    if look.map is None or look.tiles is None:
        return
    map = np.where(look.seen, look.map, np.float32(np.nan)) if look.seen is not None else look.map
    maps = [(f"What speaks for {explanation.toward} (Score-CAM)", heat.layer(map, LONGEST))]
    maps += [("P(fake) of the crops that show a place", heat.layer(look.tiles, LONGEST, even=True))]
    if look.attention is not None:
        maps += [("Where the class token looks", heat.layer(look.attention, LONGEST))]
    yield '<div class="maps">'
    for caption, drawn in maps:
        told = text(f"{look.name}: {caption}")
        yield f'<figure><div class="stack"><img alt="{told}" src="{_data(drawn)}"></div>'
        yield f"<figcaption>{text(caption)}</figcaption></figure>"
    yield "</div>"
    yield f"<details><summary>{len(look.boxes)} crops</summary>"
    rows = [
        (f"x {box.left} to {box.right}, y {box.top} to {box.bottom} px", f"{score:.3f}")
        for box, score in zip(look.boxes, look.scores, strict=True)
    ]
    yield from table(rows)
    yield "</details>"


def _styled(picture: str, width: int, height: int) -> str:
    colours = ", ".join(f"rgb({red} {green} {blue})" for red, green, blue in ANCHORS)
    values = {
        "START": f"{_START / 100}",
        "WIDTH": f"{max(width, 288)}",
        "RATIO": f"{width} / {height}",
        "COLOURS": colours,
        "PICTURE": picture,
    }
    style = _STYLE
    for name, value in values.items():
        style = style.replace(name, value)
    return style


def _data(pixels: npt.NDArray[np.uint8]) -> str:
    return markup.data(heat.png(pixels), "png")
