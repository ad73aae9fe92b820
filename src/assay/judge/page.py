"""An explanation as a web page in one file: verdict, each stream's part, its maps over the picture.

The page asks nobody for anything: pictures are PNG data in it, and its own content security policy forbids every
request, and every script and style but the two it carries, by their hashes. Whatever is told of the input is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from assay.judge import film, heat
from assay.judge.explain import Explanation, Look
from assay.judge.heat import ANCHORS
from assay.judge.sink import printable
from assay.types import Verdict

Table = Sequence[tuple[str, str]]
"""Rows of a name and what is told of it."""

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
:root { --strength: START; --ground: #ffffff; --ink: #1b1b1f; --soft: #5c5c66; --line: #d6d6dc;
  color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #16161a; --ink: #ececf0; --soft: #a5a5b0; --line: #3a3a42; }
}
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; border-top: 1px solid var(--line); padding-top: 1rem; }
.soft, figcaption { color: var(--soft); }
.maps { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; flex: 1 1 18rem; max-width: WIDTHpx; }
.stack { background: url("PICTURE") 0 0 / 100% 100%; aspect-ratio: RATIO; }
.stack img { display: block; width: 100%; height: 100%; opacity: var(--strength); }
.scale { height: 0.8rem; max-width: 18rem; background: linear-gradient(to right, COLOURS); }
.controls { position: sticky; top: 0; padding: 0.5rem 0; background: var(--ground); }
input[type=range] { width: min(18rem, 100%); vertical-align: middle; }
input:focus-visible { outline: 3px solid #d55e00; outline-offset: 3px; }
table { border-collapse: collapse; } th, td { padding: 0.1rem 1rem 0.1rem 0; text-align: left; font-weight: normal; }
th { color: var(--soft); }
"""


def page(explanation: Explanation, tables: Mapping[str, Table] | None = None) -> str:
    """The text of an HTML file.

    Args:
        tables: further figures, by their heading.
    """
    verdict = explanation.verdict
    picture = heat.grey(explanation.pixels, LONGEST)
    style = _styled(_data(picture), picture.shape[1], picture.shape[0])
    policy = f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(_SCRIPT)}'"
    score = "no score" if verdict.score is None else f"P(fake) {verdict.score:.3f}"
    name = verdict.detector
    of_frames = f", {film.frame(explanation.frame, explanation.time)}" if verdict.frames else ""
    lines = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(f'{verdict.verdict}: {verdict.input}')}</title>",
        f"<style>{style}</style>",
        "</head>",
        "<body>",
        f"<h1>{_text(f'{verdict.verdict}, {score}')}</h1>",
        f'<p class="soft">{_text(verdict.input)}, {verdict.width} × {verdict.height} px{of_frames}; '
        f"{_text(name['name'])} {_text(name['version'])}</p>",
        *_list(verdict.reasons),
        *_film(verdict),
        '<p class="controls"><label for="strength">Strength of the colours</label> '
        f'<input type="range" id="strength" min="0" max="100" value="{_START}"></p>',
        '<div class="scale" role="img" aria-label="Scale of the colours, from dark for 0 to light for 1"></div>',
        '<p class="soft">0 to 1, from dark to light</p>',
    ]
    for look in explanation.streams:
        lines += _section(look, explanation)
    for heading, table in (tables or {}).items():
        lines += [f"<h2>{_text(heading)}</h2>", *_table(table)]
    return "\n".join([*lines, f"<script>{_SCRIPT}</script>", "</body>", "</html>"]) + "\n"


def _film(verdict: Verdict) -> list[str]:
    """A clip's scores over time and the faces that were followed."""
    course = film.course(verdict)
    tracks = _list([film.described(track) for track in verdict.tracks])
    return [f'<p class="soft">{_text(course)}</p>', *tracks] if course else tracks


def _section(look: Look, explanation: Explanation) -> Iterator[str]:
    """One stream: its score, its part in words, its maps, its crops."""
    yield f"<h2>{_text(look.name)}{'' if look.score is None else f': P(fake) {look.score:.3f}'}</h2>"
    yield from _list(look.sentences(explanation.toward))
    if look.map is None or look.tiles is None:
        return
    map = np.where(look.seen, look.map, np.float32(np.nan)) if look.seen is not None else look.map
    maps = [(f"What speaks for {explanation.toward} (Score-CAM)", heat.layer(map, LONGEST))]
    maps += [("P(fake) of the crops that show a place", heat.layer(look.tiles, LONGEST, even=True))]
    if look.attention is not None:
        maps += [("Where the class token looks", heat.layer(look.attention, LONGEST))]
    yield '<div class="maps">'
    for caption, drawn in maps:
        told = _text(f"{look.name}: {caption}")
        yield f'<figure><div class="stack"><img alt="{told}" src="{_data(drawn)}"></div>'
        yield f"<figcaption>{_text(caption)}</figcaption></figure>"
    yield "</div>"
    yield f"<details><summary>{len(look.boxes)} crops</summary>"
    rows = [
        (f"x {box.left} to {box.right}, y {box.top} to {box.bottom} px", f"{score:.3f}")
        for box, score in zip(look.boxes, look.scores, strict=True)
    ]
    yield from _table(rows)
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


def _list(lines: Sequence[str]) -> list[str]:
    return ["<ul>", *(f"<li>{_text(line)}</li>" for line in lines), "</ul>"] if lines else []


def _table(rows: Table) -> list[str]:
    cells = (f'<tr><th scope="row">{_text(name)}</th><td>{_text(told)}</td></tr>' for name, told in rows)
    return ["<table>", *cells, "</table>"]


def _data(pixels: npt.NDArray[np.uint8]) -> str:
    return f"data:image/png;base64,{base64.b64encode(heat.png(pixels)).decode()}"


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _text(words: str) -> str:
    return html.escape(printable(words))
