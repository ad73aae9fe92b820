"""A paper's open questions as runnable comparisons: one file of studies for each recipe, named like it.

A study is values, no control flow (`assay.studies.study`); what runs one (`assay.studies.run`) knows arms and
conditions, never the papers. Which files there are decides what `names` and `find` know: nothing is registered.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil

from assay import recipes
from assay.errors import RecipeError, unknown
from assay.studies.study import Study


def studies() -> dict[str, Study]:
    """Every study by its name, in the order of the files."""
    found: dict[str, Study] = {}
    for info in sorted(pkgutil.iter_modules(recipes.__path__), key=lambda info: info.name):
        if importlib.util.find_spec(f"{__name__}.{info.name}") is not None:
            module = importlib.import_module(f"{__name__}.{info.name}")
            found |= {study.name: study for study in module.STUDIES}
    return found


def find(name: str) -> Study:
    """The study of that name.

    Raises:
        RecipeError: there is none; the nearest are named.
    """
    known = studies()
    if name not in known:
        raise RecipeError(unknown("study", name, known))
    return known[name]
