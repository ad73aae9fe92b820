"""Odd requests to a server: cases are what they say, faults of answers are seen, and a real server stands."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from assay.image.decode import decode
from benches import loaded

pytest.importorskip("av")


@pytest.fixture(scope="module")
def fuzz(beside: None) -> ModuleType:
    return loaded("serve_fuzz")


@pytest.fixture(scope="module")
def cases(fuzz: ModuleType) -> Any:
    return fuzz.serve_cases


# ── cases ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_whole_files_are_whole_and_mutants_are_not(cases: Any) -> None:
    for data in cases.files().values():
        decode(data)
    mutants = {cases.case(0, number).pieces for number in range(200) if cases.case(0, number).kind == "mutant"}
    assert len(mutants) > 100


def test_a_case_is_the_same_each_time_and_others_with_another_seed(cases: Any) -> None:
    for number in range(100):
        assert cases.case(3, number) == cases.case(3, number)
    assert [cases.case(3, number) for number in range(20)] != [cases.case(4, number) for number in range(20)]


def test_every_kind_and_endpoint_comes(cases: Any) -> None:
    made = [cases.case(0, number) for number in range(2_000)]
    assert {case.kind for case in made} == set(cases.KINDS)
    assert {case.endpoint for case in made} == {*cases.ENDPOINTS, "other"}
    assert any("provenance=true" in case.pieces[0][:80].decode("latin-1") for case in made)


def test_bombs_are_small_and_claim_much(cases: Any) -> None:
    assert all(len(data) < 4 << 20 for data in cases.bombs().values())
    assert len(cases.bombs()["200 MiB of text"]) < 1 << 20


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────

VERDICT = {
    "input": "a", "sha256": "0", "verdict": "fake", "score": 0.9, "threshold": 0.7, "doubt": [0.3, 0.7], "fpr": 0.05,
    "streams": [{"name": "grey", "score": 0.9}], "reasons": [], "width": 8, "height": 8,
    "detector": {"name": "tiny", "version": "1", "sha256": "0"},
}  # fmt: skip


@pytest.fixture
def answer(fuzz: ModuleType) -> Callable[..., Any]:
    def make(status: int, told: Any, **headers: str) -> Any:
        body = told if isinstance(told, bytes) else json.dumps(told).encode()
        own = {name.lower(): value for name, value in fuzz.HEADERS.items()}
        return fuzz.Answer(status, {**own, "content-type": "application/json", **headers}, body)

    return make


def judged(**changes: Any) -> dict[str, Any]:
    return {"verdict": {**VERDICT, **changes}, "provenance": None, "faces": None}


def test_a_right_answer_has_no_fault(fuzz: ModuleType, cases: Any, answer: Any) -> None:
    case = cases.Case("mutant", "judge", ())
    nothing = judged(score=None, verdict="uncertain", streams=[{"name": "grey", "applies": False, "reason": "small"}])
    for right in (answer(200, judged()), answer(200, nothing)):
        assert fuzz.fault_of(case, right) == ""
    assert fuzz.fault_of(case, answer(422, {"error": {"kind": "corrupt", "message": "damaged"}})) == ""


@pytest.mark.parametrize(
    ("status", "told", "said"),
    [
        (500, {"error": {"kind": "internal", "message": ""}}, "status 500"),
        (503, {"error": {"kind": "disk", "message": ""}}, "status 503"),
        (400, {"detail": "no"}, "not as described"),
        (400, b"<html>", "not as described"),
        (400, b"Invalid HTTP request received.", "no HTTP"),
        (200, {}, "without a verdict"),
        (200, judged(score=1.5), "not as described"),
        (200, b'{"verdict": {"score": NaN}}', "NaN"),
        (200, judged(score=None), "without a score"),
        (200, judged(error={"kind": "corrupt"}), "with an error"),
        (200, judged(doubt=[0.9, 0.1]), "doubt"),
        (400, {"error": {"kind": "field", "message": "see /secret/place"}}, "tells of"),
    ],
)
def test_a_wrong_answer_is_a_fault(
    fuzz: ModuleType, cases: Any, answer: Any, status: int, told: Any, said: str
) -> None:
    assert said in fuzz.fault_of(cases.Case("mutant", "judge", ()), answer(status, told), ["/secret"])


def test_silence_and_refusals_are_faults_where_they_may_not_be(fuzz: ModuleType, cases: Any, answer: Any) -> None:
    refused = answer(415, {"error": {"kind": "unsupported", "message": "another"}})
    bare = fuzz.Answer(415, {"content-type": "application/json"}, refused.body)
    assert fuzz.fault_of(cases.Case("whole", "judge", (), whole=True), refused)
    assert fuzz.fault_of(cases.Case("mutant", "judge", ()), refused) == ""
    assert fuzz.fault_of(cases.Case("mutant", "judge", ()), bare).startswith("without ")
    assert fuzz.fault_of(cases.Case("mutant", "judge", ()), None) == "no answer"
    assert fuzz.fault_of(cases.Case("cut", "judge", (), silent=True), None) == ""


def test_an_input_of_a_job_has_a_verdict_or_an_error(fuzz: ModuleType) -> None:
    error = {"kind": "corrupt", "message": "damaged"}
    assert fuzz.fault_of_input(VERDICT) == fuzz.fault_of_input({"input": "a", "error": error}) == ""
    for wrong in ({"input": "a"}, {**VERDICT, "error": error}, {"input": "a", "error": error, "score": 0.5}):
        assert fuzz.fault_of_input(wrong)


# ── servers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def saying(*answers: bytes | None) -> Iterator[int]:
    """The port of something that gives these answers, one a connection; None for none ever."""
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for each in answers:
                connection, _ = server.accept()
                connection.recv(1_000)
                if each is None:
                    kept.append(connection)
                    continue
                connection.sendall(each)
                connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        for connection in kept:
            connection.close()


def test_an_answer_an_end_and_a_hang_are_told_apart(fuzz: ModuleType, cases: Any) -> None:
    case = cases.Case("mutant", "judge", (b"x",), seconds=0.3)
    with saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"", None) as port:
        assert fuzz.sent(port, case).body == b"{}"
        assert fuzz.sent(port, case) is None
        with pytest.raises(TimeoutError):
            fuzz.sent(port, case)


def test_files_that_come_or_change_are_seen(fuzz: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "a").write_text("a")
    before = fuzz.seen(tmp_path, but=(tmp_path / "data",))
    (tmp_path / "data" / "b").touch()
    assert fuzz.seen(tmp_path, but=(tmp_path / "data",)) == before
    (tmp_path / "a").write_text("aa")
    (tmp_path / "c").touch()
    assert {Path(path).name for path, _ in set(fuzz.seen(tmp_path).items()) - set(before.items())} == {"a", "b", "c"}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_real_server_stands_and_a_file_outside_its_folder_is_a_fault(
    fuzz: ModuleType,
    bundle_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    true, out = fuzz.Fuzzer.run, tmp_path / "out.json"

    def run(self: Any, *arguments: Any) -> None:
        true(self, *arguments)
        (self._server.place / "tmp" / "escaped").touch()

    monkeypatch.setattr(fuzz.Fuzzer, "run", run)
    line = ["--examples", "0", "--count", "60", "--detector", str(bundle_folder), "--json", str(out)]
    assert fuzz.main(line) == 1
    told = json.loads(out.read_text())["fuzzed"]
    assert told["sent"] == 60
    (fault,) = told["faults"]
    assert fault.startswith("outside the data folder: ")
    assert fault.endswith("tmp/escaped")
    assert "| judge |" in capsys.readouterr().out
