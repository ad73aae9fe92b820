"""Requests that a server must stand: damaged files, odd forms and heads, cut and slow bodies, bombs.

Case `n` of seed `s` is always the same on the same libraries, but for the signatures of pictures that have one.
`bench/serve_fuzz.py` sends them.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import io
import random
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import av
import numpy as np
from PIL import Image, PngImagePlugin

import kills
import mutate

QUICK, WAIT, STALL, UPLOAD = 60.0, 140.0, 40.0, 150.0
"""Seconds in which a request must be over: one that is refused at once, one that is judged (`Settings.answer`, 120),
one that stops in the middle (`Settings.stall`, 20), and one that dribbles on (`Settings.upload`, 120)."""

ENDPOINTS = ("judge", "alter", "jobs", "explain")
BOUNDARY = b"frontier"


@dataclasses.dataclass(frozen=True)
class Case:
    """One request.

    Args:
        kind: of the case, a name in `KINDS`.
        endpoint: of `ENDPOINTS`, or "other".
        pieces: what is sent, one after the other.
        about: what it is made of, for people.
        pause: seconds between two pieces.
        half: no more is sent after the last piece, and the server is told so (TCP's FIN).
        away: the client goes away after the last piece and hears no answer.
        silent: the server may end the connection without an answer.
        whole: the file is as an encoder wrote it, and must be taken.
        seconds: in which it must be over.
    """

    kind: str
    endpoint: str
    pieces: tuple[bytes, ...]
    about: str = ""
    pause: float = 0
    half: bool = False
    away: bool = False
    silent: bool = False
    whole: bool = False
    seconds: float = WAIT


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@functools.cache
def files() -> dict[str, bytes]:
    """Small whole files, name to bytes: pictures of every format, videos, and pictures that tell of their origin."""
    return {**mutate.seeds(), **_videos(), **_records(), **_signed()}


def _videos() -> dict[str, bytes]:
    made = {}
    for name, codec in (
        ("h264.mp4", "libx264"),
        ("vp9.webm", "libvpx-vp9"),
        ("mpeg4.avi", "mpeg4"),
        ("ts.ts", "mpeg4"),
    ):
        buffer = io.BytesIO()
        with av.open(buffer, "w", format={"ts": "mpegts"}.get(name[-2:], name.rpartition(".")[2])) as file:
            stream: Any = file.add_stream(codec, rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for level in range(0, 240, 20):
                file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8))))
            file.mux(stream.encode(None))
        made[name] = buffer.getvalue()
    return made


def _picture() -> Image.Image:
    return Image.open(io.BytesIO(mutate.seeds()["rgb.png"])).convert("RGB")


def _saved(form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    _picture().save(buffer, form, **options)
    return buffer.getvalue()


def _records() -> dict[str, bytes]:
    """A camera's Exif, what generators write into PNG, and XMP that calls a picture made by a model."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0131] = "Canon", "Canon EOS R5", "Adobe Photoshop 25.0"
    exif.get_ifd(0x8769).update({0x9003: "2024:05:01 10:00:00", 0x829A: 0.008, 0x8827: 400, 0x927C: b"maker" * 40})
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 12.0, 30.0), 3: "E", 4: (16.0, 22.0, 0.0)})
    source = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    xmp = (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        f'Iptc4xmpExt:DigitalSourceType="{source}" xmp:CreatorTool="A model"/></rdf:RDF></x:xmpmeta>'
        '<?xpacket end="w"?>'
    )
    texts = PngImagePlugin.PngInfo()
    texts.add_text("parameters", "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Model: some")
    texts.add_text("prompt", '{"3": {"class_type": "KSampler", "inputs": {"seed": 1}}}', zip=True)
    texts.add_itxt("XML:com.adobe.xmp", xmp)
    return {
        "camera.jpg": _saved("JPEG", exif=exif),
        "camera.webp": _saved("WEBP", exif=exif),
        "camera.tif": _saved("TIFF", exif=exif),
        "texts.png": _saved("PNG", pnginfo=texts),
        "xmp.jpg": _saved("JPEG", xmp=xmp.encode()),
    }


def _signed() -> dict[str, bytes]:
    """Pictures with a C2PA record, signed by nobody that is known; none where the extra "provenance" is missing."""
    try:
        import c2pa
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec, utils
        from cryptography.x509.oid import ExtendedKeyUsageOID
    except ImportError:
        return {}
    keys = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    chain = b""
    for common, key, is_root in (("signer", keys[1], False), ("root", keys[0], True)):
        organisation = x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Nobody")
        names = [
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, each), organisation]) for each in (common, "root")
        ]
        now = datetime.datetime.now(datetime.UTC)
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
        )
        usage |= {"decipher_only": False, "digital_signature": not is_root, "key_cert_sign": is_root}
        made = (
            x509.CertificateBuilder(names[1], names[0], key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(crl_sign=is_root, **usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), critical=False)
        )
        if not is_root:
            purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
            made = made.add_extension(purposes, critical=False)
        chain += made.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def signature(message: bytes) -> bytes:
        numbers = utils.decode_dss_signature(keys[1].sign(message, ec.ECDSA(hashes.SHA256())))
        return b"".join(number.to_bytes(32, "big") for number in numbers)

    quiet = {"verify": {"verify_after_sign": False, "remote_manifest_fetch": False}}
    context = c2pa.Context.from_dict({**quiet, "builder": {"thumbnail": {"enabled": False}}})
    kind = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    action = {"label": "c2pa.actions", "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": kind}]}}
    found = {}
    for form, media in (("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp")):
        definition = {"claim_generator_info": [{"name": "Maker", "version": "1"}], "assertions": [action]}
        out = io.BytesIO()
        with c2pa.Signer.from_callback(signature, c2pa.C2paSigningAlg.ES256, chain.decode()) as signer:
            c2pa.Builder(definition, context=context).sign(signer, media, io.BytesIO(_saved(form)), out)
        found[f"signed.{form.lower()}"] = out.getvalue()
    return found


def mutant(rng: random.Random) -> tuple[str, bytes]:
    """The name of a file, and what damage made of it (`bench/mutate.py`)."""
    name = rng.choice(list(files()))
    data = bytearray(files()[name])
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if data:
            data = rng.choice(mutate.MUTATIONS)(data, rng)
    return name, bytes(mutate.mend_checksums(data) if rng.random() < 0.7 else data)


# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def request(target: str, body: bytes, headers: Mapping[str, str] | None = None, method: str = "POST") -> bytes:
    """A whole request. A header of the value "" is left out."""
    told = {
        "Host": "localhost",
        "Connection": "close",
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}",
        "Content-Length": str(len(body)),
        **(headers or {}),
    }
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items() if value)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def part(data: bytes, name: bytes = b"a.jpg", field: bytes = b"file", more: bytes = b"") -> bytes:
    """One file of a form."""
    return b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n%s\r\n%s\r\n' % (
        BOUNDARY, field, name, more, data
    )  # fmt: skip


END = b"--%s--\r\n" % BOUNDARY


def target(rng: random.Random, endpoint: str) -> str:
    """An endpoint with a query that holds."""
    query: list[str] = []
    match endpoint:
        case "judge":
            query.append(f"provenance={rng.choice(('true', 'true', 'false'))}")
        case "alter":
            query += [f"jpeg={rng.randint(10, 100)}"] * rng.randrange(2)
            query += [f"scale={rng.choice((0.25, 0.5, 1, 1.7, 2))}"] * rng.randrange(2)
            query += [f"blur={rng.choice((0, 0.3, 4))}"] * rng.randrange(2)
        case "jobs":
            query += [f"every={rng.choice((0.1, 1, 3600))}"] * rng.randrange(2)
            query += ["keep=true"] * (rng.random() < 0.1)
        case _:
            query.append(f"toward={rng.choice(('fake', 'real'))}")
    return f"/v1/{endpoint}" + "?" * bool(query) + "&".join(query)


def _endpoint(rng: random.Random) -> str:
    return rng.choices(ENDPOINTS, (54, 15, 30, 1))[0]


def _whole(rng: random.Random) -> Case:
    endpoint, name = _endpoint(rng), rng.choice(list(files()))
    body = part(files()[name], name.encode()) + END
    return Case("whole", endpoint, (request(target(rng, endpoint), body),), name, whole=True)


def _mutant(rng: random.Random) -> Case:
    endpoint = _endpoint(rng)
    made = [mutant(rng) for _ in range(rng.randint(1, 4) if endpoint == "jobs" else 1)]
    body = b"".join(part(data, name.encode()) for name, data in made) + END
    about = " ".join(name for name, _ in made)
    return Case("mutant", endpoint, (request(target(rng, endpoint), body),), about)


_NAMES: tuple[bytes, ...] = (
    b"../../etc/passwd",
    b"../" * 40 + b"tmp/escaped",
    b"/etc/cron.d/assay",
    b"..\\..\\windows\\win.ini",
    b"C:\\autoexec.bat",
    b"a\0b.jpg",
    b"n" * 3_000,
    b"n" * 10_000,
    "\u202egpj.exe".encode(),
    "\u2066a\u2069\u200f.jpg".encode(),
    "\U0001f600.png".encode(),
    b"\xff\xfe\xfd.jpg",
    b"\xed\xa0\x80.jpg",
    b"a\rb.jpg",
    b'a\\"b.jpg',
    b"a;b=c.jpg",
    b"%2e%2e%2fetc%2fpasswd",
    b".",
    b"..",
    b"",
    b" ",
    b"CON",
    b"-rf",
    b"<script>alert(1)</script>",
    b"=cmd|'/C calc'!A0",
    b"{{7*7}}${7*7}",
    b"jobs.sqlite",
    b"a.jpg\"; filename*=UTF-8''..%2f..%2fb.jpg; x=\"",
)


def _named(rng: random.Random) -> Case:
    endpoint, name = _endpoint(rng), rng.choice(_NAMES)
    body = part(files()["rgb.png"], name) + END
    return Case("name", endpoint, (request(target(rng, endpoint), body),), repr(name[:40]))


# Forms: the type that the head states, and a body.
_FORM = b"multipart/form-data; boundary=" + BOUNDARY
_Form = Callable[[random.Random, bytes], tuple[bytes, bytes]]


def _damaged(rng: random.Random, data: bytes) -> tuple[bytes, bytes]:
    # Mostly the envelope is hit.
    body = bytearray(part(data[: rng.choice((40, len(data)))]) + END)
    for _ in range(rng.choice((1, 2, 4))):
        body = rng.choice(mutate.MUTATIONS)(body, rng) if body else body
    return _FORM, bytes(body)


def _bound(rng: random.Random, data: bytes) -> tuple[bytes, bytes]:
    choices = (b"x", b"y" * 70, b"z" * 5_000, b"a b", b"'()+_,-./:=?", b"\xff\xfe", b"--", b"\t", b"a\\b")
    boundary = rng.choice(choices)
    body = (part(data) + END).replace(BOUNDARY, boundary)
    quote = b'"' * rng.randrange(2)
    return b"multipart/form-data; boundary=" + quote + boundary + quote, body


def _typed(rng: random.Random, data: bytes) -> tuple[bytes, bytes]:
    kinds = (
        b"",
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=other",
        b"multipart/form-data; boundary=" + BOUNDARY + b"; boundary=other",
        b"multipart/form-data; charset=utf-16; boundary=" + BOUNDARY,
        b"MULTIPART/FORM-DATA; BOUNDARY=" + BOUNDARY,
        b"multipart/mixed; boundary=" + BOUNDARY,
        b"application/x-www-form-urlencoded",
        b"application/json",
        b"image/png",
        b";;;=;=",
        b"multipart/form-data; boundary*=utf-8''" + BOUNDARY,
        b"multipart/form-data; boundary*0=fron; boundary*1=tier",
    )
    return rng.choice(kinds), part(data) + END


_FORMS: dict[str, _Form] = {
    "damaged": _damaged,
    "boundary": _bound,
    "type": _typed,
    "no end": lambda rng, data: (_FORM, part(data)),
    "no line ends": lambda rng, data: (_FORM, (part(data) + END).replace(b"\r\n", b"\n")),
    "nothing": lambda rng, data: (_FORM, b""),
    "only an end": lambda rng, data: (_FORM, END),
    "no file": lambda rng, data: (_FORM, part(data, field=b"picture") + END),
    "two files": lambda rng, data: (_FORM, part(data) + part(data) + END),
    "an empty file": lambda rng, data: (_FORM, part(b"") + END),
    "a field": lambda rng, data: (
        _FORM, b'--%s\r\nContent-Disposition: form-data; name="file"\r\n\r\ntext\r\n%s' % (BOUNDARY, END)
    ),
    "no disposition": lambda rng, data: (_FORM, b"--%s\r\nX: y\r\n\r\n%s\r\n%s" % (BOUNDARY, data, END)),
    "no headers": lambda rng, data: (_FORM, b"--%s\r\n\r\n%s\r\n%s" % (BOUNDARY, data, END)),
    "a long header": lambda rng, data: (
        _FORM, part(data, more=b"X: " + b"y" * rng.choice((4_000, 90_000)) + b"\r\n") + END
    ),
    "many headers": lambda rng, data: (_FORM, part(data, more=b"X: y\r\n" * rng.choice((14, 15, 5_000))) + END),
    "many fields": lambda rng, data: (_FORM, part(b"", field=b"x") * rng.choice((100, 3_000)) + part(data) + END),
    "many files": lambda rng, data: (_FORM, part(data[:9]) * rng.choice((999, 1_001)) + END),
    "a long field": lambda rng, data: (_FORM, part(bytes(rng.choice((60_000, 70_000))), field=b"x") + part(data) + END),
    "a form in it": lambda rng, data: (
        _FORM,
        part(
            part(data).replace(BOUNDARY, b"inner") + b"--inner--",
            more=b"Content-Type: multipart/mixed; boundary=inner\r\n",
        ) + END,
    ),
    "base64": lambda rng, data: (_FORM, part(data, more=b"Content-Transfer-Encoding: base64\r\n") + END),
    "odd types": lambda rng, data: (
        _FORM, part(data, more=b"Content-Type: text/html; charset=utf-7\r\n" * rng.randint(1, 3)) + END
    ),
    "its charset": lambda rng, data: (_FORM, part(b"utf-16", field=b"_charset_") + part(data) + END),
    "noise around": lambda rng, data: (_FORM, rng.randbytes(500) + b"\r\n" + part(data) + END + rng.randbytes(500)),
    "noise": lambda rng, data: (_FORM, rng.randbytes(rng.choice((1, 100, 70_000)))),
    "dashes": lambda rng, data: (_FORM, b"--" * rng.choice((10, 50_000)) + part(data) + END),
    "half boundaries": lambda rng, data: (_FORM, part(b"\r\n--front" * 20_000 + data) + END),
}  # fmt: skip


def _form(rng: random.Random) -> Case:
    endpoint, which = _endpoint(rng), rng.choice((*_FORMS, "damaged", "damaged"))
    kind, body = _FORMS[which](rng, files()[rng.choice(("rgb.png", "still.gif", "grey.jpg"))])
    sent = request(target(rng, endpoint), body, {"Content-Type": kind.decode("latin-1")})
    # A server that has seen enough closes on what is still being sent.
    return Case("form", endpoint, (sent,), which, silent=len(body) > 60_000)


def _plain(rng: random.Random, endpoint: str, headers: Mapping[str, str] | None = None) -> bytes:
    return request(target(rng, endpoint), part(files()["rgb.png"]) + END, headers)


_HEADERS: tuple[dict[str, str], ...] = (
    {"Host": ""},
    {"Host": "evil.example"},
    {"Host": "localhost:99999999"},
    {"Host": "[::1"},
    {"Host": "localhost\0"},
    {"Host": "\xff\xfe"},
    {"Host": "a" * 60_000},
    {"Host": "localhost\r\nHost: evil.example"},
    {"Content-Type": _FORM.decode() + "\r\nContent-Type: application/json"},
    {"Content-Type": "\xe4\xf6\xfc; \xff"},
    {"X": "y" * 100_000},
    {"X": "y\r\nX: " * 5_000},
    {"X": "a\0b"},
    {"X": "a\r\n folded"},
    {"X\xff": "y"},
    {"X ": "y"},
    {"": "y"},
    {"Expect": "100-continue"},
    {"Expect": "200-ok"},
    {"Upgrade": "websocket", "Connection": "Upgrade"},
    {"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAMAAABkAAQAAP__"},
    {"Content-Encoding": "gzip"},
    {"Range": "bytes=0-0"},
    {"Origin": "null"},
    {"Origin": "http://evil.example"},
    {"Origin": "http://localhost"},
    {"Origin": "\xff"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Authorization": "Bearer " + "k" * 10_000},
    {"Authorization": "Basic \xff"},
    {"Idempotency-Key": "k" * 256},
    {"Idempotency-Key": "\xff\xfe\x80"},
    {"Cookie": "a=b; " * 3_000},
    {"Accept": "application/xml;q=\xff"},
    {"Last-Event-ID": "-1"},
    {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "evil.example", "Forwarded": "for=evil"},
    {"Content-Length": "9", "Transfer-Encoding": "identity"},
)

_TARGETS = (
    "/v1/judge/../judge",
    "/v1/%6audge",
    "/v1/judge%00",
    "/v1/judge/",
    "//v1/judge",
    "/v1/" + "j" * 60_000,
    "/v1/" + "j" * 100_000,
    "http://evil.example/v1/judge",
    "*",
    "/v1/judge?provenance=%ff",
    "/v1/judge?provenance=maybe",
    "/v1/judge?detector=" + "d" * 9_000,
    "/v1/judge?detector=../../etc",
    "/v1/judge?detector=%00&detector=a",
    "/v1/judge?" + "a=b&" * 9_000,
    "/v1/alter?jpeg=nan",
    "/v1/alter?scale=nan&blur=inf",
    "/v1/alter?scale=1e308",
    "/v1/alter?scale=-0",
    "/v1/alter?jpeg=1e2&blur=0x4",
    "/v1/alter?blur=" + "9" * 5_000,
    "/v1/jobs?every=nan",
    "/v1/jobs?every=1e-300",
    "/v1/jobs?every=inf&keep=2",
    "/v1/explain?toward=both",
    "/v1/judge#fragment",
    "/v1/judge?\xff\xfe",
    "/static/../../pyproject.toml",
    "/static/%2e%2e%2f%2e%2e%2fpyproject.toml",
)

_GETS = (
    "/static/../../../pyproject.toml",
    "/static/..%2f..%2fservice.py",
    "/static/%00",
    "/v1/jobs/..%2f..%2fhealth",
    "/v1/jobs/%00",
    "/v1/jobs/%ff%fe/results",
    "/v1/jobs/" + "j" * 65,
    "/v1/jobs/x/results?offset=9999999999999999999999&limit=1",
    "/v1/jobs/x/results?offset=-1",
    "/v1/jobs/x/results?limit=1e3",
    "/v1/detectors/..%2f..",
    "/v1/detectors/%00",
    "/metrics?name[]=%ff",
    "/?a=\xff",
)


def _lines(rng: random.Random) -> bytes:
    """A request whose first line is odd."""
    data = _plain(rng, "judge")
    first, rest = data.split(b"\r\n", 1)
    method, place, _ = first.split(b" ")
    odd = (
        b"post " + place + b" HTTP/1.1",
        b"BREW " + place + b" HTTP/1.1",
        b"P\0ST " + place + b" HTTP/1.1",
        method + b"  " + place + b" HTTP/1.1",
        method + b" " + place + b" HTTP/1.0",
        method + b" " + place + b" HTTP/0.9",
        method + b" " + place + b" HTTP/2.0",
        method + b" " + place + b" HTTP/1.1 HTTP/1.1",
        method + b" " + place,
        b"PRI * HTTP/2.0",
        b"CONNECT evil.example:443 HTTP/1.1",
        b"TRACE " + place + b" HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"",
        b"\r\n\r\n" + first,
        rng.randbytes(60).replace(b"\n", b""),
    )
    return rng.choice(odd) + rng.choice((b"\r\n", b"\r\n", b"\n")) + rest


def _head(rng: random.Random) -> Case:
    match rng.randrange(5):
        case 0 | 1:
            headers, endpoint = rng.choice(_HEADERS), _endpoint(rng)
            return Case("head", endpoint, (_plain(rng, endpoint, headers),), repr(headers)[:60], silent=True)
        case 2:
            place = rng.choice(_TARGETS)
            sent = request(place, part(files()["rgb.png"]) + END)
            return Case("head", "other", (sent,), repr(place[:60]), silent=True)
        case 3:
            place = rng.choice(_GETS)
            sent = request(place, b"", {"Content-Type": ""}, rng.choice(("GET", "GET", "DELETE", "PUT", "PATCH")))
            return Case("head", "other", (sent,), repr(place[:60]), silent=True)
    sent = _lines(rng)
    # What is no request, or a part of one, may be waited for.
    return Case("head", "other", (sent,), repr(sent[:30]), silent=True, half=True)


def _length(rng: random.Random) -> Case:
    endpoint, body = _endpoint(rng), part(files()["rgb.png"]) + END
    size = len(body)
    told = rng.choice(
        (str(size - 1), str(size // 2), "0", str(size + 1), str(size + 10**6), "-1", f"+{size}", f"{size}, {size}",
         hex(size), "1e3", "9" * 30, f"{size}\r\nContent-Length: {size + 1}", f" {size} ", "\xb2", "\xd9\xa3",
         f"{size}\r\nTransfer-Encoding: chunked")
    )  # fmt: skip
    sent = request(target(rng, endpoint), body, {"Content-Length": told})
    return Case("length", endpoint, (sent,), repr(told[:40]), half=True, silent=True)


def _chunked(rng: random.Random) -> Case:
    endpoint, body = _endpoint(rng), part(files()["rgb.png"]) + END
    headers = {"Content-Length": "", "Transfer-Encoding": "chunked"}
    cuts = sorted(rng.sample(range(1, len(body)), rng.choice((0, 1, 5, 200))))
    chunks = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]

    def written(extension: bytes = b"") -> bytes:
        return b"".join(b"%x%s\r\n%s\r\n" % (len(chunk), extension, chunk) for chunk in chunks)

    forms: dict[str, tuple[bytes, dict[str, str]]] = {
        "right": (written() + b"0\r\n\r\n", headers),
        "extensions": (written(b";a=b") + b"0\r\n\r\n", headers),
        "long extensions": (written(b";" + b"a" * 70_000) + b"0\r\n\r\n", headers),
        "trailers": (written() + b"0\r\nX: y\r\nContent-Length: 3\r\n\r\n", headers),
        "many trailers": (written() + b"0\r\n" + b"X: y\r\n" * 20_000 + b"\r\n", headers),
        "no end": (written(), headers),
        "no digits": (b"zz\r\n" + body, headers),
        "below 0": (b"-1\r\n" + body, headers),
        "beyond all": (b"f" * 17 + b"\r\n" + body, headers),
        "too short": (b"%x\r\n%s\r\n0\r\n\r\n" % (len(body) - 9, body), headers),
        "too long": (b"%x\r\n%s\r\n0\r\n\r\n" % (len(body) + 9, body), headers),
        "bytes alone": (b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n", headers),
        "bare line ends": ((written() + b"0\r\n\r\n").replace(b"\r\n", b"\n"), headers),
        "gzip too": (written() + b"0\r\n\r\n", headers | {"Transfer-Encoding": "gzip, chunked"}),
        "twice": (written() + b"0\r\n\r\n", headers | {"Transfer-Encoding": "chunked, chunked"}),
        "misspelt": (written() + b"0\r\n\r\n", headers | {"Transfer-Encoding": "xchunked"}),
        "odd white space": (written() + b"0\r\n\r\n", headers | {"Transfer-Encoding": "\x0bchunked"}),
        "and a length": (written() + b"0\r\n\r\n", headers | {"Content-Length": str(len(body))}),
    }
    which = rng.choice(list(forms))
    sent, told = forms[which]
    whole = which == "right"
    pieces = (request(target(rng, endpoint), sent, told),)
    return Case("chunked", endpoint, pieces, which, half=not whole, silent=not whole, whole=whole)


def _cut(rng: random.Random) -> Case:
    endpoint = _endpoint(rng)
    name = rng.choice(list(files()))
    sent = request(target(rng, endpoint), part(files()[name]) * (3 if endpoint == "jobs" else 1) + END)
    at, away = rng.randrange(1, len(sent)), rng.random() < 0.6
    return Case("cut", endpoint, (sent[:at],), f"{name} at {at}", half=not away, away=away, silent=True)


def _slow(rng: random.Random) -> Case:
    endpoint = rng.choice(ENDPOINTS)
    sent = _plain(rng, endpoint)
    start = sent.index(b"\r\n\r\n") + 4
    match rng.randrange(8):
        case 0:  # a byte of the head at a time
            pieces = tuple(sent[place : place + 1] for place in range(start))
            return Case("slow", endpoint, pieces, "head", pause=0.3, silent=True, seconds=STALL)
        case 1 if endpoint != "jobs":  # whose uploads may take hours
            pieces = (sent[:start], *(sent[place : place + 1] for place in range(start, len(sent))))
            return Case("slow", endpoint, pieces, "a byte at a time", pause=0.5, seconds=UPLOAD)
        case 2 | 3:
            return Case(
                "slow", endpoint, (sent[: rng.randrange(1, start)],), "no more head", silent=True, seconds=STALL
            )
        case 4 | 5:
            step = len(sent) // 8 + 1
            pieces = tuple(sent[place : place + step] for place in range(0, len(sent), step))
            return Case("slow", endpoint, pieces, "slow, but not too slow", pause=1.5, whole=True)
    return Case("slow", endpoint, (sent[: rng.randrange(start, len(sent) - 1)],), "no more body", seconds=STALL)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, depth: int, colours: int, packed: bytes, *more: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + b"".join(more) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")
    )


def _zeros(count: int) -> bytes:
    """So many zeros, packed a thousand times smaller."""
    packer, block = zlib.compressobj(9), bytes(1 << 20)
    parts = [packer.compress(block[: min(1 << 20, count - done)]) for done in range(0, count, 1 << 20)]
    return b"".join(parts) + packer.flush()


@functools.cache
def bombs() -> dict[str, bytes]:
    """Small files that claim much, or become much."""
    many = _zeros(200 << 20)
    small = files()["rgb.png"]
    after = small.index(b"IDAT") - 4
    jpeg, gif = bytearray(files()["grey.jpg"]), bytearray(files()["still.gif"])
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = b"\xff\xdc\xff\xdc"
    gif[6:10] = b"\xff\xff\xff\xff"
    frames = io.BytesIO()
    dots = [Image.new("L", (1, 1), level) for level in range(256)] * 20
    dots[0].save(frames, "GIF", save_all=True, append_images=dots[1:])
    tags = {256: 60_000, 257: 60_000, 258: 8, 273: 8, 279: 9}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)
    laughs = b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><svg>&b;</svg>'
    nested = b"".join(struct.pack(">I", 8 * (4_000 - depth)) + b"moov" for depth in range(4_000))
    return {
        "claims 60,000 x 60,000": kills.bomb(),
        "claims 2^31 x 1": _png(2**31 - 1, 1, 8, 0, zlib.compress(bytes(100))),
        "20,000 x 20,000 of 1 bit": _png(20_000, 20_000, 1, 0, _zeros(20_000 * 2_501)),
        "9,000 x 9,000 of 1 bit": _png(9_000, 9_000, 1, 0, _zeros(9_000 * 1_126)),
        "1 x 1 and 200 MiB": _png(1, 1, 8, 0, many),
        "200 MiB of text": small[:after] + _chunk(b"zTXt", b"Comment\0\0" + many) + small[after:],
        "200 MiB of profile": small[:after] + _chunk(b"iCCP", b"icc\0\0" + many) + small[after:],
        "200 MiB of XMP": small[:after] + _chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + many) + small[after:],
        "100,000 chunks": small[:after] + _chunk(b"tEXt", b"a\0b") * 100_000 + small[after:],
        "a JPEG of 65,500 x 65,500": bytes(jpeg),
        "a GIF of 65,535 x 65,535": bytes(gif),
        "a GIF of 5,120 frames": frames.getvalue(),
        "a TIFF of 60,000 x 60,000": tiff,
        "a ZIP": b"PK\3\4\x14\0\0\0\x08\0" + bytes(16) + many[:50_000] + b"PK\5\6" + bytes(18),
        "gzip": b"\x1f\x8b\x08\0\0\0\0\0\0\3" + many[:50_000],
        "a drawing of laughs": laughs,
        "3 MiB of noise after a JPEG's head": bytes(jpeg[:frame]) + random.Random(0).randbytes(3 << 20),
        "an MP4 of boxes in boxes": b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + nested,
    }


def _bomb(rng: random.Random) -> Case:
    endpoint, name = rng.choice(ENDPOINTS), rng.choice(list(bombs()))
    body = part(bombs()[name], b"bomb") + END
    return Case("bomb", endpoint, (request(target(rng, endpoint), body),), name)


KINDS: dict[str, tuple[float, Callable[[random.Random], Case]]] = {
    "mutant": (75, _mutant),
    "whole": (4, _whole),
    "form": (6, _form),
    "head": (5, _head),
    "length": (2, _length),
    "chunked": (2, _chunked),
    "cut": (2, _cut),
    "name": (2, _named),
    "bomb": (0.6, _bomb),
    "slow": (0.4, _slow),
}
"""How often each kind of case comes, in percent, and what makes it."""


def case(seed: int, number: int) -> Case:
    """Case `number` of a seed."""
    rng = random.Random(f"{seed}:{number}")
    weights = [weight for weight, _ in KINDS.values()]
    _, make = rng.choices(list(KINDS.values()), weights)[0]
    return make(rng)
