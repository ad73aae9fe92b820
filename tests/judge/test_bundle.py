from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import assay
from assay.errors import AssayError, BundleError
from assay.judge import bundle
from assay.judge.card import HeadCard, StreamCard, digest
from assay.judge.engine import Engine, runtime
from assay.judge.heads import LinearHead, MLPHead
from assay.judge.seen import Seen
from tiny import tiny_graph

FILES = ("tiny.judge.onnx", "tiny.explain.onnx", "tiny.weights", "judge.json", "heads.npz", "seen.npz")


def reseal(folder: Path, **changes: object) -> None:
    """Make the card's hashes right again after a change, as its maker (or a forger) would."""
    card = json.loads((folder / "card.json").read_text())
    files = [path for path in folder.iterdir() if path.name != "card.json"]
    card["files"] = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    card |= changes
    card["sha256"] = digest(card)
    (folder / "card.json").write_text(json.dumps(card))


def refused(folder: Path, kind: str, *words: str) -> str:
    with pytest.raises(BundleError) as caught:
        bundle.read(folder)
    assert caught.value.kind == kind
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


def strip(folder: Path, file: str, *fields: tuple[str, ...]) -> None:
    """Take fields out of a bundle's JSON, as an earlier version wrote it; `*` stands for each of a list."""

    def without(part: Any, place: tuple[str, ...]) -> None:
        if place[0] == "*":
            for each in part:
                without(each, place[1:])
        elif place[1:]:
            without(part[place[0]], place[1:])
        else:
            del part[place[0]]

    told = json.loads((folder / file).read_text())
    for field in fields:
        without(told, field)
    (folder / file).write_text(json.dumps(told))
    reseal(folder)


# ── what is written is what is read


def test_a_bundle_is_read_as_it_was_written(parts, tmp_path):
    written = parts.write(tmp_path / "new" / "tiny")
    again = bundle.read(tmp_path / "new" / "tiny")
    assert again.card == written.card
    assert again.card.model_copy(update={"files": {}, "sha256": ""}) == parts.card
    assert again.judge == parts.judge
    np.testing.assert_array_equal(again.heads["grey"].raw(np.eye(4)), parts.heads["grey"].raw(np.eye(4)))
    for field in ("files", "origins", "phashes"):
        np.testing.assert_array_equal(getattr(again.seen, field), getattr(parts.seen, field))
    assert set(again.card.files) == set(FILES)
    assert written.folder == tmp_path / "new" / "tiny"


def with_mlp(parts, tmp_path):
    """A bundle whose one stream has a perceptron of two layers; its folder and the head."""
    random = np.random.default_rng(5)
    head = MLPHead((random.normal(size=(4, 3)), random.normal(size=(3, 1))), (random.normal(size=3), np.ones(1)))
    stream = parts.card.streams[0].model_copy(update={"head": HeadCard(kind="mlp", settings={"hidden": [3]})})
    parts.card = parts.card.model_copy(update={"streams": (stream,)})
    parts.heads["grey"] = head
    return parts.write(tmp_path / "mlp").folder, head


def test_a_perceptron_is_read_as_it_was_written(parts, tmp_path):
    folder, head = with_mlp(parts, tmp_path)
    rows = np.random.default_rng(6).normal(size=(9, 4))
    again = bundle.read(folder)
    assert again.card.streams[0].head == HeadCard(kind="mlp", settings={"hidden": [3]})
    np.testing.assert_array_equal(again.heads["grey"].raw(rows), head.raw(rows))


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grey.layers": np.asarray(10**18)}, "'grey.weights2' is missing"),
        ({"grey.layers": np.asarray(-1)}, "0 layers have weights"),
        ({"grey.layers": np.asarray(2j)}, "'grey.layers' must be one finite number"),
        ({"grey.weights1": None}, "'grey.weights1' is missing"),
        ({"grey.biases0": None}, "'grey.biases0' is missing"),
        ({"grey.weights0": np.full((4, 3), np.nan)}, "weights0 must hold finite numbers only"),
        ({"grey.biases1": np.array([np.inf])}, "biases1 must hold finite numbers only"),
        ({"grey.weights1": np.ones((4, 1))}, "layer 1 has weights of shape (4, 1), not (3, 1)"),
        ({"grey.weights0": np.ones((5, 3))}, "takes 5 numbers, its trunk gives 4"),
    ],
)
def test_arrays_that_make_no_perceptron_are_refused_at_once(parts, tmp_path, changes, message):
    folder, _ = with_mlp(parts, tmp_path)
    with np.load(folder / "heads.npz") as stored:
        arrays = dict(stored) | changes
    np.savez(folder / "heads.npz", **{name: array for name, array in arrays.items() if array is not None})
    reseal(folder)
    refused(folder, "invalid", "heads.npz: head of stream 'grey'", message)


def parted(parts, tmp_path, part=(2, 4), width=2):
    """A bundle whose one stream has blue and grey of its trunk's embedding alone."""
    stream = parts.card.streams[0].model_copy(update={"part": part, "embedding": width})
    parts.card = parts.card.model_copy(update={"streams": (stream,)})
    parts.heads["grey"] = LinearHead(np.arange(1.0, width + 1), 0.5)
    return parts.write(tmp_path / "parted").folder


def test_a_stream_s_part_of_an_embedding_is_read_as_it_was_written(parts, tmp_path):
    folder = parted(parts, tmp_path)
    assert json.loads((folder / "card.json").read_text())["streams"][0]["part"] == [2, 4]
    again = bundle.read(folder)
    assert (again.card.streams[0].part, again.card.streams[0].embedding) == ((2, 4), 2)
    assert again.card.model_copy(update={"files": {}, "sha256": ""}) == parts.card


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ([2, 3], "the part (2, 3) of the embedding is not 2 wide"),
        ([4, 2], "the part (4, 2) of the embedding is not 2 wide"),
        ([-2, 0], "streams.0.part"),
        ([1, 2, 3], "streams.0.part"),
        ([0.5, 2.5], "streams.0.part"),
    ],
)
def test_a_part_that_does_not_hold_is_refused(parts, tmp_path, part, words):
    folder = parted(parts, tmp_path)
    card = json.loads((folder / "card.json").read_text())
    card["streams"][0]["part"] = part
    (folder / "card.json").write_text(json.dumps(card))
    reseal(folder)
    refused(folder, "invalid", words)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"runs": {"colour": 0.5, "luma": 4.0}}, "845 shares are counted, and the embedding has 4 numbers"),
        ({"runs": {"colour": 0.3, "luma": 4.0}}, "streams.0.runs.colour"),
        ({"runs": {"colour": 0.5, "luma": 4.0}, "embedding": 845, "part": [0, 845]}, "845 shares are counted"),
    ],
)
def test_counts_that_do_not_hold_are_refused(parts, tmp_path, changed, words):
    folder = parts.write(tmp_path / "tiny").folder
    card = json.loads((folder / "card.json").read_text())
    card["streams"][0] |= changed
    (folder / "card.json").write_text(json.dumps(card))
    reseal(folder)
    refused(folder, "invalid", words)


def test_counts_need_a_view_that_normalises_as_they_undo_and_one_trunk_counts_one_thing(tmp_path):
    shutil.copytree(bundle.find("assay-texture"), tmp_path / "one")
    card = json.loads((tmp_path / "one" / "card.json").read_text())
    (stream,) = card["streams"]
    for number, (streams, words) in enumerate(
        [
            ([stream | {"view": stream["view"] | {"mean": [0.5, 0.5, 0.5]}}], "normalises with ImageNet's mean"),
            ([stream, stream | {"name": "other", "runs": None}], "'texture' say different things of what it counts"),
        ]
    ):
        folder = tmp_path / f"changed{number}"
        shutil.copytree(tmp_path / "one", folder)
        (folder / "card.json").write_text(json.dumps(card | {"streams": streams}))
        reseal(folder)
        refused(folder, "invalid", words)


def test_a_head_that_takes_another_number_than_its_part_has_is_refused(parts, tmp_path):
    folder = parted(parts, tmp_path)
    card = json.loads((folder / "card.json").read_text())
    card["streams"][0] |= {"part": [1, 4], "embedding": 3}
    (folder / "card.json").write_text(json.dumps(card))
    reseal(folder)
    refused(folder, "invalid", "head of stream 'grey' takes 2 numbers, its trunk gives 3")


@pytest.mark.parametrize(("part", "width"), [((3, 5), 2), ((0, 5), 5), ((4, 6), 2), ((1000, 1002), 2)])
def test_a_part_that_ends_behind_what_the_trunk_gives_is_refused(parts, tmp_path, part, width):
    with pytest.raises(BundleError) as caught:
        parted(parts, tmp_path, part, width)
    assert caught.value.kind == "invalid"
    told = f"card.json: stream 'grey' has the part {part} of its trunk's embedding, tiny.judge.onnx gives 4 numbers"
    assert str(caught.value) == told
    assert not any(tmp_path.iterdir())


def test_of_streams_that_share_a_trunk_the_one_whose_part_does_not_fit_is_named(parts, tmp_path):
    for name, part in (("red", (0, 1)), ("blue", (4, 5))):
        parts.add(name)
        stream = parts.card.streams[-1].model_copy(update={"part": part, "embedding": 1})
        parts.card = parts.card.model_copy(update={"streams": (*parts.card.streams[:-1], stream)})
        parts.heads[name] = LinearHead(np.ones(1), 0.0)
    with pytest.raises(BundleError, match=r"stream 'blue' has the part \(4, 5\)"):
        parts.write(tmp_path / "tiny")


def test_a_part_of_what_a_graph_leaves_open_is_read(parts, tmp_path):
    graph = onnx.load_from_string(parts.files["tiny.judge.onnx"])
    del graph.graph.output[:]
    graph.graph.output.append(onnx.helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, None))
    graph.graph.node.insert(2, onnx.helper.make_node("Identity", ["shape"], ["given"]))
    graph.graph.input.append(onnx.helper.make_tensor_value_info("shape", onnx.TensorProto.INT64, [2]))
    graph.graph.node[3].output[0] = "product"
    graph.graph.node.append(onnx.helper.make_node("Reshape", ["product", "given"], ["embedding"]))
    parts.files["tiny.judge.onnx"] = graph.SerializeToString()
    assert bundle.read(parted(parts, tmp_path, (3, 5))).card.streams[0].part == (3, 5)


@pytest.mark.parametrize("graph", [b"", b"not a graph", tiny_graph("../secret")])
def test_a_part_of_what_no_graph_gives_is_refused(parts, tmp_path, graph):
    parts.files["tiny.judge.onnx"] = graph
    with pytest.raises(BundleError, match=r"^tiny\.judge\.onnx can't be run: ") as caught:
        parted(parts, tmp_path)
    assert caught.value.kind == "invalid"


def test_a_bundle_written_before_streams_shared_trunks_or_saw_faces_is_read_as_it_was(bundle_folder):
    before = bundle.read(bundle_folder)
    later = [("streams", "*", "view", name) for name in ("margin", "least", "fallback")]
    strip(bundle_folder, "judge.json", ("skip",), ("ensemble", "weights"))
    strip(bundle_folder, "card.json", ("streams", "*", "part"), ("streams", "*", "runs"), *later)
    again = bundle.read(bundle_folder)
    assert again.card.streams == before.card.streams
    assert isinstance(again.card.streams[0], StreamCard)
    assert (again.card.streams[0].part, again.card.streams[0].view.layout) == (None, "grid")
    assert again.judge == before.judge
    pixels = np.full((40, 70, 3), 120, np.uint8)
    old = assay.load(bundle_folder).judge(pixels)
    assert old.score == assay.Detector(before).judge(pixels).score


def test_graphs_may_be_given_as_files(parts, tmp_path):
    (tmp_path / "w").write_bytes(parts.files["tiny.weights"])
    by_bytes = parts.write(tmp_path / "a").card.sha256
    parts.files["tiny.weights"] = tmp_path / "w"
    assert parts.write(tmp_path / "b").card.sha256 == by_bytes


def test_the_same_parts_make_the_same_bundle(parts, tmp_path):
    assert parts.write(tmp_path / "a").card.sha256 == parts.write(tmp_path / "b").card.sha256


def test_every_part_counts_in_the_hash_of_the_card(parts, tmp_path):
    before = parts.write(tmp_path / "a").card.sha256
    parts.heads["grey"] = LinearHead(np.array([0, 0, 0, 4.0]), 1e-9)
    assert parts.write(tmp_path / "b").card.sha256 != before


def test_writing_over_a_bundle_replaces_all_of_it(parts, bundle_folder):
    del parts.files["tiny.explain.onnx"]
    parts.write(bundle_folder)
    assert not (bundle_folder / "tiny.explain.onnx").exists()
    assert [path.name for path in bundle_folder.parent.iterdir()] == [bundle_folder.name]


def test_writing_over_anything_else_is_refused(parts, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "only.jpg").write_bytes(b"precious")
    with pytest.raises(BundleError, match="not a bundle"):
        parts.write(tmp_path / "photos")
    assert (tmp_path / "photos" / "only.jpg").read_bytes() == b"precious"


def test_a_write_that_fails_leaves_the_old_bundle_and_nothing_else(parts, bundle_folder):
    before = bundle.read(bundle_folder).card.sha256
    parts.files["tiny.weights"] = bundle_folder / "nowhere"
    with pytest.raises(FileNotFoundError):
        parts.write(bundle_folder)
    assert bundle.read(bundle_folder).card.sha256 == before
    assert [path.name for path in bundle_folder.parent.iterdir()] == [bundle_folder.name]


def test_parts_that_do_not_fit_together_are_never_written(parts, tmp_path):
    parts.heads["grey"] = LinearHead(np.ones(5), 0.0)
    with pytest.raises(BundleError, match="takes 5 numbers, its trunk gives 4"):
        parts.write(tmp_path / "tiny")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../out.weights", "/out.weights", "a/b", "..", ".hidden", "card.json", "a\n", ""])
def test_a_file_can_not_be_written_outside_the_folder_or_over_the_card(parts, tmp_path, name):
    parts.files[name] = b"x"
    with pytest.raises(BundleError, match="can't be the name"):
        parts.write(tmp_path / "tiny")
    assert not any(tmp_path.iterdir())


def test_a_figure_that_is_not_a_number_is_refused(parts, tmp_path):
    parts.card = parts.card.model_copy(update={"figures": {"auc": float("nan")}})
    with pytest.raises(BundleError, match="not JSON"):
        parts.write(tmp_path / "tiny")


# ── what was changed is refused


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_named_with_both_hashes(bundle_folder, name):
    content = bytearray((bundle_folder / name).read_bytes())
    was = hashlib.sha256(content).hexdigest()
    content[len(content) // 2] ^= 1
    (bundle_folder / name).write_bytes(content)
    refused(bundle_folder, "tampered", name, was[:12], hashlib.sha256(content).hexdigest()[:12])


@pytest.mark.parametrize("name", [*FILES, "card.json"])
def test_a_missing_file_is_named(bundle_folder, name):
    (bundle_folder / name).unlink()
    refused(bundle_folder, "torn", name)


@pytest.mark.parametrize("name", [".hidden", "tiny.judge.onnx.bak", "evil.so"])
def test_a_file_that_the_card_does_not_list_is_named(bundle_folder, name):
    (bundle_folder / name).write_bytes(b"")
    refused(bundle_folder, "tampered", name)


def test_a_folder_inside_is_refused(bundle_folder):
    (bundle_folder / "more").mkdir()
    refused(bundle_folder, "tampered", "more")


@pytest.mark.parametrize("name", ["tiny.weights", "card.json"])
def test_a_link_is_refused_even_to_the_same_bytes(bundle_folder, tmp_path, name):
    shutil.move(bundle_folder / name, tmp_path / "elsewhere")
    (bundle_folder / name).symlink_to(tmp_path / "elsewhere")
    refused(bundle_folder, "tampered", name, "link")


def test_a_card_edited_by_hand_is_refused(bundle_folder):
    card = (bundle_folder / "card.json").read_text()
    (bundle_folder / "card.json").write_text(card.replace("It can't tell", "It can always tell"))
    refused(bundle_folder, "tampered", "card.json was changed")


def test_a_card_that_is_only_laid_out_differently_is_the_same_card(bundle_folder):
    card = json.loads((bundle_folder / "card.json").read_text())
    sha256 = card["sha256"]
    (bundle_folder / "card.json").write_text(json.dumps(dict(reversed(card.items()))))
    assert bundle.read(bundle_folder).card.sha256 == sha256


def test_a_bundle_of_a_later_format_says_what_this_assay_reads(bundle_folder):
    reseal(bundle_folder, format_version=2, something_new=True)
    refused(bundle_folder, "version", "format 2", "reads format 1", "update assay")


def test_an_unknown_or_wrong_field_is_named_by_its_path(bundle_folder):
    card = json.loads((bundle_folder / "card.json").read_text())
    card["streams"][0]["view"]["size"] = -4
    card["colour"] = "blue"
    reseal(bundle_folder, streams=card["streams"], colour="blue")
    refused(bundle_folder, "invalid", "streams.0.view.size", "colour")


def test_a_wrong_number_of_the_judge_is_named_by_its_path(bundle_folder):
    judge = json.loads((bundle_folder / "judge.json").read_text())
    judge["streams"]["grey"]["slope"] = -1
    (bundle_folder / "judge.json").write_text(json.dumps(judge))
    reseal(bundle_folder)
    refused(bundle_folder, "invalid", "judge.json", "streams.grey.slope")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"format_version": NaN}'])
@pytest.mark.parametrize("name", ["card.json", "judge.json"])
def test_anything_that_is_not_a_json_object_is_refused(bundle_folder, name, content):
    (bundle_folder / name).write_bytes(content)
    if name != "card.json":
        reseal(bundle_folder)
    with pytest.raises(BundleError) as caught:
        bundle.read(bundle_folder)
    assert caught.value.kind in ("invalid", "version")


@pytest.mark.parametrize("name", ["../tiny.weights", "/etc/passwd", "a/../b", "..", "a\\b", "C:x", "tiny.weights "])
def test_a_card_that_lists_a_file_outside_the_folder_is_refused(bundle_folder, name):
    card = json.loads((bundle_folder / "card.json").read_text())
    reseal(bundle_folder, files=card["files"] | {name: "0" * 64})
    refused(bundle_folder, "invalid", "not a plain file name")


def test_a_card_without_a_trunk_s_graph_is_refused(bundle_folder):
    (bundle_folder / "tiny.judge.onnx").unlink()
    reseal(bundle_folder)
    refused(bundle_folder, "invalid", "tiny.judge.onnx")


def test_two_streams_of_one_name_are_refused(bundle_folder):
    card = json.loads((bundle_folder / "card.json").read_text())
    reseal(bundle_folder, streams=card["streams"] * 2)
    refused(bundle_folder, "invalid", "same name")


def test_a_judge_with_rules_for_other_streams_is_refused(parts, tmp_path):
    parts.judge = parts.judge.model_copy(update={"streams": {"gray": parts.judge.streams["grey"]}})
    with pytest.raises(BundleError, match="rules for gray, the card streams grey"):
        parts.write(tmp_path / "tiny")


def test_a_bundle_names_the_heads_that_can_judge_the_default_first(parts, tmp_path):
    assert list(parts.write(tmp_path / "one").choices) == ["linear"]
    parts.add_heads()
    read = parts.write(tmp_path / "three")
    assert list(read.choices) == ["linear", "nearest", "one_class"]
    assert [rule.threshold for rule in read.choices.values()] == [0.7, 0.9, 0.6]
    assert read.chosen() == read.chosen("linear")
    assert (list(read.chosen("nearest").streams), read.chosen("nearest").ensemble.threshold) == (["grey-nearest"], 0.9)


def test_of_several_streams_those_with_the_head_judge(parts, tmp_path):
    parts.add_heads()
    parts.add("red")
    parts.judge = parts.judge.model_copy(update={"voters": ("grey", "red")})
    read = parts.write(tmp_path / "two")
    assert list(read.choices) == ["linear", "nearest", "one_class"]
    assert list(read.chosen().streams) == list(read.chosen("linear").streams) == ["grey", "red"]
    assert list(read.chosen("nearest").streams) == ["grey-nearest"]


def test_a_kind_of_head_that_some_voters_have_and_others_beside_them_is_no_choice(parts, tmp_path):
    parts.add("red")
    parts.judge = parts.judge.model_copy(update={"voters": ("grey",)})
    read = parts.write(tmp_path / "two")
    assert read.choices == {}
    assert list(read.chosen().streams) == ["grey"]


def test_rules_for_a_kind_of_head_that_no_stream_has_are_refused(parts, tmp_path):
    parts.judge = parts.judge.model_copy(update={"alternatives": {"nearest": parts.judge.ensemble}})
    with pytest.raises(BundleError, match="rules for nearest heads, the card none of them"):
        parts.write(tmp_path / "tiny")


# ── ways to vote


def test_a_bundle_chooses_among_its_rules_by_name(voters):
    read = bundle.read(voters)
    assert read.chosen() == read.chosen(vote="modified_majority")
    assert read.chosen().ensemble == read.judge.ensemble
    for name, rule in read.judge.rules.items():
        chosen = read.chosen(vote=name)
        assert chosen.ensemble == rule
        assert list(chosen.streams) == list(rule.voters or ("grey", "red", "blue"))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"vote": "majorty"}, "no rule called 'majorty'; did you mean majority"),
        ({"vote": ""}, "known: best, blue, grey, majority, mean, modified_majority, plain_mean, red"),
        ({"head": "linear", "vote": "mean"}, "a head or a rule to vote by, not both"),
    ],
)
def test_an_unknown_rule_or_one_beside_a_head_is_refused(voters, choice, message):
    with pytest.raises(BundleError, match=message) as caught:
        bundle.read(voters).chosen(**choice)
    assert caught.value.kind == "unknown"


def test_a_bundle_with_one_rule_knows_that_one_only(bundle_folder):
    read = bundle.read(bundle_folder)
    assert read.chosen(vote="mean") == read.chosen()
    with pytest.raises(BundleError, match="no rule called 'majority'; known: mean"):
        read.chosen(vote="majority")


def test_where_the_default_rule_names_voters_the_others_do_not_judge(parts, tmp_path):
    parts.add("red")
    ensemble = parts.judge.ensemble.model_copy(update={"voters": ("red",)})
    parts.judge = parts.judge.model_copy(update={"ensemble": ensemble})
    read = parts.write(tmp_path / "two")
    assert list(read.chosen().streams) == list(read.chosen(vote="mean").streams) == ["red"]


def test_a_bundle_written_before_there_were_ways_to_vote_is_read_as_it_was(bundle_folder):
    before = bundle.read(bundle_folder)
    judge = json.loads((bundle_folder / "judge.json").read_text())
    for field in ("method", "slope", "voters"):
        del judge["ensemble"][field]
    for field in ("rules", "alternatives", "voters"):
        del judge[field]
    (bundle_folder / "judge.json").write_text(json.dumps(judge))
    reseal(bundle_folder)
    again = bundle.read(bundle_folder)
    assert again.judge == before.judge
    assert again.chosen() == again.chosen(vote="mean") == before.chosen()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"method": "veto"}, "ensemble.method"),
        ({"slope": 0}, "ensemble.slope"),
        ({"voters": ["blue"]}, "asks for votes of blue, which do not vote"),
    ],
)
def test_a_rule_that_does_not_hold_is_named(bundle_folder, fields, words):
    judge = json.loads((bundle_folder / "judge.json").read_text())
    judge["ensemble"] |= fields
    (bundle_folder / "judge.json").write_text(json.dumps(judge))
    reseal(bundle_folder)
    refused(bundle_folder, "invalid", "judge.json", words)


def test_the_rule_for_a_kind_of_head_can_not_ask_for_votes_of_another_kind(parts, tmp_path):
    parts.add_heads()
    rules = {"nearest": parts.judge.alternatives["nearest"].model_copy(update={"voters": ("grey",)})}
    parts.judge = parts.judge.model_copy(update={"alternatives": rules})
    with pytest.raises(BundleError, match="the rule for nearest heads asks for votes of grey") as caught:
        parts.write(tmp_path / "three")
    assert caught.value.kind == "invalid"


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("exploded",))


@pytest.mark.parametrize("name", ["heads.npz", "seen.npz"])
def test_an_array_that_would_have_to_be_unpickled_is_refused_and_not_run(bundle_folder, name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with np.load(bundle_folder / name) as stored:
        arrays = dict(stored)
    arrays[next(iter(arrays))] = np.array([Bomb()], dtype=object)
    np.savez(bundle_folder / name, **arrays)
    reseal(bundle_folder)
    refused(bundle_folder, "invalid", name)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["heads.npz", "seen.npz"])
@pytest.mark.parametrize("content", ["empty", "noise", "cut", "one array", "no array"])
def test_a_file_that_holds_no_set_of_arrays_is_refused(bundle_folder, name, content):
    path = bundle_folder / name
    if content == "empty":
        path.write_bytes(b"")
    elif content == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(500))
    elif content == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    elif content == "one array":
        with path.open("wb") as file:
            np.save(file, np.ones(3))
    else:
        import zipfile

        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("files.npy", b"not an array")
    reseal(bundle_folder)
    refused(bundle_folder, "invalid", name)


def test_seen_of_another_type_is_refused(bundle_folder):
    np.savez(bundle_folder / "seen.npz", files=np.ones(3), origins=np.ones(3), phashes=np.ones(3))
    reseal(bundle_folder)
    refused(bundle_folder, "invalid", "uint64")


# ── amending


def test_figures_measured_later_are_sealed_in(bundle_folder):
    before = bundle.read(bundle_folder).card
    after = bundle.amend(bundle_folder, figures={"auc": 0.5}, limits=["none known"]).card
    assert after == bundle.read(bundle_folder).card
    assert (after.figures, after.limits) == ({"auc": 0.5}, ("none known",))
    assert after.sha256 != before.sha256
    assert after.files == before.files
    assert [path.name for path in bundle_folder.parent.iterdir()] == [bundle_folder.name]


@pytest.mark.parametrize("field", ["files", "sha256", "streams", "precision", "figurs"])
def test_what_the_detector_judges_by_can_not_be_amended(bundle_folder, field):
    with pytest.raises(BundleError, match="no field to amend"):
        bundle.amend(bundle_folder, **{field: {}})


def test_an_amendment_that_does_not_hold_changes_nothing(bundle_folder):
    before = (bundle_folder / "card.json").read_bytes()
    for figures in ("high", {"auc": float("inf")}):
        with pytest.raises(BundleError):
            bundle.amend(bundle_folder, figures=figures)
    assert (bundle_folder / "card.json").read_bytes() == before
    assert {path.name for path in bundle_folder.iterdir()} == {*FILES, "card.json"}


# ── finding


@pytest.fixture
def shelf(bundle_folder, monkeypatch, tmp_path):
    """Nothing ships; one folder of bundles with "tiny" in it."""
    monkeypatch.setattr(bundle, "_SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(bundle, "DEFAULT", None)
    monkeypatch.setenv("ASSAY_BUNDLES", os.pathsep.join(["", str(tmp_path / "nowhere"), str(bundle_folder.parent)]))
    return bundle_folder


def test_bundles_are_found_by_name_by_folder_and_by_default(shelf):
    assert bundle.installed() == [shelf]
    assert bundle.find("tiny") == shelf
    assert bundle.find(shelf) == bundle.find(str(shelf)) == shelf
    assert bundle.find() == shelf


def test_the_bundle_that_ships_is_the_default_and_wins_its_name(shelf, tmp_path):
    for name in ("house", "tiny"):
        shutil.copytree(shelf, tmp_path / "shipped" / name)
    assert bundle.find("tiny") == tmp_path / "shipped" / "tiny"
    shutil.rmtree(tmp_path / "shipped" / "tiny")
    assert bundle.find() == tmp_path / "shipped" / "house"


def test_the_default_can_be_named(shelf, tmp_path, monkeypatch):
    for name in ("house", "other"):
        shutil.copytree(shelf, tmp_path / "shipped" / name)
    with pytest.raises(BundleError, match="name one of house, other, tiny"):
        bundle.find()
    monkeypatch.setattr(bundle, "DEFAULT", "other")
    assert bundle.find() == tmp_path / "shipped" / "other"


def test_a_name_wins_over_a_folder_of_that_name_in_the_working_directory(shelf, tmp_path, monkeypatch):
    (tmp_path / "work" / "tiny").mkdir(parents=True)
    (tmp_path / "work" / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert bundle.find("tiny") == shelf
    assert bundle.find("./tiny") == Path("tiny")
    assert bundle.find("mine") == Path("mine")


def test_an_unknown_name_is_answered_with_the_nearest_known_one(shelf):
    with pytest.raises(BundleError, match="did you mean tiny") as caught:
        bundle.find("tinny")
    assert caught.value.kind == "unknown"


def test_a_folder_that_is_not_there_is_missing(shelf, tmp_path):
    for place in (tmp_path / "nowhere", "./nowhere"):
        with pytest.raises(BundleError, match="not a folder") as caught:
            bundle.find(place)
        assert caught.value.kind == "missing"
    refused(tmp_path / "nowhere", "missing")


def test_no_detector_at_all_says_how_to_name_one(shelf, monkeypatch):
    monkeypatch.setenv("ASSAY_BUNDLES", "")
    with pytest.raises(BundleError, match="ASSAY_BUNDLES") as caught:
        bundle.find()
    assert caught.value.kind == "missing"


# ── what it was made with


def test_a_picture_counts_as_seen_by_its_file_its_origin_or_its_looks():
    seen = Seen.of(files=["ab" * 32, ""], origins=["cd" * 32, "ef" * 32], phashes=[0b1111, None, 1 << 63])
    assert "same file" in seen.overlaps("ab" * 32)
    assert "derived" in seen.overlaps("00" * 32, "cd" * 32)
    assert "derived" in seen.overlaps("ef" * 32)
    assert "derived" in seen.overlaps("00" * 32, "ab" * 32)
    assert "looks" in seen.overlaps("00" * 32, phash=(1 << 63) | 0b1111)
    assert "looks" in seen.overlaps(phash=0)
    assert seen.overlaps("00" * 32, "00" * 32, phash=0b1111 << 8) is None
    assert seen.overlaps() is None
    assert Seen().overlaps("ab" * 32, "cd" * 32, 0) is None


# ── the engine


def test_the_engine_gives_the_embedding_of_each_view_whatever_the_number_in_one_run(bundle_folder):
    views = np.random.default_rng(0).normal(size=(7, 3, 32, 32)).astype(np.float32)
    means = views.mean(axis=(2, 3))
    expected = np.column_stack([means, means.mean(axis=1)])
    for crops in (2, 7, 100):
        engine = Engine(bundle_folder, "tiny", threads=1, crops=crops)
        embedding = engine.run(views)
        assert embedding.dtype == np.float32
        np.testing.assert_allclose(embedding, expected, atol=1e-6)


def test_the_explaining_graph_gives_the_same_embedding_and_its_features(bundle_folder):
    views = np.random.default_rng(0).normal(size=(5, 3, 32, 32)).astype(np.float32)
    engine = Engine(bundle_folder, "tiny", crops=2)
    outputs = engine.explain(views)
    np.testing.assert_allclose(outputs["embedding"], engine.run(views), atol=1e-6)
    assert outputs["features"].shape == (5, 3, 4, 4)


def test_a_bundle_without_an_explaining_graph_judges_and_says_what_it_can_not_do(parts, tmp_path):
    del parts.files["tiny.explain.onnx"]
    engine = Engine(parts.write(tmp_path / "tiny").folder, "tiny")
    views = np.zeros((1, 3, 32, 32), np.float32)
    assert engine.run(views).shape == (1, 4)
    with pytest.raises(BundleError, match="where it looked") as caught:
        engine.explain(views)
    assert caught.value.kind == "missing"


@pytest.mark.parametrize("location", ["../secret", "{tmp}/secret", "sub/../../secret", "link"])
def test_weights_outside_the_folder_are_never_read(parts, tmp_path, location):
    (tmp_path / "secret").write_bytes(parts.files["tiny.weights"])
    parts.files["tiny.judge.onnx"] = tiny_graph(location.format(tmp=tmp_path))
    folder = parts.write(tmp_path / "tiny").folder
    if location == "link":
        # The bundle itself would be refused; this is what holds if a link appears later.
        (folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(BundleError, match="can't be run") as caught:
        Engine(folder, "tiny").run(np.zeros((1, 3, 32, 32), np.float32))
    assert caught.value.kind == "invalid"


@pytest.mark.parametrize(
    ("graph", "words"), [(b"", ""), (b"not a graph", ""), (tiny_graph(views="pixels"), r"it takes \['pixels'\]")]
)
def test_a_graph_that_is_none_or_takes_something_else_is_refused(parts, tmp_path, graph, words):
    parts.files["tiny.judge.onnx"] = graph
    engine = Engine(parts.write(tmp_path / "tiny").folder, "tiny")
    with pytest.raises(BundleError, match=rf"tiny\.judge\.onnx can't be run: {words}"):
        engine.run(np.zeros((1, 3, 32, 32), np.float32))


def test_views_that_the_graph_does_not_take_are_refused(bundle_folder):
    with pytest.raises(BundleError, match="can't be run"):
        Engine(bundle_folder, "tiny").run(np.zeros((1, 4, 32, 32), np.float32))


def test_a_gpu_is_insisted_on_only_where_asked_for(bundle_folder, monkeypatch):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(AssayError, match="onnxruntime-gpu") as caught:
        assay.load(bundle_folder, device="cuda")
    assert caught.value.kind == "device"
    with pytest.raises(AssayError, match="known: auto, cpu, cuda"):
        assay.load(bundle_folder, device="gpu")
    assert assay.load(bundle_folder, device="auto").name == "tiny"


def test_the_runtime_is_named_with_its_version():
    assert runtime().startswith("onnxruntime ")
    assert runtime().split()[1][0].isdigit()


def test_the_folder_of_a_training_run_stands_for_the_bundle_in_it(parts: Any, tmp_path: Path) -> None:
    made = parts.write(tmp_path / "run" / "bundle").folder
    assert bundle.find(tmp_path / "run") == made
    assert bundle.find(made) == made
