from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from assay.data import layouts
from assay.errors import LayoutError, MissingExtra
from assay.image import place
from assay.types import Label

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

Put = Callable[[Path], Path]


def table(folder: Path, text: str, name: str = "table.csv", pictures: int = 3) -> Path:
    """A table beside the pictures 0.png, 1.png, …"""
    for number in range(pictures):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / f"{number}.png")
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def pixels(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(file, "PNG")
    return file.getvalue()


def rows(path: Path, *found: dict[str, Any], classes: dict[str, list[str]] | None = None) -> Path:
    """A Parquet file, with class names as the Hub's library writes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = pyarrow.Table.from_pylist(list(found))
    if classes:
        features = {name: {"names": names, "_type": "ClassLabel"} for name, names in classes.items()}
        data = data.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(data, path, compression="none")
    return path


def labels(path: Path, **options: str) -> list[Label | None]:
    return [sample.label for sample in layouts.read("columns", path, **options).samples]


def test_columns_of_the_usual_names_are_found_and_the_rest_are_groups(tmp_path: Path) -> None:
    sha = "ab" * 32
    path = table(
        tmp_path,
        "id,filename,label,generator,source,subject,video,frame,sha256,split,licence\n"
        f"7,0.png,fake,sdxl,site,ann,clip1,12,{sha.upper()},val,CC0\n"
        "8,1.png,real,,site,,,,,train,\n",
    )

    first, second = layouts.read("columns", path).samples

    assert (first.place, first.label) == (str(tmp_path / "0.png"), Label.FAKE)
    assert (first.generator, first.source, first.subject, first.video) == ("sdxl", "site", "ann", "clip1")
    assert (first.frame, first.sha256, first.split) == (12, sha, "tune")
    assert first.groups == {"id": "7", "licence": "CC0"}
    assert (second.label, second.frame, second.split) == (Label.REAL, None, "train")


def test_options_name_the_columns(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    table(tmp_path / "pictures", "")
    path = table(tmp_path, "where;what;model;who;label\n0.png;synthetic;flux;ann;x\n1.png;original;;;y\n")

    first, second = layouts.read(
        "columns", path, path="where", label="what", generator="model", subject="who", root=str(tmp_path / "pictures")
    ).samples

    assert first.place == str(tmp_path / "pictures/0.png")
    assert (first.label, first.generator, first.subject) == (Label.FAKE, "flux", "ann")
    assert second.label is Label.REAL
    assert first.groups == {"table_label": "x"}


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("label", ("0", "1", ""), [Label.REAL, Label.FAKE, None]),
        ("label", ("0.0", "1.0", "1"), [Label.REAL, Label.FAKE, Label.FAKE]),
        ("is_fake", ("False", "TRUE", "true"), [Label.REAL, Label.FAKE, Label.FAKE]),
        ("is_real", ("0", "1", "True"), [Label.FAKE, Label.REAL, Label.REAL]),
        ("real", ("1", "0", "1.0"), [Label.REAL, Label.FAKE, Label.REAL]),
        ("label", ("Real", "AI-generated", "deepfake"), [Label.REAL, Label.FAKE, Label.FAKE]),
    ],
)
def test_labels_follow_their_words_and_the_polarity_of_their_column(
    tmp_path: Path, column: str, values: tuple[str, ...], expected: list[Label | None]
) -> None:
    lines = "".join(f"{number}.png,{value}\n" for number, value in enumerate(values))

    assert labels(table(tmp_path, f"path,{column}\n{lines}")) == expected


def test_options_say_which_values_are_which(tmp_path: Path) -> None:
    path = table(tmp_path, "path,label\n0.png,1\n1.png,2\n2.png,0\n")

    assert labels(path, real="1", fake="2, 0") == [Label.REAL, Label.FAKE, Label.FAKE]


def test_values_that_are_not_known_are_all_listed_before_the_first_row(tmp_path: Path) -> None:
    path = table(tmp_path, "path,label\n0.png,real\n1.png,partial\n2.png,2\n1.png,2\n")

    with pytest.raises(LayoutError, match=r"'2' \(2 rows\), 'partial' \(1 rows\); say which is which by real=VALUES"):
        next(iter(layouts.find("columns").read(path)))


def test_a_value_that_the_options_do_not_name_is_refused_and_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"not known: '0' \(1 rows\)"):
        labels(table(tmp_path, "path,label\n0.png,1\n1.png,0\n"), real="1")


def test_a_value_of_both_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="both name the value 'x'"):
        labels(table(tmp_path, "path,label\n0.png,x\n"), real="x", fake="X")


def test_a_split_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"column split holds values that are not known: 'eval'"):
        labels(table(tmp_path, "path,label,split\n0.png,real,train\n1.png,fake,eval\n"))


def test_a_table_without_labels_has_to_be_meant(tmp_path: Path) -> None:
    path = table(tmp_path, "path,note\n0.png,x\n")

    with pytest.raises(LayoutError, match=r"no column is known to hold the label; say label=COLUMN, or label=none"):
        labels(path)
    assert labels(path, label="none") == [None]


def test_a_column_that_is_not_there_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="generator=modl: no column called 'modl'; did you mean model"):
        labels(table(tmp_path, "path,label,model\n0.png,real,x\n"), generator="modl")


def test_a_table_without_a_path_is_refused_naming_its_columns(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"hold the path; say path=COLUMN \(of where, label\)"):
        labels(table(tmp_path, "where,label\n0.png,real\n"))


def test_columns_called_like_a_manifests_own_keep_another_name(tmp_path: Path) -> None:
    path = table(tmp_path, "path,label,origin,frame,class\n0.png,real,Paris,left,cat\n")

    (sample,) = layouts.read("columns", path).samples

    assert (sample.origin, sample.frame) == ("", None)
    assert sample.groups == {"class": "cat", "table_origin": "Paris", "table_frame": "left"}


def test_reals_have_no_generator(tmp_path: Path) -> None:
    path = table(tmp_path, "path,label,generator\n0.png,real,camera\n1.png,fake,sdxl\n")

    assert [sample.generator for sample in layouts.read("columns", path).samples] == ["", "sdxl"]


@pytest.mark.parametrize("name", ["t.tsv", "t.csv", "t.csv.gz"])
def test_tabs_semicolons_marks_and_gzip_are_read(tmp_path: Path, name: str) -> None:
    text = {"t.tsv": "path\tlabel\n0.png\treal\n"}.get(name, '\ufeffpath;label\r\n"0.png";real\r\n')
    path = table(tmp_path, text, name)
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))

    assert labels(path) == [Label.REAL]


def test_rows_without_a_picture_are_left_out_with_the_reason(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "path,label\n0.png,real\n9.png,real\n,fake\nhttps://example.org/a.png,fake\n1.png,real,more\n\n\0,real\n",
    )

    found = layouts.read("columns", path)

    assert len(found.samples) == 1
    assert dict(found.left_out) == {
        "no such file; say root=FOLDER, which the paths start from": 2,
        "the row has no picture": 1,
        "a URL, not a file; download the pictures and put their paths in the table": 1,
        "the row has another number of fields than the header": 1,
    }
    assert found.examples["the row has no picture"] == f"{path}::line 4"


def test_a_table_whose_pictures_are_all_elsewhere_is_refused_saying_so(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"no such file; say root=FOLDER, which the paths start from \(2\)"):
        labels(table(tmp_path, "path,label\na/0.png,real\na/1.png,fake\n"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"path,path,label\n", "the column 'path' stands there twice"),
        (b"path,label\n\xff.png,real\n", "not UTF-8 at byte"),
        (b'path,label\n"0.png,real\n', "not a table"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(data)

    with pytest.raises(LayoutError, match=message):
        labels(tmp_path / "t.csv")


def test_a_torn_gzip_or_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"path,label\n" * 99)[:-9])
    (tmp_path / "t.parquet").write_bytes(b"PAR1")

    for name in ("t.csv.gz", "t.parquet"):
        with pytest.raises(LayoutError, match="fetch it again"):
            labels(tmp_path / name)


def test_a_folder_without_a_table_is_refused_naming_what_was_expected(tmp_path: Path, picture: Put) -> None:
    picture(tmp_path / "a.png")

    with pytest.raises(LayoutError, match=r"there is no table in it(.|\n)*\.parquet"):
        labels(tmp_path)


def test_pictures_inside_parquet_are_cells(tmp_path: Path) -> None:
    images = [{"bytes": pixels(number), "path": f"{number}.png"} for number in range(3)]
    path = rows(
        tmp_path / "data/test-00000-of-00001.parquet",
        {"image": images[0], "label": "fake", "model": "flux", "steps": 20, "filename": "x"},
        {"image": None, "label": "real", "model": None, "steps": 0, "filename": "y"},
        {"image": images[2], "label": "real", "model": None, "steps": None, "filename": "z"},
    )

    found = layouts.read("columns", tmp_path, generator="model")

    assert [sample.place for sample in found.samples] == [f"{path}::0/image", f"{path}::2/image"]
    assert [(sample.label, sample.generator, sample.split) for sample in found.samples] == [
        (Label.FAKE, "flux", "test"),
        (Label.REAL, "", "test"),
    ]
    assert [sample.groups for sample in found.samples] == [
        {"steps": "20", "filename": "x"},
        {"filename": "z"},
    ]
    assert dict(found.left_out) == {"the row has no picture": 1}
    assert place.read(found.samples[1].place) == pixels(2)


def test_class_names_in_a_parquet_file_decide_and_not_the_numbers(tmp_path: Path) -> None:
    cells = [{"image": pixels(number), "label": number} for number in (0, 1)]
    path = rows(tmp_path / "train-0.parquet", *cells, classes={"label": ["fake", "real"]})

    assert labels(path) == [Label.FAKE, Label.REAL]


def test_rows_are_counted_across_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.data.layouts.columns._ROWS", 2)
    path = rows(tmp_path / "t.parquet", *({"image": pixels(number), "label": 1} for number in range(5)))

    samples = layouts.read("columns", path).samples

    assert [place.read(sample.place) for sample in samples] == [pixels(number) for number in range(5)]


def test_a_class_number_of_minus_one_is_an_unknown_label(tmp_path: Path) -> None:
    cells = [{"image": pixels(number), "label": number} for number in (0, -1)]
    path = rows(tmp_path / "test-0.parquet", *cells, classes={"label": ["real", "fake"]})

    assert labels(path) == [Label.REAL, None]


def test_class_names_that_say_nothing_are_refused_by_name_or_told_by_options(tmp_path: Path) -> None:
    cells = [{"image": pixels(number), "label": number} for number in (0, 1)]
    path = rows(tmp_path / "train-0.parquet", *cells, classes={"label": ["midjourney", "human"]})

    with pytest.raises(LayoutError, match=r"'0' = midjourney \(1 rows\)"):
        labels(path)
    assert labels(path, real="human", fake="midjourney") == [Label.FAKE, Label.REAL]


def test_parquet_may_hold_paths_too(tmp_path: Path) -> None:
    table(tmp_path, "")
    path = rows(tmp_path / "t.parquet", {"path": "0.png", "is_real": True}, {"path": "1.png", "is_real": False})

    assert labels(path) == [Label.REAL, Label.FAKE]


def test_a_path_may_be_an_address(tmp_path: Path) -> None:
    (tmp_path / "shard.tar").write_bytes(b"")

    (sample,) = layouts.read("columns", table(tmp_path, "path,label\nshard.tar::a.png,real\n")).samples

    assert sample.place == f"{tmp_path}/shard.tar::a.png"


def test_the_bytes_of_the_pictures_are_never_read(tmp_path: Path) -> None:
    image = {"bytes": b"PICTURE BYTES " * 4000, "path": "a.png"}
    path = rows(tmp_path / "t.parquet", {"image": image, "label": 0}, {"image": image, "label": 1})
    data = bytearray(path.read_bytes())
    column = parquet.ParquetFile(path).metadata.row_group(0).column(0)
    assert column.path_in_schema == "image.bytes"
    start = min(at for at in (column.dictionary_page_offset, column.data_page_offset) if at)
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(data)

    assert labels(path) == [Label.REAL, Label.FAKE]


def test_parquet_without_its_extra_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = rows(tmp_path / "t.parquet", {"path": "0.png", "label": 0})
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(MissingExtra, match=r"assay\[data\]"):
        labels(path)
