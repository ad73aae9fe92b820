"""What sections of a report are made of: tables with captions and scopes, figures with the numbers behind them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from assay.judge.markup import name, text
from assay.measure.block import Block

STYLE = """
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0; } header p { margin: 0.25rem 0 1.5rem; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 2.5rem 0 0.75rem; }
h3 { font-size: 1.05rem; margin: 2rem 0 0.5rem; } p, li, figcaption { max-width: 46rem; }
a { color: inherit; } nav ul { padding-left: 1.2rem; }
.skip { position: absolute; left: -99rem; } .skip:focus { position: static; }
.wide { overflow-x: auto; max-width: 100%; margin: 0.75rem 0; }
table { overflow-wrap: break-word; } caption { text-align: left; color: var(--soft); padding-bottom: 0.3rem; }
th, td { padding: 0.25rem 1.25rem 0.25rem 0; }
thead :is(th, td) { border-bottom: 1px solid var(--line); vertical-align: bottom; }
tbody th, tbody td { vertical-align: top; border-bottom: 1px solid var(--line); }
tbody th { color: var(--ink); min-width: 8rem; max-width: 26rem; overflow-wrap: anywhere; }
td.number { white-space: nowrap; } .why { min-width: 16rem; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0 1.5rem; } figcaption { margin: 0.25rem 0; }
svg { max-width: 100%; min-width: 36rem; height: auto; } svg text { fill: var(--ink); }
svg rect[fill="#ffffff"] { fill: var(--ground); } svg [fill="#000000"] { fill: var(--ink); }
svg [stroke="#000000"] { stroke: var(--ink); }
svg [stroke="#eeeeee"], svg [stroke="#cccccc"] { stroke: var(--line); }
.word { white-space: nowrap; } .word::before { content: ""; display: inline-block; box-sizing: border-box;
  width: 0.8em; height: 0.8em; margin-right: 0.45em; background: var(--mark); }
.fake { --mark: #D55E00; } .uncertain { --mark: #E69F00; } .real { --mark: #0072B2; } .failed { --mark: var(--soft); }
.fake::before { clip-path: polygon(50% 0, 100% 50%, 50% 100%, 0 50%); }
.uncertain::before { border: 0.13em solid var(--mark);
  background: repeating-linear-gradient(135deg, var(--mark) 0 0.1em, transparent 0.1em 0.24em); }
.real::before { border: 0.17em solid var(--mark); border-radius: 50%; background: none; }
.failed::before { clip-path: polygon(0 15%, 15% 0, 50% 35%, 85% 0, 100% 15%, 65% 50%, 100% 85%, 85% 100%, 50% 65%,
  15% 100%, 0 85%, 35% 50%); }
.results { width: 100%; } .results .size { white-space: nowrap; } .results .name { min-width: 13rem; }
.thumb { width: 6rem; } .thumb img { display: block; max-width: 6rem; }
.tools { display: flex; flex-wrap: wrap; gap: 0.5rem 1.5rem; align-items: end; margin: 0.75rem 0; }
.tools[hidden], tr[hidden] { display: none; }
input, select, button { font: inherit; color: inherit; background: var(--ground); border: 1px solid var(--soft); }
.tools :is(input, select) { display: block; min-height: 2.5rem; padding: 0.3rem 0.6rem; border-radius: 0.4rem; }
thead button { border: 0; padding: 0; text-align: inherit; text-decoration: underline; cursor: pointer; }
[aria-sort=ascending] button::after { content: " ▲"; } [aria-sort=descending] button::after { content: " ▼"; }
details > summary { cursor: pointer; padding: 0.25rem 0; }
@media screen and (max-width: 40rem) {
  body { margin: 1rem auto; } .tools label, .tools :is(input, select) { width: 100%; }
  .results, .results caption, .results thead, .results tbody { display: block; }
  .results thead tr { display: flex; flex-wrap: wrap; gap: 0 1.25rem; border-bottom: 1px solid var(--line); }
  .results thead th { border: 0; padding: 0.25rem 0; } .results thead th:not([data-sort]) { display: none; }
  .results tbody tr { display: grid; grid-template: "thumb name name" auto "thumb word score" auto "why why why" auto
    "size size number" auto / auto 1fr auto; gap: 0.15rem 0.75rem; padding: 0.75rem 0;
    border-bottom: 1px solid var(--line); }
  .results tbody tr[hidden] { display: none; }
  .results tbody :is(th, td) { padding: 0; border: 0; min-width: 0; max-width: none; }
  .results .record::before { content: "record "; color: var(--soft); }
  .thumb { grid-area: thumb; width: auto; max-width: 5rem; } .thumb img { max-width: 5rem; } .name { grid-area: name; }
  .verdict { grid-area: word; } .score { grid-area: score; } .why { grid-area: why; } .size { grid-area: size; }
  .record { grid-area: number; }
}
@media (forced-colors: active) {
  .word::before, svg { forced-color-adjust: none; }
}
@media print {
  body { max-width: none; margin: 0; font-size: 0.8rem; } .tools, .skip, nav { display: none; }
  .wide { overflow: visible; } tr, figure { break-inside: avoid; } thead { display: table-header-group; }
  svg { min-width: 0; max-height: 11cm; } h2, h3 { break-after: avoid; } th, td { padding-right: 0.75rem; }
  .why, .results .name { min-width: 9rem; } .thumb, .thumb img { max-width: 3.5rem; width: auto; }
  section + section { break-before: page; }
  .word::before, svg { print-color-adjust: exact; }
}
"""

SCRIPT = """
"use strict";
for (const part of document.querySelectorAll("[data-results]")) {
  const body = part.querySelector("tbody"), rows = [...body.rows], heads = [...part.querySelectorAll("thead th")];
  const tools = part.querySelector(".tools"), told = tools.querySelector("output");
  const [words, word] = tools.querySelectorAll("input, select");
  const filter = () => {
    const wanted = words.value.trim().toLowerCase();
    let count = 0;
    for (const row of rows) {
      const fits = (!word.value || row.dataset.word === word.value) && row.textContent.toLowerCase().includes(wanted);
      row.hidden = !fits;
      count += fits;
    }
    told.textContent = `${count} of ${rows.length} rows`;
  };
  const sort = (head, place) => {
    const down = head.getAttribute("aria-sort") === "ascending", number = head.dataset.sort === "number";
    for (const each of heads) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = new Map(rows.map((row) => {
      const text = row.cells[place].textContent.trim(), value = number ? parseFloat(text) : text;
      return [row, Number.isNaN(value) ? null : value];
    }));
    const before = (a, b) => number ? a - b : a.localeCompare(b);
    rows.sort((one, other) => {
      const a = key.get(one), b = key.get(other);
      if (a === null || b === null) return (a === null) - (b === null);
      return down ? before(b, a) : before(a, b);
    });
    body.append(...rows);
  };
  for (const [place, head] of heads.entries()) {
    if (!head.dataset.sort) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(head, place));
    head.replaceChildren(button);
  }
  words.addEventListener("input", filter);
  word.addEventListener("change", filter);
  filter();
  tools.hidden = false;
}
"""


class Section(NamedTuple):
    """A part of a report: its heading, plain, its markup, and what it holds in short, JSON-ready."""

    heading: str
    lines: list[str]
    told: dict[str, object]


def of_block(block: Block) -> Iterator[str]:
    """A block as a table, its title as the caption, its note below; one without rows is told to have none."""
    if block.rows:
        yield from grid(block.title, block.columns, block.rows)
    else:
        yield f"<p>{name(block.title)}: none</p>"
    if block.note:
        yield f'<p class="soft">{name(block.note)}</p>'


def grid(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Plain cells under columns; the first cell of a row names it, the others hold numbers. Wide ones scroll."""
    yield from scrolled(caption)
    yield "<table>"
    yield f"<caption>{name(caption)}</caption>"
    heads = (
        f'<th scope="col"{_NUMBER if place else ""}>{name(column)}</th>' if column else "<td></td>"
        for place, column in enumerate(columns)
    )
    yield f"<thead><tr>{''.join(heads)}</tr></thead>"
    yield "<tbody>"
    for first, *others in rows:
        cells = "".join(f"<td{_NUMBER}>{name(cell)}</td>" for cell in others)
        yield f'<tr><th scope="row">{name(first)}</th>{cells}</tr>'
    yield "</tbody></table></div>"


def of_pairs(caption: str, rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Names and what is told of each, in words."""
    yield f"<table><caption>{name(caption)}</caption><tbody>"
    yield from (f'<tr><th scope="row">{name(first)}</th><td>{name(told)}</td></tr>' for first, told in rows)
    yield "</tbody></table>"


def scrolled(label: str) -> Iterator[str]:
    """Opens what scrolls sideways where it is too wide: keys reach it, and it has a name."""
    yield f'<div class="wide" role="group" tabindex="0" aria-label="{text(label)}">'


def figure(svg: str, told: str, numbers: Sequence[str], identity: str) -> Iterator[str]:
    """A plot of `assay.measure.draw` with its description, and the numbers behind it.

    Args:
        told: what it shows, in words.
        numbers: markup of the table behind it.
        identity: a word of its own in the page: letters, digits and "-".
    """
    drawn = svg.replace(' xmlns="http://www.w3.org/2000/svg"', "", 1)
    drawn = drawn.replace('role="img"', f'role="img" aria-labelledby="{identity}-title {identity}-desc"', 1)
    drawn = re.sub(
        r"<title>(.*?)</title>",
        lambda found: f'<title id="{identity}-title">{found[1]}</title><desc id="{identity}-desc">{text(told)}</desc>',
        drawn,
        count=1,
    )
    yield "<figure>"
    yield from scrolled("plot")
    yield f"{drawn}</div>"
    yield f"<figcaption>{name(told)}</figcaption>"
    yield "<details><summary>The numbers behind it</summary>"
    yield from numbers
    yield "</details></figure>"


_NUMBER = ' class="number"'
