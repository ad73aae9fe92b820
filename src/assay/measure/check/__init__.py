"""Whether a data set can be trained and measured on honestly: every fault with its row, every shortcut with its AUC.

The table is looked at as whole columns, so that a million rows take seconds. With `look` each picture is decoded once,
and what that shows is added: files that cannot be read, equal bytes, pictures that look the same, and how far the
classes are told apart by what has nothing to do with being fake.

How grave a finding is, is *ours*:

- *error*: a figure measured on it, or a threshold chosen on it, would say more than is true. Test rows share a
  picture, an original, a subject or a clip with training or tuning rows; one picture has both labels; a split lacks a
  class; rows cannot be read; a fact of the file alone tells the classes apart.
- *warning*: it deserves a look, and may be as it should be. A fake that was made from a real by passing it through a
  decoder looks just like it; so does one whose label is wrong.
- *note*: what a reader of a figure has to know.

That a fake and a real share an origin, a subject or a clip is no contradiction: fakes are made from reals.
"""

from __future__ import annotations

from collections.abc import Sequence

from assay.data.split import RELATED
from assay.data.table import Table
from assay.measure.check import pictures, table, twins
from assay.measure.check import shortcuts as giveaways
from assay.measure.check.findings import Finding, Report, Severity, Shortcut
from assay.measure.check.pictures import Progress

__all__ = ["BOUND", "NEAR", "Finding", "Report", "Severity", "Shortcut", "check"]

NEAR = 4
"""Bits between perceptual hashes up to which two pictures count as the same one, altered: re-encoded, resized and
brightened copies lie within it, different pictures do not."""

BOUND = 0.8
"""A fact of the file that tells the classes apart with an AUC surely above this is an error."""

ROUNDS = 300


def check(
    samples: Table,
    *,
    look: bool = True,
    near: int = NEAR,
    bound: float = BOUND,
    related: Sequence[str] = RELATED,
    workers: int | None = None,
    progress: Progress | None = None,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Report:
    """Look for everything that would make a figure on this data set say more than is true.

    Args:
        samples: as read by `manifest.read(path, check=False, strict=False)`, whose faults become findings; or any.
        look: decode every picture once. Without it no file is touched, not even to see whether it is there.
        near: bits of the perceptual hash up to which pictures on two sides of a split count as the same, 0 to 63.
        bound: a shortcut is an error where its AUC is surely above it: where the lower end of the 95 % interval is,
            after turning to the side above .5.
        related: columns of which no value may stand in two splits. Leave out one that names a category and no one in
            particular (a "subject" such as "landscape").
        workers: threads that decode; by default one a core, four at most.
        progress: called with ("looking", done, total).
        rounds: of the bootstrap; 0 gives no intervals, and then no shortcut is called an error.
        seed: of the bootstrap, the folds and the rows drawn.

    Returns:
        A report. A picture that cannot be read is a finding, never an exception.

    Raises:
        ValueError: `near` or `bound` out of range.
    """
    if not 0 <= near < 64:
        raise ValueError(f"near must lie in 0 to 63 bits, not {near}")
    if not 0.5 <= bound <= 1:
        raise ValueError(f"bound is an AUC from 0.5 to 1, not {bound}")
    findings = [*table.of_reading(samples), *table.of_labels(samples), *table.of_splits(samples)]
    shortcuts: tuple[Shortcut, ...] = ()
    seen: pictures.Seen | None = None
    if look:
        parts = giveaways.parts(samples, seed)
        kept = {int(row) for rows in parts.values() for row in rows}
        seen = pictures.look(samples, kept, workers, progress)
        findings += seen.findings(samples)
        samples = seen.hashed(samples)
        shortcuts = tuple(giveaways.shortcuts(samples, parts, seen.facts, bound, rounds, seed))
        findings += giveaways.findings(shortcuts, bound)
    findings += table.of_files(samples)
    findings += table.of_related(samples, related)
    if seen is not None:
        findings += twins.findings(samples, seen, near, related)
    order = list(Severity)
    findings.sort(key=lambda finding: order.index(finding.severity))
    return Report(len(samples), table.counts(samples), look, tuple(findings), shortcuts, near, bound)
