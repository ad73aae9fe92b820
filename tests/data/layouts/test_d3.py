from __future__ import annotations

import csv
import io
import json
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from assay.data import layouts
from assay.errors import LayoutError, MissingExtra, OutputError
from assay.image import place
from assay.types import Label

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

Put = Callable[[Path], Path]

MODELS = (
    "DeepFloyd/IF-II-L-v1.0",
    "CompVis/stable-diffusion-v1-4",
    "stabilityai/stable-diffusion-2-1-base",
    "stabilityai/stable-diffusion-xl-base-1.0",
)
NAMES = ["deepfloyd-if", "sd-1.4", "sd-2.1", "sdxl"]
NO_REAL = "the hub has only the URL of the real"


def pixels(shade: int, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, shade, shade)).save(file, form)
    return file.getvalue()


def row(
    record: str, *, models: Sequence[str] = MODELS, without: int | None = None, data: bytes = b""
) -> dict[str, Any]:
    """A row of the hub's table."""
    cells: dict[str, Any] = {"id": record, "original_prompt": "a cat", "url": f"https://example.org/{record}.jpg"}
    for number, model in enumerate(models):
        cells[f"model_gen{number}"] = model
        cells[f"width_gen{number}"] = 8
        cells[f"filepath_gen{number}"] = f"x/{record}.png"
        image = {"bytes": data or pixels(number), "path": f"{record}.png"}
        cells[f"image_gen{number}"] = None if number == without else image
    return cells


def hub(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path, compression="none")
    return path


def tar(path: Path, *names: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for number, name in enumerate(names):
            data = b"words" if name.endswith(".txt") else pixels(number)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


def shard(path: Path, *keys: str) -> Path:
    """A shard as CoDE's wds_creation.py writes it."""
    kinds = ("gen_0.jpg", "gen_1.jpg", "gen_2.jpg", "gen_3.jpg", "real.jpg", "caption.txt", "url.txt")
    return tar(path, *(f"{key}.{kind}" for key in keys for kind in kinds))


def reason(found: layouts.Found, words: str) -> int:
    """How often a reason that starts with these words left something out."""
    return sum(count for text, count in found.left_out.items() if text.startswith(words))


def test_the_hubs_fakes_are_cells_with_the_generator_of_their_row(tmp_path: Path) -> None:
    file = hub(tmp_path / "data/train-00000-of-00002.parquet", row("11"), row("12", models=MODELS[::-1]))

    found = layouts.read("d3", tmp_path)

    assert [sample.place for sample in found.samples] == [
        f"{file}::{index}/image_gen{number}" for index in range(2) for number in range(4)
    ]
    assert [sample.generator for sample in found.samples] == NAMES + NAMES[::-1]
    assert {sample.label for sample in found.samples} == {Label.FAKE}
    assert [sample.groups["record"] for sample in found.samples] == ["11"] * 4 + ["12"] * 4
    assert {sample.origin for sample in found.samples} == {""}
    assert place.read(found.samples[3].place) == pixels(3)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("data/validation-00000-of-00001.parquet", "tune"),
        ("data/val-00000.parquet", "tune"),
        ("default/validation/0000.parquet", "tune"),
    ],
)
def test_the_hubs_split_is_in_the_name_of_the_file_or_its_folder(tmp_path: Path, name: str, split: str) -> None:
    hub(tmp_path / name, row("11"))

    assert {sample.split for sample in layouts.read("d3", tmp_path).samples} == {split}


def test_a_generator_that_is_new_keeps_its_models_name_and_an_unnamed_one_goes_by_number(tmp_path: Path) -> None:
    hub(tmp_path / "train-0.parquet", row("11", models=("org/PixArt-Alpha", "", MODELS[2], MODELS[3])))

    assert [sample.generator for sample in layouts.read("d3", tmp_path).samples] == [
        "pixart-alpha",
        "sd-1.4",
        "sd-2.1",
        "sdxl",
    ]


def test_the_hubs_reals_are_left_out_until_their_folder_is_given(tmp_path: Path, picture: Put) -> None:
    hub(tmp_path / "d3/train-0.parquet", row("11"), row("12"), row("13"))
    picture(tmp_path / "reals/part-00/11.webp")
    picture(tmp_path / "reals/part-01/13_real.jpg")

    without = layouts.read("d3", tmp_path / "d3")
    found = layouts.read("d3", tmp_path / "d3", reals=str(tmp_path / "reals"))

    assert reason(without, NO_REAL) == 3
    (words,) = without.left_out
    assert words.index("urls=FILE") < words.index("reals=FOLDER")
    reals = [sample for sample in found.samples if sample.label is Label.REAL]
    assert [(sample.groups["record"], sample.source, sample.generator, sample.split) for sample in reals] == [
        ("11", "LAION-400M", "", "train"),
        ("13", "LAION-400M", "", "train"),
    ]
    assert [Path(sample.place).name for sample in reals] == ["11.webp", "13_real.jpg"]
    assert reason(found, NO_REAL) == 1


def test_reals_below_the_root_are_not_counted_twice(tmp_path: Path, picture: Put) -> None:
    hub(tmp_path / "train-0.parquet", row("11"))
    picture(tmp_path / "reals/11_real.jpg")

    found = layouts.read("d3", tmp_path, reals=str(tmp_path / "reals"))

    assert (len(found.samples), dict(found.left_out)) == (5, {})


def test_the_list_of_urls_holds_the_reals_that_are_missing(tmp_path: Path, picture: Put) -> None:
    hub(tmp_path / "d3/train-0.parquet", row("11"), row("12"))
    picture(tmp_path / "reals/11.png")

    layouts.read("d3", tmp_path / "d3", reals=str(tmp_path / "reals"), urls=str(tmp_path / "out/reals.csv"))

    with (tmp_path / "out/reals.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["id", "url"], ["12", "https://example.org/12.jpg"]]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["reals.csv"]


def test_a_list_of_urls_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    hub(tmp_path / "train-0.parquet", row("11"))

    with pytest.raises(OutputError, match="urls="):
        layouts.read("d3", tmp_path, urls=str(tmp_path / "train-0.parquet/x.csv"))


def test_a_wrong_tree_leaves_an_earlier_list_of_urls_alone(tmp_path: Path) -> None:
    (tmp_path / "d3").mkdir()
    (tmp_path / "reals.csv").write_text("mine")

    with pytest.raises(LayoutError):
        layouts.read("d3", tmp_path / "d3", urls=str(tmp_path / "reals.csv"))

    assert (tmp_path / "reals.csv").read_text() == "mine"


def test_rows_are_counted_across_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.data.layouts.d3._ROWS", 2)
    file = hub(tmp_path / "train-0.parquet", *(row(str(number)) for number in range(5)))

    places = [sample.place for sample in layouts.read("d3", tmp_path).samples]

    assert places[::4] == [f"{file}::{number}/image_gen0" for number in range(5)]


def test_an_empty_cell_is_left_out(tmp_path: Path) -> None:
    hub(tmp_path / "train-0.parquet", row("11", without=2), row("12"))

    found = layouts.read("d3", tmp_path)

    assert len(found.samples) == 7
    assert found.left_out["the cell of the fake is empty"] == 1
    assert found.examples["the cell of the fake is empty"].endswith("::0/image_gen2")


def test_the_bytes_of_the_pictures_are_never_read(tmp_path: Path) -> None:
    mark = b"PICTURE BYTES " * 4000
    file = hub(tmp_path / "train-0.parquet", row("11", data=mark), row("12", data=mark))
    data = bytearray(file.read_bytes())
    metadata = parquet.ParquetFile(file).metadata.row_group(0)
    for number in range(metadata.num_columns):
        column = metadata.column(number)
        if column.path_in_schema.endswith(".bytes"):
            start = min(at for at in (column.dictionary_page_offset, column.data_page_offset) if at)
            data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    file.write_bytes(data)

    assert len(layouts.read("d3", tmp_path).samples) == 8


def test_shards_give_members_with_the_split_of_their_keys(tmp_path: Path) -> None:
    file = shard(tmp_path / "elsa_v2-0000.tar", "elsa_v2__train__11", "elsa_v2__validation__12")

    found = layouts.read("d3", tmp_path)

    assert [sample.place for sample in found.samples[:5]] == [
        f"{file}::elsa_v2__train__11.{kind}.jpg" for kind in ("gen_0", "gen_1", "gen_2", "gen_3", "real")
    ]
    assert [sample.label for sample in found.samples[:5]] == [Label.FAKE] * 4 + [Label.REAL]
    assert [sample.generator for sample in found.samples[:5]] == [*NAMES, ""]
    assert [sample.split for sample in found.samples] == ["train"] * 5 + ["tune"] * 5
    assert {sample.groups["record"] for sample in found.samples} == {"11", "12"}
    assert place.read(found.samples[4].place) == pixels(4)
    assert dict(found.left_out) == {"text beside the pictures": 4}


def test_shards_of_transformed_pictures_say_so(tmp_path: Path) -> None:
    shard(tmp_path / "small_elsa_v2_0000-00_fix.tar", "elsa_v2__train__11")
    shard(tmp_path / "small_elsa_v2_0000-00_transf_fix.tar", "elsa_v2__train__11")

    samples = layouts.read("d3", tmp_path, split="test").samples

    assert [sample.groups["transforms"] for sample in samples] == ["no_augm"] * 5 + ["augm"] * 5
    assert {sample.split for sample in samples} == {"test"}


KINDS = ("gen_0", "gen_1", "gen_2", "gen_3", "real")


def test_the_test_tar_and_its_unpacked_folder_give_the_same_rows(tmp_path: Path, picture: Put) -> None:
    names = [f"d3_test/{part}/{kind}/77.png" for part in ("augm", "no_augm") for kind in KINDS]
    archive = tar(tmp_path / "d3_test.tar", *names)
    for name in names:
        picture(tmp_path / name)

    packed = layouts.read("d3", archive).samples
    unpacked = layouts.read("d3", tmp_path / "d3_test").samples

    for samples in (packed, unpacked):
        assert [sample.groups["transforms"] for sample in samples] == ["augm"] * 5 + ["no_augm"] * 5
        assert [sample.generator for sample in samples] == [*NAMES, ""] * 2
        assert [sample.label for sample in samples] == ([Label.FAKE] * 4 + [Label.REAL]) * 2
        assert {sample.split for sample in samples} == {"test"}
        assert {sample.groups["record"] for sample in samples} == {"77"}
    assert [place.split(sample.place)[1] for sample in packed] == names


def test_one_half_of_the_test_set_alone_is_told_by_its_own_name(tmp_path: Path, picture: Put) -> None:
    picture(tmp_path / "no_augm/real/77_real.png")

    (sample,) = layouts.read("d3", tmp_path / "no_augm").samples

    assert (sample.label, sample.groups) == (Label.REAL, {"record": "77", "transforms": "no_augm"})


def test_files_unpacked_by_codes_script_are_read(tmp_path: Path, picture: Put) -> None:
    for kind in ("gen0", "gen1", "gen2", "gen3", "real"):
        picture(tmp_path / f"job-0/0/1275001022128_{kind}.jpg")
    (tmp_path / "job-0/0/1275001022128_url.txt").write_text("https://example.org")

    found = layouts.read("d3", tmp_path)

    assert [(sample.generator, sample.label) for sample in found.samples] == [
        *((name, Label.FAKE) for name in NAMES),
        ("", Label.REAL),
    ]
    assert {(sample.groups["record"], sample.split) for sample in found.samples} == {("1275001022128", "train")}
    assert dict(found.left_out) == {"text beside the pictures": 1}


@pytest.mark.parametrize(("part", "count"), [("", 24), ("hub", 4), ("shards", 5), ("test", 10), ("files", 5)])
def test_a_mixture_gives_all_parts_or_the_one_that_was_asked_for(
    tmp_path: Path, picture: Put, part: str, count: int
) -> None:
    hub(tmp_path / "data/train-0.parquet", row("11"))
    shard(tmp_path / "shards/elsa_v2-0000.tar", "elsa_v2__train__12")
    tar(tmp_path / "d3_test.tar", *(f"d3_test/{half}/{kind}/77.png" for half in ("augm", "no_augm") for kind in KINDS))
    for kind in ("gen0", "gen1", "gen2", "gen3", "real"):
        picture(tmp_path / f"unpacked/13_{kind}.jpg")

    assert len(layouts.read("d3", tmp_path, part=part).samples) == count


def test_records_on_the_releases_filter_are_left_out(tmp_path: Path) -> None:
    shard(tmp_path / "d3/elsa_v2-0000.tar", "elsa_v2__train__11", "elsa_v2__train__12")
    (tmp_path / "filter.json").write_text(json.dumps(["11"]))

    found = layouts.read("d3", tmp_path / "d3", without=str(tmp_path / "filter.json"))

    assert {sample.groups["record"] for sample in found.samples} == {"12"}
    assert found.left_out["its record is on the list of without="] == 5


def test_a_torn_shard_is_left_out_whole_and_the_others_are_read(tmp_path: Path) -> None:
    torn = shard(tmp_path / "elsa_v2-0000.tar", "elsa_v2__train__11")
    torn.write_bytes(torn.read_bytes()[:3000])
    (tmp_path / "elsa_v2-0001.tar").write_bytes(b"")
    (tmp_path / "train-1.parquet").write_bytes(b"PAR1 torn")
    (tmp_path / "elsa_v2-0003.tar.gz").write_bytes(b"")
    shard(tmp_path / "elsa_v2-0004.tar", "elsa_v2__train__12")

    found = layouts.read("d3", tmp_path)

    assert {sample.groups["record"] for sample in found.samples} == {"12"}
    assert reason(found, "the archive is torn") == 3
    assert reason(found, "a compressed tar file") == 1


def test_a_table_of_another_kind_is_refused_naming_the_columns_it_lacks(tmp_path: Path) -> None:
    hub(tmp_path / "train-0.parquet", {"id": "1", "image": {"bytes": b"", "path": ""}})

    with pytest.raises(LayoutError, match=r"no column url, image_gen0(.|\n)*hub: "):
        layouts.read("d3", tmp_path)


def test_another_tree_is_refused_naming_the_four_shapes(tmp_path: Path, picture: Put) -> None:
    picture(tmp_path / "real/a.png")

    with pytest.raises(LayoutError, match=r"none of its four shapes(.|\n)*\{augm,no_augm\}"):
        layouts.read("d3", tmp_path)


def test_asking_for_a_part_that_is_not_there_is_refused(tmp_path: Path) -> None:
    shard(tmp_path / "elsa_v2-0000.tar", "elsa_v2__train__11")

    with pytest.raises(LayoutError, match="nothing of its part 'hub' is there"):
        layouts.read("d3", tmp_path, part="hub")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part": "shard"}, "did you mean shards"),
        ({"split": "validation"}, "known|did you mean"),
        ({"reals": "nowhere"}, "reals=nowhere is no folder"),
        ({"without": "nowhere"}, "give a JSON list"),
    ],
)
def test_options_that_do_not_hold_are_refused(tmp_path: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        layouts.read("d3", tmp_path, **options)


def test_parquet_without_its_extra_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub(tmp_path / "train-0.parquet", row("11"))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(MissingExtra, match=r"assay\[data\]"):
        layouts.read("d3", tmp_path)
