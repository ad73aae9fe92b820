"""Manifests: what a table says is what comes out, and every fault is named before any work."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.data import manifest
from assay.errors import ManifestError, OutputError
from assay.types import Label, Sample


def files(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def table(folder: Path, text: str, name: str = "manifest.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def problems(path: Path, **options: bool) -> tuple[str, ...]:
    with pytest.raises(ManifestError) as caught:
        manifest.read(path, **options)
    return caught.value.problems


def test_a_table_becomes_samples_in_its_own_order(tmp_path: Path) -> None:
    files(tmp_path, "z.png", "a/b.png", "c.png")
    path = table(
        tmp_path,
        "path,label,generator,source,split,subject,video,frame,camera\n"
        'z.png,fake,sdxl,"site, one",train,cat,,,x\n'
        "a/b.png,0,,camera,val,dog,clip,7,\n"
        "c.png,,,,,,,,\n",
    )
    assert list(manifest.read(path)) == [
        Sample(str(tmp_path / "z.png"), Label.FAKE, "sdxl", "site, one", "cat", split="train", groups={"camera": "x"}),
        Sample(str(tmp_path / "a/b.png"), Label.REAL, "", "camera", "dog", "clip", 7, split="tune"),
        Sample(str(tmp_path / "c.png"), None),
    ]


def test_one_is_fake_and_zero_is_real(tmp_path: Path) -> None:
    path = table(tmp_path, "path,label\na,1\nb,0\nc,Fake\nd,REAL\n")
    assert [sample.label for sample in manifest.read(path, check=False)] == [1, 0, 1, 0]


def test_a_gzipped_table_with_a_byte_order_mark_reads_the_same(tmp_path: Path) -> None:
    text = "path,label,source\nä.png,real,größe\n"
    plain = table(tmp_path, text)
    zipped = tmp_path / "manifest.csv.gz"
    zipped.write_bytes(gzip.compress(text.encode("utf-8-sig")))
    assert list(manifest.read(zipped, check=False)) == list(manifest.read(plain, check=False))
    assert manifest.read(plain, check=False)[0].source == "größe"


def test_two_crops_of_one_original_share_an_origin(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "path,label,source_repo,commit,source_path\n"
        "a,real,maker/photos,c0ffee,x/1.jpg\n"
        "b,real,maker/photos,c0ffee,x/1.jpg\n"
        "c,real,maker/photos,c0ffee,x/2.jpg\n",
    )
    a, b, c = manifest.read(path, check=False)
    assert a.origin == hashlib.sha256(b"maker/photos@c0ffee:x/1.jpg").hexdigest()
    assert a.origin == b.origin != c.origin
    assert a.source == "maker/photos"


def test_the_files_hash_is_its_origin_where_nothing_else_says_it(tmp_path: Path) -> None:
    digest, other = "AB" * 32, "cd" * 32
    path = table(tmp_path, f"path,label,sha256,origin\na,real,{digest},\nb,real,{digest},{other}\n")
    a, b = manifest.read(path, check=False)
    assert (a.origin, b.origin) == (digest.lower(), other)
    assert a.sha256 == digest.lower()


def test_every_fault_is_listed_with_its_row_before_any_work(tmp_path: Path) -> None:
    files(tmp_path, "a.png", "b.png", "folder/c.png")
    path = table(
        tmp_path,
        "path,label,split,sha256\n"
        "a.png,real,train,\n"
        "gone.png,fake,train,\n"
        "b.png,fale,train,\n"
        "./a.png,real,train,\n"
        "b.png,fake,validation,\n"
        "folder,fake,test,\n"
        ",fake,test,\n"
        "b.png,fake,test\n"
        "b.png,fake,test,12\n",
    )
    found = problems(path)
    for row, words in {
        3: "no such file",
        4: "no label called 'fale'; did you mean fake",
        5: "the same path as row 2",
        6: "no split called 'validation'",
        7: "not a file",
        8: "no path",
        9: "3 fields under 4 columns",
        10: "sha256 must be 64 hexadecimal digits",
    }.items():
        assert any(problem.startswith(f"row {row}:") and words in problem for problem in found), (row, found)
    assert len(found) == 8


def test_a_message_shows_twenty_problems_and_counts_all(tmp_path: Path) -> None:
    path = table(tmp_path, "path,label\n" + "".join(f"missing{row}.png,real\n" for row in range(33)))
    with pytest.raises(ManifestError) as caught:
        manifest.read(path)
    assert len(caught.value.problems) == 33
    message = str(caught.value)
    assert "33 problems" in message
    assert "… and 13 more" in message
    assert "missing19.png" in message
    assert "missing20.png" not in message


@pytest.mark.parametrize("split", ["train", "val", "tune"])
def test_an_origin_on_both_sides_of_the_test_split_is_refused(tmp_path: Path, split: str) -> None:
    origin = "0a" * 32
    path = table(tmp_path, f"path,label,split,origin\na,real,{split},{origin}\nb,real,test,{origin.upper()}\n")
    (problem,) = problems(path, check=False)
    assert problem.startswith("row 3: a test row with the same origin as row 2")


def test_crops_of_one_original_may_stand_in_train_and_tune_and_twice_in_test(tmp_path: Path) -> None:
    a, b = "0a" * 32, "0b" * 32
    path = table(
        tmp_path,
        f"path,label,split,origin\na,real,train,{a}\nb,real,tune,{a}\nc,real,test,{b}\nd,real,test,{b}\ne,real,,{b}\n",
    )
    assert len(manifest.read(path, check=False)) == 5


def test_a_copy_of_a_training_file_among_the_test_files_is_refused(tmp_path: Path) -> None:
    same = b"x" * 5000
    for name, data in {"a": same, "b": same, "c": same[:-1] + b"y", "d": same}.items():
        (tmp_path / name).write_bytes(data)
    path = table(tmp_path, "path,label,split\na,real,train\nb,real,test\nc,real,test\nd,real,train\n")
    (problem,) = problems(path)
    assert problem.startswith("row 3: a test row with the same bytes as row 2")
    hashed = "path,label,split,sha256\na,real,train,{0}\nb,real,test,{0}\n".format(hashlib.sha256(same).hexdigest())
    assert [problem.split(" with ")[1] for problem in problems(table(tmp_path, hashed, "hashed.csv"))] == [
        "the same origin as row 2 (train)",
        "the same sha256 as row 2 (train)",
    ]
    assert len(manifest.read(path, check=False)) == 4


def test_without_the_check_no_file_need_exist_but_the_table_must_hold(tmp_path: Path) -> None:
    assert len(manifest.read(table(tmp_path, "path,label\nnowhere.png,real\n"), check=False)) == 1
    assert problems(table(tmp_path, "path,label\nnowhere.png,rael\n"), check=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("path,split\na,train\n", "no column 'label'"),
        ("file,label\na,real\n", "no column 'path'"),
        ("path,label,label\na,real,real\n", "column 'label' stands there twice"),
        ("path,label\n", "no rows under the header"),
        ('path,label\n"a,real\n', "not a CSV table"),
    ],
)
def test_a_table_that_is_none_is_refused_with_the_reason(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        manifest.read(table(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("m.csv", b"path,label\n\xe4.png,real\n", "not UTF-8"),
        ("m.csv.gz", b"path,label\n", "torn or is none"),
        ("m.csv.gz", gzip.compress(b"path,label\na,real\n", mtime=0)[:-9], "torn or is none"),
        ("m.xlsx", b"PK", "export this table as one"),
        ("m.parquet", b"PAR1", "torn or no Parquet table"),
    ],
)
def test_bytes_that_are_no_table_are_refused_with_the_reason(
    tmp_path: Path, name: str, data: bytes, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ManifestError, match=words):
        manifest.read(path)


def test_a_manifest_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such manifest"):
        manifest.read(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ManifestError, match=r"a folder without a manifest\.csv; read the data set .*assay data read"):
        manifest.read(tmp_path / "folder.csv")


@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz", "out.parquet"])
def test_what_is_written_is_read_back_the_same(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "elsewhere" / "c.png"
    folder = tmp_path / "set"
    samples = [
        Sample(
            str(folder / "a, b.png"),
            Label.FAKE,
            'the "best"',
            "site\nwith a line",
            origin="0a" * 32,
            split="train",
            groups={"x": "1"},
        ),
        Sample(str(folder / "sub" / "ä.png"), Label.REAL, split="tune", groups={"y": "a\rb"}, video="v", frame=3),
        Sample(str(outside), None, sha256="0b" * 32, origin="0c" * 32, subject="s"),
    ]
    manifest.write(folder / name, samples)
    again = manifest.read(folder / name, check=False)
    assert list(again) == samples


def test_spaces_around_a_cell_are_nothing_but_a_files_name_may_have_them(tmp_path: Path) -> None:
    (sample,) = manifest.read(table(tmp_path, "path, label ,source\n a.png , Fake , site \n"), check=False)
    assert sample == Sample(str(tmp_path / " a.png "), Label.FAKE, source="site")


def test_a_written_folder_can_move(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    files(folder, "a.png")
    manifest.write(folder / "m.csv", [Sample(str(folder / "a.png"), Label.REAL)])
    moved = folder.rename(tmp_path / "moved")
    assert manifest.read(moved / "m.csv")[0].place == str(moved / "a.png")


def test_writing_twice_gives_the_same_bytes_and_leaves_nothing_else(tmp_path: Path) -> None:
    sample = Sample(str(tmp_path / "a.png"), Label.REAL)
    manifest.write(tmp_path / "m.csv.gz", [sample])
    first = (tmp_path / "m.csv.gz").read_bytes()
    manifest.write(tmp_path / "m.csv.gz", [sample])
    assert (tmp_path / "m.csv.gz").read_bytes() == first
    assert first[4:8] == bytes(4), "a time of writing would make tomorrow's file another"
    assert [path.name for path in tmp_path.iterdir()] == ["m.csv.gz"]


def test_a_group_named_like_a_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot be called 'split'"):
        manifest.write(tmp_path / "m.csv", [Sample("a", Label.REAL, groups={"split": "x"})])


def test_a_name_that_is_not_unicode_is_refused_and_no_file_is_left(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="not valid Unicode"):
        manifest.write(tmp_path / "m.csv", [Sample("bad\udce4.png", Label.REAL)])
    assert list(tmp_path.iterdir()) == []


SAMPLES = [
    Sample("a", Label.REAL, source="s1", split="train", groups={"kind": "crop"}),
    Sample("b", Label.FAKE, generator="g1", source="s2", split="test", groups={"kind": "crop"}),
    Sample("c", Label.FAKE, generator="g2", source="s2", split="tune", groups={}),
    Sample("d", None, source="s1", split="test"),
]


def places(samples: Sequence[Sample]) -> str:
    return "".join(sample.place for sample in samples)


def test_selecting_takes_the_rows_for_which_everything_holds() -> None:
    assert places(manifest.select(SAMPLES)) == "abcd"
    assert places(manifest.select(SAMPLES, split="test")) == "bd"
    assert places(manifest.select(SAMPLES, split=("train", "tune"))) == "ac"
    assert places(manifest.select(SAMPLES, label=Label.REAL)) == "a"
    assert places(manifest.select(SAMPLES, label=Label.FAKE, source="s2", kind="crop")) == "b"
    assert places(manifest.select(SAMPLES, generator=["g1", "g2"])) == "bc"


def test_selecting_by_a_group_that_no_row_has_names_the_nearest() -> None:
    with pytest.raises(ManifestError, match="no column called 'knid'; did you mean kind"):
        manifest.select(SAMPLES, knid="crop")


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12).map(str.strip)


@given(name=st.text("aä,\"'\n\r;= .-", min_size=1).filter(lambda text: text.strip(". ") != ""), cell=CELL, group=CELL)
def test_any_text_survives_writing_and_reading(tmp_path_factory, name: str, cell: str, group: str) -> None:
    folder = tmp_path_factory.mktemp("set")
    sample = Sample(str(folder / name), Label.REAL, cell, cell, split="test", groups={"g": group} if group else {})
    manifest.write(folder / "m.csv", [sample])
    assert list(manifest.read(folder / "m.csv", check=False)) == [sample]


def test_a_lenient_reading_keeps_what_it_can_and_lists_the_rest(tmp_path: Path) -> None:
    text = "path,label,split,sha256,frame\na,fale,train,,x\n,real,train,,\nb,fake,exam,12,\nb,fake,test,,3\n"
    found = manifest.read(table(tmp_path, text), check=False, strict=False)
    assert [Path(sample.place).name for sample in found] == ["a", "b", "b"]
    assert [sample.label for sample in found] == [None, 1, 1]
    assert [sample.split for sample in found] == ["train", "", "test"]
    assert [sample.frame for sample in found] == [None, None, 3]
    assert found.row_numbers.tolist() == [2, 4, 5]
    for words in (
        "row 2: no label",
        "row 2: frame",
        "row 3: no path",
        "row 4: no split",
        "row 4: sha256",
        "row 5: the",
    ):
        assert any(problem.startswith(words) for problem in found.problems), words


def test_a_parquet_table_may_say_labels_and_frames_as_numbers(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    columns = {"path": ["a", "b", "c"], "label": [1, 0, None], "frame": [3, None, 0], "ok": [True, False, None]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "m.parquet")
    a, b, c = manifest.read(tmp_path / "m.parquet", check=False)
    assert [(s.label, s.frame) for s in (a, b, c)] == [(1, 3), (0, None), (None, 0)]
    assert (a.groups, b.groups, c.groups) == ({"ok": "1"}, {"ok": "0"}, {})


def test_a_parquet_table_with_pictures_inside_is_sent_to_the_layout_that_reads_it(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"path": ["a"], "label": ["real"], "image": [b"x"]}), tmp_path / "m.parquet")
    with pytest.raises(ManifestError, match="assay data read columns"):
        manifest.read(tmp_path / "m.parquet")


def test_pictures_inside_archives_are_found_and_missed(tmp_path: Path) -> None:
    import tarfile

    files(tmp_path, "a.png")
    with tarfile.open(tmp_path / "s.tar", "w") as out:
        out.add(tmp_path / "a.png", "a.png")
    path = table(tmp_path, "path,label,split\ns.tar::a.png,real,train\ns.tar::b.png,real,train\na.png,real,test\n")
    missing, twin = problems(path)
    assert missing.startswith("row 3: no such file")
    assert twin.startswith("row 4: a test row with the same bytes as row 2")


@pytest.mark.parametrize("name", ["folder.csv", "file/rows.csv"])
def test_a_manifest_that_cannot_be_written_says_so_before_and_after_the_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot be written .*; make room") as before:
        manifest.ready(tmp_path / name)
    with pytest.raises(OutputError, match=r"cannot be written .*; make room") as after:
        manifest.write(tmp_path / name, [Sample(place=str(tmp_path / "a.png"), label=Label.FAKE)])
    assert before.value.kind == after.value.kind == "disk"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.csv"]


def test_a_manifest_in_a_folder_that_does_not_exist_makes_it(tmp_path: Path) -> None:
    manifest.ready(tmp_path / "new" / "rows.csv")
    assert (tmp_path / "new").is_dir()
    assert not list((tmp_path / "new").iterdir())


def test_a_table_with_other_columns_says_how_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("Image_Name,Verdict\na.png,fake\n")
    with pytest.raises(ManifestError, match="assay data read columns TABLE --set path=COLUMN"):
        manifest.read(tmp_path / "labels.csv")
