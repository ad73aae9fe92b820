"""Pictures of a list: which are kept, what is said of the others, and how politely servers are asked."""

from __future__ import annotations

import csv
import email.utils
import itertools
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from answering import JPEG, Reply, Server, encoded
from assay.data import fetch as fetching
from assay.data import lock, remote
from assay.data.fetch import Fetched, fetch
from assay.errors import ManifestError, OutputError


class Job:
    """A list, a folder, and what comes of it."""

    def __init__(self, folder: Path) -> None:
        self.list, self.out = folder / "urls.csv", folder / "reals"

    def run(self, rows: dict[str, str] | None = None, **named: Any) -> Fetched:
        if rows is not None:
            with self.list.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("id", "url"), *rows.items()])
        return fetch(self.list, self.out, **{"private": True, "pause": 0.0} | named)

    def kind(self, url: str, **named: Any) -> str | None:
        """Of one address, asked for in a folder of its own."""
        self.out = self.out.with_name(f"{self.out.name}+")
        self.run({"1": url}, **named)
        found: str | None = self.record()["1"]["kind"]
        return found

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / "fetched.jsonl").read_text().splitlines()]

    def record(self) -> dict[str, dict[str, Any]]:
        return {line["id"]: line for line in self.lines()}

    def pictures(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.out.iterdir() if path.name != "fetched.jsonl"}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_pictures_are_kept_unchanged_under_their_ids_with_the_suffix_of_their_content(job: Job, server: Server) -> None:
    forms = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif"}
    forms["AVIF"] = ".avif"
    bodies = {form: encoded(form) for form in forms}
    rows = {form: server.put(f"/{form}.php", Reply(bodies[form])) for form in forms}
    found = job.run(rows)
    assert found.whole
    assert (found.listed, found.asked, found.bytes) == (7, 7, sum(map(len, bodies.values())))
    assert job.pictures() == {f"{form}{suffix}": bodies[form] for form, suffix in forms.items()}
    line = job.record()["PNG"]
    assert (line["url"], line["final_url"], line["status"]) == (rows["PNG"], rows["PNG"], 200)
    assert (line["kind"], line["file"], line["bytes"]) == (None, "PNG.png", len(bodies["PNG"]))
    assert len(line["sha256"]) == 64
    assert line["time"].endswith("+00:00")


def test_d3_finds_the_reals_that_were_fetched_by_their_ids(job: Job, server: Server) -> None:
    from assay.data.layouts import d3

    job.run({"1275001022128": server.put("/a", Reply())})
    assert d3._reals(str(job.out)) == {"1275001022128": str(job.out / "1275001022128.jpg")}


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "..", ".hidden", "a/b", "a\\b", "C:x", "é", "a.b", "x\0y"])
def test_an_id_never_leads_out_of_the_folder(job: Job, server: Server, name: str) -> None:
    job.run({name: server.put("/a", Reply())})
    (file,) = job.pictures()
    assert Path(file).name == file
    assert file.count(".") == 1
    assert file.endswith(".jpg")
    assert file == job.record()[name]["file"]
    assert [path.name for path in job.out.parent.iterdir() if path.suffix != ".csv"] == ["reals"]


def test_ids_that_cannot_be_file_names_are_said_to_be_so(job: Job, server: Server) -> None:
    found = job.run({"": server.put("/a", Reply()), "x" * 300: server.url("/a")})
    assert found.counts == {"address": 2}
    assert server.asked == []


@pytest.mark.parametrize(
    "body", [b"<html>parked</html>", b"", JPEG[:-400], b"\0\0\0\x18ftypmp42" + bytes(200), b"%PDF-1.7"]
)
def test_what_is_no_whole_picture_is_not_kept(job: Job, server: Server, body: bytes) -> None:
    url = server.put("/a.jpg", Reply(body, headers={"Content-Type": "image/jpeg"}))
    assert job.kind(url) == "not_a_picture"
    assert job.pictures() == {}
    assert job.run(again=True).asked == 0


@pytest.mark.parametrize("announced", [True, False])
def test_a_picture_above_the_limit_is_left_off(job: Job, server: Server, announced: bool) -> None:
    headers = {} if announced else {"Content-Length": ""}
    url = server.put("/a", Reply(headers=headers))
    assert job.kind(url, largest=len(JPEG) - 1) == "too_many_bytes"
    assert job.pictures() == {}
    assert job.kind(url, largest=len(JPEG)) is None


# ── what is not there ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("status", "kind"), [(404, "gone"), (410, "gone"), (401, "refused"), (403, "refused")])
def test_what_is_gone_or_refused_is_asked_for_once_and_never_again(
    job: Job, server: Server, status: int, kind: str
) -> None:
    assert job.kind(server.put("/a", Reply(b"", status))) == kind
    assert job.run(again=True).counts == {kind: 1}
    assert server.count("/a") == 1


def test_a_host_that_is_no_more_is_gone_once_another_has_answered(job: Job, server: Server) -> None:
    server.put("/a", Reply(b"", 404))
    rows = {"1": server.url("/a"), "2": "http://nowhere.invalid/x.jpg", "3": "http://nowhere.invalid/y.jpg"}
    assert job.run(rows, at_once=1).counts == {"gone": 1, "dns": 2}
    assert job.run(again=True).asked == 0


def test_without_any_answer_a_name_that_is_not_found_may_be_our_own_fault(job: Job, server: Server) -> None:
    assert job.kind("http://nowhere.invalid/x.jpg") == "unreachable"
    assert job.run(again=True).asked == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(job: Job, server: Server, status: int) -> None:
    assert job.kind(server.put("/a", Reply(b"", status), Reply(b"", status), Reply())) is None
    assert server.count("/a") == 3


def test_a_server_that_stays_busy_is_left_until_the_user_asks_again(job: Job, server: Server) -> None:
    url = server.put("/a", Reply(b"", 503))
    assert job.kind(url) == "busy"
    assert server.count("/a") == 4
    assert job.run().asked == 0
    server.put("/a", Reply())
    assert job.run(again=True).whole
    assert [line["kind"] for line in job.lines()] == ["busy", None]


def test_retry_after_is_obeyed_for_the_whole_host(job: Job, server: Server) -> None:
    server.put("/a", Reply(b"", 429, {"Retry-After": "1"}), Reply())
    server.put("/b", Reply())
    assert job.run({"1": server.url("/a"), "2": server.url("/b")}).whole
    times = [at for _, path, at in server.asked if path != "/robots.txt"]
    assert [path for _, path, _ in server.asked] == ["/robots.txt", "/a", "/a", "/b"]
    assert times[1] - times[0] >= 1.0


def test_a_retry_after_of_hours_is_not_waited_for(job: Job, server: Server) -> None:
    later = email.utils.formatdate(time.time() + 7200, usegmt=True)
    server.put("/a", Reply(b"", 503, {"Retry-After": later}))
    assert job.run({"1": server.url("/a"), "2": server.url("/b")}).counts == {"busy": 2}
    assert (server.count("/a"), server.count("/b")) == (1, 0)


def test_a_connection_that_is_cut_is_made_again_and_no_half_picture_stays(job: Job, server: Server) -> None:
    assert job.kind(server.put("/a", Reply(cut=100), Reply())) is None
    assert job.kind(server.put("/b", Reply(cut=100))) == "cut"
    assert job.pictures() == {}


def test_an_answer_that_takes_too_long_is_cut_off(job: Job, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "LONGEST", 0.3)
    monkeypatch.setattr(remote, "WAITS", ())
    let_go = threading.Event()
    began = time.monotonic()
    assert job.kind(server.put("/a", Reply(before=lambda: let_go.wait(20)))) in ("cut", "timeout")
    assert time.monotonic() - began < 10
    let_go.set()


def test_a_host_that_cannot_be_reached_is_not_tried_for_each_of_its_pictures(job: Job, server: Server) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    tried = []
    usual = socket.create_connection
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "create_connection", lambda *a, **k: tried.append(a) or usual(*a, **k))
        found = job.run({str(n): f"http://127.0.0.1:{port}/{n}" for n in range(9)})
    assert found.counts == {"unreachable": 9}
    assert len(tried) == 4


# ── where it goes ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x.jpg",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "data:image/png;base64,AA",
        "http://",
        "http://[::1/x",
        "http://a:99999999/",
        "http://me:secret@127.0.0.1/x",
        "http://a..b/x",
    ],
)
def test_only_http_addresses_are_asked_for(job: Job, server: Server, url: str) -> None:
    assert job.kind(url) == "address"


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "within.test", "localhost"])
def test_addresses_that_are_not_public_are_refused_unless_allowed(
    job: Job, server: Server, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    server.put("/a", Reply())
    if host == "localhost":
        monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: [(2, 1, 6, "", ("127.0.0.1", a[1]))])
    assert job.kind(server.url("/a", host), private=False) == "private"
    assert server.asked == []
    assert job.run(again=True).whole


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ),
        *("255.255.255.255", "::", "::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1"),
        "2002:7f00:1::",
    ],
)
def test_an_address_of_a_network_of_somebodys_own_is_not_public(address: str) -> None:
    assert not remote.is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_an_address_on_the_internet_is_public(address: str) -> None:
    assert remote.is_public(address)


def test_a_redirection_to_a_private_address_is_refused(job: Job, outside: Server) -> None:
    port = outside.server_address[1]
    url = outside.put("/a", Reply(b"", 302, {"Location": f"http://127.0.0.2:{port}/b"}))
    outside.put("/b", Reply())
    assert job.kind(url, private=False) == "private"
    assert outside.count("/b") == 0


def test_the_address_that_was_checked_is_the_one_that_is_gone_to(
    job: Job, outside: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["127.0.0.1", "127.0.0.2", "127.0.0.2"])
    looked = []

    def changing(host: str, port: int, *given: Any, **named: Any) -> Any:
        looked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    monkeypatch.setattr(socket, "getaddrinfo", changing)
    outside.put("/a", Reply())
    assert job.kind(outside.url("/a", "rebinding.test"), private=False, robots=False) is None
    assert looked == ["rebinding.test"]


def test_of_several_addresses_only_the_public_ones_are_gone_to(
    job: Job, outside: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, port, *a, **k: [(2, 1, 6, "", (place, port)) for place in ("127.0.0.2", "127.0.0.1")],
    )
    outside.put("/a", Reply())
    assert job.kind(outside.url("/a", "two.test"), private=False) is None


def test_no_proxy_is_used_that_could_hide_where_it_goes(
    job: Job, outside: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert job.kind(outside.put("/a", Reply()), private=False) is None


@pytest.mark.parametrize(("public", "kind"), [(False, "private"), (True, "unreachable")])
def test_https_goes_to_public_addresses_only_and_speaks_tls(
    job: Job, server: Server, monkeypatch: pytest.MonkeyPatch, public: bool, kind: str
) -> None:
    monkeypatch.setattr(remote, "is_public", lambda address: public)
    server.put("/a", Reply())
    url = server.url("/a").replace("http:", "https:")
    assert job.kind(url, private=False) == kind
    assert ("SSL" in job.record()["1"]["message"]) == public
    assert server.asked == []


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x/", "", "http://["])
def test_a_redirection_to_anything_but_http_is_refused(job: Job, server: Server, to: str) -> None:
    assert job.kind(server.put("/a", Reply(b"", 302, {"Location": to}))) == "refused"


def test_a_redirection_is_followed_and_the_last_address_recorded(job: Job, server: Server) -> None:
    url = server.put("/a", Reply(b"", 301, {"Location": "/b c/é".encode().decode("latin-1")}))
    server.put("/b%20c/%C3%A9", Reply())
    assert job.kind(url) is None
    assert job.record()["1"]["final_url"] == server.url("/b%20c/%C3%A9")


def test_redirections_without_end_are_left(job: Job, server: Server) -> None:
    assert job.kind(server.put("/a", Reply(b"", 302, {"Location": "/a"}))) == "refused"
    assert server.count("/a") == fetching.HOPS + 1


def test_an_address_with_spaces_and_letters_of_all_alphabets_is_sent_encoded(job: Job, server: Server) -> None:
    server.put("/%C3%A4%20b.jpg?q=%E2%82%AC", Reply())
    assert job.kind(server.url("/ä b.jpg?q=€#part")) is None


# ── how it asks ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_host_is_asked_one_thing_at_a_time_with_a_pause_and_other_hosts_meanwhile(job: Job, server: Server) -> None:
    both = threading.Barrier(2, timeout=20)
    for path in ("/0", "/1", "/2"):
        server.put(path, Reply(before=both.wait))  # opens only where two hosts are asked at once
    rows = {f"{host}{path}": server.url(path, f"{host}.test") for host in "ab" for path in ("/0", "/1", "/2")}
    assert job.run(rows, pause=0.2).whole
    assert server.most == 1
    for host in ("a.test", "b.test"):
        times = [at for name, path, at in server.asked if name == host and path != "/robots.txt"]
        assert all(after - before >= 0.2 for before, after in itertools.pairwise(times))


def test_no_more_connections_than_asked_for_are_open(job: Job, server: Server) -> None:
    now, most, guard = 0, 0, threading.Lock()

    def slow() -> None:
        nonlocal now, most
        with guard:
            now, most = now + 1, max(most, now + 1)
        time.sleep(0.03)
        with guard:
            now -= 1

    server.put("/a", Reply(before=slow))
    job.run({str(n): server.url("/a", f"{n}.test") for n in range(8)}, at_once=3, robots=False)
    assert most == 3


def test_it_says_who_asks(job: Job, server: Server) -> None:
    job.kind(server.put("/a", Reply()))
    assert len(server.agents) == 1
    assert all(agent.startswith("assay") for agent in server.agents)


@pytest.mark.parametrize(
    ("tag", "kept"),
    [
        ("noai", False),
        ("noindex, NoImageAI", False),
        ("noimageindex", False),
        ("assay: noai", False),
        ("otherbot: noai, noindex", True),
        ("unavailable_after: 25 Jun 2030 15:00:00 PST", True),
        ("nosnippet", True),
    ],
)
def test_a_picture_whose_owner_opted_out_is_not_kept(job: Job, server: Server, tag: str, kept: bool) -> None:
    url = server.put("/a", Reply(headers={"X-Robots-Tag": tag}))
    assert job.kind(url) == (None if kept else "opt_out")
    assert len(job.pictures()) == kept
    assert job.run(again=True, robots=False).whole


@pytest.mark.parametrize(
    ("rules", "kind"),
    [
        ("User-agent: *\nDisallow: /private", "robots"),
        ("User-agent: assay\nDisallow: /", "robots"),
        ("User-agent: otherbot\nDisallow: /", None),
        ("User-agent: *\nDisallow: //[\nDisallow: /x", None),
        ("\x00\xff nonsense", None),
    ],
)
def test_robots_txt_is_obeyed_and_asked_for_once(job: Job, server: Server, rules: str, kind: str | None) -> None:
    server.put("/robots.txt", Reply(rules.encode()))
    server.put("/private/a", Reply())
    found = job.run({str(n): server.url("/private/a") for n in range(3)})
    assert found.counts == {kind or "fetched": 3}
    assert server.count("/robots.txt") == 1
    assert server.count("/private/a") == (0 if kind else 3)
    assert job.run(again=True, robots=False).whole


def test_a_robots_txt_that_the_server_cannot_give_forbids_for_now(job: Job, server: Server) -> None:
    server.put("/robots.txt", Reply(b"", 503))
    server.put("/a", Reply())
    assert job.run({"1": server.url("/a"), "2": server.url("/a")}).counts == {"busy": 2}
    assert server.count("/a") == 0
    server.put("/robots.txt", Reply(b"", 403))
    assert job.run(again=True).whole


def test_a_robots_txt_that_leads_to_a_dead_host_does_not_make_this_one_gone(job: Job, server: Server) -> None:
    server.put("/robots.txt", Reply(b"", 302, {"Location": "http://nowhere.invalid/robots.txt"}))
    assert job.kind(server.put("/a", Reply())) == "unreachable"


def test_a_crawl_delay_is_kept(job: Job, server: Server) -> None:
    server.put("/robots.txt", Reply(b"User-agent: *\nCrawl-delay: 1"))
    server.put("/a", Reply())
    job.run({"1": server.url("/a"), "2": server.url("/a")})
    first, second = (at for _, path, at in server.asked if path == "/a")
    assert second - first >= 1.0


def test_a_redirection_to_another_host_is_subject_to_that_hosts_rules(job: Job, server: Server) -> None:
    port = server.server_address[1]
    url = server.put("/a", Reply(b"", 302, {"Location": f"http://other.test:{port}/b"}))
    server.put("/b", Reply())
    server.put("/robots.txt", Reply(b"", 404), Reply(b"User-agent: *\nDisallow: /b"))
    assert job.kind(url) == "robots"
    assert server.count("/b") == 0


# ── going on ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_there_is_not_asked_for_again_unless_its_file_is_missing_or_short(job: Job, server: Server) -> None:
    rows = {name: server.put(f"/{name}", Reply(encoded("PNG", seed))) for seed, name in enumerate("abc")}
    job.run(rows)
    before = job.pictures()
    asked = len(server.asked)
    again = job.run()
    assert (again.whole, again.asked, again.counts["fetched"]) == (True, 0, 3)
    assert len(server.asked) == asked
    (job.out / "a.png").unlink()
    os.truncate(job.out / "b.png", 10)
    assert job.run().asked == 2
    assert job.pictures() == before


def test_an_id_with_a_new_address_is_asked_for_anew(job: Job, server: Server) -> None:
    assert job.run({"1": server.url("/gone")}).counts == {"gone": 1}
    assert job.run({"1": server.put("/a", Reply())}).whole


def test_a_record_whose_last_line_was_torn_is_gone_on_with(job: Job, server: Server) -> None:
    rows = {name: server.put(f"/{name}", Reply()) for name in "ab"}
    job.run(rows)
    record = job.out / "fetched.jsonl"
    os.truncate(record, record.stat().st_size - 5)
    (job.out / ".c.jpg.part").write_bytes(b"half")
    assert job.run().asked == 1
    assert set(job.record()) == {"a", "b"}
    assert set(job.pictures()) == {"a.jpg", "b.jpg"}


def test_a_folder_with_another_record_is_refused_and_left_as_it_is(job: Job, server: Server) -> None:
    job.out.mkdir()
    (job.out / "fetched.jsonl").write_text('{"x": 1}\n')
    with pytest.raises(OutputError, match="another folder"):
        job.run({"1": server.url("/a")})
    assert (job.out / "fetched.jsonl").read_text() == '{"x": 1}\n'


def test_a_record_that_was_tampered_with_leads_to_no_file_outside(job: Job, server: Server, tmp_path: Path) -> None:
    rows = {"1": server.put("/a", Reply())}
    job.run(rows)
    line = job.lines()[0] | {"file": "../secret.txt", "bytes": 4}
    (tmp_path / "secret.txt").write_text("1234")
    (job.out / "fetched.jsonl").write_text(json.dumps(line) + "\n")
    assert job.run().asked == 1


def test_one_process_at_a_time_writes_to_a_folder(job: Job, server: Server) -> None:
    job.out.mkdir()
    with lock.held(job.out), pytest.raises(OutputError, match="another process"):
        job.run({"1": server.url("/a")})


def test_an_interruption_leaves_slow_answers_and_keeps_what_came(job: Job, server: Server) -> None:
    let_go = threading.Event()
    server.put("/a", Reply())
    server.put("/slow", Reply(before=lambda: let_go.wait(30)))

    def stop(done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        job.run({"1": server.url("/a"), "2": server.url("/slow", "b.test")}, progress=stop)
    assert time.monotonic() - began < 10
    let_go.set()
    assert set(job.record()) == {"1"}
    assert job.run().whole


def test_progress_counts_up_to_all_ids(job: Job, server: Server) -> None:
    told: list[tuple[int, int]] = []
    job.run({str(n): server.url("/gone") for n in range(4)}, progress=lambda *now: told.append(now))
    assert told[-1] == (4, 4)
    assert told == sorted(told)


# ── the list ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_other_columns_a_byte_order_mark_and_repeated_ids_do_no_harm(job: Job, server: Server) -> None:
    url = server.put("/a", Reply())
    job.list.write_text(f"\ufeffURL,note,Id\n{url},x,1\n{url},y,1\n", encoding="utf-8")
    found = job.run()
    assert (found.listed, found.asked) == (1, 1)
    assert set(job.pictures()) == {"1.jpg"}


@pytest.mark.parametrize(
    "content", [b"name,address\n1,http://x\n", b"", b"id,url\n1,\xff\xfe\n", b"\x89PNG\r\n\x1a\n\0"]
)
def test_a_list_that_is_none_is_refused_before_anything_is_asked_for_or_made(
    job: Job, server: Server, content: bytes
) -> None:
    job.list.write_bytes(content)
    with pytest.raises(ManifestError, match=r"urls\.csv"):
        job.run()
    assert not job.out.exists()
    job.list.unlink()
    with pytest.raises(ManifestError, match="cannot be read"):
        job.run()
