"""Folds for cross-fitting on a data set of sources: whole sources in one fold, classes spread evenly."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FOLDS = 5


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Folds:
    """The fold of each row, (n,), how many folds there are, and whether sources were kept whole."""

    number: npt.NDArray[np.intp]
    count: int
    whole: bool

    def __str__(self) -> str:
        if self.whole:
            return f"{self.count} folds, whole sources in one fold"
        return f"{self.count} folds (a class has a single source, so sources are not kept apart)"


def by_source(labels: npt.ArrayLike, sources: Sequence[str], *, most: int = FOLDS, seed: int = 0) -> Folds:
    """Spread rows over folds so that what is fitted on the others has not met a fold's sources.

    Sources go, the largest first, to the fold that holds least of their classes. Where a class has a single source
    that can't be done; rows are then dealt at random, each class evenly, and the folds say so. As
    `StratifiedGroupKFold` of scikit-learn, but for that and for the guarantee that the same rows give the same folds.

    Args:
        labels: 0 or 1, (n,), both present.
        sources: of each row.
        most: folds at most; fewer where a class has fewer sources.
        seed: of the dealing at random.
    """
    truth = np.asarray(labels, np.intp)
    names, place = np.unique(np.asarray(sources, dtype=object), return_inverse=True)
    held = np.zeros((len(names), 2))
    np.add.at(held, (place, truth), 1)
    count = min(most, *(held > 0).sum(axis=0).tolist())
    if count < 2:
        number = np.zeros(len(truth), np.intp)
        random = np.random.default_rng(seed)
        for label in (0, 1):
            rows = np.flatnonzero(truth == label)
            number[random.permutation(rows)] = np.arange(len(rows)) % most
        return Folds(number, most, whole=False)
    share = held / held.sum(axis=0)
    load = np.zeros((count, 2))
    fold_of = np.zeros(len(names), np.intp)
    for source in np.argsort(-share.sum(axis=1), kind="stable"):
        # The sum of the squared loads grows by twice this product (and by what is the same for every fold).
        fold_of[source] = np.argmin(load @ share[source])
        load[fold_of[source]] += share[source]
    return Folds(fold_of[place], count, whole=True)
