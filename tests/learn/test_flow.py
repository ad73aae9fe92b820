"""Flowing batches: every picture once an epoch, whoever makes the batches, from files and from shards alike."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay.data.index import Index
from assay.data.stream import Share, length
from assay.data.table import Table
from assay.errors import InputError, ManifestError, RecipeError
from assay.image.decode import decode
from assay.image.degrade import Degrade
from assay.image.view import View
from assay.learn import flow
from assay.learn.batches import Batch, own
from assay.learn.flow import Flow
from assay.learn.hold import rows_of
from assay.learn.recipe import Descend, Recipe
from assay.types import Label, Picture, Sample

VIEW = View(size=32)

PAIRS = 3
"""Eight reals and eight fakes do not divide by it: epochs end inside batches."""


@pytest.fixture
def stage(recipe: Recipe) -> Descend:
    return recipe.descend("a").model_copy(update={"pairs": PAIRS, "decode": "always"})


def same(one: Batch, other: Batch) -> bool:
    if one.views.keys() != other.views.keys() or not np.array_equal(one.methods, other.methods):
        return False
    return all(np.array_equal(pixels, other.views[view]) for view, pixels in one.views.items())


@pytest.mark.parametrize("of", ["table", "index"])
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_every_picture_of_a_class_comes_once_an_epoch_over_all_lanes_and_ranks(
    of: str, world: int, lanes: int, stage: Descend, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue(of)
    counts: Counter[bytes] = Counter()
    for number, label in itertools.product(range(world * lanes), Label):
        share = Share(number, world * lanes)
        mine = length(data, split="train", label=label, seed=1, share=share)
        # The second epoch follows at once; what is counted is the first.
        flowing = Flow(data, stage, VIEW, seed=1)._endless(label, share, 0)
        counts.update(content for _, content in itertools.islice(flowing, mine))
    assert len(counts) == 16
    assert set(counts.values()) == {1}


def test_a_batch_has_reals_first_and_as_many_fakes(table: Table, stage: Descend) -> None:
    (batch,) = Flow(table, stage, VIEW, seed=0).stream(0, 1, workers=0)
    assert {view: pixels.shape for view, pixels in batch.views.items()} == {
        "clean": (6, 32, 32, 3),
        "transformed": (6, 32, 32, 3),
        "global": (6, 32, 32, 3),
        "local": (6, 24, 24, 3),
    }
    rough = np.abs(np.diff(batch.views["clean"].astype(int), axis=2)).mean(axis=(1, 2, 3))
    assert rough[:PAIRS].max() < rough[PAIRS:].min()


@pytest.mark.parametrize("of", ["table", "index"])
def test_a_run_that_goes_on_in_the_middle_sees_what_an_unbroken_one_would(
    of: str, stage: Descend, request: pytest.FixtureRequest
) -> None:
    flow = Flow(request.getfixturevalue(of), stage, VIEW, seed=3)
    whole = list(flow.stream(0, 9, workers=0))
    for first in (1, 5, 8):
        assert all(same(*pair) for pair in zip(flow.stream(first, 9, workers=0), whole[first:], strict=True))


def test_loader_processes_take_turns_and_go_on_where_they_were(index: Index, stage: Descend) -> None:
    flow = Flow(index, stage, VIEW, seed=3)
    lanes = [list(flow.lane(number, 2, 0, 6)) for number in range(2)]
    made = list(flow.stream(0, 6, workers=2))
    assert all(same(batch, lanes[step % 2][step // 2]) for step, batch in enumerate(made))
    resumed = list(flow.stream(3, 6, workers=2))
    assert all(same(*pair) for pair in zip(resumed, made[3:], strict=True))


def test_other_ranks_see_other_pictures(table: Table, stage: Descend) -> None:
    flow = Flow(table, stage, VIEW, seed=3)
    one, other = (next(flow.of(Share(rank, 2)).stream(0, 1, 0)) for rank in range(2))
    assert (len(one.methods), len(other.methods)) == (4, 2)
    for view, pixels in one.views.items():
        assert not any(np.array_equal(a, b) for a in pixels for b in other.views[view])


def test_pictures_may_be_degraded_on_the_way(table: Table, stage: Descend) -> None:
    plain = next(Flow(table, stage, VIEW, seed=3).stream(0, 1, 0))
    worst = Degrade(probability=1.0, each=1.0, strength=1.0)
    degraded = next(Flow(table, stage.model_copy(update={"degrade": worst}), VIEW, seed=3).stream(0, 1, 0))
    assert plain.views["clean"].shape == degraded.views["clean"].shape
    assert not np.array_equal(plain.views["clean"], degraded.views["clean"])


def test_sources_cannot_be_weighed_where_every_picture_comes_once(table: Table, stage: Descend) -> None:
    with pytest.raises(RecipeError, match=r"descend\.source_power"):
        Flow(table, stage.model_copy(update={"source_power": 0.5}), VIEW, seed=0)


def test_more_processes_than_pictures_are_refused(table: Table, stage: Descend) -> None:
    with pytest.raises(ManifestError, match="fewer --workers"):
        next(Flow(table, stage, VIEW, seed=0).lane(19, 20, 19, 20))


def test_a_picture_that_cannot_be_decoded_is_named(samples: list[Sample], stage: Descend, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(samples[0].place).read_bytes()[:100])
    rows = [dataclasses.replace(samples[0], place=str(broken)), samples[1]]
    with pytest.raises(InputError, match=r"broken\.png"):
        next(Flow(Table.of(rows), stage.model_copy(update={"pairs": 2}), VIEW, seed=0).stream(0, 1, 0))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What batches that are made in this process decode, in order."""
    files: list[bytes] = []

    def spy(data: bytes) -> Picture:
        files.append(data)
        return decode(data)

    monkeypatch.setattr(flow, "decode", spy)
    return files


@pytest.mark.parametrize(("world", "lanes"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_the_batches_of_all_lanes_and_ranks_hold_every_picture_once(
    index: Index, stage: Descend, decoded: list[bytes], world: int, lanes: int
) -> None:
    # So that one step of each lane is an epoch.
    flow = Flow(rows_of(index), stage.model_copy(update={"pairs": 8 // lanes}), VIEW, seed=1)
    for rank, lane in itertools.product(range(world), range(lanes)):
        # A share may differ from others by a shard's length; as rows they are alike.
        list(flow.of(Share(rank, world)).lane(lane, lanes, lane, lane + 1))
    assert Counter(decoded).most_common(1)[0][1] == 1
    assert len(decoded) == 16


@pytest.mark.parametrize(("world", "workers"), [(2, 1), (2, 2), (3, 1)])
def test_shards_are_dealt_out_to_ranks_and_workers_without_overlap_or_omission(
    index: Index, stage: Descend, decoded: list[bytes], world: int, workers: int
) -> None:
    """Batch by batch, as each rank's loader processes make them, until each has been through what it was dealt."""
    flow = Flow(index, stage, VIEW, seed=2)
    seen: Counter[bytes] = Counter()
    for rank, worker in itertools.product(range(world), range(workers)):
        mine = flow.of(Share(rank, world))
        share = Share(rank * workers + worker, world * workers)
        for label, first in ((Label.REAL, True), (Label.FAKE, False)):
            dealt = length(index, split="train", label=label, seed=2, share=share)
            decoded.clear()
            list(mine.lane(worker, workers, 0, 9 * workers))
            pairs = len(own(stage, mine.share))
            halves = [decoded[at : at + pairs] for at in range(0, len(decoded), pairs)][(0 if first else 1) :: 2]
            seen.update([content for half in halves for content in half][:dealt])
    assert len(seen) == 16
    assert set(seen.values()) == {1}


def test_every_epoch_has_an_order_of_its_own(table: Table, stage: Descend, decoded: list[bytes]) -> None:
    list(Flow(table, stage.model_copy(update={"pairs": 8}), VIEW, seed=1).lane(0, 1, 0, 2))
    first, second = decoded[:8], decoded[16:24]
    assert sorted(first) == sorted(second)
    assert first != second


def test_ranks_that_come_to_the_same_picture_cut_other_views(samples: list[Sample], stage: Descend) -> None:
    twice = Table.of([samples[0], samples[1]] * 2)
    flow = Flow(twice, stage.model_copy(update={"pairs": 2}), VIEW, seed=1)
    one, other = (next(flow.of(Share(rank, 2)).stream(0, 1, 0)) for rank in range(2))
    assert not same(one, other)


def test_each_frame_of_a_clip_has_its_turn(samples: list[Sample], stage: Descend, tmp_path: Path) -> None:
    clip = tmp_path / "clip.gif"
    frames = [Image.new("RGB", (60, 60), (level, level, level)) for level in (0, 120, 240)]
    frames[0].save(clip, save_all=True, append_images=frames[1:])
    rows = Table.of([dataclasses.replace(samples[0], place=str(clip)), samples[1]])
    batches = Flow(rows, stage.model_copy(update={"pairs": 1}), VIEW, seed=0).stream(0, 20, workers=0)
    levels = {int(batch.views["clean"][0].mean()) // 100 for batch in batches}
    assert levels == {0, 1, 2}
