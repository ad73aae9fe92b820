"""What each arm of a study may spend, so that none is favoured.

Two ways, both *ours*:

- "views" (the default): every arm's network is shown the same number of views. The number is exact, and the same on
  every machine and under any load. A slower network takes longer.
- "compute": every arm gets the same seconds of processor time, for questions that are asked at equal cost. Seconds
  become steps before training, by the processor time (not the clock: it stands still while other work runs) that a few
  steps take in this process, their batches included. What a run then really took is reported beside it. On a GPU the
  clock is taken instead. Processor time, too, grows by a third or so while other work shares caches and memory: give
  such a study the machine to itself.

Either way the number of steps is fixed and written down before an arm begins, so that a run that was killed goes on to
the same end.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from assay.data.table import Table
from assay.learn import tiles
from assay.learn.batches import Batches
from assay.learn.descend import Machine, Training
from assay.learn.flow import Flow
from assay.learn.recipe import Descend, Recipe, Stream
from assay.learn.rows import learning_rows
from assay.learn.views import draw

EPOCHS = range(4, 7)
"""How often an arm looks at its tuning rows: the number among these that wastes the fewest steps."""

WARM_UP, PROBED = 2, 5
"""Steps whose time is not taken, and steps whose time is."""


def descents(recipe: Recipe) -> list[tuple[Stream, Descend]]:
    """Each stage that trains a network, with its stream; none where all networks are frozen."""
    return [(recipe.stream(stage.stream), stage) for stage in recipe.stages if isinstance(stage, Descend)]


def views_a_step(recipe: Recipe) -> int:
    """Views that the networks of a recipe are shown in one step: pictures of a batch times views of a picture."""
    blank = np.zeros((64, 64, 3), np.uint8)
    each = [
        2 * stage.pairs * len(draw(blank, stage, stream.view.size, np.random.default_rng(0)))
        for stream, stage in descents(recipe)
    ]
    return sum(each)


def length(recipe: Recipe) -> int:
    """Steps of a recipe as it is written; of several stages, the longest."""
    return max((stage.steps * stage.epochs for _, stage in descents(recipe)), default=0)


def spread(total: int) -> tuple[int, int]:
    """(steps of an epoch, epochs), whose product is at most `total` and as near to it as can be; at least one step."""
    if total < min(EPOCHS):
        return 1, max(1, total)
    epochs = max(EPOCHS, key=lambda count: total // count * count)
    return total // epochs, epochs


def with_steps(recipe: Recipe, total: int) -> Recipe:
    """The recipe with so many steps in all, and no stopping before their end."""
    if not descents(recipe):
        return recipe
    steps, epochs = spread(total)
    return recipe.set(descend__steps=steps, descend__epochs=epochs, descend__patience=epochs)


def seconds_a_step(
    recipe: Recipe, rows: Table, cache: Path, *, seed: int, device: str = "auto", workers: int = 2
) -> float:
    """Seconds of processor time (of the clock on a GPU) that one step of a recipe takes, all its streams together.

    The median of `PROBED` steps, batches made in this process; their effect is thrown away.

    Args:
        rows: the manifest's rows.
        cache: where decoded tiles are kept; training finds them there.

    Raises:
        ManifestError: rows are missing, unlabelled or cannot be decoded.
    """
    machine = Machine.here(device, 0)
    clock: Callable[[], float] = time.perf_counter if machine.device == "cuda" else time.process_time
    train = learning_rows(rows)["train"]
    seconds = 0.0
    for stream, stage in descents(recipe):
        batches: Batches | Flow
        if stage.decode == "always":
            batches = Flow(Table.of(rows), stage, stream.view, seed)
        else:
            store = tiles.build(
                train, stage.tiles, cache, seed=seed, workers=workers, view=stream.view, eyes=stage.masks
            )
            shown = store.shown
            batches = Batches(store.of(shown), train[shown], stage, stream.view, seed)
        training = Training(stream, stage, machine, seed=seed, total=max(1, stage.steps * stage.epochs))
        seconds += _median(training, batches, clock)
    return seconds


def _median(training: Training, batches: Batches | Flow, clock: Callable[[], float]) -> float:
    taken: list[float] = []
    before = clock()
    for batch in batches.stream(0, WARM_UP + PROBED, 0):
        training.advance(batch)
        now = clock()
        taken.append(now - before)
        before = now
    return statistics.median(kept(taken))


def kept(taken: Sequence[float]) -> Sequence[float]:
    """Without the first, in which kernels are chosen and memory is taken."""
    return taken[WARM_UP:] if len(taken) > WARM_UP else taken
