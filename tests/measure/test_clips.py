"""Clips: frames make a clip's score in several ways, classes are told apart, and a clip without a frame has none."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from assay import cli, metrics
from assay.errors import ManifestError, OverlapError
from assay.image.decode import Limits
from assay.judge.seen import Seen
from assay.measure import block, clips
from assay.measure.clips import FIGURES, Clips, Noted, aggregate, evaluate_clips, grouped, measure, spread
from assay.types import Failure, Label, Ruling, Sample, Verdict

Scores = float | None | str | tuple[tuple[int, float], ...]
"""Of a still; none; the kind of a failure; or of a clip's frames."""


@dataclasses.dataclass
class Scripted:
    """A detector that says of each place what it was told to; a clip's own score is its highest frame's."""

    script: Mapping[str, Scores]
    name: str = "scripted"
    threshold: float = 0.6
    doubt: tuple[float, float] = (0.5, 0.6)
    fpr: float = 0.2
    seen: Seen = dataclasses.field(default_factory=Seen)
    limits: list[Limits] = dataclasses.field(default_factory=list)
    asked: list[str] = dataclasses.field(default_factory=list)

    def judge_many(self, sources: Iterable[Any], *, limits: Limits) -> Iterator[Verdict | Failure]:
        self.limits.append(limits)
        for source in sources:
            self.asked.append(source)
            told = self.script[source]
            if isinstance(told, str):
                yield Failure(source, told, f"{source} is torn")
                continue
            frames = told if isinstance(told, tuple) else ()
            score = max(score for _, score in frames) if frames else told if isinstance(told, float) else None
            yield Verdict(
                Ruling.UNCERTAIN,
                score,
                self.threshold,
                self.doubt,
                self.fpr,
                (),
                ("not judged: no face found",) if score is None else (),
                {"name": self.name},
                source,
                "ab" * 32,
                1,
                1,
                frames,
            )


def numbered(*scores: float) -> tuple[tuple[int, float], ...]:
    return tuple((10 * number, score) for number, score in enumerate(scores))


def said(script: Mapping[str, Scores], samples: list[Sample], frames: int = 15, **fields: Any) -> Noted:
    """A detector that has answered for every labelled row."""
    noted = Noted(Scripted(script, **fields), frames)
    asked = [sample.place for sample in samples if sample.label is not None]
    assert len(list(noted.judge_many(asked))) == len(asked)
    return noted


@pytest.fixture
def films() -> tuple[dict[str, Scores], list[Sample]]:
    """Twelve real and twelve fake clips of four people each, of 3 to 8 frames."""
    random = np.random.default_rng(0)
    script: dict[str, Scores] = {}
    samples = []
    for number in range(24):
        label = Label(number % 2)
        place = f"{number:02d}.mp4"
        scores = random.normal(0.5 + 0.1 * label, 0.15, int(random.integers(3, 9))).clip(0, 1)
        script[place] = numbered(*scores.tolist())
        subject = f"id{number % 8}" + ("+id99" if label else "")
        samples.append(Sample(place, label, source="set", subject=subject, video=place[:2]))
    return script, samples


def measured(films: tuple[dict[str, Scores], list[Sample]], **options: Any) -> Clips:
    script, samples = films
    return measure(said(script, samples), samples, **{"rounds": 50, **options})


# ── one score of several ─────────────────────────────────────────────────────────────────────────────────────────────


def test_frames_make_a_score_by_mean_median_highest_few_and_maximum() -> None:
    scores = [0.1, 0.9, 0.3, 0.8, 0.2, 0.4]
    assert aggregate(scores, "mean") == pytest.approx(0.45)
    assert aggregate(scores, "median") == pytest.approx(0.35)
    assert aggregate(scores, "max") == 0.9
    assert aggregate(scores, "top", 3) == pytest.approx(0.7)
    assert aggregate(scores, "top", 99) == pytest.approx(0.45)
    with pytest.raises(KeyError):
        aggregate(scores, "mode")


@pytest.mark.parametrize(("frames", "taken"), [(1, 1), (5, 1), (6, 2), (15, 3), (16, 4)])
def test_the_highest_few_are_a_fifth_rounded_up(frames: int, taken: int) -> None:
    scores = np.random.default_rng(frames).random(frames)
    assert aggregate(scores, "top") == pytest.approx(np.sort(scores)[::-1][:taken].mean())


# ── figures ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_figures_by_clip_are_those_of_the_aggregated_scores_at_the_detectors_threshold(films: Any) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    script, samples = films
    found = measured(films)
    labels = np.array([int(sample.label) for sample in samples])
    by_hand = {
        "mean": np.mean,
        "median": np.median,
        "max": np.max,
        "own": np.max,
        "top": lambda scores: np.mean(sorted(scores)[-math.ceil(len(scores) / 5) :]),
    }
    assert set(found.by_clip) == set(by_hand)
    for way, made in by_hand.items():
        scores = np.array([made([score for _, score in script[sample.place]]) for sample in samples])
        called = scores >= 0.6
        assert {name: interval.value for name, interval in found.by_clip[way].items()} == pytest.approx(
            {
                "auc": metrics.auc(labels, scores),
                "accuracy": (called == labels).mean(),
                "balanced_accuracy": sklearn.balanced_accuracy_score(labels, called),
                "f1_fake": sklearn.f1_score(labels, called, pos_label=1),
                "f1_real": sklearn.f1_score(labels, called, pos_label=0),
                "f1_macro": sklearn.f1_score(labels, called, average="macro"),
            }
        )
        assert {interval.n for interval in found.by_clip[way].values()} == {24}


def test_figures_by_frame_count_every_frame(films: Any) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    script, samples = films
    found = measured(films)
    pairs = [(int(sample.label), score) for sample in samples for _, score in script[sample.place]]
    labels, scores = np.array(pairs).T
    assert found.judged == len(pairs) == found.by_frame["auc"].n
    assert found.by_frame["auc"].value == pytest.approx(metrics.auc(labels, scores))
    assert found.by_frame["f1_real"].value == pytest.approx(sklearn.f1_score(labels, scores >= 0.6, pos_label=0))
    assert found.by_frame["accuracy"].value == pytest.approx(((scores >= 0.6) == labels).mean())


def test_intervals_draw_whole_people_and_f1_s_bounds_are_those_of_drawn_rows(films: Any) -> None:
    script, samples = films
    found = measured(films, rounds=400, seed=3)
    labels = np.array([int(sample.label) for sample in samples])
    called = np.array([np.mean([score for _, score in script[sample.place]]) >= 0.6 for sample in samples])
    people = [sample.subject.split("+")[0] for sample in samples]
    for name, statistic in {
        "f1_fake": lambda truth, calls: metrics.f1(truth, calls, 0.5),
        "f1_real": lambda truth, calls: metrics.f1(truth, calls, 0.5, 0),
        "f1_macro": lambda truth, calls: metrics.macro_f1(truth, calls, 0.5),
    }.items():
        told = metrics.bootstrap(statistic, labels, called.astype(float), clusters=people, rounds=400, seed=3)
        assert found.by_clip["mean"][name].to_dict() == pytest.approx(told.to_dict())
    frames = measured((script, [dataclasses.replace(each, subject="", source="") for each in samples]), rounds=400)
    assert frames.by_frame["auc"].low != found.by_frame["auc"].low


def test_a_swap_is_drawn_with_the_person_whose_clip_it_was() -> None:
    swap = Sample("a.mp4", Label.FAKE, subject="id1+id2", source="set")
    assert clips.person(swap) == clips.person(dataclasses.replace(swap, subject="id1+id3")) == "id1"
    assert clips.person(dataclasses.replace(swap, subject="")) == "set"


def test_where_all_are_of_one_source_clips_are_drawn_and_frames_never_apart_from_theirs() -> None:
    # Two clips a class, each of equal frames: whatever is drawn, the share of frames called fake is 0, 1/2 or 1.
    script = {f"{number}.mp4": numbered(*[0.1 + 0.2 * number] * 40) for number in range(4)}
    samples = [Sample(place, Label(number % 2), source="one") for number, place in enumerate(script)]
    found = measure(said(script, samples, threshold=0.55), samples, rounds=200)
    assert (found.by_frame["balanced_accuracy"].low, found.by_frame["balanced_accuracy"].high) == (0.5, 1.0)


def test_a_class_of_one_clip_has_figures_and_no_intervals(films: Any) -> None:
    script, samples = films
    few = [*(each for each in samples if each.label is Label.REAL), samples[1]]
    found = measured((script, few))
    told = [*found.by_frame.values(), *found.by_clip["mean"].values(), found.steady["fake"]["change"]]
    assert all(np.isfinite(each.value) and np.isnan(each.low) for each in told)
    assert np.isfinite(found.steady["real"]["change"].low)


def test_steadiness_is_told_of_reals_and_fakes_apart() -> None:
    script = {
        "a.mp4": numbered(0.2, 0.2, 0.2),
        "b.mp4": numbered(0.2, 0.4, 0.2),
        "c.mp4": numbered(0.1, 0.9, 0.1, 0.9),
        "d.mp4": numbered(0.9),
    }
    samples = [Sample(place, Label(number > 1)) for number, place in enumerate(script)]
    steady = measure(said(script, samples), samples, rounds=5).steady
    assert steady["real"]["change"].value == pytest.approx((0 + 0.2) / 2)
    assert steady["real"]["deviation"].value == pytest.approx(np.std([0.2, 0.4, 0.2]) / 2, abs=1e-6)
    assert (steady["fake"]["change"].value, steady["fake"]["change"].n) == (pytest.approx(0.8), 1)


# ── what has no score ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_clip_without_a_judged_frame_is_counted_and_no_figure_knows_of_it(films: Any) -> None:
    script, samples = films
    before = measured(films)
    script |= {"none.mp4": None, "torn.mp4": "corrupt", "alone.png": 0.9}
    more = [Sample("none.mp4", Label.REAL), Sample("torn.mp4", Label.FAKE), Sample("alone.png", Label.FAKE)]
    found = measured((script, [*samples, *more, Sample("who.mp4", None)]))
    assert (found.n_real, found.n_fake, found.still) == (13, 13, 1)
    [without], [failed] = found.without, found.failures
    assert (without.place, without.message) == ("none.mp4", "not judged: no face found")
    assert (failed.place, failed.kind, failed.message) == ("torn.mp4", "corrupt", "torn.mp4 is torn")
    assert (found.by_frame, found.by_clip, found.steady) == (before.by_frame, before.by_clip, before.steady)
    assert found.judged == before.judged


def test_rows_without_a_clip_among_them_are_no_measurement() -> None:
    samples = [Sample("a.png", Label.REAL), Sample("b.png", Label.FAKE)]
    with pytest.raises(ManifestError, match="none of 2 rows is a labelled clip"):
        measure(said({"a.png": 0.1, "b.png": 0.9}, samples), samples)
    with pytest.raises(ManifestError, match="the 0 highest"):
        measure(said({"a.png": 0.1, "b.png": 0.9}, samples), samples, top=0)


# ── frames that are files ────────────────────────────────────────────────────────────────────────────────────────────


def rows(video: str, label: Label, frames: Iterable[int | None], **about: Any) -> list[Sample]:
    return [
        Sample(f"{video}-{place}.png", label, video=video, frame=frame, **about) for place, frame in enumerate(frames)
    ]


def test_frames_of_one_clip_are_those_of_one_video_of_one_class_and_source() -> None:
    samples = [
        *rows("x", Label.REAL, [20, 0, 10], source="one"),
        *rows("x", Label.FAKE, [0, 10], source="one", generator="swap"),
        *rows("x", Label.REAL, [0, 10], source="other"),
        *rows("x", Label.REAL, [0], source="one", groups={"derivation": "frames+degrade"}),
        Sample("x.mp4", Label.REAL, source="one", video="x"),
        Sample("still.png", Label.REAL, source="one"),
    ]
    found = grouped(samples)
    assert [len(each) for each in found] == [3, 2, 2, 1, 1, 1]
    assert [row.frame for row in found[0]] == [0, 10, 20]


def test_of_many_frames_those_are_judged_that_lie_evenly_with_all_their_crops() -> None:
    samples = rows("x", Label.REAL, range(100)) + rows("y", Label.FAKE, [None] * 3)
    crops = [dataclasses.replace(row, place=f"second-{row.place}") for row in samples[:100]]
    kept = spread(samples + crops, 5)
    assert sorted({row.frame for row in kept if row.video == "x"}) == [0, 24, 49, 74, 99]  # type: ignore[type-var]
    assert [sum(row.video == name for row in kept) for name in "xy"] == [10, 3]
    assert spread(kept, 5) == kept


def test_a_clip_of_frames_that_are_files_is_measured_as_one_file_of_them_is() -> None:
    random = np.random.default_rng(1)
    script: dict[str, Scores] = {}
    files, frames = [], []
    for number in range(8):
        label = Label(number % 2)
        scores = random.random(4).tolist()
        files.append(Sample(f"{number}.mp4", label, subject=f"id{number}", video=str(number)))
        script[files[-1].place] = numbered(*scores)
        mine = rows(str(number), label, range(0, 40, 10), subject=f"id{number}")
        script |= {row.place: score for row, score in zip(mine, scores, strict=True)}
        frames += mine
    one, other = (measure(said(script, samples), samples, rounds=20) for samples in (files, frames))
    assert one.by_frame == other.by_frame
    assert one.steady == other.steady
    own = one.by_clip.pop("own")
    assert own["auc"] == one.by_clip["max"]["auc"]
    assert one.by_clip == other.by_clip
    assert (other.n_real, other.n_fake, other.judged) == (4, 4, 32)


def test_a_frame_of_two_faces_has_the_higher_score_and_one_without_a_face_has_none() -> None:
    script: dict[str, Scores] = {"x-0.png": 0.2, "x-1.png": 0.4, "x-2.png": None, "x-3.png": "corrupt", "two.png": 0.8}
    samples = [*rows("x", Label.FAKE, [0, 1, 2, 3]), Sample("two.png", Label.FAKE, video="x", frame=0)]
    script |= {"y-0.png": "corrupt", "y-1.png": None, "z-0.png": "corrupt"}
    samples += rows("y", Label.REAL, [0, 1]) + rows("z", Label.REAL, [0])
    found, still = clips.clips_of(said(script, samples), samples)
    assert still == 0
    assert [(clip.name, clip.frames, clip.failed) for clip in found] == [
        ("x", ((0, 0.8), (1, 0.4)), ""),
        ("y", (), ""),
        ("z", (), "corrupt"),
    ]
    assert found[1].reason == "not judged: no face found"


# ── judging ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def frames(tmp_path: Path) -> tuple[dict[str, Scores], list[Sample]]:
    """Four clips of six frames each as files, and an unlabelled one; noise, so that no two look the same."""
    random = np.random.default_rng(2)
    script: dict[str, Scores] = {}
    samples = []
    for number in range(30):
        place = str(tmp_path / f"{number:02d}.png")
        Image.fromarray(random.integers(0, 256, (24, 24, 3), np.uint8)).save(place)
        clip = number // 6
        label = None if clip == 4 else Label(clip % 2)
        samples.append(
            Sample(
                place, label, source="set", video=str(clip), frame=number % 6, split="test", origin=f"{clip:08x}" * 8
            )
        )
        script[place] = 0.9 if label else 0.1
    return script, samples


def test_just_the_frames_that_were_asked_for_are_judged(frames: Any) -> None:
    script, samples = frames
    detector = Scripted(script)
    found = evaluate_clips(detector, samples, frames=3, rounds=5)
    assert detector.limits == [Limits(frames=3, video_frames=3)]
    assert [Path(place).stem for place in detector.asked[:3]] == ["00", "02", "05"]
    assert len(detector.asked) == found.judged == 12
    assert (found.n_real, found.n_fake, found.frames, found.top) == (2, 2, 3, None)
    assert found.by_clip["mean"]["f1_macro"].value == 1
    assert "own" not in found.by_clip


def test_clips_that_the_detector_was_made_with_are_refused_by_origin(frames: Any) -> None:
    script, samples = frames
    made = Scripted(script, seen=Seen.of(origins=[samples[6].origin]))
    with pytest.raises(OverlapError, match="made with 6 of these 24 rows"):
        evaluate_clips(made, samples, rounds=5)
    assert not made.asked
    assert evaluate_clips(made, samples, allow_seen=True, rounds=5).n_fake == 2


def test_thresholds_are_chosen_anew_on_tuning_clips_alone() -> None:
    random = np.random.default_rng(5)
    script: dict[str, Scores] = {}
    test, tune = [], []
    for number in range(40):
        split, label = ("tune", "test")[number % 2], Label(number // 2 % 2)
        place = f"{number}.mp4"
        script[place] = numbered(*random.uniform(0.2 + 0.1 * label, 0.5 + 0.1 * label, 5).tolist())
        (tune if split == "tune" else test).append(Sample(place, label, split=split, sha256=f"{number:064x}"))
    noted = said(script, test)
    found = measure(noted, test, tune=tune, rounds=5)
    assert found.tuned == (10, 10)
    for way in ("mean", "median", "top", "max"):
        reals = [aggregate([score for _, score in script[row.place]], way) for row in tune if row.label is Label.REAL]
        bar = metrics.threshold_at_fpr(reals, 0.2)
        assert found.chosen[way] == bar
        scores = np.array([aggregate([score for _, score in script[row.place]], way) for row in test])
        labels = np.array([int(row.label) for row in test])
        told = found.by_clip_chosen[way]
        assert told["balanced_accuracy"].value == pytest.approx(metrics.balanced_accuracy(labels, scores, bar))
        assert told["auc"] == found.by_clip[way]["auc"]
    assert found.by_clip["mean"]["accuracy"].value == 0.5
    assert found.by_clip == measure(noted, test, rounds=5).by_clip
    few = measure(noted, test, tune=tune[:4], rounds=5)
    assert few.chosen["mean"] > 1
    assert "none: too few" in block.plain(lambda console: clips.show(few, console), 120)
    with pytest.raises(ManifestError, match="of the split 'test'"):
        measure(noted, test, tune=[*tune, test[0]], rounds=5)
    with pytest.raises(OverlapError, match="tuning rows too"):
        measure(noted, test, tune=[dataclasses.replace(tune[0], sha256=test[0].sha256)], rounds=5)


# ── for machines and for people ──────────────────────────────────────────────────────────────────────────────────────


def test_machines_get_all_of_it_and_never_a_nan(films: Any) -> None:
    script, samples = films
    told = json.loads(json.dumps(measured(films, top=2).to_dict(), allow_nan=False))
    assert set(told["by_clip"]) == {"mean", "median", "top", "max", "own"}
    assert all(set(each) == set(FIGURES) for each in (told["by_frame"], *told["by_clip"].values()))
    assert set(told["consistency"]["fake"]) == {"deviation", "change"}
    assert (told["n_real"], told["n_fake"], told["top"], told["frames"], told["threshold"]) == (12, 12, 2, 15, 0.6)
    assert told["judged"] == sum(len(script[sample.place]) for sample in samples)
    lonely = measure(said({"a.mp4": None}, [Sample("a.mp4", Label.REAL)]), [Sample("a.mp4", Label.REAL)])
    assert json.loads(json.dumps(lonely.to_dict(), allow_nan=False))["by_frame"]["auc"]["value"] is None


def test_people_get_tables_of_both_levels_and_why_clips_have_no_score(films: Any) -> None:
    script, samples = films
    script["none[red].mp4"] = None
    found = measured((script, [*samples, Sample("none[red].mp4", Label.REAL)]), top=2)
    text = block.plain(lambda console: clips.show(found, console), 120)
    assert "25 clips: 13 real, 12 fake" in text
    assert "1 without a frame that could be judged" in text
    assert "none[red].mp4: not judged: no face found" in text
    for words in (*FIGURES.values(), "highest 2", "its own rule", "standard deviation"):
        assert words in text
    written = clips.markdown(found)
    assert "## clips: by frame" in written
    assert r"none\[red\].mp4" in written


# ── assay evaluate --clips ───────────────────────────────────────────────────────────────────────────────────────────


def run(*arguments: object, code: int = 0) -> Any:
    words = ["evaluate", *map(str, arguments), "--rounds", "5", "--threads", "1"]
    result = CliRunner().invoke(cli.app, words, catch_exceptions=False)
    assert result.exit_code == code, result.stderr
    return result


@pytest.fixture
def folder(bundle_folder: Path, flat: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Beside the tiny bundle: three dark clips, real, and three bright ones, fake, of four frames each, as files."""
    root = bundle_folder.parent
    lines = ["path,label,video,frame,subject,split"]
    for number, grey in enumerate((20, 40, 60, 180, 200, 220) * 2):
        split = "test" if number < 6 else "tune"
        for frame in range(4):
            place = f"{number}-{frame}.png"
            Image.fromarray(flat(grey + 3 * frame + (number > 5), 48, 48)).save(root / place)
            lines.append(f"{place},{'fake' if grey > 100 else 'real'},clip{number},{frame},id{number},{split}")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(root)
    return root


def test_the_command_shows_clips_beside_the_usual(folder: Path) -> None:
    usual = json.loads(run("tiny", "--data", "manifest.csv", "--json").stdout)
    told = json.loads(run("tiny", "--data", "manifest.csv", "--json", "--clips", "--frames", 2, "--top", 1).stdout)
    found = told.pop("clips")
    assert told == usual
    assert (found["n_real"], found["n_fake"], found["judged"], found["top"]) == (3, 3, 12, 1)
    assert found["by_clip"]["mean"]["auc"]["value"] == 1
    assert "chosen" not in found
    text = run("tiny", "--data", "manifest.csv", "--clips", "--retune", "--out", "t.md").stdout
    assert "clips: by frame, and by clip" in text
    assert "FPR on 3 real tuning clips" in " ".join(text.split())
    assert "## clips: by frame" in (folder / "t.md").read_text()


def test_several_detectors_each_have_their_clips(folder: Path, parts: Any) -> None:
    parts.card = parts.card.model_copy(update={"name": "other"})
    parts.write(folder / "other")
    told = json.loads(run("tiny", "other", "--data", "manifest.csv", "--json", "--clips").stdout)
    assert [each["clips"]["detector"] for each in told["detectors"]] == ["tiny", "other"]


@pytest.mark.parametrize("options", [("--frames", 3), ("--top", 2), ("--retune",)])
def test_what_is_for_clips_is_refused_without_them(folder: Path, options: tuple[object, ...]) -> None:
    assert "give --clips too" in " ".join(run("tiny", "--data", "manifest.csv", *options, code=2).stderr.split())
