"""What assay's web pages are made of: one file each that asks nobody for anything, and text that cannot become markup.

A page's content security policy forbids every request, and every style and script but those it carries, by their
hashes; pictures are data in it. It follows the system's light or dark mode, and prints in the light one.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence

from assay.judge.sink import printable

Table = Sequence[tuple[str, str]]
"""Rows of a name and what is told of it."""

_STYLE = """
:root { --ground: #ffffff; --ink: #1b1b1f; --soft: #5c5c66; --line: #d6d6dc; color-scheme: light dark; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ground: #16161a; --ink: #ececf0; --soft: #a5a5b0; --line: #3a3a42; }
}
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; border-top: 1px solid var(--line); padding-top: 1rem; }
.soft, figcaption { color: var(--soft); } figure { margin: 0; }
:focus-visible { outline: 3px solid #d55e00; outline-offset: 3px; }
table { border-collapse: collapse; } th, td { padding: 0.1rem 1rem 0.1rem 0; text-align: left; font-weight: normal; }
th { color: var(--soft); }
"""


def document(title: str, body: Iterable[str], *, style: str = "", script: str = "") -> str:
    """The text of an HTML file.

    Args:
        title: plain text.
        body: lines of markup.
        style: rules beside those that all pages share.
        script: one script, which runs when the page has been read; empty for none.
    """
    style = _STYLE + style
    scripts = f"script-src '{_hash(script)}'; " if script else ""
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; {scripts}base-uri 'none'; form-action 'none'"
    )
    lines = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{text(title)}</title>",
        f"<style>{style}</style>",
        "</head>",
        "<body>",
        *body,
        *([f"<script>{script}</script>"] if script else []),
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"


def text(words: str) -> str:
    """Words as a page may hold them, in an attribute's quotes too: no markup, and what steers text shown escaped."""
    return html.escape(printable(words))


def name(words: str) -> str:
    """A name of whatever script: that it runs from right to left moves nothing around it."""
    return f"<bdi>{text(words)}</bdi>"


def listed(lines: Sequence[str]) -> list[str]:
    """Plain lines as a list; nothing where there is none."""
    return ["<ul>", *(f"<li>{text(line)}</li>" for line in lines), "</ul>"] if lines else []


def table(rows: Table) -> list[str]:
    """Names and what is told of each, in two columns."""
    cells = (f'<tr><th scope="row">{text(name)}</th><td>{text(told)}</td></tr>' for name, told in rows)
    return ["<table>", *cells, "</table>"]


def data(content: bytes, kind: str) -> str:
    """A picture's file as an address that holds it; `kind` is "png" or "jpeg"."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _hash(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
