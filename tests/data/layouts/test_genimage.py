from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from assay.data import layouts
from assay.errors import LayoutError
from assay.types import Label

Put = Callable[[Path], Path]


def test_ai_is_fake_nature_is_real_and_val_is_the_test_set(tmp_path: Path, picture: Put) -> None:
    for split in ("train", "val"):
        picture(tmp_path / f"BigGAN/imagenet_ai_0419_biggan/{split}/ai/000_biggan_00093.png")
        picture(tmp_path / f"BigGAN/imagenet_ai_0419_biggan/{split}/nature/n01440764_1234.JPEG")

    samples = layouts.read("genimage", tmp_path).samples

    assert [(sample.label, sample.split) for sample in samples] == [
        (Label.FAKE, "train"),
        (Label.REAL, "train"),
        (Label.FAKE, "test"),
        (Label.REAL, "test"),
    ]
    assert [sample.generator for sample in samples] == ["biggan", ""] * 2
    assert [sample.source for sample in samples] == ["GenImage", "ImageNet"] * 2


@pytest.mark.parametrize(
    ("folder", "generator"),
    [
        ("Stable Diffusion V1.4", "sd-1.4"),
        ("stable_diffusion_v_1_5/imagenet_ai_0424_sdv5", "sd-1.5"),
        ("imagenet_ai_0419_sdv4", "sd-1.4"),
        ("imagenet_midjourney", "midjourney"),
        ("imagenet_glide", "glide"),
        ("ADM", "adm"),
        ("VQDM/imagenet_ai_0419_vqdm", "vqdm"),
        ("Wukong", "wukong"),
        ("FLUX", "flux"),
    ],
)
def test_every_spelling_of_a_generator_gives_one_name_to_fakes_and_their_reals(
    tmp_path: Path, picture: Put, folder: str, generator: str
) -> None:
    picture(tmp_path / folder / "train/ai/7.png")
    picture(tmp_path / folder / "train/nature/n01440764_1234.JPEG")

    fake, real = layouts.read("genimage", tmp_path).samples

    assert fake.generator == fake.groups["subset"] == real.groups["subset"] == generator
    assert real.generator == ""


def test_one_generators_folder_says_its_generator_itself(tmp_path: Path, picture: Put) -> None:
    picture(tmp_path / "imagenet_ai_0508_adm/val/ai/0_adm_74.PNG")

    (sample,) = layouts.read("genimage", tmp_path / "imagenet_ai_0508_adm").samples

    assert sample.generator == "adm"


def test_where_generators_are_put_together_the_file_says_which(tmp_path: Path, picture: Put) -> None:
    names = {
        "000_sdv4_00012.png": "sd-1.4",
        "0_wukong_image0.png": "wukong",
        "GLIDE_1000_200_05_510_glide_00008.png": "glide",
        "unnamed.png": "",
    }
    for name in names:
        picture(tmp_path / "imagenet_ai/train/ai" / name)

    samples = layouts.read("genimage", tmp_path).samples

    assert {Path(sample.place).name: sample.generator for sample in samples} == names


def test_names_give_synset_class_number_and_record_where_they_hold_them(tmp_path: Path, picture: Put) -> None:
    picture(tmp_path / "ADM/train/ai/281_adm_74.PNG")
    picture(tmp_path / "ADM/train/nature/n02123045_10001.JPEG")
    picture(tmp_path / "ADM/val/ai/GLIDE_1_2_00.png")
    picture(tmp_path / "ADM/val/nature/ILSVRC2012_val_00000744.JPEG")

    groups = [dict(sample.groups) for sample in layouts.read("genimage", tmp_path).samples]

    assert groups == [
        {"subset": "adm", "class_index": "281"},
        {"subset": "adm", "record": "n02123045_10001", "synset": "n02123045"},
        {"subset": "adm"},
        {"subset": "adm", "record": "ILSVRC2012_val_00000744"},
    ]


def test_what_lies_elsewhere_is_left_out_with_the_reason(tmp_path: Path, picture: Put) -> None:
    picture(tmp_path / "ADM/train/ai/1.png")
    picture(tmp_path / "ADM/cover.png")
    (tmp_path / "ADM/train/ai/list.txt").write_text("x")

    assert dict(layouts.read("genimage", tmp_path).left_out) == {
        "not in {train,val}/{ai,nature}": 1,
        "not a picture by its suffix": 1,
    }


def test_another_tree_is_refused_naming_what_was_expected(tmp_path: Path, picture: Put) -> None:
    picture(tmp_path / "train/fake/a.png")

    with pytest.raises(LayoutError, match=r"no picture in a folder train/ai(.|\n)*\{train,val\}/\{ai,nature\}"):
        layouts.read("genimage", tmp_path)
