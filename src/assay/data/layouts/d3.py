"""D3, the data of CoDE (Baraldi et al., ECCV 2024): LAION reals, and four fakes of each one's prompt.

Source: aimagelab/CoDE@f1c0566c2569, in the four shapes that it writes or reads, alone or mixed below one folder:

- **hub**: Parquet of the hub's data set elsaEU/ELSA_D3 (src/data_download/download_elsa_v2.py): `id`, `url`, and of
  each generator 0–3 `image_genN` (bytes and path), `model_genN` and more. Files `train-*` and `validation-*`.
- **files**: what that script unpacks, `ID_gen0.jpg` … `ID_gen3.jpg` with `ID_url.txt`, `ID_prompt.txt`; its reals are
  `ID_real.jpg` (src/debug/1275001022128).
- **shards**: WebDataset (src/data_download/wds_creation.py, src/dataset/DeepFakeDataset.py), of each record
  `elsa_v2__SPLIT__ID.gen_0.jpg` … `.gen_3.jpg`, `.real.jpg`, `.caption.txt`, `.url.txt`.
- **test**: `d3_test/{augm,no_augm}/{real,gen_0,…,gen_3}` as a tar file or unpacked (src/inference/dataset_paths_d3.py;
  validate_d3.py: real 0, fake 1, as here).

What becomes of it:

- **Generator**: the hub names it in each row (`model_genN`), and that is what counts. The other shapes only number.
  *Inferred*: 0–3 are DeepFloyd IF, SD 1.4, SD 2.1 and SDXL everywhere. So stand they in the hub's rows as its users
  report them, CoDE's own example agrees (its gen0 is 256 × 256, which only IF's second stage gives), and nothing in
  CoDE's scripts reorders them.
- **Record**: group "record" is the id, shared by a real and its fakes. A split must keep it together; `origin` stays
  empty, since fakes of a prompt are not derived from the real picture's bytes. In the test set the file's name stands
  for it (*inferred*).
- **Split**: the hub's validation is "tune"; shards say theirs in each key, unless the option `split` does (CoDE's lists
  of validation and test shards are by archive); unpacked files are of the hub's train, the only one the script takes.
- **Group "transforms"**: augm (CoDE's T was applied) or no_augm, in the test set and in shards (`*_transf*.tar`). A
  record in both is in both.
- **Reals of the hub** are addresses on the web. Option `urls=FILE` writes the list of those that are missing,
  `assay data fetch` fetches it, and `reals` takes their folder (`ID.jpg` or `ID_real.jpg`, any suffix of a picture).
- *Release*: training passes over records whose real turned out bad (src/dataset/filter_real_images.json, a JSON list of
  ids). Option `without=FILE` does the same.
"""

from __future__ import annotations

import csv
import json
import os
import re
import tarfile
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

from assay.data.layouts import PICTURES, SPLITS, Layout, LeftOut, files, told
from assay.errors import LayoutError, MissingExtra, OutputError, unknown
from assay.image import place
from assay.types import Label, Sample

PARTS = ("hub", "files", "shards", "test")
GENERATORS = ("deepfloyd-if", "sd-1.4", "sd-2.1", "sdxl")
"""Of gen 0–3."""

_MODELS = (
    ("deepfloyd", GENERATORS[0]),
    ("stable-diffusion-v1-4", GENERATORS[1]),
    ("stable-diffusion-2-1", GENERATORS[2]),
    ("stable-diffusion-xl", GENERATORS[3]),
)
"""What a `model_genN` holds (DeepFloyd/IF-II-L-v1.0, CompVis/stable-diffusion-v1-4, …), in lower case."""

_ROWS = 1024
"""Rows of a Parquet file that are held at a time, without their pictures."""

_TEST = re.compile(r"(?:.*/)?(?P<transforms>augm|no_augm)/(?P<kind>gen_[0-3]|real)/(?:.*/)?(?P<key>[^/.]+)[^/]*\Z")
_SHARD = re.compile(r"(?:.*/)?(?P<key>[^/.]+)\.(?P<kind>gen_[0-3]|real)\.[^/.]+\Z")
_FILE = re.compile(r"(?:.*/)?(?P<key>\d+)_(?P<kind>gen[0-3]|real)\.[^/.]+\Z")
_ENDING = re.compile(r"[._-](gen_?[0-3]|real)\Z")
_TEXTS = (".txt", ".json")

_NO_REAL = (
    "the hub has only the URL of the real: write the list with urls=FILE, fetch it with assay data fetch, and give the "
    "folder as reals=FOLDER"
)
_TORN = "the archive is torn, or no archive: fetch it again"
_PACKED = "a compressed tar file, whose members cannot be reached one by one: decompress it"


def read(
    root: Path, *, part: str = "", split: str = "", reals: str = "", urls: str = "", without: str = ""
) -> Iterator[Sample | LeftOut]:
    """Samples of all parts of D3 below `root`, or in `root` where it is one file.

    Raises:
        LayoutError: nothing of D3 (or of `part`) is there, a Parquet file has other columns, or an option does not
            hold.
        MissingExtra: there is Parquet, but not the extra "data".
        OutputError: the list of URLs cannot be written.
    """
    if part and part not in PARTS:
        raise LayoutError(unknown("part of d3", part, PARTS), kind="unknown")
    if split and split not in SPLITS.values():
        raise LayoutError(unknown("split", split, set(SPLITS.values())), kind="unknown")
    found = False
    kept = _Records(split, _ids(without), _reals(reals))
    with _List(urls) as wanted:
        for path in files(root):
            if reals and path.absolute().is_relative_to(Path(reals).absolute()):
                continue
            for item in _items(path, root, kept, wanted, part):
                found = found or isinstance(item, Sample) or item.reason in (_TORN, _PACKED, _NO_REAL)
                yield item
        if not found:
            raise LAYOUT.mismatch(
                root, f"nothing of its part {part!r} is there" if part else "none of its four shapes is there"
            )


def generator_of(model: str, number: int) -> str:
    """Our name of a generator: of what `model_genN` holds, else of its number N."""
    plain = model.strip().lower()
    if not plain:
        return GENERATORS[number]
    return next((name for mark, name in _MODELS if mark in plain), plain.rsplit("/", 1)[-1])


class _Records:
    """What holds for all parts: the split that was said, ids to pass over, places of reals."""

    def __init__(self, split: str, without: Container[str], reals: dict[str, str]) -> None:
        self.split = split
        self.without = without
        self.reals = reals

    def sample(
        self, found: str, record: str, number: int | None, split: str, *, model: str = "", transforms: str = ""
    ) -> Sample | LeftOut:
        """The sample of a real (`number` None) or of a fake."""
        if record in self.without:
            return LeftOut(found, "its record is on the list of without=")
        return Sample(
            place=found,
            label=Label.REAL if number is None else Label.FAKE,
            generator="" if number is None else generator_of(model, number),
            source="LAION-400M" if number is None else "D3",
            split=self.split or split,
            groups={"record": record} | ({"transforms": transforms} if transforms else {}),
        )


def _items(path: Path, root: Path, kept: _Records, wanted: _List, part: str) -> Iterator[Sample | LeftOut]:
    name = path.name.lower()
    if name.endswith(".parquet"):
        if part in ("", "hub"):
            yield from _hub(path, kept, wanted)
    elif name.endswith(".tar"):
        yield from _tar(path, kept, part)
    elif name.endswith((".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2")):
        yield LeftOut(str(path), _PACKED)
    else:
        # From the folder above the root, so that the root may be d3_test or even augm.
        yield from _named(
            str(path),
            path.absolute().relative_to(root.absolute().parent.parent).as_posix(),
            "",
            kept,
            part,
            ("files", "test"),
        )


def _named(
    found: str, name: str, archive: str, kept: _Records, part: str, parts: tuple[str, ...]
) -> Iterator[Sample | LeftOut]:
    """A file or a member of a tar file, by its name."""
    shapes = {"test": _TEST, "shards": _SHARD, "files": _FILE}
    suffix = Path(name).suffix.lower()
    match, shape = next(
        (
            (match, shape)
            for shape in ("test", "shards", "files")
            if shape in parts and (match := shapes[shape].match(name))
        ),
        (None, ""),
    )
    if match is None or suffix not in PICTURES:
        reason = "text beside the pictures" if suffix in _TEXTS else "neither of D3's pictures nor of its archives"
        yield LeftOut(found, reason)
        return
    if part and shape != part:
        return
    number = None if match["kind"] == "real" else int(match["kind"][-1])
    record = match["key"].rsplit("__", 1)[-1]
    if shape == "test":
        record = _ENDING.sub("", record)
        yield kept.sample(found, record, number, "test", transforms=match["transforms"])
    elif shape == "shards":
        said = next((told(word)[0] for word in match["key"].split("__")[1:-1] if told(word)[0]), "")
        transforms = "augm" if "transf" in re.split("[-_.]", archive) else "no_augm"
        yield kept.sample(found, record, number, said, transforms=transforms)
    else:
        yield kept.sample(found, record, number, "train")


def _tar(path: Path, kept: _Records, part: str) -> Iterator[Sample | LeftOut]:
    try:
        with tarfile.open(path, "r:") as tar:
            names = [member.name for member in tar if member.isreg()]
    except (tarfile.TarError, EOFError, OSError):
        yield LeftOut(str(path), _TORN)
        return
    for name in names:
        yield from _named(place.join(path, name), name, path.stem.lower(), kept, part, ("test", "shards"))


def _hub(path: Path, kept: _Records, wanted: _List) -> Iterator[Sample | LeftOut]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra("reading D3's Parquet files", "data") from None
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException):
        yield LeftOut(str(path), _TORN)
        return
    schema = file.schema_arrow
    missing = [name for name in ("id", "url", *(f"image_gen{n}" for n in range(4))) if name not in schema.names]
    if missing:
        raise LAYOUT.mismatch(path, f"the Parquet file has no column {', '.join(missing)}")
    columns = ["id", "url", *(f"model_gen{number}" for number in range(4) if f"model_gen{number}" in schema.names)]
    # A leaf beside the bytes says whether there is a picture, and costs nothing to read.
    columns += [leaf for number in range(4) if (leaf := _beside(schema.field(f"image_gen{number}")))]
    split = told(path.name.split("-")[0])[0] or told(path.parent.name)[0]
    first = 0
    batches = file.iter_batches(batch_size=_ROWS, columns=columns)
    while True:
        try:
            batch = next(batches, None)
        except (OSError, pyarrow.ArrowException):
            yield LeftOut(str(path), _TORN)
            return
        if batch is None:
            return
        for row, cells in enumerate(_rows(batch), start=first):
            yield from _record(path, row, cells, split, kept, wanted)
        first += batch.num_rows


def _beside(field: Any) -> str:
    """A leaf of a struct of bytes and others that is not the bytes; empty where there is none."""
    names = [child.name for child in field.type if child.name != "bytes"] if field.type.num_fields else []
    return f"{field.name}.{names[0]}" if names else ""


def _rows(batch: Any) -> Iterator[dict[str, Any]]:
    """Cells of each row; of pictures only whether they are there."""
    columns = {
        name: column.is_valid().to_pylist() if name.startswith("image_gen") else column.to_pylist()
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    }
    for row in range(batch.num_rows):
        yield {name: column[row] for name, column in columns.items()}


def _record(
    path: Path, row: int, cells: dict[str, Any], split: str, kept: _Records, wanted: _List
) -> Iterator[Sample | LeftOut]:
    record, url = str(cells["id"]), str(cells["url"] or "")
    for number in range(4):
        found = place.join(path, f"{row}/image_gen{number}")
        if cells.get(f"image_gen{number}", True):
            yield kept.sample(found, record, number, split, model=str(cells.get(f"model_gen{number}") or ""))
        else:
            yield LeftOut(found, "the cell of the fake is empty")
    if record in kept.reals:
        yield kept.sample(kept.reals[record], record, None, split)
    elif record in kept.without:
        yield LeftOut(place.join(path, f"{row}/url"), "its record is on the list of without=")
    else:
        wanted.add(record, url)
        yield LeftOut(place.join(path, f"{row}/url"), _NO_REAL)


def _ids(without: str) -> frozenset[str]:
    if not without:
        return frozenset()
    try:
        ids = json.loads(Path(without).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LayoutError(f"without={without} cannot be read ({error}); give a JSON list of ids") from None
    if not isinstance(ids, list):
        raise LayoutError(f"without={without} holds no list; give a JSON list of ids")
    return frozenset(str(one) for one in ids)


def _reals(folder: str) -> dict[str, str]:
    """Places of the reals by id, which is the file's name up to the first "_" or "."."""
    if not folder:
        return {}
    if not Path(folder).is_dir():
        raise LayoutError(f"reals={folder} is no folder; give the one with the reals, named by id")
    found: dict[str, str] = {}
    for path in files(Path(folder), PICTURES):
        found.setdefault(re.split("[_.]", path.name, maxsplit=1)[0], str(path))
    return found


class _List:
    """The list of reals that are still to be fetched: a CSV of id and url, which appears whole or not at all."""

    def __init__(self, target: str) -> None:
        self._target = Path(target) if target else None
        self._part = self._target and self._target.with_name(f".{self._target.name}.{os.getpid()}.part")

    def __enter__(self) -> _List:
        if self._part is None:
            return self
        try:
            self._part.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._part.open("w", newline="", encoding="utf-8")
            self._writer = csv.writer(self._file)
            self._writer.writerow(["id", "url"])
        except OSError as error:
            raise self._cannot(error) from None
        return self

    def add(self, record: str, url: str) -> None:
        if self._part is None:
            return
        try:
            self._writer.writerow([record, url])
        except OSError as error:
            raise self._cannot(error) from None

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        if self._part is None or self._target is None:
            return
        try:
            self._file.close()
            if kind is None:
                self._part.replace(self._target)
        except OSError as error:
            raise self._cannot(error) from None
        finally:
            self._part.unlink(missing_ok=True)

    def _cannot(self, error: OSError) -> OutputError:
        return OutputError(f"urls={self._target} cannot be written ({error.strerror}); name another file", kind="disk")


LAYOUT = Layout(
    name="d3",
    summary="D3 (ELSA): LAION reals and four diffusion fakes of each one's prompt, as Parquet, shards or the test tar",
    shape="""one or several of
  hub:    **/train-*.parquet, validation-*.parquet with id, url, model_gen0..3, image_gen0..3
  files:  **/ID_gen0.jpg, …, ID_gen3.jpg, ID_real.jpg
  shards: **/*.tar with elsa_v2__SPLIT__ID.gen_0.jpg, …, .gen_3.jpg, .real.jpg
  test:   d3_test.tar or d3_test/, with {augm,no_augm}/{real,gen_0,gen_1,gen_2,gen_3}/*""",
    source=(
        "aimagelab/CoDE@f1c0566c2569: src/data_download/download_elsa_v2.py, src/data_download/wds_creation.py, "
        "src/dataset/DeepFakeDataset.py, src/inference/dataset_paths_d3.py, src/debug"
    ),
    read=read,
    options={
        "part": "hub, files, shards or test, where only one is wanted",
        "split": "train, tune or test, for all rows",
        "reals": "folder of the hub's reals, fetched by you, named by id",
        "urls": "file to write: id and url of each real that is missing",
        "without": "JSON list of record ids to pass over (CoDE's src/dataset/filter_real_images.json)",
    },
)
