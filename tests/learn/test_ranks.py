"""Two processes train what one would: losses, gradients, pictures, checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ranked
from assay.data.index import Index
from assay.data.stream import Share
from assay.errors import RecipeError
from assay.learn import ranks
from assay.learn.batches import Batches, own
from assay.learn.descend import Data, Machine
from assay.learn.flow import Flow
from assay.learn.ranks import ALONE, RankLost, Ranks
from assay.learn.recipe import Backbone, CrossEntropy, Descend, InfoNCE, LoRA, Optimiser, Recipe, SupCon
from ranked import Pair

Split = Callable[[str], Data]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    started = Pair()
    yield started
    started.close()


@pytest.fixture(scope="session")
def still(recipe: Recipe) -> Recipe:
    """A transformer: nothing in it looks at other rows, so that ranks compute what one would. Plain steps along the
    gradient: Adam's are as long where it is nothing but rounding."""
    fields = {"depth": 2, "embed_dim": 32, "num_heads": 2}
    stream = recipe.streams[0].model_copy(update={"backbone": Backbone(name="test_vit", fields=fields)})
    plain = Optimiser(kind="sgd", learning_rate=1e-2, warmup=0.0)
    changed = recipe.set(descend__pairs=6, descend__optimiser=plain, descend__crops__local=16)
    return changed.model_copy(update={"streams": (stream,)})


@pytest.fixture(scope="session")
def batches(still: Recipe, data: Split) -> Callable[[Recipe], Batches]:
    train = data("train")
    return lambda recipe: Batches(train.store, train.samples, recipe.descend("a"), recipe.streams[0].view, seed=0)


# ── losses and gradients ─────────────────────────────────────────────────────────────────────────────────────────────

LOSSES = {
    "CoDE": InfoNCE(),
    "CoDE, global only, one half": InfoNCE(multi_scale=0, halves=("fake",)),
    "CoDE with cross-entropy": InfoNCE(bce=0.7),
    "SupCon": SupCon(projection=(5, 3), norm=False),
    "SupCon, normalised": SupCon(projection=(5, 3)),
    "SupCon, focal": SupCon(projection=(5, 3), focal=2.0),
    "SupCon, unified": SupCon(projection=(5, 3), unified=True),
    "cross-entropy": CrossEntropy(views=2),
    "cross-entropy, weighed": CrossEntropy(weights={"real": 1.85}),
    "cross-entropy, focal": CrossEntropy(focal=2.0),
    "cross-entropy, taught": CrossEntropy(teacher=0.7),
    "cross-entropy, of a network that draws": CrossEntropy(reconstruction=0.5),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradients_of_two_ranks_are_those_of_one_with_the_whole_batch(
    name: str, dtype: torch.dtype, pair: Pair
) -> None:
    """Of five pairs one rank has three and the other two."""
    loss = LOSSES[name]
    stage = Descend(stream="a", loss=loss, pairs=5)
    views = ("clean", "transformed", "global", "local") if isinstance(loss, InfoNCE) else ("view 1", "view 2")
    near = 1e-6 if dtype == torch.float64 else 1e-5
    alone = ranked.lost(ALONE, stage, views, dtype)
    both = pair(ranked.lost, stage, views, dtype)
    assert [len(found["mine"]) for found in both] == [6, 4]
    assert any(np.abs(x).max() > 1e-3 for x in alone["rows"].values())
    for found in both:
        assert found["loss"] == pytest.approx(alone["loss"], abs=near)
        assert found["aside"].keys() == alone["aside"].keys()
        for part, gradient in alone["aside"].items():
            assert found["aside"][part] == pytest.approx(gradient, abs=near)
        for view, gradient in alone["rows"].items():
            # A gradient summed over ranks is what the row has in the whole batch: half of it is the ranks' average.
            assert 2 * found["rows"][view] == pytest.approx(2 * gradient[found["mine"]], abs=near)


@pytest.mark.parametrize("pairs", [2, 3, 8])
def test_what_is_gathered_lies_as_in_the_whole_batch(pairs: int, pair: Pair) -> None:
    for found in pair(ranked.ordered, pairs):
        assert found.tolist() == list(range(2 * pairs))


def test_a_mean_over_ranks_sends_each_its_own_gradient(pair: Pair) -> None:
    assert pair(ranked.mean_of) == [(4.0, 2.0), (4.0, 2.0)]


@pytest.mark.parametrize("rows", [1, 4, 5])
def test_rows_are_dealt_out_evenly_and_come_back_in_their_order(rows: int, pair: Pair) -> None:
    (one, whole), (other, same) = pair(ranked.dealt, rows)
    assert one == other == -(-rows // 2)
    assert whole[:, 0].tolist() == same[:, 0].tolist() == list(range(rows))


# ── trainings ────────────────────────────────────────────────────────────────────────────────────────────────────────

ADAPTED = LoRA(rank=2, alpha=4, dropout=0.0, targets=r"blocks\.\d+\.attn\.(qkv|proj)")

WAYS: dict[str, dict[str, bool]] = {
    "copies": {},
    "pieces": {"shard": True},
    "pieces, computed again": {"shard": True, "recompute": True},
    "copies, computed again": {"recompute": True},
}


def of_form(form: str, recipe: Recipe) -> Recipe:
    """The recipe with another loss, in parts, or with matrices beside its network's layers."""
    match form:
        case "in parts":
            return recipe.set(descend__accumulate=2)
        case "SupCon":
            return recipe.set(descend__loss=SupCon(projection=(8, 4)), descend__pairs=5)
        case "adapted":
            stream = recipe.streams[0]
            backbone = stream.backbone.model_copy(update={"lora": ADAPTED})
            changed = recipe.set(descend__loss=CrossEntropy(weights={"real": 1.85}))
            return changed.model_copy(update={"streams": (stream.model_copy(update={"backbone": backbone}),)})
    return recipe


@pytest.mark.parametrize(
    ("form", "way"),
    [
        ("plain", "copies"),
        ("plain", "pieces"),
        ("plain", "copies, computed again"),
        ("in parts", "copies"),
        ("in parts", "pieces"),
        ("SupCon", "copies"),
        ("SupCon", "pieces, computed again"),
        ("adapted", "copies"),
        ("adapted", "pieces, computed again"),
    ],
)
def test_two_ranks_go_the_steps_of_one(
    form: str, way: str, still: Recipe, batches: Callable[[Recipe], Batches], pair: Pair
) -> None:
    recipe = of_form(form, still)
    alone = ranked.trained(ALONE, recipe, batches(recipe), {}, 3)
    both = pair(ranked.trained, recipe, batches(recipe), WAYS[way], 3)
    for found in both:
        assert found["losses"] == pytest.approx(alone["losses"], abs=1e-5)
        assert found["parameters"].keys() == alone["parameters"].keys()
        for name, x in alone["parameters"].items():
            assert found["parameters"][name] == pytest.approx(x, abs=1e-5), name
    assert alone["losses"][0] != pytest.approx(alone["losses"][1], abs=1e-3)
    # Whoever has a piece holds less than the whole.
    shares = [found["held"] / alone["held"] for found in both]
    assert sum(shares) == pytest.approx(1 if "pieces" in way else 2, abs=0.01)
    assert max(shares) < (0.7 if "pieces" in way else 1.01)


def test_copies_exchange_gradients_once_a_step_however_many_parts_it_has(
    still: Recipe, batches: Callable[[Recipe], Batches], pair: Pair
) -> None:
    for parts in (1, 3):
        recipe = still.set(descend__accumulate=parts)
        (count, losses), _ = pair(ranked.exchanges, recipe, batches(recipe))
        assert count == 1
        assert losses == pytest.approx(ranked.trained(ALONE, recipe, batches(recipe), {}, 2)["losses"], abs=1e-5)


# ── what ranks see ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("parts", [1, 2])
def test_ranks_see_together_what_one_sees(
    count: int, parts: int, still: Recipe, batches: Callable[[Recipe], Batches]
) -> None:
    recipe = still.set(descend__accumulate=parts)
    whole = batches(recipe)
    stage = recipe.descend("a")
    seen = np.zeros(2 * stage.pairs, np.int64)
    for number in range(count):
        pairs = own(stage, Share(number, count))
        mine = np.concatenate([pairs, stage.pairs + pairs])
        seen[mine] += 1
        for step in (0, 3):
            batch, part = whole[step], whole.of(Share(number, count))[step]
            assert part.methods.tolist() == batch.methods[mine].tolist()
            for view, pixels in batch.views.items():
                assert np.array_equal(part.views[view], pixels[mine])
        # A part is what its rank has of that part of the whole.
        for one, its in zip(whole[0].parts(parts), whole.of(Share(number, count))[0].parts(parts), strict=True):
            there = {pixels.tobytes() for pixels in one.views["clean"]}
            assert {pixels.tobytes() for pixels in its.views["clean"]} <= there
    assert seen.tolist() == [1] * len(seen)


def test_more_ranks_than_pairs_are_refused(still: Recipe, batches: Callable[[Recipe], Batches], index: Index) -> None:
    stage = still.set(descend__accumulate=3).descend("a")
    with pytest.raises(RecipeError, match=r"2 pairs go through .* and 3 devices cannot share them"):
        batches(still.set(descend__accumulate=3)).of(Share(0, 3))
    with pytest.raises(RecipeError, match="fewer --devices"):
        Flow(index, stage, still.streams[0].view, seed=0).of(Share(2, 3))


# ── a whole descent ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def parts(data: Split) -> dict[str, Any]:
    return {"train": data("train"), "tune": data("tune")}


def test_ranks_go_through_a_descent_and_the_first_alone_writes(
    still: Recipe, parts: dict[str, Any], tmp_path: Path, pair: Pair
) -> None:
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
    alone = ranked.descended(ALONE, still, parts, tmp_path / "one", {})
    lead, other = pair(ranked.descended, still, parts, tmp_path / "two", {})
    assert lead["losses"] == pytest.approx(alone["losses"], abs=1e-5)
    assert lead["best"] == alone["best"]
    assert lead["saved"] == alone["saved"] != []
    assert other["saved"] == []
    # What comes of it is as if it had been trained here.
    assert lead["alone"]
    assert lead["machine"] == alone["machine"] == Machine("cpu", False, 0)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == names
    logs = [(tmp_path / place / "a.epochs.jsonl").read_text().splitlines() for place in ("one", "two")]
    figures = [[json.loads(line)["tuning_auc"] for line in log] for log in logs]
    assert figures[0] == figures[1]


@pytest.mark.parametrize("way", ["copies", "pieces"])
def test_a_run_that_was_stopped_goes_on_with_as_many_ranks_or_with_another_number(
    way: str, still: Recipe, parts: dict[str, Any], tmp_path: Path, pair: Pair
) -> None:
    """Stopped after two of six steps, with a checkpoint after each."""
    # Adam remembers.
    recipe = still.set(descend__optimiser=Optimiser(learning_rate=1e-3, warmup=0.0))
    often = {"checkpoint_seconds": 0.0}
    whole, _ = pair(ranked.descended, recipe, parts, tmp_path / "whole", WAYS[way])
    stopped, _ = pair(ranked.descended, recipe, parts, tmp_path / "stopped", WAYS[way], 2, often)
    assert stopped["saved"] == ["a.checkpoint.safetensors"] * 2
    file = (tmp_path / "stopped" / "a.checkpoint.safetensors").read_bytes()
    (tmp_path / "by one").mkdir()
    (tmp_path / "by one" / "a.checkpoint.safetensors").write_bytes(file)
    for found in (
        pair(ranked.descended, recipe, parts, tmp_path / "stopped", WAYS[way])[0],
        ranked.descended(ALONE, recipe, parts, tmp_path / "by one", {}),
    ):
        assert found["losses"] == pytest.approx(whole["losses"], abs=1e-5)
        assert len(found["losses"]) == 6
        assert found["best"] == whole["best"]
        for name, x in whole["parameters"].items():
            assert found["parameters"][name] == pytest.approx(x, abs=1e-5)


def test_a_run_on_flowing_pictures_goes_on_with_as_many_ranks_alone(
    still: Recipe, parts: dict[str, Any], index: Index, tmp_path: Path, pair: Pair
) -> None:
    recipe = still.set(descend__decode="always")
    told = parts | {"flow": Flow(index, recipe.descend("a"), recipe.streams[0].view, seed=0)}
    often = {"checkpoint_seconds": 0.0}
    whole, _ = pair(ranked.descended, recipe, told, tmp_path / "whole", {})
    pair(ranked.descended, recipe, told, tmp_path / "stopped", {}, 4, often)
    with pytest.raises(RecipeError, match=r"dealt out among 2 devices.* go on with --devices 2, or begin anew"):
        ranked.descended(ALONE, recipe, told, tmp_path / "stopped", {})
    again, _ = pair(ranked.descended, recipe, told, tmp_path / "stopped", {})
    assert again["losses"] == pytest.approx(whole["losses"], abs=1e-5)


# ── who they are ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_process_is_alone_and_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with ranks.joined("cpu") as found:
        assert found == ALONE == Ranks()
        assert found.lead
        assert found.agreed(3.5) == 3.5
        found.wait()
        found.tell(None)
        rows = torch.ones(1, 4, 2)
        assert found.whole(rows, 2) is rows
        assert found.dealt([4, 2]) == [4, 2]
    with pytest.raises(RecipeError, match="--devices 2 or more"):
        Machine.here("cpu", shard=True)


@pytest.mark.parametrize(
    "told", ["[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:9", "NCCL error: remote process"]
)
def test_what_a_lost_rank_leaves_is_told_from_faults_of_this_one(told: str) -> None:
    with pytest.raises(RankLost, match="rank 1 of 2 has lost another one"), Ranks(1, 2).among():
        raise RuntimeError(told)
    with pytest.raises(RuntimeError, match="mat1 and mat2"), Ranks(1, 2).among():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="closed by peer"), ALONE.among():
        raise RuntimeError(told + " closed by peer")


def test_a_rank_without_a_gpu_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(RecipeError, match=r"rank 3 has no GPU of its own, of 2"), ranks.joined("cuda"):
        pass
