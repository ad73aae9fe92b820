"""Who may ask, by which name, from which page."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.errors import OutputError
from assay.serve import guard
from assay.serve.guard import HEADERS, Keys, Names, client_of
from serving import Serve, service_of


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_is_known_by_its_hash_alone(file: Path) -> None:
    key, other = guard.new_key(file, "alice"), guard.new_key(file, "bob")
    assert key not in file.read_text()
    assert other not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    keys = Keys(file)
    assert keys.owner(key) == hashlib.sha256(key.encode()).hexdigest()
    assert keys.owner(other) not in (None, keys.owner(key))
    for wrong in ("", key[:-1], key + "x", file.read_text().split()[1], "alice", "\udcff"):
        assert keys.owner(wrong) is None


def test_a_key_has_a_line_of_its_own_whatever_an_editor_left(file: Path) -> None:
    first = guard.new_key(file, "alice")
    file.write_text(file.read_text().rstrip("\n"))
    second = guard.new_key(file, "bob")
    keys = Keys(file)
    assert keys.owner(first) is not None
    assert keys.owner(second) is not None


def test_without_a_file_everybody_is_one_owner() -> None:
    assert (bool(Keys(None)), Keys(None).owner("anything")) == (False, "")


def test_keys_that_come_and_go_are_noticed(file: Path) -> None:
    first = guard.new_key(file, "alice")
    keys = Keys(file)
    second = guard.new_key(file, "bob")
    assert keys.owner(second) is not None
    file.write_text("\n".join(line for line in file.read_text().splitlines() if "alice" not in line) + "\n")
    os.utime(file, ns=(1, 1))
    assert keys.owner(first) is None
    assert keys.owner(second) is not None


def test_a_file_that_is_spoiled_while_it_serves_changes_nothing(file: Path) -> None:
    key = guard.new_key(file, "alice")
    keys = Keys(file)
    file.write_text("nonsense")
    assert keys.owner(key) is not None
    file.unlink()
    assert keys.owner(key) is not None


def test_a_spoiled_file_is_told_of_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    # Not by what comes out of logging: some library may have switched it off by now.
    monkeypatch.setattr(guard._log, "warning", lambda *said: told.append(said))
    key = guard.new_key(file, "alice")
    keys = Keys(file)
    whole = file.read_text()
    for spoil in (lambda: file.write_text("nonsense"), file.unlink):
        told.clear()
        spoil()
        for _ in range(5):
            assert keys.owner(key) is not None
        assert len(told) == 1
    file.write_text(whole + "# whole again\n")
    assert keys.owner(key) is not None
    assert len(told) == 1


@pytest.mark.parametrize("line", ["nonsense", "a b", "../x " + "0" * 64, "alice " + "g" * 64, "alice " + "0" * 63])
def test_a_file_of_something_else_is_refused_by_its_line(file: Path, line: str) -> None:
    file.write_text(f"# keys\n\n{line}\n")
    with pytest.raises(OutputError, match="line 3"):
        Keys(file)


def test_a_name_is_used_once_and_is_a_word(file: Path) -> None:
    guard.new_key(file, "alice")
    with pytest.raises(OutputError, match="alice already"):
        guard.new_key(file, "alice")
    for name in ("", "a b", "-x", "ü", "a\nb", "x" * 65):
        with pytest.raises(ValueError, match="a key's name"):
            guard.new_key(file, name)
    with pytest.raises(OutputError):
        Keys(file.parent / "none")


# ── names and pages ──────────────────────────────────────────────────────────────────────────────────────────────────

LOCAL = ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:9", "[::1]:8000", "[::1]", "pictures.example:80"]
ELSEWHERE = ["", "evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "[evil]"]


@pytest.mark.parametrize("loopback", [True, False])
def test_a_name_that_nobody_gave_the_server_is_refused(loopback: bool) -> None:
    names = Names(["pictures.example"], [], loopback)
    assert all(names.known(host) for host in LOCAL)
    assert not any(names.known(host) for host in ELSEWHERE)
    assert names.known("192.168.0.7:8000") is not loopback


def test_a_page_elsewhere_may_not_ask_unless_it_was_named() -> None:
    names = Names([], ["https://page.example/"], True)
    host = "localhost:8000"
    assert names.may_ask(host, None, None)
    assert names.may_ask(host, "http://localhost:8000", "same-origin")
    assert names.may_ask(host, "https://page.example", "cross-site")
    for origin in ("null", "http://localhost:9000", "http://evil.example", "https://page.example.evil", "file://", ""):
        assert not names.may_ask(host, origin, "cross-site")
    assert not names.may_ask(host, None, "cross-site")
    assert not names.may_ask(host, None, "same-site")


def test_a_client_is_an_address_and_of_ipv6_a_subscribers_network() -> None:
    same = ["2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:2::1%eth0"]
    assert {client_of(address) for address in same} == {"2001:db8:1:2::/64"}
    others = ["2001:db8:1:3::1", "192.0.2.1", "192.0.2.2", "", "/run/socket"]
    assert len({client_of(address) for address in (*same, *others)}) == 1 + len(others)
    assert client_of("::ffff:192.0.2.1") == client_of("192.0.2.1") == "192.0.2.1"


# ── before the routes ────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_answer_has_the_headers_whatever_it_is(serve: Serve, picture: Callable[..., bytes]) -> None:
    with serve() as client:
        answers = [
            client.get("/health"),
            client.get("/nothing"),
            client.get("/health", headers={"Host": "evil.example"}),
            client.put("/v1/judge"),
            client.get("/v1/jobs/none"),
            client.post("/v1/judge", files={"file": picture(90)}),
            client.get("/openapi.json"),
            client.get("/metrics"),
        ]
        for name, value in HEADERS.items():
            assert [answer.headers[name] for answer in answers] == [value] * len(answers)
        assert answers[5].headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in HEADERS["Content-Security-Policy"]
        assert all("server" not in answer.headers for answer in answers)


def test_another_hosts_name_and_pages_elsewhere_are_turned_away(serve: Serve, picture: Callable[..., bytes]) -> None:
    with serve(hosts=("pictures.example",), origins=("https://page.example",)) as client:

        def status(**headers: str) -> tuple[int, str]:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            answer = client.post("/v1/judge", files={"file": picture(90)}, headers=named)
            return answer.status_code, answer.json().get("error", {}).get("kind", "")

        assert status() == (200, "")
        assert status(Host="pictures.example") == (200, "")
        assert status(Host="evil.example") == (403, "host")
        assert status(Origin="http://localhost") == (200, "")
        assert status(Origin="https://page.example") == (200, "")
        assert status(Origin="http://evil.example") == (403, "origin")
        assert status(Origin="null") == (403, "origin")
        assert status(Sec_Fetch_Site="cross-site") == (403, "origin")
        assert client.delete("/v1/jobs/x", headers={"Origin": "http://evil.example"}).status_code == 403
        assert client.get("/health", headers={"Origin": "http://evil.example"}).status_code == 200


def test_only_the_heads_are_given_where_only_they_are_asked_for(serve: Serve, picture: Callable[..., bytes]) -> None:
    async def sent(app: Any) -> list[Any]:
        messages: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request"}

        async def send(message: Any) -> None:
            messages.append(message)

        scope = {"type": "http", "method": "HEAD", "path": "/health", "query_string": b""}
        await app({**scope, "headers": [(b"host", b"localhost")]}, receive, send)
        return messages

    with serve() as client:
        assert client.portal is not None
        start, body = client.portal.call(sent, client.app)
        assert (start["status"], body) == (200, {"type": "http.response.body"})
        id = client.post("/v1/jobs", files={"file": picture(90)}).json()["id"]
        for path in ("/health", "/", "/openapi.json", "/v1/detectors", f"/v1/jobs/{id}/events", "/v1/jobs/none", "/no"):
            head = client.head(path)
            assert head.status_code == client.get(path).status_code
            assert head.content == b""
            assert {name: head.headers[name] for name in HEADERS} == HEADERS
        assert client.head("/v1/judge").status_code == 405
        assert len(service_of(client).listening) == 0
        assert 'assay_requests_total{method="HEAD",route="/health",status="200"} 2.0' in client.get("/metrics").text


def test_a_page_elsewhere_that_was_named_can_send_its_key_and_read_the_answer(
    serve: Serve, file: Path, picture: Callable[..., bytes]
) -> None:
    key = {"Authorization": f"Bearer {guard.new_key(file, 'alice')}"}
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    with serve(keys=file, origins=("https://page.example",)) as client:
        for origin, named in (("https://page.example", True), ("https://evil.example", False), ("null", False)):
            page = {"Origin": origin}
            before = client.options("/v1/judge", headers={**page, **asks})
            assert before.is_success is named
            assert ("authorization" in before.headers.get("Access-Control-Allow-Headers", "").lower()) is named
            after = client.post("/v1/judge", files={"file": picture(90)}, headers={**page, **key})
            refused = client.get("/v1/detectors", headers=page)
            assert (after.status_code, refused.status_code) == (200 if named else 403, 401)
            for answer in (before, after, refused):
                assert answer.headers.get("Access-Control-Allow-Origin") == (origin if named else None)
                assert {name: answer.headers[name] for name in HEADERS} == HEADERS
            assert named is False or "Origin" in after.headers["Vary"]


def test_a_key_is_asked_for_where_there_are_keys(serve: Serve, file: Path, picture: Callable[..., bytes]) -> None:
    key = guard.new_key(file, "alice")
    with serve(keys=file) as client:
        for path in ("/health", "/ready", "/openapi.json"):
            assert client.get(path).status_code == 200
        for path in ("/v1/detectors", "/metrics", "/v1/jobs/x", "/nothing"):
            refused = client.get(path)
            assert (refused.status_code, refused.json()["error"]["kind"]) == (401, "key")
            assert refused.headers["WWW-Authenticate"] == "Bearer"
        for word in ("Basic", "Bearer x", ""):
            refused = client.post(
                "/v1/judge", files={"file": picture(90)}, headers={"Authorization": f"{word} {key}".strip()}
            )
            assert refused.status_code == 401
        mine = {"Authorization": f"Bearer {key}"}
        assert client.post("/v1/judge", files={"file": picture(90)}, headers=mine).status_code == 200
        assert client.get("/metrics", headers=mine).status_code == 200
        told = client.get("/openapi.json").json()
        assert told["security"] == [{"key": []}]
        own = {path for path, routes in told["paths"].items() for route in routes.values() if "security" in route}
        assert own == {"/health", "/ready"}
        assert told["paths"]["/health"]["get"]["security"] == []


def test_a_key_sees_its_own_jobs_alone(serve: Serve, file: Path, picture: Callable[..., bytes]) -> None:
    alice, bob = ({"Authorization": f"Bearer {guard.new_key(file, name)}"} for name in ("alice", "bob"))
    with serve(keys=file) as client:
        job = client.post("/v1/jobs", files={"file": picture(90)}, headers=alice).json()["id"]
        for part in ("", "/results", "/events", "/results.jsonl", "/results.csv", "/report"):
            assert client.get(f"/v1/jobs/{job}{part}", headers=bob).status_code == 404
        assert client.delete(f"/v1/jobs/{job}", headers=bob).status_code == 404
        assert client.get(f"/v1/jobs/{job}", headers=alice).status_code == 200


def test_one_keys_rate_is_not_anothers(serve: Serve, file: Path, picture: Callable[..., bytes]) -> None:
    alice, bob = ({"Authorization": f"Bearer {guard.new_key(file, name)}"} for name in ("alice", "bob"))
    with serve(keys=file, rate=1.0, burst=2) as client:

        def ask(headers: dict[str, str]) -> tuple[int, str]:
            answer = client.post("/v1/judge", files={"file": picture(90)}, headers=headers)
            return answer.status_code, answer.headers.get("Retry-After", "")

        assert [ask(alice)[0], ask(alice)[0]] == [200, 200]
        status, seconds = ask(alice)
        assert status == 429
        assert 50 <= int(seconds) <= 60
        assert ask(bob)[0] == 200


def test_what_a_client_calls_its_method_is_not_counted_by_its_name(serve: Serve) -> None:
    with serve() as client:
        for method in ("BREW", "WHEN"):
            assert client.request(method, "/health").status_code == 405
        text = client.get("/metrics").text
        assert "BREW" not in text
        assert 'assay_requests_total{method="other",route="/health",status="405"} 2.0' in text
