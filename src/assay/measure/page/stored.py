"""Reads back what other verbs wrote: figures of `assay evaluate`, results of `assay scan`.

Nothing of it is taken on trust: a file may come from anybody, be torn, or be of another assay.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from assay.errors import InputError
from assay.judge.sink import COLUMNS, JsonLines
from assay.measure.beside import Comparison
from assay.measure.clips import Clips
from assay.measure.controls import Control, Controls
from assay.measure.evaluate import Evaluation, Group, Rows, Trouble
from assay.measure.fairness import RATES, Audit, Gap, Own, Part
from assay.measure.paired import Delong, McNemar
from assay.measure.report import AFTER, NAMES
from assay.measure.shape import Shape
from assay.metrics import Interval

LINE = 64 << 20
"""Most bytes of one result."""

WHOLE = 256 << 20
"""Most bytes of an evaluation."""

Read = TypeVar("Read")

_ENCODED = re.compile(r"\\u[0-9a-f]{4}")
_ESCAPE = re.compile(r"\\(\\|u[0-9a-f]{4})")
_BOM = b"\xef\xbb\xbf"


class Found(NamedTuple):
    """What a file holds of `assay evaluate`.

    Args:
        evaluations: one a detector, by name.
        compared: each but the first with the first.
        clips: what was measured of clips, where that was asked for.
        shapes: curves, of the detectors whose file holds them.
    """

    evaluations: dict[str, Evaluation]
    compared: tuple[Comparison, ...]
    clips: dict[str, Clips]
    shapes: dict[str, Shape]


class Results(NamedTuple):
    """What a file holds of `assay scan`: one object a result as JSON lines have it, which can be gone through once."""

    lines: Iterator[Mapping[str, Any] | None]
    """None, at most once and at the end: a record that a kill left unfinished."""


def open_file(path: str | os.PathLike[str]) -> tuple[Found | Results, IO[bytes]]:
    """What a file is, told by its content.

    Returns:
        What it holds, and the file, which is to be closed when results have been gone through.

    Raises:
        InputError: it cannot be read, or is none of these (kinds as in `InputError`).
    """
    try:
        file = Path(path).open("rb")  # noqa: SIM115 (results are read later)
    except ValueError as error:
        raise _input(path, f"no such file ({error})", "missing") from None
    except OSError as error:
        kind = {FileNotFoundError: "missing", PermissionError: "permission", IsADirectoryError: "not_a_file"}
        raise _input(
            path, f"cannot be read ({error.strerror}); check the name", kind.get(type(error), "unreadable")
        ) from None
    try:
        return _sorted_out(path, file), file
    except BaseException:
        file.close()
        raise


def found(told: object) -> Found:
    """The figures in what `assay evaluate --json` prints, of one detector or of several.

    Raises:
        ValueError: it is something else; the message says where.
    """
    try:
        return _found(_object(told, "it"))
    except (KeyError, IndexError) as error:
        raise ValueError(f"{error} is missing") from error
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)) from error


def results(lines: Iterable[Mapping[str, Any]]) -> Results:
    """Results that are no file, such as `Verdict.to_dict` and `Failure.to_dict` give them."""
    return Results(iter(lines))


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _sorted_out(path: str | os.PathLike[str], file: IO[bytes]) -> Found | Results:
    lines = _lines(path, file)
    first = next((line for line in lines if line.strip()), b"")
    if not first:
        raise _input(path, "holds nothing yet; give what assay scan or assay evaluate wrote", "empty")
    head = first.removeprefix(_BOM)
    if columns := _columns(head):
        return Results(_csv(path, columns, lines))
    opened = _parsed(head)
    if isinstance(opened, dict) and "input" in opened:
        return Results(_json_lines(path, itertools.chain([first], lines)))
    if opened is None and head.startswith(JsonLines.opening):
        # What a kill leaves of a first record, or a line that somebody spoilt.
        return Results(_json_lines(path, itertools.chain([first], lines)))
    if opened is None or not isinstance(opened, dict):
        rest = _rest(path, first, lines)
        opened = _parsed(rest.removeprefix(_BOM))
    if not isinstance(opened, dict) or not {"metrics", "detectors"} & set(opened):
        raise _input(
            path,
            "holds neither results of assay scan (--out, or --json or --csv) nor figures of assay evaluate "
            "(--json, or --out FILE.json); give one of these",
            "unsupported",
        )
    try:
        return found(opened)
    except ValueError as error:
        raise _input(
            path, f"is not what this assay's evaluate --json writes ({error}); evaluate again", "unsupported"
        ) from error


def _lines(path: str | os.PathLike[str], file: IO[bytes]) -> Iterator[bytes]:
    while True:
        try:
            line = file.readline(LINE + 1)
        except OSError as error:
            raise _input(path, f"cannot be read ({error.strerror}); check the disk", "unreadable") from error
        if not line:
            return
        if len(line) > LINE:
            raise _input(path, f"has a line of more than {LINE:,} bytes; that is no result", "too_many_bytes")
        yield line


def _rest(path: str | os.PathLike[str], first: bytes, lines: Iterator[bytes]) -> bytes:
    parts, size = [first], len(first)
    for line in lines:
        parts.append(line)
        size += len(line)
        if size > WHOLE:
            raise _input(path, f"is no results file, and more than {WHOLE:,} bytes", "too_many_bytes")
    return b"".join(parts)


def _parsed(text: bytes) -> Any:
    """JSON, or None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _json_lines(path: str | os.PathLike[str], lines: Iterator[bytes]) -> Iterator[Mapping[str, Any] | None]:
    torn = ""
    for number, line in enumerate(lines, 1):
        if torn:
            raise _not_a_result(path, torn)
        if not line.strip():
            continue
        told = _parsed(line.removeprefix(_BOM) if number == 1 else line)
        if isinstance(told, dict) and "input" in told:
            yield told
        else:
            torn = f"line {number}"
    if torn:
        yield None


def _columns(line: bytes) -> list[str]:
    """The columns that a header names; none where it is no header of results."""
    try:
        [cells] = csv.reader([line.decode()])
    except (ValueError, csv.Error):
        return []
    return cells if set(COLUMNS) <= set(cells) else []


def _csv(
    path: str | os.PathLike[str], columns: list[str], lines: Iterator[bytes]
) -> Iterator[Mapping[str, Any] | None]:
    """The rows as JSON lines would have them, as far as they tell it."""
    torn = ""
    for number, record in enumerate(_records(path, lines), 2):
        if torn:
            raise _not_a_result(path, torn)
        if not record.strip():
            continue
        cells = _cells(record, len(columns))
        if cells is None:
            torn = f"row {number}"
            continue
        yield _as_json(dict(zip(columns, cells, strict=True)))
    if torn:
        yield None


def _records(path: str | os.PathLike[str], lines: Iterator[bytes]) -> Iterator[bytes]:
    """A record ends at a line end with all quotes closed."""
    parts: list[bytes] = []
    size, odd = 0, False
    for line in lines:
        parts.append(line)
        size += len(line)
        if size > LINE:
            raise _input(path, f"has a record of more than {LINE:,} bytes; that is no result", "too_many_bytes")
        odd ^= line.count(b'"') % 2 == 1
        if not odd:
            yield b"".join(parts)
            parts.clear()
            size = 0
    if parts:
        yield b"".join(parts)


def _cells(record: bytes, count: int) -> list[str] | None:
    """The cells of a whole record; None of a torn one, whose last cell could be the beginning of a longer one."""
    if not record.endswith(b"\n"):
        return None
    before = csv.field_size_limit(sys.maxsize)
    try:
        rows = list(csv.reader(io.StringIO(record.decode(), newline=""), strict=True))
    except (ValueError, csv.Error):
        return None
    finally:
        csv.field_size_limit(before)
    return rows[0] if len(rows) == 1 and len(rows[0]) == count else None


def _as_json(cells: Mapping[str, str]) -> Mapping[str, Any]:
    name = _decoded(cells["input"])
    if cells["error_kind"]:
        return {"input": name, "error": {"kind": cells["error_kind"], "message": _decoded(cells["error_message"])}}
    score, threshold, low, fpr = (_float(cells[key]) for key in ("score", "threshold", "doubt_low", "fpr"))
    return {
        "input": name,
        "verdict": cells["verdict"],
        "score": score,
        "threshold": threshold,
        "doubt": [low, threshold],
        "fpr": fpr,
        "reasons": [_decoded(cells["reasons"])] if cells["reasons"] else [],
        "sha256": cells["sha256"],
        "width": _float(cells["width"]),
        "height": _float(cells["height"]),
        "detector": {"name": cells["detector"], "version": cells["version"], "sha256": cells["detector_sha256"]},
    }


def _decoded(cell: str) -> str:
    """What `assay.judge.sink.Csv` wrote a text as."""
    if not _ENCODED.search(cell):
        return cell
    return _ESCAPE.sub(lambda found: "\\" if found[1] == "\\" else chr(int(found[1][1:], 16)), cell)


def _float(cell: str) -> float | str | None:
    """A cell's number, None where it is empty; else the cell, which whoever wants a number refuses."""
    try:
        return float(cell) if cell else None
    except ValueError:
        return cell


def _not_a_result(path: str | os.PathLike[str], number: str) -> InputError:
    return _input(path, f"{number} is not a result of assay scan; mend or remove it", "corrupt")


def _input(path: str | os.PathLike[str], what: str, kind: str) -> InputError:
    return InputError(f"{os.fspath(path)}: {what}", kind=kind)


# ── figures ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _found(told: Mapping[str, Any]) -> Found:
    if "detectors" in told:
        each_told = [_object(each, "detectors") for each in _array(told["detectors"], "detectors")]
        names = [_text(each["name"], "name") for each in each_told]
        compared = tuple(_comparison(_object(each, "compared")) for each in _array(told["compared"], "compared"))
    else:
        each_told, compared = [dict(told)], ()
        names = [str(_object(told["detector"], "detector").get("name", ""))]
    if not names or len(set(names)) < len(names):
        raise ValueError("detectors are missing, or two have one name")
    if [each.second for each in compared] != names[1:] or {each.first for each in compared} - set(names[:1]):
        raise ValueError("compared are other detectors than those measured")
    evaluations = {name: _evaluation(each) for name, each in zip(names, each_told, strict=True)}
    first = evaluations[names[0]]
    for each in evaluations.values():
        if set(each.robustness) != set(first.robustness) or set(each.groups) != set(first.groups):
            raise ValueError("the detectors were not measured in the same ways")
    return Found(
        evaluations,
        compared,
        {name: _clips(_object(each["clips"], "clips")) for name, each in _both(names, each_told) if each.get("clips")},
        {name: Shape.from_dict(each["curves"]) for name, each in _both(names, each_told) if each.get("curves")},
    )


def _both(names: list[str], told: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    return zip(names, told, strict=True)


def _evaluation(told: Mapping[str, Any]) -> Evaluation:
    low, high = _array(told["doubt"], "doubt")
    rows = _object(told["rows"], "rows")
    controls = told.get("controls")
    return Evaluation(
        detector={key: _text(value, f"detector.{key}") for key, value in _object(told["detector"], "detector").items()},
        threshold=_known(told["threshold"], "threshold"),
        doubt=(_known(low, "doubt"), _known(high, "doubt")),
        fpr=_known(told["fpr"], "fpr"),
        rows=Rows(
            **{key: _count(rows[key], key) for key in ("n", "n_real", "n_fake", "scored", "unlabelled", "seen")},
            failures=_troubles(rows["failures"]),
            not_applicable=_troubles(rows["not_applicable"]),
        ),
        metrics=_intervals(told["metrics"], "metrics", NAMES),
        groups={
            column: _each(parts, f"groups.{column}", _group)
            for column, parts in _object(told.get("groups", {}), "groups").items()
        },
        controls=None if controls is None else _controls(_object(controls, "controls")),
        robustness=_each(
            told.get("robustness", {}), "robustness", lambda each: _intervals(each, "robustness", {**NAMES, **AFTER})
        ),
        fairness=_each(told.get("fairness", {}), "fairness", lambda each: _audit(_object(each, "fairness"))),
    )


def _group(told: Any) -> Group:
    group = _object(told, "group")
    return Group(
        _count(group["n_real"], "n_real"),
        _count(group["n_fake"], "n_fake"),
        {name: _interval(group[name], name) for name in ("auc", "fpr", "tpr") if name in group},
    )


def _controls(told: Mapping[str, Any]) -> Controls:
    def control(each: Any) -> Control:
        return Control(_interval(each, "controls"))

    return Controls(
        alone=_each(told["alone"], "controls.alone", control),
        metadata=control(told["metadata"]),
        thumbnail=control(told["thumbnail"]),
        fitted=_text(told["fitted"], "fitted"),
    )


def _audit(told: Mapping[str, Any]) -> Audit:
    own = told.get("thresholds_not_applied")
    owns = {} if own is None else _object(own["groups"], "thresholds_not_applied")

    def part(name: str, each: Mapping[str, Any]) -> Part:
        made = owns.get(name)
        bar = None if made is None else made["threshold"]
        return Part(
            _count(each["n_real"], "n_real"),
            _count(each["n_fake"], "n_fake"),
            _interval(each["fpr"], "fpr"),
            _interval(each["fnr"], "fnr"),
            _number(each["called"], "called"),
            _number(each["uncertain"], "uncertain"),
            None
            if made is None
            else Own(None if bar is None else _number(bar, "threshold"), _number(made["tpr"], "tpr")),
        )

    def gap(each: Any) -> Gap | None:
        return each and Gap(
            _interval(each["gap"], "gap"),
            _number(each["ratio"], "ratio"),
            _text(each["lowest"], "lowest"),
            _text(each["highest"], "highest"),
            bool(each["chance"]),
        )

    gaps, odds = _object(told["gaps"], "gaps"), _object(told["equalized_odds"], "equalized_odds")
    return Audit(
        groups={name: part(name, _object(each, name)) for name, each in _object(told["groups"], "groups").items()},
        gaps={rate: gap(gaps[rate]) for rate in RATES},
        difference=_number(odds["difference"], "difference"),
        ratio=_number(odds["ratio"], "ratio"),
        fpr=None if own is None else _number(own["fpr"], "fpr"),
        warnings=tuple(_text(each, "warnings") for each in _array(told["warnings"], "warnings")),
    )


def _comparison(told: Mapping[str, Any]) -> Comparison:
    tested = _object(told["delong"], "delong")
    return Comparison(
        first=_text(told["first"], "first"),
        second=_text(told["second"], "second"),
        n_real=_count(told["n_real"], "n_real"),
        n_fake=_count(told["n_fake"], "n_fake"),
        left_out=_count(told["left_out"], "left_out"),
        differences=_intervals(told["differences"], "differences"),
        delong=Delong(
            **{key: _number(tested[key], key) for key in ("difference", "error", "z", "p")}, n=_count(tested["n"], "n")
        ),
        mcnemar={
            part: McNemar(
                _count(each["first_only"], "first_only"),
                _count(each["second_only"], "second_only"),
                _number(each["p"], "p"),
                _count(each["n"], "n"),
            )
            for part, each in _object(told["mcnemar"], "mcnemar").items()
        },
        robustness=_each(told.get("robustness", {}), "robustness", lambda each: _intervals(each, "robustness")),
    )


def _clips(told: Mapping[str, Any]) -> Clips:
    def by(value: Any, what: str) -> dict[str, dict[str, Interval]]:
        return _each(value, what, lambda each: _intervals(each, what))

    chosen = told.get("chosen")
    top = told["top"]
    return Clips(
        detector=_text(told["detector"], "detector"),
        threshold=_known(told["threshold"], "threshold"),
        fpr=_known(told["fpr"], "fpr"),
        frames=_count(told["frames"], "frames"),
        top=None if top is None else _count(top, "top"),
        n_real=_count(told["n_real"], "n_real"),
        n_fake=_count(told["n_fake"], "n_fake"),
        judged=_count(told["judged"], "judged"),
        still=_count(told["still"], "still"),
        without=_troubles(told["without_a_frame"]),
        failures=_troubles(told["failures"]),
        by_frame=_intervals(told["by_frame"], "by_frame"),
        by_clip=by(told["by_clip"], "by_clip"),
        steady=by(told["consistency"], "consistency"),
        chosen={} if chosen is None else _each(chosen["thresholds"], "chosen", lambda each: _number(each, "chosen")),
        tuned=(0, 0) if chosen is None else (_count(chosen["on"]["real"], "on"), _count(chosen["on"]["fake"], "on")),
        by_clip_chosen={} if chosen is None else by(chosen["by_clip"], "chosen"),
    )


def _troubles(told: Any) -> tuple[Trouble, ...]:
    fields = [field.name for field in dataclasses.fields(Trouble)]
    return tuple(
        Trouble(*(_text(each[field], field) for field in fields))
        for each in (_object(each, "failures") for each in _array(told, "failures"))
    )


def _intervals(told: Any, what: str, needed: Iterable[str] = ()) -> dict[str, Interval]:
    found = _each(told, what, lambda each: _interval(each, what))
    if missing := sorted(set(needed) - set(found)):
        raise ValueError(f"{what} lack {', '.join(missing)}")
    return found


def _interval(told: Any, what: str) -> Interval:
    each = _object(told, what)
    value, low, high = (_number(each[key], what) for key in ("value", "low", "high"))
    return Interval(value, low, high, _count(each["n"], what))


def _each(told: Any, what: str, read: Callable[[Any], Read]) -> dict[str, Read]:
    return {name: read(each) for name, each in _object(told, what).items()}


def _object(told: object, what: str) -> dict[str, Any]:
    if not isinstance(told, dict):
        raise ValueError(f"{what} is no object")
    return told


def _array(told: object, what: str) -> list[Any]:
    if not isinstance(told, list):
        raise ValueError(f"{what} is no array")
    return told


def _text(told: object, what: str) -> str:
    if not isinstance(told, str):
        raise ValueError(f"{what} is no text")
    return told


def _number(told: object, what: str) -> float:
    """A number; NaN for what was not defined."""
    if told is None:
        return math.nan
    if isinstance(told, bool) or not isinstance(told, int | float):
        raise ValueError(f"{what} is no number")
    return float(told) if math.isfinite(told) else math.nan


def _known(told: object, what: str) -> float:
    value = _number(told, what)
    if math.isnan(value):
        raise ValueError(f"{what} is not known")
    return value


def _count(told: object, what: str) -> int:
    if isinstance(told, bool) or not isinstance(told, int) or told < 0:
        raise ValueError(f"{what} is no count")
    return told
