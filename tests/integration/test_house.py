"""What holds for the house as a whole: imports go down, judging is light, nothing is unpickled or evaluated."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import assay

ROOT = Path(__file__).parent.parent.parent
SOURCE = sorted((ROOT / "src").rglob("*.py"))


def test_the_import_contracts_hold() -> None:
    # In a process of its own: it switches off every logger that is there.
    command = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "code", ["import assay", "import assay.cli", "import assay.learn.recipe, assay.recipes.code24"]
)
def test_what_needs_no_network_imports_none(code: str) -> None:
    heavy = "[name for name in ('torch', 'onnxruntime', 'onnx', 'sklearn', 'timm') if name in sys.modules]"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print({heavy})"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_judging_imports_no_learning() -> None:
    code = "import sys, assay; assay.Detector; print([n for n in ('torch', 'onnx', 'sklearn') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", assay.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(assay, name)
    # Its own words, not those of a base class.
    assert (value.__doc__ or "").strip()
    assert inspect.ismodule(value) or value.__module__.startswith("assay")


# ── unsafe calls ─────────────────────────────────────────────────────────────────────────────────────────────────────

UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def name_of(node: ast.expr) -> str:
    """`a.b.c` as it is written; empty where the call is of something else."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def says(call: ast.Call, keyword: str, value: bool) -> bool:
    return any(
        word.arg == keyword and isinstance(word.value, ast.Constant) and word.value.value is value
        for word in call.keywords
    )


def unsafe(source: str) -> Iterator[str]:
    """What a file does that could run foreign code."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"imports {name}" for name in names if name.split(".")[0] in UNPICKLERS)
        if not isinstance(node, ast.Call):
            continue
        name = name_of(node.func)
        if name in ("eval", "exec", "__import__"):
            yield name
        if name == "torch.load" and not says(node, "weights_only", True):
            yield "torch.load without weights_only"
        if name in ("np.load", "numpy.load") and not says(node, "allow_pickle", False):
            yield "np.load without allow_pickle=False"
        if name.endswith(".load") and name.startswith("yaml"):
            yield "yaml.load"


@pytest.mark.parametrize("path", SOURCE, ids=lambda path: path.relative_to(ROOT / "src").as_posix())
def test_no_file_unpickles_or_evaluates(path: Path) -> None:
    assert list(unsafe(path.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import os, marshal as m",
        "x = eval('1')",
        "exec(code)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "with np.load(path, allow_pickle=maybe) as f: pass",
    ],
)
def test_unsafe_calls_would_be_found(source: str) -> None:
    assert len(list(unsafe(source))) == 1


@pytest.mark.parametrize(
    "source", ["trunk.eval()", "np.load(p, allow_pickle=False)", "torch.load(p, weights_only=True)", "json.load(f)"]
)
def test_safe_calls_pass(source: str) -> None:
    assert list(unsafe(source)) == []
