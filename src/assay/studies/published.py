"""Cells that papers publish, as facts: read from `published.csv`, never computed.

Accuracies in percent. Tables "seen" and "ablation" of CoDE (arXiv 2407.20337, its poster): the test set of D3, one
real to four fakes, so that "overall" weighs fakes four times. Table "unseen": eleven generators that CoDE was not
trained on; chance stands at 50 there (*inferred*: reals weigh as much as fakes). Table "validation" of DFCon
(arXiv 2501.16704): the validation pictures of DFWild-Cup, 1,548 real and 1,524 fake. Table "celeb-df" of the masked-eye
study (arXiv 2410.05466) and of GenConViT (arXiv 2307.07036): Celeb-DF v2; which clips, and of which class the F1 is,
the former does not say.
"""

from __future__ import annotations

import csv
import functools
import importlib.resources
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

HEADS = {
    "linear": "linear",
    "nearest neighbour": "nearest",
    "one-class svm": "one_class",
    "modified majority vote": "modified_majority",
    "": "",
}
"""The file's words for heads, and a card's. A model that is a classifier as it stands has none."""

CONDITIONS = {"without": "clean", "with": "transforms", "": ""}

PICTURES = MappingProxyType(
    {
        "seen": "D3, one real to four fakes",
        "ablation": "D3, one real to four fakes",
        "unseen": "eleven generators",
        "validation": "the validation set of DFWild-Cup",
        "celeb-df": "Celeb-DF v2, which clips is not said",
    }
)
"""What the figures of a table were taken on."""

SAME = MappingProxyType({"df-if": "deepfloyd-if", "sd-xl": "sdxl"})
"""The paper's names of generators where `assay.data.layouts` has others."""


class Cells(NamedTuple):
    """A row of a published table: the model under one head and condition; percent by column, in the table's order."""

    model: str
    head: str
    condition: str
    values: Mapping[str, float]


@functools.cache
def rows(table: str) -> tuple[Cells, ...]:
    """The rows of a published table; none for one that does not exist."""
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    text = (importlib.resources.files(__package__) / "published.csv").read_text("utf-8")
    for line in csv.DictReader(text.splitlines()):
        if line["table"] == table:
            key = line["model"], HEADS[line["head"]], CONDITIONS[line["transforms"]]
            found.setdefault(key, {})[column(line["column"])] = float(line["value"])
    return tuple(Cells(*key, MappingProxyType(values)) for key, values in found.items())


def column(name: str) -> str:
    """A published column's name as this project writes it: "overall", "real", "fake", a generator's name."""
    lower = name.lower()
    return SAME.get(lower, lower)


def of(table: str, model: str, head: str, condition: str) -> Cells | None:
    """The published row of a model, for a head (a model without heads stands beside "linear") and a condition."""
    for cells in rows(table):
        if cells.model == model and cells.condition == condition and (cells.head or "linear") == head:
            return cells
    return None
