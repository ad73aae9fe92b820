"""Published detectors beside ours: loaded from checkouts, shown the right pixels, counted and compared rightly."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import benches
from assay.errors import RecipeError
from assay.judge.seen import Seen
from assay.measure.robustness import conditions
from assay.metrics import auc
from assay.types import Failure, Label, Sample, Verdict

FERRET = """
import util
from torch import nn

class Ferret(nn.Module):
    def __init__(self, in_channels, num_classes, dim, depths, lpd_func, window_size, lpd_dict):
        super().__init__()
        assert util.MINE == "ferretnet" and (dim, depths) == (32, [2, 2])
        assert lpd_dict[lpd_func](window_size) == 9
        self.logit = nn.Linear(in_channels, num_classes)

    def forward(self, x):
        return self.logit(x.mean((2, 3)))
"""
LPD = "def get_lpd_dict():\n    return {'median': lambda size: size * size}\n"
LADEDA = """
import util
from torch import nn

class TinyLaDeDa(nn.Module):
    def __init__(self, sees, num_classes, pool):
        super().__init__()
        assert util.MINE == "ladeda"
        self.sees, self.pool = sees, pool
        self.conv1 = nn.Conv2d(3, 8, 3)
        self.fc = nn.Linear(32, num_classes)

    def forward(self, x):
        x = self.conv1(x)
        if self.pool:
            return self.fc(nn.AvgPool2d(x.size()[2], stride=1)(x).view(x.size(0), -1))
        return self.fc(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

def tiny_ladeda(preprocess_type, num_classes=1, pool=True):
    return TinyLaDeDa(preprocess_type, num_classes, pool)
"""
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
CLIP_DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711])

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def public(beside: None) -> ModuleType:
    return benches.loaded("public")


def put(folder: Path, files: Mapping[str, object]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content)
        else:
            torch.save(content, path)
    return folder


@pytest.fixture
def ferret(tmp_path: Path) -> Path:
    """Its logit is four times the mean of the three channels as it is shown them."""
    tensors = {"module.logit.weight": torch.full((1, 3), 4 / 3), "module.logit.bias": torch.zeros(1)}
    files = {
        "util.py": "MINE = 'ferretnet'",
        "src/model/__init__.py": "import nothing_of_that_name",
        "src/model/ferretnet.py": FERRET,
        "src/model/lpd.py": LPD,
        "checkpoints/4cls_ckpt/ferretnet-s-median-3.pth": {"model": tensors},
    }
    return put(tmp_path / "FerretNet", files)


def tiny(weight: float) -> OrderedDict[str, torch.Tensor]:
    """The mean of the channels where a kernel's middle lies, eight times, times `weight`."""
    kernel = torch.zeros(8, 3, 3, 3)
    kernel[:, :, 1, 1] = 1 / 3
    return OrderedDict(
        {
            "conv1.weight": kernel,
            "conv1.bias": torch.zeros(8),
            "fc.weight": torch.full((1, 8), weight / 8),
            "fc.bias": torch.zeros(1),
        }
    )


@pytest.fixture
def ladeda(tmp_path: Path) -> Path:
    """Logits of four times the mean (WildRF) and minus four times the mean (ForenSynth)."""
    files = {
        "util.py": "MINE = 'ladeda'",
        "networks/Tiny_LaDeDa.py": LADEDA,
        "weights/Tiny_LaDeDa/WildRF_Tiny_LaDeDa.pth": tiny(4.0),
        "weights/Tiny_LaDeDa/ForenSynth_Tiny_LaDeDa.pth": tiny(-4.0),
    }
    return put(tmp_path / "LaDeDa", files)


@pytest.fixture
def loaded(public: ModuleType, ferret: Path, ladeda: Path) -> dict[str, Any]:
    found = public.public({"ferretnet": ferret, "ladeda": ladeda}, native=True)
    return {one.name: one for one in found}


def logit(score: float) -> float:
    """Of a score: the inverse of what keeps order and middle."""
    soft = 2 * score - 1
    return soft / (1 - abs(soft))


def score(detector: Any, pixels: np.ndarray[Any, Any]) -> float:
    [answer] = detector.judge_many([pixels])
    assert isinstance(answer, Verdict)
    assert answer.score is not None
    return answer.score


# ── loading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_network_comes_from_its_own_checkout_and_nothing_of_it_stays(
    public: ModuleType, ferret: Path, ladeda: Path
) -> None:
    path = list(sys.path)
    found = public.public({"ferretnet": ferret, "ladeda": ladeda}, native=False)
    assert [one.name for one in found] == ["FerretNet-S", "Tiny-LaDeDa (ForenSynth)", "Tiny-LaDeDa (WildRF)"]
    assert [getattr(one.network, "sees", None) for one in found] == [None, "NPR", "right_diag"]
    assert all(len(one.sha256) == 64 and not one.network.training for one in found)
    assert sys.path == path
    assert "util" not in sys.modules


def test_a_checkout_that_is_not_there_is_named_and_left_out(
    public: ModuleType, ladeda: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ladeda / "weights/Tiny_LaDeDa/WildRF_Tiny_LaDeDa.pth").unlink()
    found = public.public({"ferretnet": None, "ladeda": ladeda}, native=False)
    assert [one.name for one in found] == ["Tiny-LaDeDa (ForenSynth)"]
    told = capsys.readouterr().err
    assert "FerretNet-S is left out: no --ferretnet" in told
    assert "Tiny-LaDeDa (WildRF) is left out" in told
    assert "weights/Tiny_LaDeDa/WildRF_Tiny_LaDeDa.pth" in told
    assert public.public({"ferretnet": ladeda / "nowhere", "ladeda": None}, native=True) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tensors: tensors.pop("logit.bias"),
        lambda tensors: tensors.update({"logit.more": torch.zeros(1)}),
        lambda tensors: tensors.update({"logit.weight": torch.zeros(1, 4)}),
        lambda tensors: tensors.update({"run": print}),
    ],
)
def test_weights_that_are_not_the_networks_own_are_refused(
    public: ModuleType, ferret: Path, spoil: Callable[[dict[str, Any]], object]
) -> None:
    tensors: dict[str, Any] = {"logit.weight": torch.zeros(1, 3), "logit.bias": torch.zeros(1)}
    checkouts = {"ferretnet": ferret, "ladeda": None}
    place = ferret / "checkpoints/4cls_ckpt/ferretnet-s-median-3.pth"
    torch.save({"model": tensors}, place)
    assert len(public.public(checkouts, native=False)) == 1
    spoil(tensors)
    torch.save({"model": tensors}, place)
    with pytest.raises(RecipeError, match="ferretnet-s-median-3"):
        public.public(checkouts, native=False)


# ── what they are shown, and what they say ───────────────────────────────────────────────────────────────────────────


def test_a_higher_logit_is_more_fake_and_the_middle_is_theirs(loaded: dict[str, Any]) -> None:
    grey = {level: np.full((256, 256, 3), level, np.uint8) for level in (20, 110, 130, 240)}
    for name, sign in (("FerretNet-S", 1), ("Tiny-LaDeDa (WildRF)", 1), ("Tiny-LaDeDa (ForenSynth)", -1)):
        mean, deviation = (CLIP_MEAN, CLIP_DEVIATION) if name == "FerretNet-S" else (MEAN, DEVIATION)
        for level, pixels in grey.items():
            [answer] = loaded[name].judge_many([pixels])
            expected = sign * 4 * float(((level / 255 - mean) / deviation).mean())
            # Torch sums a whole picture in single precision.
            assert logit(answer.score) == pytest.approx(expected, rel=3e-3)
            assert str(answer.verdict) == ("fake" if expected > 0 else "real")


def test_sure_scores_keep_their_order(public: ModuleType, loaded: dict[str, Any]) -> None:
    whole = loaded["FerretNet-S"]
    with torch.no_grad():
        whole.network.logit.weight *= 1000
    scores = [score(whole, np.full((256, 256, 3), level, np.uint8)) for level in range(130, 256, 25)]
    assert scores[0] > 0.5
    assert scores[-1] <= 1
    assert scores == sorted(set(scores))


def test_ferretnet_sees_the_middle_256_px_and_black_around_smaller_pictures(loaded: dict[str, Any]) -> None:
    random = np.random.default_rng(0)
    prepare = loaded["FerretNet-S"].prepare
    large = random.integers(0, 256, (300, 411, 3), np.uint8)
    seen = prepare(Image.fromarray(large)).numpy().transpose(1, 2, 0) * CLIP_DEVIATION + CLIP_MEAN
    assert np.array_equal(np.round(seen * 255), large[22:278, 78:334])  # 77.5 px are left over on either side
    small = random.integers(0, 256, (100, 256, 3), np.uint8)
    seen = prepare(Image.fromarray(small)).numpy().transpose(1, 2, 0) * CLIP_DEVIATION + CLIP_MEAN
    assert np.array_equal(np.round(seen * 255), np.pad(small, ((78, 78), (0, 0), (0, 0))))


def test_tiny_ladeda_sees_the_whole_picture_squeezed_or_as_it_is(loaded: dict[str, Any]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (301, 410, 3), np.uint8)
    squeezed = np.asarray(Image.fromarray(pixels).resize((256, 256), Image.Resampling.BILINEAR))
    for name in ("WildRF", "ForenSynth"):
        seen = loaded[f"Tiny-LaDeDa ({name})"].prepare(Image.fromarray(pixels)).numpy().transpose(1, 2, 0)
        assert np.array_equal(np.round((seen * DEVIATION + MEAN) * 255), squeezed)
        seen = loaded[f"Tiny-LaDeDa ({name}, native)"].prepare(Image.fromarray(pixels)).numpy().transpose(1, 2, 0)
        assert np.array_equal(np.round((seen * DEVIATION + MEAN) * 255), pixels[:300])


def test_without_resize_any_shape_is_pooled_as_a_square_would_be(loaded: dict[str, Any]) -> None:
    random = np.random.default_rng(1)
    square = random.integers(0, 256, (256, 256, 3), np.uint8)
    for name in ("WildRF", "ForenSynth"):
        pooled, mapped = (loaded[f"Tiny-LaDeDa ({name}{kind})"] for kind in ("", ", native"))
        assert score(mapped, square) == pytest.approx(score(pooled, square), abs=1e-5)
    wide = random.integers(0, 256, (40, 90, 3), np.uint8)
    expected = 4 * float(((wide[1:-1, 1:-1] / 255 - MEAN) / DEVIATION).mean())
    assert logit(score(loaded["Tiny-LaDeDa (WildRF, native)"], wide)) == pytest.approx(expected, abs=1e-4)


def test_what_a_network_cannot_take_is_a_failure_and_no_score(loaded: dict[str, Any]) -> None:
    native, whole = loaded["Tiny-LaDeDa (WildRF, native)"], loaded["FerretNet-S"]
    small = np.full((2, 2, 3), 9, np.uint8)
    large = np.full((20, 20, 3), 9, np.uint8)
    answers = list(native.judge_many([large, small, large]))
    assert [isinstance(answer, Failure) for answer in answers] == [False, True, False]
    assert sum(native.refused.values()) == 1
    for number in (math.nan, math.inf):
        with torch.no_grad():
            whole.network.logit.bias.fill_(number)
        [answer] = whole.judge_many([large])
        assert isinstance(answer, Failure)
    assert whole.refused == {"its network gives no number": 2}


# ── the run ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def rows(tmp_path: Path, flat: Callable[..., Any]) -> Path:
    """Twelve reals and twelve fakes, fakes brighter but for some, of two halves; one file is torn, and one row each
    has another split and no label."""
    folder = tmp_path / "rows"
    folder.mkdir()
    lines = ["path,label,source,split,half"]
    for number in range(24):
        fake = number % 2
        grey = 20 + 7 * number + 40 * fake
        Image.fromarray(flat(grey)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{'fake' if fake else 'real'},s{number % 6},tune,{'ab'[number // 12]}")
    (folder / "torn.png").write_bytes((folder / "3.png").read_bytes()[:200])
    Image.fromarray(flat(250)).save(folder / "other.png")
    Image.fromarray(flat(252)).save(folder / "unknown.png")
    lines += ["torn.png,fake,s0,tune,a", "other.png,real,s0,test,a", "unknown.png,,s0,tune,a"]
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder / "manifest.csv"


def ran(public: ModuleType, rows: Path, out: Path, *more: object) -> tuple[int, dict[str, Any]]:
    arguments = [rows, "--split", "tune", "--rounds", 50, "--out", out, *more]
    status = public.main([str(argument) for argument in arguments])
    return status, json.loads(out.read_text()) if out.exists() else {}


def test_the_table_holds_every_detector_condition_and_group(
    public: ModuleType,
    rows: Path,
    ferret: Path,
    ladeda: Path,
    bundle_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, told = ran(
        public,
        rows,
        tmp_path / "out.json",
        *("--detector", bundle_folder, "--ferretnet", ferret, "--ladeda", ladeda),
        *("--conditions", "jpeg50,half", "--by", "half"),
    )
    assert status == 0
    names = ["tiny", "FerretNet-S", "Tiny-LaDeDa (ForenSynth)", "Tiny-LaDeDa (WildRF)"]
    cells = {(cell["group"], cell["condition"], cell["detector"]): cell for cell in told["cells"]}
    assert list(cells) == [
        (group, condition, name)
        for condition in ("jpeg50", "half")
        for group in ("all", "half a", "half b")
        for name in names
    ]
    assert (told["split"], told["n_real"], told["n_fake"], told["seen"]) == ("tune", 12, 13, 0)
    for (group, _, _), cell in cells.items():
        counts = cell["n_real"], cell["n_fake"], cell["without"]
        assert counts == {"all": (12, 12, 1), "half a": (6, 6, 1), "half b": (6, 6, 0)}[group]
    # The torn file has no say: brightness alone ranks these rows, one way or the other.
    labels = [number % 2 for number in range(24)]
    levels = [20 + 7 * number + 40 * (number % 2) for number in range(24)]
    bright = auc(labels, levels)
    assert 0.6 < bright < 1
    for name, expected in zip(names, (bright, bright, 1 - bright, bright), strict=True):
        assert cells["all", "half", name]["auc"]["value"] == pytest.approx(expected, abs=0.02)
    lower, upper = (cells["all", "half", "FerretNet-S"]["auc"][end] for end in ("low", "high"))
    assert lower < bright < upper
    leads = {(lead["group"], lead["condition"], lead["detector"]): lead for lead in told["leads"]}
    assert list(leads) == [key for key in cells if key[2] != "tiny"]
    for (group, condition, name), lead in leads.items():
        first, second = (cells[group, condition, which]["auc"]["value"] for which in ("tiny", name))
        assert lead["difference"]["value"] == pytest.approx(first - second)
    assert leads["all", "half", "Tiny-LaDeDa (ForenSynth)"]["difference"]["low"] > 0
    # Theirs at a logit of 0: as many reals as are brighter than the mean they normalise by.
    called = [level / 255 > MEAN.mean() for level, label in zip(levels, labels, strict=True) if not label]
    fpr = {name: cells["all", "half", name]["fpr"]["value"] for name in names}
    assert fpr[names[3]] == pytest.approx(np.mean(called))
    assert fpr[names[2]] == pytest.approx(1 - np.mean(called))
    printed = capsys.readouterr().out
    assert "| all | jpeg50 | FerretNet-S | 12 | 12 | 1 | " in printed
    assert "| half b | half | Tiny-LaDeDa (WildRF) | 6 | 6 | " in printed
    assert "Each detector's threshold is its own: of tiny 0.700, of the others .5" in printed


def test_all_are_shown_the_same_altered_pixels_and_each_counts_its_own_failures(
    public: ModuleType, loaded: dict[str, Any], tmp_path: Path, flat: Callable[..., Any]
) -> None:
    samples = []
    for number in range(14):
        pixels = flat(20 + 15 * number, 4 if number == 3 else 40, 4 if number == 3 else 30)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        samples.append(Sample(str(tmp_path / f"{number}.png"), Label(number % 2), source=f"s{number}"))
    names = ("FerretNet-S", "Tiny-LaDeDa (WildRF, native)")
    shown: dict[str, list[Any]] = {name: [] for name in names}

    class Spying:
        def __init__(self, detector: Any) -> None:
            self.detector = detector

        def judge_many(self, sources: Any) -> Any:
            kept = shown[self.detector.name]
            return self.detector.judge_many(kept.append(pixels) or pixels for pixels in sources)

    detectors = {name: Spying(loaded[name]) for name in names}
    cells, [lead] = public.measure(detectors, samples, conditions(["half+noise10"]), rounds=20)
    first, second = (shown[name][len(samples) :] for name in names)
    assert len(first) == len(second) == len(samples)
    assert all(one is other for one, other in zip(first, second, strict=True))
    assert first[0].shape == (15, 20, 3)
    assert [(cell.n_real, cell.n_fake, cell.without) for cell in cells] == [(7, 7, 0), (7, 6, 1)]
    assert (lead.n_real, lead.n_fake) == (7, 6)


def test_few_rows_of_a_class_give_no_interval_and_none_at_all_no_figure(
    public: ModuleType, loaded: dict[str, Any], tmp_path: Path, flat: Callable[..., Any]
) -> None:
    samples = []
    for number in range(8):
        Image.fromarray(flat(20 + 20 * number)).save(tmp_path / f"{number}.png")
        part = {"part": "few" if number < 4 else "fakes"}
        samples.append(Sample(str(tmp_path / f"{number}.png"), Label(number > 1), groups=part))
    detectors = {name: loaded[name] for name in ("FerretNet-S", "Tiny-LaDeDa (WildRF)")}
    cells, leads = public.measure(detectors, samples, conditions(["clean"]), by=["part"], rounds=20)
    found = {(cell.group, cell.detector): cell.figures["auc"] for cell in cells}
    assert found["part few", "FerretNet-S"].value == 1
    assert math.isnan(found["part few", "FerretNet-S"].low)
    assert math.isnan(found["part fakes", "FerretNet-S"].value)
    block, paired = public.tables(cells, leads, "")
    shown = {row[0]: row[3:] for row in block.rows if row[2] == "FerretNet-S"}
    assert shown["part few"][:4] == ("2", "2", "0", "1.000")
    assert shown["part fakes"] == ("0", "4", "0", "–", "–", "–", "–")
    by_group = {row[0]: row for row in paired.rows}
    assert by_group["part few"][3:] == ("2", "2", "+0.000", "–")
    assert by_group["part fakes"][3:] == ("0", "4", "–", "–")


def test_rows_that_ours_was_made_with_are_refused_unless_allowed(
    public: ModuleType,
    rows: Path,
    ferret: Path,
    parts: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = hashlib.sha256((rows.parent / "5.png").read_bytes()).hexdigest()
    parts.seen = Seen.of(files=[known], origins=[], phashes=[])
    folder = parts.write(tmp_path / "knowing").folder
    more = ("--detector", folder, "--ferretnet", ferret, "--conditions", "clean")
    status, told = ran(public, rows, tmp_path / "out.json", *more)
    assert (status, told) == (1, {})
    refused = capsys.readouterr()
    assert "was made with 1 of these 25 rows" in refused.err
    assert not refused.out
    status, told = ran(public, rows, tmp_path / "out.json", *more, "--allow-seen")
    assert (status, told["seen"]) == (0, 1)
    assert "No test: tiny was made with 1 of the rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--by", "halves"), "no column called 'halves'"),
        (("--conditions", "jpeg75,jpg50"), "no condition called 'jpg50'"),
        (("--split", "val"), "no labelled row has the split 'val'"),
    ],
)
def test_what_does_not_hold_is_said_before_anything_is_judged(
    public: ModuleType,
    rows: Path,
    bundle_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    message: str,
) -> None:
    status, told = ran(public, rows, tmp_path / "out.json", "--detector", bundle_folder, *more)
    assert (status, told) == (1, {})
    assert message in capsys.readouterr().err
