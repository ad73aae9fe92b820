"""From raw scores to a word: pooling, calibration, the vote of the streams, threshold and doubt.

`Judge` holds the numbers as they lie in a bundle; `choose` finds them on tuning rows.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pydantic

from assay import metrics
from assay.judge import vote
from assay.judge.skip import Skip
from assay.types import Ruling

Floats = npt.NDArray[np.float64]
Pool = Literal["mean", "median", "top", "max"]

HeadKind = Literal["linear", "nearest", "one_class", "mlp"]
"""The kinds of head, as in `assay.judge.heads`."""

DIGITS = 6
"""Scores are rounded to so many digits before anything is decided on them: what is printed is what was decided on."""

NEVER = 1 + 10.0**-DIGITS
"""The threshold that no rounded score reaches."""


class Errors(pydantic.BaseModel):
    """What to expect on pictures like the tuning rows, each in [0, 1].

    Args:
        false_fake: share of reals called fake.
        false_real: share of fakes called real.
        decided: share of rows that get a verdict other than "uncertain", both classes weighing the same.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    false_fake: float = pydantic.Field(ge=0, le=1)
    false_real: float = pydantic.Field(ge=0, le=1)
    decided: float = pydantic.Field(ge=0, le=1)


class Rows(pydantic.BaseModel):
    """How many tuning rows of each class something was chosen on."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    real: int = pydantic.Field(ge=0)
    fake: int = pydantic.Field(ge=0)


class Bar(pydantic.BaseModel):
    """Where verdicts begin.

    Args:
        threshold: a score at or above it is called fake; in [0, NEVER].
        doubt_low: a score below it is called real; at most `threshold`.
        fpr: the false-positive rate that `threshold` was chosen for.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    threshold: float = pydantic.Field(ge=0, le=NEVER)
    doubt_low: float = pydantic.Field(ge=0, le=NEVER)
    fpr: float = pydantic.Field(gt=0, lt=1)

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.doubt_low > self.threshold:
            raise ValueError(f"doubt_low {self.doubt_low} lies above threshold {self.threshold}")
        return self

    def ruling(self, score: float) -> Ruling:
        """The word of a score: see `ruling`."""
        return ruling(score, self.threshold, self.doubt_low)


class StreamRule(Bar):
    """How one stream's raw scores become P(fake), and where it stands when it judges alone.

    Args:
        pool: how the raw scores of all views (and frames) become one, see `pool`.
        slope: > 0; 1 / slope is the temperature.
        offset: P(fake) = sigmoid(slope · raw + offset).
    """

    pool: Pool = "mean"
    slope: pydantic.FiniteFloat = pydantic.Field(1.0, gt=0)
    offset: pydantic.FiniteFloat = 0.0

    def probability(self, raw: npt.ArrayLike) -> Floats:
        """Calibrated P(fake), of the shape of `raw`; NaN stays NaN."""
        logit = self.slope * np.asarray(raw, np.float64) + self.offset
        # log(1 + e^-x) taken this way never overflows.
        with np.errstate(invalid="ignore"):
            calibrated: Floats = np.exp(-np.logaddexp(0.0, -logit))
        return calibrated

    def plain(self, scores: npt.ArrayLike) -> Floats:
        """P(fake) as the head itself has it, before calibration: sigmoid(raw), from calibrated scores of any shape.

        Scores of 0 and 1 are taken as half of the last digit that scores have: what lies beyond was rounded away. NaN
        stays NaN.
        """
        edge = 10.0**-DIGITS / 2
        score = np.clip(np.asarray(scores, np.float64), edge, 1 - edge)
        raw = (np.log(score) - np.log1p(-score) - self.offset) / self.slope
        with np.errstate(invalid="ignore"):
            before: Floats = np.exp(-np.logaddexp(0.0, -raw))
        return before

    def score(self, raws: npt.ArrayLike) -> float:
        """The stream's P(fake) of one picture, from the raw scores of its views, shape (n,), n >= 1."""
        return round(float(self.probability(pool(raws, self.pool))), DIGITS)


class EnsembleRule(Bar):
    """How the streams vote, and where verdicts begin when all of them do.

    Args:
        method: see `assay.judge.vote`.
        slope: P(fake) = sigmoid(slope · (value of the vote - 1/2)); None where the value is P(fake) as it is. One half
            stays one half, so that whoever won the vote wins the score.
        voters: the streams that vote by this rule; empty: all that vote in the judge.
        weights: of the streams, by name, for the rules that weigh them; 1 where a stream is not named.
        errors: what to expect of the threshold and the doubt band.
        rows: how many tuning rows they were chosen on.
        notes: how they were chosen.
    """

    method: vote.Method = "mean"
    slope: pydantic.FiniteFloat | None = pydantic.Field(None, gt=0)
    voters: tuple[str, ...] = ()
    weights: dict[str, Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]] = {}
    errors: Errors
    rows: Rows
    notes: str = ""

    def probability(self, value: npt.ArrayLike) -> Floats:
        """P(fake) of votes, of the shape of `value`; rounded as scores are."""
        given = np.asarray(value, np.float64)
        calibrated = given if self.slope is None else np.exp(-np.logaddexp(0.0, -self.slope * (given - vote.HALF)))
        return np.round(calibrated, DIGITS)


class Judge(pydantic.BaseModel):
    """The numbers of a bundle's judge.

    Args:
        streams: one rule a stream, by the stream's name.
        ensemble: the rule of the streams that vote.
        voters: names of the streams that vote; empty: all. The others are heads that judge where they are asked for.
        alternatives: by kind of head, the rule of the streams with that head, where they vote in the voters' place.
        rules: other ways for the voters to vote, by name: another method, or some of them alone. Each has its own
            threshold and doubt band.
        skip: when streams are left out, where that is asked for; None where it cannot be.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    streams: dict[str, StreamRule] = pydantic.Field(min_length=1)
    ensemble: EnsembleRule
    voters: tuple[str, ...] = ()
    alternatives: dict[HeadKind, EnsembleRule] = {}
    rules: dict[str, EnsembleRule] = {}
    skip: Skip | None = None

    @pydantic.model_validator(mode="after")
    def _voters_are_streams(self) -> Self:
        if strangers := [name for name in self.voters if name not in self.streams]:
            raise ValueError(f"voters without a rule: {', '.join(strangers)}")
        if len(set(self.voters)) < len(self.voters):
            raise ValueError(f"a voter is named twice: {', '.join(self.voters)}")
        for name, rule in {"ensemble": self.ensemble, **self.rules}.items():
            if strangers := [voter for voter in (*rule.voters, *rule.weights) if voter not in self.voting]:
                raise ValueError(f"the rule {name} asks for votes of {', '.join(strangers)}, which do not vote")
        if self.skip and {name for group in self.skip.order for name in group} != set(self.voting):
            raise ValueError("the order in which streams may be left out does not name each that votes")
        return self

    @property
    def voting(self) -> tuple[str, ...]:
        """Names of the streams that vote, at least one."""
        return self.voters or tuple(self.streams)

    def of(self, streams: Collection[str], ensemble: EnsembleRule) -> Judge:
        """A judge of some of the streams only, all of which vote, by another rule: of its voters where it names any."""
        chosen = {name: self.streams[name] for name in ensemble.voters or streams}
        # Its bounds were chosen for the rule that the bundle has.
        mine = ensemble == self.ensemble and set(chosen) == set(self.voting)
        return Judge(streams=chosen, ensemble=ensemble, skip=self.skip if mine else None)

    def vote(self, scores: Mapping[str, float]) -> float:
        """The ensemble's P(fake) from the scores of the streams that apply, a voter among them at least."""
        return float(self.votes({name: [scores.get(name, math.nan)] for name in self.voting})[0])

    def votes(self, scores: Mapping[str, npt.ArrayLike], rule: EnsembleRule | None = None) -> Floats:
        """The P(fake) of several pictures, shape (n,).

        A stream that judges alone where several vote keeps its score, which its own bar was chosen on: see `bar`.

        Args:
            scores: of each voter its calibrated scores, shape (n,), NaN where it does not apply.
            rule: another rule than the ensemble's.

        Raises:
            ValueError: to a picture no voter applies.
        """
        rule = rule or self.ensemble
        given = {name: np.asarray(scores[name], np.float64) for name in rule.voters or self.voting}
        voted = rule.probability(cast(rule.method, self.streams, given, rule.weights))
        if len(given) == 1:
            return voted
        each = np.stack(list(given.values()))
        return np.where((~np.isnan(each)).sum(axis=0) == 1, np.nansum(each, axis=0), voted)

    def bar(self, applied: Collection[str]) -> Bar:
        """Where verdicts begin, given the streams that apply.

        A stream that judges alone where several vote is held to its own threshold: the ensemble's was chosen
        on scores that are means, which spread less.
        """
        votes = [name for name in applied if name in self.voting]
        if len(votes) == 1 and len(self.voting) > 1:
            return self.streams[votes[0]]
        return self.ensemble


def cast(
    method: vote.Method,
    streams: Mapping[str, StreamRule],
    scores: Mapping[str, npt.ArrayLike],
    weights: Mapping[str, float] = MappingProxyType({}),
) -> Floats:
    """What votes come to (`assay.judge.vote.value`), shape (n,).

    Args:
        streams: a rule for each voter, at least.
        scores: of each voter its calibrated scores, shape (n,), NaN where it does not apply.
        weights: see `EnsembleRule`.
    """
    given = {name: np.asarray(values, np.float64) for name, values in scores.items()}
    if method == "plain_mean":
        given = {name: streams[name].plain(values) for name, values in given.items()}
    return vote.value(method, np.stack(list(given.values())), [weights.get(name, 1.0) for name in given])


def pool(raws: npt.ArrayLike, how: Pool) -> float:
    """One raw score from those of several views.

    Args:
        raws: shape (n,), n >= 1.
        how: "mean", "median", "top" (the mean of the highest third, rounded up, for fakes that show in a part of the
            picture only) or "max" (the highest: one fake face makes the picture fake).
    """
    values = np.sort(np.asarray(raws, np.float64).ravel())
    if how == "median":
        return float(np.median(values))
    if how == "top":
        values = values[-math.ceil(len(values) / 3) :]
    if how == "max":
        values = values[-1:]
    return float(values.mean())


def ruling(score: float, threshold: float, doubt_low: float) -> Ruling:
    """Fake at or above `threshold`, real below `doubt_low` (at most `threshold`), uncertain between."""
    if score >= threshold:
        return Ruling.FAKE
    return Ruling.REAL if score < doubt_low else Ruling.UNCERTAIN


class Choice(NamedTuple):
    """A threshold and a doubt band with what they promise.

    threshold, doubt_low: see `Bar`.
    beta: the rate of fakes called real that `doubt_low` was chosen for.
    errors: counted on the tuning rows.
    """

    threshold: float
    doubt_low: float
    beta: float
    errors: Errors


def choose(labels: npt.ArrayLike, scores: npt.ArrayLike, *, fpr: float = 0.05, decided: float = 0.70) -> Choice:
    """Threshold and doubt band from tuning rows, by class-conditional (Mondrian) split conformal prediction.

    A picture is called fake where its conformal p-value among the real rows, (1 + #{reals >= score}) / (reals + 1),
    is at most `fpr`; real where its p-value among the fake rows, (1 + #{fakes <= score}) / (fakes + 1), is at most
    beta; uncertain where neither holds. Where both hold it is called fake. beta is the smallest of 1 %, 2 %, … 50 %
    at which at least `decided` of the rows get a verdict (50 % where none does: see `errors.decided`).

    Why so: the promise "at most `fpr` of reals are called fake" needs no model of the scores, holds for any number of
    rows, for each class by itself, and so for any share of fakes in the user's traffic (Vovk, Lindsay, Nouretdinov,
    Gammerman, "Mondrian Confidence Machine", 2003; Vovk, "Conditional Validity of Inductive Conformal Predictors",
    2012). It holds on average over draws of the tuning rows, for reals of the same kind as those rows
    (exchangeable), not for reals from elsewhere. That of beta is weaker: beta was itself chosen on these rows.

    Args:
        labels: 0 real, 1 fake, shape (n,); both present.
        scores: P(fake) in [0, 1], shape (n,), of rows that the trunks and heads were not fitted on. Rounded as
            verdicts are.
        fpr: in (0, 1). With fewer than 1 / fpr - 1 reals no threshold can promise it, and nothing is called fake.
        decided: in [0, 1].

    Raises:
        ValueError: a class is absent, or a value is out of range.
    """
    truth = np.asarray(labels)
    rounded = np.round(np.asarray(scores, np.float64), DIGITS)
    if truth.shape != rounded.shape or truth.ndim != 1 or not np.isin(truth, (0, 1)).all():
        raise ValueError("labels must be 0 (real) or 1 (fake), one for each score, shape (n,)")
    if not ((rounded >= 0) & (rounded <= 1)).all():
        raise ValueError("scores must lie in [0, 1]")
    if not 0 < fpr < 1 or not 0 <= decided <= 1:
        raise ValueError(f"fpr must lie in (0, 1) and decided in [0, 1], not {fpr} and {decided}")
    reals, fakes = rounded[truth == 0], rounded[truth == 1]
    if not len(reals) or not len(fakes):
        raise ValueError("a threshold needs tuning rows of both classes")

    threshold = _above(metrics.threshold_at_fpr(reals, fpr))
    beta, low, errors = 0.5, 0.0, None
    for percent in range(1, 51):
        beta = percent / 100
        low = min(_missed(fakes, beta), threshold)
        errors = _errors(reals, fakes, threshold, low)
        if errors.decided >= decided - 1e-12:
            break
    assert errors is not None
    return Choice(threshold, low, beta, errors)


def _above(bound: float) -> float:
    """A threshold that lies just above a real's score, moved to the next rounded value: shorter to read, same rows."""
    return 0.0 if bound == 0 else round(round(bound, DIGITS) + 10.0**-DIGITS, DIGITS)


def _missed(fakes: Floats, beta: float) -> float:
    """The highest bound below which a further fake falls with probability at most `beta`."""
    # The little extra keeps a product such as .29 * 100 = 28.999… from losing a whole row.
    allowed = math.floor(beta * (len(fakes) + 1) + 1e-9)
    if allowed < 1:
        return 0.0
    return float(np.sort(fakes)[allowed - 1]) if allowed <= len(fakes) else NEVER


def _errors(reals: Floats, fakes: Floats, threshold: float, low: float) -> Errors:
    open_share = (np.mean((reals >= low) & (reals < threshold)) + np.mean((fakes >= low) & (fakes < threshold))) / 2
    return Errors(
        false_fake=float(np.mean(reals >= threshold)),
        false_real=float(np.mean(fakes < low)),
        decided=float(1 - open_share),
    )
