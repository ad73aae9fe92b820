"""A bundle's card for reading: in short, whole, and as JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from assay.judge.bundle import Bundle
from assay.judge.card import StreamCard
from assay.judge.rule import EnsembleRule
from assay.judge.sink import printable


def described(read: Bundle) -> dict[str, Any]:
    """The card as a JSON-ready object, with what the folder and the judge add."""
    rule = read.judge.ensemble
    return {
        **read.card.model_dump(mode="json"),
        "folder": str(read.folder),
        "bytes": _size(read),
        **_bar(rule),
        "heads": {kind: _bar(choice) for kind, choice in read.choices.items()},
        "votes": {name: _bar(choice) for name, choice in _votes(read).items()},
    }


def _bar(rule: EnsembleRule) -> dict[str, Any]:
    return {"threshold": rule.threshold, "doubt": [rule.doubt_low, rule.threshold], "fpr": rule.fpr}


def _size(read: Bundle) -> int:
    return sum(path.stat().st_size for path in read.folder.iterdir())


def short(read: Bundle) -> str:
    """A card's head: what one needs to choose."""
    card, rule = read.card, read.judge.ensemble
    first = re.split(r"(?<=[.!?])\s", card.description.strip(), maxsplit=1)[0]
    # A card may name its most telling figures; else the first ones stand for all.
    figures = [f"{name} {value}" for name, value in _figures(card.figures.get("headline", card.figures))][:6]
    rows = [
        ("streams", "; ".join(_stream(stream) for stream in _voting(read))),
        *((("heads", _heads(read)),) if read.judge.alternatives else ()),
        *((("votes by", f"{rule.method}; by --vote: {', '.join(read.judge.rules)}"),) if read.judge.rules else ()),
        ("made from", _flat(card.data.get("summary", card.data)) or "not said"),
        ("measured", "; ".join(figures) or "nothing yet"),
        ("threshold", f"{rule.threshold:.3f}, set so that at most {rule.fpr:.0%} of real pictures are called fake"),
        *(("limit" if number == 0 else "", limit) for number, limit in enumerate(card.limits)),
        ("size", f"{_size(read) / 1e6:.1f} MB in {read.folder}"),
    ]
    return "\n".join([f"{printable(card.name)} {printable(card.version)}: {printable(first)}", *_rows(rows)])


def whole(read: Bundle) -> str:
    """All of a card, for reading."""
    card, rule = read.card, read.judge.ensemble
    low, high = rule.doubt_low, rule.threshold
    parts = [
        f"{card.name} {card.version}",
        card.description,
        "Verdicts\n"
        + "\n".join(
            _rows(
                [
                    ("fake", f"at a score of {high:.4f} or more"),
                    ("uncertain", f"from {low:.4f} up to that" if low < high else "never"),
                    ("real", f"below {low:.4f}"),
                    ("chosen so that", f"at most {rule.fpr:.0%} of real pictures are called fake"),
                    ("on", f"{rule.rows.real} real and {rule.rows.fake} fake tuning pictures"),
                    ("errors there", _flat(rule.errors.model_dump(mode="json"))),
                ]
            )
        ),
        "Streams\n" + "\n".join(f"  {_stream(stream)}" for stream in _voting(read)),
        *_other_heads(read),
        *_ways_to_vote(read),
        "What it can't do\n" + ("\n".join(f"  - {limit}" for limit in card.limits) or "  not said"),
        "Figures\n" + ("\n".join(_rows(_figures(card.figures))) or "  nothing measured yet"),
        "Made from\n" + _tree(card.data),
        "Training\n" + _tree({"recipe": card.recipe, "created": str(card.created), **card.training}),
        "Bundle\n"
        + "\n".join(
            _rows(
                [
                    ("folder", str(read.folder)),
                    ("size", f"{_size(read) / 1e6:.1f} MB, {card.precision}"),
                    ("engine", card.engine),
                    ("written by", f"assay {card.assay}"),
                    ("sha256", card.sha256),
                ]
            )
        ),
    ]
    if card.notes:
        parts.append(f"Notes\n  {card.notes}")
    return "\n\n".join("\n".join(printable(line) for line in part.splitlines()) for part in parts)


def _voting(read: Bundle) -> list[StreamCard]:
    return [stream for stream in read.card.streams if stream.name in read.judge.voting]


def _heads(read: Bundle) -> str:
    """Which heads can judge, and which of them does unless asked otherwise."""
    defaults = list(dict.fromkeys(stream.head.kind for stream in _voting(read)))
    others = [kind for kind in read.choices if kind not in defaults or len(defaults) > 1]
    return f"{' and '.join(defaults)} by default, the first of the recipe; by --head: {', '.join(others)}"


def _other_heads(read: Bundle) -> list[str]:
    """What holds of each head that judges only where it is asked for; nothing where there is none."""
    if not read.judge.alternatives:
        return []
    lines = [f"  {_heads(read)}"]
    for kind, rule in read.judge.alternatives.items():
        names = [stream.name for stream in read.card.streams if stream.head.kind == kind]
        lines.append(_held_to(kind, names, rule))
    return ["Heads\n" + "\n".join(lines)]


def _votes(read: Bundle) -> dict[str, EnsembleRule]:
    """Every rule that the streams can vote by, the default one first; nothing where there is but one."""
    rule = read.judge.ensemble
    return {rule.method: rule, **read.judge.rules} if read.judge.rules else {}


def _ways_to_vote(read: Bundle) -> list[str]:
    lines = [_held_to(name, rule.voters, rule) for name, rule in _votes(read).items()]
    return ["Votes, the first by default\n" + "\n".join(lines)] if lines else []


def _held_to(name: str, streams: Sequence[str], rule: EnsembleRule) -> str:
    """A rule that judges only where it is asked for, in one line."""
    of = f" ({', '.join(streams)})" if streams else ""
    return (
        f"  {name}{of}: fake from {rule.threshold:.4f}, real below {rule.doubt_low:.4f}; errors on tuning pictures: "
        f"{_flat(rule.errors.model_dump(mode='json'))}"
    )


def _stream(stream: StreamCard) -> str:
    view = stream.view
    crops = "one" if view.layout == "centre" else f"up to {view.across} x {view.across}"
    return (
        f"{stream.name}: {stream.backbone}, {stream.parameters / 1e6:.1f} M parameters, {stream.head.kind} head, "
        f"{crops} {view.size} px crops"
    )


def _figures(figures: Any, place: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """Every figure of a card with its place; one that has an interval shows it."""
    if isinstance(figures, dict) and isinstance(figures.get("value"), int | float):
        low, high, n = figures.get("low"), figures.get("high"), figures.get("n")
        between = (
            f" ({low:.3g} to {high:.3g})" if isinstance(low, int | float) and isinstance(high, int | float) else ""
        )
        rows = f", n = {n}" if isinstance(n, int) else ""
        return [(" ".join(place), f"{figures['value']:.3g}{between}{rows}")]
    if isinstance(figures, dict):
        return [row for name, part in figures.items() for row in _figures(part, (*place, str(name)))]
    if isinstance(figures, float):
        return [(" ".join(place), f"{figures:.4g}")]
    return [(" ".join(place), _flat(figures))]


def _flat(value: Any) -> str:
    """Free JSON as one line."""
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_flat(part)}" if part != "" else str(name) for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(_flat(part) for part in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _tree(value: Any, indent: str = "  ") -> str:
    """Free JSON as indented lines."""
    if not isinstance(value, dict) or not value:
        return indent + (_flat(value) or "not said")
    lines = []
    for name, part in value.items():
        deep = isinstance(part, dict) and part
        lines.append(f"{indent}{name}" + ("" if deep else f": {_flat(part)}"))
        if deep:
            lines.append(_tree(part, indent + "  "))
    return "\n".join(lines)


def _rows(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max((len(name) for name, _ in rows), default=0)
    return [f"  {printable(name):<{width}}  {printable(text)}" for name, text in rows]
