"""Everything assay raises on purpose.

`AssayError` is the root; catch it to catch them all. Every error carries a `kind`, a stable word for machines, and a
message that says what happened and what to do next.

    AssayError
    ├── InputError      one input could not be judged; the others go on
    ├── BundleError     a detector on disk is torn, tampered with or of another version
    ├── ManifestError   a data set is not fit for use; `problems` lists every row
    ├── LayoutError     a folder does not have the shape that a published data set has
    ├── OverlapError    an evaluation would test on rows that the detector was trained or tuned on
    ├── RecipeError     a recipe, or a value set on it, does not hold
    ├── OutputError     results cannot be written
    ├── JobError        a job that a server was asked for is not there, or is another one
    └── MissingExtra    an optional dependency is not installed; the message names the extra
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class AssayError(Exception):
    """Root of all errors that assay raises on purpose."""

    kind = "error"

    def __init__(self, message: str, *, kind: str | None = None) -> None:
        super().__init__(message)
        if kind is not None:
            self.kind = kind


class InputError(AssayError):
    """One input could not be judged.

    `kind` is one of: missing, permission, not_a_file, unreadable, empty, not_an_image, unsupported, truncated, corrupt,
    too_many_bytes, too_many_pixels, too_many_frames, needs_extra; of a server, where a process of its own decodes:
    too_slow, crashed, too_much_memory (it was killed, broke down, or ran out of memory).
    """

    kind = "input"


class BundleError(AssayError):
    """A bundle cannot be used. `kind`: missing, torn, tampered, version, invalid, unknown."""

    kind = "bundle"


class ManifestError(AssayError):
    """A manifest cannot be used. `problems` holds one line for every fault found, each with its row."""

    kind = "manifest"

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class LayoutError(AssayError):
    """A folder is not laid out as the data set that was named. The message says what was expected and what is there.

    `kind`: layout, or unknown (no layout of that name, no such option).
    """

    kind = "layout"


class OverlapError(AssayError):
    """Rows to be tested on were used to make the detector. `rows` holds their places."""

    kind = "overlap"

    def __init__(self, message: str, rows: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.rows = tuple(rows)


class RecipeError(AssayError):
    """A recipe does not hold, or a field that was set does not exist."""

    kind = "recipe"


class OutputError(AssayError):
    """Results cannot be written.

    `kind`: output (the file is not fit for these results), disk (writing failed), busy (another process holds it for
    long).
    """

    kind = "output"


class JobError(AssayError):
    """A server cannot do this with a job.

    `kind`: missing (whoever asks has no such job), conflict (the key of an earlier request came with another one).
    """

    kind = "missing"


class MissingExtra(AssayError):
    """An optional dependency is not installed."""

    kind = "needs_extra"

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f'{what} needs an extra: pip install "assay[{extra}]"')
        self.extra = extra


def words(told: object, most: int = 100) -> str:
    """What an error of a library says, in one line of at most so many characters."""
    return " ".join(str(told).split())[:most]


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """A message for an unknown name that lists the nearest known ones."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names) or 'none'}"
    return f"no {what} called {name!r}; {hint}"
