"""What a file says of its own origin: signed records, Exif, XMP, IPTC, generators' settings; and hostile files."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import io
import json
import os
import socket
import struct
import sys
import tarfile
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, PngImagePlugin

from assay.errors import InputError
from assay.image.decode import Limits
from assay.image.provenance import Provenance, Sign, blocks, c2pa, generator, provenance, sign
from assay.image.provenance import exif as exifs
from assay.image.provenance.sign import SOURCES, source_type

IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
MEDIA = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif", "TIFF": "image/tiff"}


@functools.cache
def noise(size: int = 24) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8))


def saved(form: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    noise().save(file, form, **options)
    return file.getvalue()


def png(*texts: tuple[str, str], packed: bool = False) -> bytes:
    info = PngImagePlugin.PngInfo()
    for key, text in texts:
        info.add_text(key, text, zip=packed)
    return saved("PNG", pnginfo=info)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(*chunks: bytes) -> bytes:
    """A PNG with further chunks behind its header."""
    plain = saved("PNG")
    return plain[:33] + b"".join(chunks) + plain[33:]


def exif(**tags: Any) -> Image.Exif:
    """Exif of tags by Exif's names."""
    block = Image.Exif()
    inner = {"DateTimeOriginal", "LensModel", "UserComment", "ExposureTime"}
    for name, value in tags.items():
        where = block.get_ifd(ExifTags.IFD.Exif) if name in inner else block
        where[ExifTags.Base[name]] = value
    return block


def one(data: bytes, kind: str) -> Sign:
    """The only sign of a file, which is of this kind."""
    (found,) = provenance(data).signs
    assert found.kind == kind
    return found


# ── nothing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_a_picture_without_signs_says_nothing_and_the_words_say_so(form: str) -> None:
    found = provenance(saved(form))
    assert found == Provenance()
    assert "says nothing of the picture" in found.told
    assert found.to_dict() == {"signs": [], "unread": [], "told": found.told}


def test_signs_are_never_told_without_what_they_are_worth() -> None:
    found = provenance(png(("Software", "NovelAI")))
    assert "can be forged and stripped" in found.told
    assert "no part of" in found.told
    assert json.loads(json.dumps(found.to_dict()))["signs"][0]["says"] == "generated"
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.signs = ()  # type: ignore[misc]


def test_signs_that_contradict_one_another_are_said_to() -> None:
    block = exif(Make="Canon", Model="EOS R5")
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", "NovelAI")
    both = provenance(saved("PNG", exif=block, pnginfo=info))
    assert [each.says for each in both.signs] == ["generated", "camera"]
    assert sign.AGAINST in both.told
    assert sign.AGAINST not in provenance(saved(exif=block)).told


# ── Exif ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

CAMERA = {
    "Make": "Canon",
    "Model": "Canon EOS R5",
    "Software": "Firmware 1.2",
    "LensModel": "RF50mm",
    "DateTimeOriginal": "2024:05:01 10:00:00",
}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_camera_is_named_whatever_the_format(form: str) -> None:
    block = exif(**CAMERA)
    # Pillow writes no inner directory into a TIFF; but a block of Exif is a TIFF by itself.
    data = block.tobytes()[6:] if form == "TIFF" else saved(form, exif=block)
    found = one(data, "exif")
    assert found.says == "camera"
    assert "Canon EOS R5" in found.title
    assert "Canon Canon" not in found.title
    assert found.detail == {
        "make": "Canon",
        "model": "Canon EOS R5",
        "software": "Firmware 1.2",
        "lens": "RF50mm",
        "taken": "2024:05:01 10:00:00",
    }
    assert found.verified == ""


def test_a_camera_is_named_in_heic_and_without_its_library_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    heif.from_pillow(noise(64)).save(file, exif=exif(**CAMERA).tobytes())
    assert one(file.getvalue(), "exif").says == "camera"
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    without = provenance(file.getvalue())
    assert without.signs == ()
    assert 'pip install "assay[heic]"' in without.unread[0]


def test_places_and_numbers_of_devices_are_not_given_out() -> None:
    block = exif(**CAMERA)
    block.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.BodySerialNumber] = "SECRET-SERIAL"
    block.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSAreaInformation] = b"ASCII\0\0\0SECRET-PLACE"
    block[ExifTags.Base.Artist] = "SECRET-NAME"
    assert "SECRET" not in json.dumps(provenance(saved(exif=block)).to_dict())


@pytest.mark.parametrize(
    ("tags", "says", "word"),
    [
        ({"Software": "Adobe Photoshop 25.0", "Make": "Canon", "Model": "EOS"}, "edited", "editing"),
        ({"Software": "Adobe Firefly 3"}, "generated", "Adobe Firefly"),
        ({"Software": "Midjourney", "Make": "Canon", "Model": "EOS"}, "generated", "Midjourney"),
        ({"Artist": "DALL-E 3"}, "generated", "DALL·E"),
        ({"ImageDescription": "a cartoon about Midjourney"}, "nothing certain", "mentions Midjourney"),
        ({"UserComment": b"ASCII\0\0\0by stable diffusion"}, "nothing certain", "mentions Stable Diffusion"),
        ({"Software": "Something 1.0"}, "nothing certain", "neither"),
        ({"DateTimeOriginal": "2024:05:01 10:00:00"}, "nothing certain", "neither"),
    ],
)
def test_what_exif_names_is_weighed(tags: dict[str, Any], says: str, word: str) -> None:
    found = one(saved(exif=exif(**tags)), "exif")
    assert found.says == says
    assert word in found.title


@pytest.mark.parametrize(
    "text", ["a plane on the runway", "Gemini over the hills", "by Leonardo", "a sora in the reeds"]
)
def test_words_that_are_also_names_mean_nothing_in_a_description(text: str) -> None:
    assert provenance(saved(exif=exif(ImageDescription=text))).signs == ()


# ── XMP ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

RDF = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
 xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/" xmlns:stEvt="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:dcterms="http://purl.org/dc/terms/"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"><rdf:Description rdf:about="" {}>{}</rdf:Description>
</rdf:RDF></x:xmpmeta>"""


def packet(attributes: str = "", elements: str = "") -> bytes:
    return RDF.format(attributes, elements).encode()


def with_xmp(xmp: bytes, form: str = "JPEG") -> bytes:
    if form == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        return saved("PNG", pnginfo=info)
    if form == "TIFF":
        return saved("TIFF", tiffinfo={700: xmp})
    if form == "GIF":
        plain = saved("GIF")
        return plain[:-1] + b"\x21\xff\x0bXMP DataXMP" + xmp + b"\1" + bytes(range(255, -1, -1)) + b"\0;"
    return saved(form, xmp=xmp)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "AVIF"])
def test_the_source_type_in_xmp_is_found_in_every_format(form: str) -> None:
    xmp = packet(
        f'Iptc4xmpExt:DigitalSourceType="{IPTC}trainedAlgorithmicMedia" photoshop:Credit="Made with Google AI"'
    )
    found = one(with_xmp(xmp, form), "xmp")
    assert found.says == "generated"
    assert found.title == "Its XMP data say that the picture was made by an AI model."
    assert found.detail == {"source": "trainedAlgorithmicMedia", "credit": "Made with Google AI"}


@pytest.mark.parametrize(
    "written",
    [
        packet(f'Iptc4xmpExt:DigitalSourceType="{IPTC}compositeWithTrainedAlgorithmicMedia"'),
        packet(
            "",
            f"<Iptc4xmpExt:DigitalSourceType> {IPTC}CompositeWithTrainedAlgorithmicMedia/ ".rstrip("/ ")
            + "</Iptc4xmpExt:DigitalSourceType>",
        ),
        packet("", f'<Iptc4xmpExt:DigitalSourceType rdf:resource="{IPTC}compositeWithTrainedAlgorithmicMedia"/>'),
        packet('Iptc4xmpExt:DigitalSourceType="digsrctype:compositeWithTrainedAlgorithmicMedia"'),
    ],
)
def test_a_source_type_is_read_however_it_is_written(written: bytes) -> None:
    found = one(with_xmp(written), "xmp")
    assert (found.says, found.detail["source"]) == ("edited", "compositeWithTrainedAlgorithmicMedia")


HISTORY = """<xmpMM:History><rdf:Seq><rdf:li stEvt:action="created" stEvt:softwareAgent="Adobe Photoshop 25"/>
<rdf:li rdf:parseType="Resource"><stEvt:action>saved</stEvt:action>
<stEvt:softwareAgent>Adobe Lightroom</stEvt:softwareAgent></rdf:li></rdf:Seq></xmpMM:History>"""


@pytest.mark.parametrize(
    ("xmp", "says", "word"),
    [
        (packet('photoshop:Credit="Made with Google AI"'), "generated", "credit an AI"),
        (packet('photoshop:Credit="Edited with Google AI"'), "edited", "credit an AI with editing"),
        (packet('xmp:CreatorTool="Adobe Firefly"'), "generated", "Adobe Firefly"),
        (packet('xmp:CreatorTool="Adobe Photoshop 25.0"'), "edited", "editing"),
        (packet('xmp:CreatorTool="Canon EOS"'), "nothing certain", "do not say"),
        (packet('Iptc4xmpExt:AISystemUsed="Some model"'), "generated", "AI system"),
        (packet(f'Iptc4xmpExt:DigitalSourceType="{IPTC}digitalCapture"'), "camera", "camera"),
        (packet(f'Iptc4xmpExt:DigitalSourceType="{IPTC}digitalCapture"', HISTORY), "edited", "camera and edited"),
        (packet(f'Iptc4xmpExt:DigitalSourceType="{IPTC}screenCapture"'), "nothing certain", "screen"),
        (packet("", HISTORY), "edited", "editing"),
    ],
)
def test_what_xmp_names_is_weighed(xmp: bytes, says: str, word: str) -> None:
    found = one(with_xmp(xmp), "xmp")
    assert found.says == says
    assert word in found.title


def test_the_history_in_xmp_is_counted_and_its_programs_are_named() -> None:
    found = one(with_xmp(packet("", HISTORY)), "xmp")
    assert found.detail == {"steps": "2", "agents": "Adobe Photoshop 25, Adobe Lightroom"}


def test_xmp_without_anything_of_origin_is_no_sign() -> None:
    assert provenance(with_xmp(packet('xmp:Rating="5"'))) == Provenance()


BILLION = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]>' + packet('xmp:CreatorTool="Firefly"')


@pytest.mark.parametrize(
    ("xmp", "why"),
    [
        (BILLION, "document type"),
        (b"<?xml version='1.0' encoding='utf-16'?>" + packet('xmp:CreatorTool="Firefly"'), ""),
        (packet('xmp:CreatorTool="Firefly"').decode().encode("utf-16"), "not well-formed"),
        (packet('xmp:CreatorTool="Firefly"')[:-9], "not well-formed"),
        (packet('xmp:CreatorTool="Firefly"', "<a>" * 70 + "</a>" * 70), "elements inside one another"),
        (b"<a/>" + b"\xff" * 40, "not well-formed"),
    ],
)
def test_a_packet_that_could_harm_or_is_broken_is_named_and_left_alone(xmp: bytes, why: str) -> None:
    found = provenance(with_xmp(xmp))
    if why:
        assert found.signs == ()
        assert why in found.unread[0]
    else:  # what the packet declares of its own characters is not believed
        assert found.signs[0].says == "generated"


# ── IPTC ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def iim(**sets: str) -> bytes:
    numbers = {"program": 65, "credit": 110, "source": 115, "caption": 120}
    return b"".join(
        b"\x1c\x02" + bytes((numbers[name],)) + struct.pack(">H", len(text)) + text.encode()
        for name, text in sets.items()
    )


def with_iim(block: bytes) -> bytes:
    plain = saved()
    other = b"8BIM\x03\xed\x03abc" + struct.pack(">I", 3) + b"abc\0"  # a name and content of odd lengths before it
    body = b"Photoshop 3.0\0" + other + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(block)) + block
    return plain[:2] + b"\xff\xed" + struct.pack(">H", len(body) + 2) + body + plain[2:]


@pytest.mark.parametrize(
    ("block", "says", "word"),
    [
        (iim(credit="Made with Google AI"), "generated", "Google AI"),
        (iim(credit="Edited with Google AI"), "edited", "editing"),
        (iim(program="Midjourney"), "generated", "Midjourney"),
        (iim(caption=f"{IPTC}trainedAlgorithmicMedia"), "generated", "made by an AI model"),
        (iim(source=f"{IPTC}digitalCapture"), "camera", "camera"),
    ],
)
def test_iptc_is_read_from_a_jpeg(block: bytes, says: str, word: str) -> None:
    found = one(with_iim(block), "iptc")
    assert found.says == says
    assert word in found.title


def test_iptc_is_read_from_a_tiff_and_ordinary_credits_are_no_sign() -> None:
    assert one(saved("TIFF", tiffinfo={33723: iim(credit="Made with Google AI")}), "iptc").says == "generated"
    assert provenance(with_iim(iim(credit="A. Photographer", program="Photo Mechanic"))).signs == ()


# ── generators ───────────────────────────────────────────────────────────────────────────────────────────────────────

WEBUI = (
    "a cat, sitting\non a mat\nNegative prompt: dog, blurry\n"
    'Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 512x512, Model hash: abc, Model: "sd, xl", Version: v1'
)
GRAPH = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 7, "steps": 25, "sampler_name": "euler", "positive": ["5", 0]}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "model.safetensors"}},
    "5": {"class_type": "ControlNetApply", "inputs": {"conditioning": ["6", 0]}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat"}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "a dog"}},
}
JOB = "0f0e0d0c-1111-2222-3333-444455556666"
SETTINGS = {"prompt": "a cat", "seed": 7, "steps": 25, "sampler": "euler", "model": "m"}
TOLD = {name: str(value) for name, value in SETTINGS.items()}


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (
            {"parameters": WEBUI},
            {
                "generator": "Stable Diffusion WebUI",
                "prompt": "a cat, sitting on a mat",
                "model": "sd, xl",
                "sampler": "Euler a",
                "seed": "42",
                "steps": "20",
            },
        ),
        ({"prompt": json.dumps(GRAPH)}, {**TOLD, "generator": "ComfyUI", "model": "model.safetensors"}),
        ({"workflow": json.dumps({"nodes": [1, 2]})}, {"generator": "ComfyUI", "nodes": "2"}),
        (
            {
                "invokeai_metadata": json.dumps(
                    {"positive_prompt": "a cat", "seed": 7, "steps": 25, "scheduler": "euler", "model": {"name": "m"}}
                )
            },
            {**TOLD, "generator": "InvokeAI"},
        ),
        (
            {"sd-metadata": json.dumps({"model_weights": "m", "image": {**SETTINGS, "prompt": [{"prompt": "a cat"}]}})},
            {**TOLD, "generator": "InvokeAI"},
        ),
        (
            {"Dream": '"a cat" -s 25 -S 7 -W512 -H512 -C7.5 -A euler'},
            {"generator": "InvokeAI", "prompt": "a cat", "sampler": "euler", "seed": "7", "steps": "25"},
        ),
        (
            {
                "Software": "NovelAI",
                "Source": "NovelAI Diffusion V3",
                "Comment": json.dumps({**SETTINGS, "model": None}),
            },
            {**TOLD, "generator": "NovelAI", "model": "NovelAI Diffusion V3"},
        ),
        ({"parameters": json.dumps({"sui_image_params": SETTINGS})}, {**TOLD, "generator": "SwarmUI"}),
        (
            {"fooocus_scheme": "fooocus", "parameters": json.dumps({**SETTINGS, "base_model": "m"})},
            {**TOLD, "generator": "Fooocus"},
        ),
        (
            {
                "use_stable_diffusion_model": "m",
                "prompt": "a cat",
                "seed": "7",
                "num_inference_steps": "25",
                "sampler_name": "euler",
            },
            {**TOLD, "generator": "Easy Diffusion"},
        ),
        (
            {"Description": f"a cat --ar 1:1 --v 6.1 --seed 7 Job ID: {JOB}", "Author": "someone"},
            {
                "generator": "Midjourney",
                "prompt": "a cat --ar 1:1 --v 6.1 --seed 7",
                "model": "v 6.1",
                "seed": "7",
                "job": JOB,
            },
        ),
        ({"Software": "OpenAI DALL-E"}, {"generator": "DALL·E", "software": "OpenAI DALL-E"}),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_generators_settings_are_read_from_a_png(texts: dict[str, str], told: dict[str, str], packed: bool) -> None:
    found = one(png(*texts.items(), packed=packed), "generator")
    assert found.says == "generated"
    assert told["generator"] in found.title
    assert found.detail == told


@pytest.mark.parametrize("order", ["utf-16-be", "utf-16-le"])
def test_settings_are_read_from_a_jpegs_user_comment(order: str) -> None:
    found = one(saved(exif=exif(UserComment=b"UNICODE\0" + WEBUI.encode(order))), "generator")
    assert found.detail["prompt"] == "a cat, sitting on a mat"
    assert found.detail["seed"] == "42"


def test_comfyui_hides_its_graph_in_the_cameras_fields_of_a_webp() -> None:
    block = exif(Make=f"workflow:{json.dumps({'nodes': []})}", Model=f"prompt:{json.dumps(GRAPH)}")
    assert one(saved("WEBP", exif=block), "generator").detail["prompt"] == "a cat"


def test_midjourney_is_told_by_its_job_in_any_description() -> None:
    text = f"a cat --v 6 Job ID: {JOB}"
    elements = f'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{text}</rdf:li></rdf:Alt></dc:description>'
    for data in (with_xmp(packet("", elements)), saved(exif=exif(ImageDescription=text)), saved(comment=text.encode())):
        assert provenance(data).signs[0].detail["job"] == JOB


def test_long_prompts_are_cut() -> None:
    prompt = one(png(("parameters", WEBUI.replace("a cat", "cat " * 1000))), "generator").detail["prompt"]
    assert len(prompt) == 300
    assert prompt.endswith("…")


def test_texts_that_are_no_settings_are_no_sign() -> None:
    texts = [("Comment", "Steps: up the hill"), ("prompt", "say cheese"), ("parameters", "{}"), ("Software", "gThumb")]
    assert provenance(png(*texts, ("workflow", "[]"), ("Description", "Job ID: 5"))).signs == ()


def test_a_graph_that_only_loads_a_picture_and_changes_it_is_an_edit() -> None:
    nodes = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}},
        "2": {"class_type": "ImageUpscaleWithModel", "inputs": {"image": ["1", 0]}},
    }
    assert one(png(("prompt", json.dumps(nodes))), "generator").says == "edited"


@pytest.mark.parametrize(
    "graph",
    [
        {"3": {"class_type": "KSampler", "inputs": {"positive": ["3", 0]}}},  # a circle
        {"3": {"class_type": "KSampler", "inputs": {"positive": [["3"], 0], "seed": [1], "text": {}}}},
        {"3": {"class_type": [], "inputs": {"positive": []}}, "4": 5, "5": {"inputs": 3, "class_type": ""}},
    ],
)
def test_odd_graphs_do_no_harm(graph: Any) -> None:
    assert one(png(("prompt", json.dumps(graph))), "generator").detail["generator"] == "ComfyUI"


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, '{"seed":' + "9" * 10_000 + "}", "{", "\ud800", "NaN", "[1]"]
)
def test_json_that_is_too_deep_or_broken_is_no_sign(text: str) -> None:
    names = ("prompt", "workflow", "parameters", "invokeai_metadata", "sd-metadata")
    assert generator.signs(dict.fromkeys(names, text)) == []


# ── source types ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_source_types_are_known_by_uri_name_and_alone() -> None:
    for code in SOURCES:
        for written in (IPTC + code, f" digsrctype:{code.upper()}", code, f"http://c2pa.org/digitalsourcetype/{code}"):
            assert source_type(written) == code
    assert source_type("http://example.org/else") == source_type("") == ""


# ── hostile files ────────────────────────────────────────────────────────────────────────────────────────────────────


def bomb(size: int) -> bytes:
    return zlib.compress(bytes(size), 9)


def test_a_text_bomb_is_inflated_no_further_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    inflated = []
    real = zlib.decompressobj

    class Counting:
        def __init__(self) -> None:
            self._real = real()

        def decompress(self, packed: bytes, most: int = 0) -> bytes:
            text = self._real.decompress(packed, most)
            inflated.append(len(text))
            return text

        @property
        def eof(self) -> bool:
            return self._real.eof

    monkeypatch.setattr(blocks.zlib, "decompressobj", Counting)
    packed = bomb(100 << 20)
    chunks = [chunk(b"zTXt", b"parameters\0\0" + packed), chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed)]
    data = png_with(*chunks * 5, chunk(b"tEXt", b"Software\0NovelAI"))
    tracemalloc.start()
    found = provenance(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0 < sum(inflated) <= blocks.MOST_TEXT
    assert peak < 4 * blocks.MOST_TEXT + len(data)
    assert any("too long" in line for line in found.unread)


def test_settings_before_a_bomb_are_still_read() -> None:
    data = png_with(chunk(b"tEXt", b"Software\0NovelAI"), chunk(b"zTXt", b"x\0\0" + bomb(50 << 20)))
    assert one(data, "generator").says == "generated"


def test_the_limit_on_texts_holds_for_those_that_are_not_compressed() -> None:
    fits = png_with(chunk(b"tEXt", b"a\0" + b" " * 1000), chunk(b"tEXt", b"Software\0NovelAI"))
    assert provenance(fits).unread == ()
    large = png_with(chunk(b"tEXt", b"a\0" + b" " * (blocks.MOST_TEXT + 1)), chunk(b"tEXt", b"Software\0NovelAI"))
    assert one(large, "generator").says == "generated"
    assert "too long" in provenance(large).unread[0]


def test_exif_that_claims_its_bytes_over_and_over_takes_no_memory() -> None:
    count = 4000
    entries = b"".join(struct.pack("<HHII", 270 + index % 50, 2 + index % 3, 400_000, 8) for index in range(count))
    block = (b"II*\0" + struct.pack("<IH", 8, count) + entries + bytes(4)).ljust(3_000_000, b"x")
    for data in (block, png_with(chunk(b"eXIf", block))):
        tracemalloc.start()
        found = provenance(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 * blocks.MOST_TEXT
        assert any("too long" in line for line in found.unread)


def test_exif_is_read_as_pillow_reads_it() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        tags = {name: "".join(map(chr, rng.integers(97, 123, rng.integers(1, 40)))) for name in CAMERA}
        block = exif(**tags)
        block.endian = "<" if rng.random() < 0.5 else ">"
        data = saved(exif=block)
        loaded = Image.open(io.BytesIO(data)).getexif()
        both = {**dict(loaded), **loaded.get_ifd(ExifTags.IFD.Exif)}
        told = {ExifTags.TAGS[tag]: value for tag, value in both.items()}
        assert {name: told[name] for name in CAMERA} == tags
        read = exifs.read(blocks.gather(data, "JPEG")).fields
        names = ("make", "model", "software", "lens", "taken")
        assert {name: read[name] for name in names} == dict(zip(names, tags.values(), strict=True))


def test_big_tiff_is_read() -> None:
    texts = {271: b"Canon\0", 272: b"Canon EOS R5, and longer than eight bytes\0"}
    at, entries, values = 16 + 8 + 20 * len(texts) + 8, b"", b""
    for tag, text in texts.items():
        where = text.ljust(8, b"\0") if len(text) <= 8 else struct.pack("<Q", at + len(values))
        entries += struct.pack("<HHQ", tag, 2, len(text)) + where
        values += text if len(text) > 8 else b""
    data = b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, len(texts)) + entries + bytes(8) + values
    assert one(data, "exif").detail == {"make": "Canon", "model": "Canon EOS R5, and longer than eight bytes"}


def test_what_could_not_be_read_is_listed_briefly() -> None:
    texts = [chunk(b"zTXt", f"text {number}\0\0no zlib".encode()) for number in range(1000)]
    assert len(provenance(png_with(*texts)).unread) == 20


@pytest.mark.parametrize("name", ["Credit", "History"])
def test_long_and_tangled_xmp_is_read_in_a_moment(name: str) -> None:
    tangled = "<rdf:li>" * 50 + "<xmp:a/>" * 100_000 + "</rdf:li>" * 50
    xmp = {
        "Credit": packet("", f"<photoshop:Credit>{'edited with ' * 300_000}</photoshop:Credit>"),
        "History": packet("", f"<xmpMM:History>{tangled}</xmpMM:History>"),
    }[name]
    start = time.perf_counter()
    provenance(with_xmp(xmp, "PNG"))
    assert time.perf_counter() - start < 5


HOSTILE = {
    "cut off": saved(exif=exif(**CAMERA))[:60],
    "a chunk that claims more than there is": saved("PNG")[:33] + b"\x7f\xff\xff\xfftEXtSoftware\0NovelAI",
    "a chunk that is not compressed": png_with(chunk(b"zTXt", b"parameters\0\0not zlib")),
    "a chunk without a separator": png_with(chunk(b"tEXt", b"parameters"), chunk(b"iTXt", b"x"), chunk(b"zTXt", b"")),
    "Exif of nothing": png_with(chunk(b"eXIf", b"")),
    "Exif of noise": png_with(chunk(b"eXIf", b"II*\0\xff\xff\xff\xff")),
    "Exif in a circle": png_with(chunk(b"eXIf", b"II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0\0\0\0\0")),
    "a TIFF of noise": b"II*\0" + bytes(range(256)),
    "a WebP of a length beyond its end": saved("WEBP")[:12] + b"EXIF\xff\xff\xff\xffII*\0",
    "Photoshop's resources cut off": with_iim(iim(credit="Made with Google AI")[:4])[:90],
    "a GIF comment without end": saved("GIF")[:-1] + b"\x21\xfe\xff",
    "an AVIF of noise": saved("AVIF")[:40] + bytes(range(200)),
    "the mark of a record alone": saved() + c2pa._BOX,
    "a record of noise": png_with(chunk(b"caBX", b"\0\0\0\x40jumb\0\0\0\x20" + c2pa._BOX + bytes(range(60)))),
    "a movie of nothing": b"\0\0\0\x10ftypisom\0\0\0\0",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_give_fewer_signs_and_nothing_else(name: str) -> None:
    found = provenance(HOSTILE[name])
    assert isinstance(found, Provenance)
    assert found.told
    json.dumps(found.to_dict())


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty"),
        (b"no picture at all", "not_an_image"),
        (b"%PDF-1.7", "unsupported"),
        (b"<svg xmlns='x'/>", "unsupported"),
        (bytes(100), "not_an_image"),
    ],
)
def test_what_is_no_picture_is_an_error(data: bytes, kind: str) -> None:
    with pytest.raises(InputError) as raised:
        provenance(data)
    assert raised.value.kind == kind


def test_paths_addresses_and_what_is_no_file(tmp_path: Path) -> None:
    data = png(("Software", "NovelAI"))
    (tmp_path / "a.png").write_bytes(data)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "a.png", "a.png")
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), f"{tmp_path}/a.tar::a.png"):
        assert provenance(source) == provenance(data)
    for source, kind in ((tmp_path, "not_a_file"), (tmp_path / "none.png", "missing"), ("a\0b", "missing")):
        with pytest.raises(InputError) as raised:
            provenance(source)
        assert raised.value.kind == kind
    with pytest.raises(InputError) as raised:
        provenance(tmp_path / "a.png", Limits(bytes=len(data) - 1))
    assert raised.value.kind == "too_many_bytes"
    assert provenance(tmp_path / "a.png", Limits(bytes=len(data))).signs
    with pytest.raises(TypeError):
        provenance(12)  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are Unix only")
def test_a_named_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError) as raised:
        provenance(tmp_path / "pipe.png")
    assert raised.value.kind == "not_a_file"


# ── signed records ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass
class Authority:
    """A throw-away authority: its own certificate, and what it signs with. `address` is in the signer's certificate."""

    root: str
    address: str
    sign: Callable[..., bytes]


@pytest.fixture(scope="module")
def listener() -> Iterator[tuple[str, list[bytes]]]:
    """An address on this machine, and what was sent to it."""
    server = socket.create_server(("127.0.0.1", 0))
    received: list[bytes] = []

    def listen() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection:
                    connection.settimeout(1)
                    received.append(b"")
                    with contextlib.suppress(OSError):
                        received[-1] = connection.recv(1000)

    threading.Thread(target=listen, daemon=True).start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}", received
    server.shutdown(socket.SHUT_RDWR)
    server.close()


@pytest.fixture(scope="module")
def authority(listener: tuple[str, list[bytes]]) -> Authority:
    library = pytest.importorskip("c2pa")
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, utils
    from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

    keys = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)

    def name(common: str) -> Any:
        organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Nobody Inc.")
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common), organisation])

    def certificate(subject: str, key: Any, is_root: bool) -> Any:
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
        )
        made = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("Throw-away root"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=not is_root,
                    key_cert_sign=is_root,
                    crl_sign=is_root,
                    decipher_only=False,
                    **usage,
                ),
                critical=True,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), critical=False)
        )
        if not is_root:
            where = x509.UniformResourceIdentifier(listener[0] + "/ocsp")
            asks = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, where)
            made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
            made = made.add_extension(x509.AuthorityInformationAccess([asks]), critical=False)
        return made.sign(keys[0], hashes.SHA256())

    chain = [certificate("Throw-away signer", keys[1], False), certificate("Throw-away root", keys[0], True)]
    pem = [each.public_bytes(serialization.Encoding.PEM).decode() for each in chain]

    def signature(message: bytes) -> bytes:
        r, s = utils.decode_dss_signature(keys[1].sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def make(
        data: bytes,
        form: str = "JPEG",
        *actions: dict[str, Any],
        ingredients: tuple[tuple[str, bytes], ...] = (),
        elsewhere: str = "",
    ) -> bytes:
        """A picture with a record of these actions, and of these ingredients (relationship, JPEG) before it."""
        quiet = {"verify": {"verify_after_sign": False, "remote_manifest_fetch": False}}
        context = library.Context.from_dict({**quiet, "builder": {"thumbnail": {"enabled": False}}})
        assertion = {"label": "c2pa.actions", "data": {"actions": list(actions)}}
        definition = {
            "claim_generator_info": [{"name": "Maker", "version": "1.0"}],
            "assertions": [assertion] if actions else [],
        }
        builder = library.Builder(definition, context=context)
        for number, (relationship, content) in enumerate(ingredients):
            told = json.dumps({"title": "part", "relationship": relationship, "label": f"part {number}"})
            builder.add_ingredient(told, "image/jpeg", io.BytesIO(content))
        if elsewhere:
            builder.set_remote_url(elsewhere)
            builder.set_no_embed()
        file = io.BytesIO()
        with library.Signer.from_callback(signature, library.C2paSigningAlg.ES256, "".join(pem)) as signer:
            builder.sign(signer, MEDIA[form], io.BytesIO(data), file)
        return file.getvalue()

    return Authority(pem[1], listener[0], make)


def created(code: str, agent: str = "") -> dict[str, Any]:
    named = {"softwareAgent": {"name": agent}} if agent else {}
    return {"action": "c2pa.created", "digitalSourceType": IPTC + code, **named}


AI = created("trainedAlgorithmicMedia", "Some model")


@pytest.fixture(scope="module")
def generated(authority: Authority) -> bytes:
    return authority.sign(saved(), "JPEG", AI)


def test_a_record_by_a_signer_that_nobody_vouches_for_is_untrusted(generated: bytes) -> None:
    found = one(generated, "c2pa")
    assert (found.says, found.verified) == ("generated", "untrusted")
    assert "made by an AI model" in found.title
    assert "not known here" in found.title
    assert found.detail == {
        "tool": "Maker 1.0",
        "signer": "Throw-away signer",
        "issuer": "Nobody Inc.",
        "state": "Valid",
        "failures": "signingCredential.untrusted",
        "actions": "c2pa.created",
        "model": "Some model",
        "source": "trainedAlgorithmicMedia",
        "ingredients": "0",
    }


def test_it_is_valid_where_the_reader_trusts_the_authority(generated: bytes, authority: Authority) -> None:
    (found,) = provenance(generated, trusted=authority.root).signs
    assert (found.says, found.verified) == ("generated", "valid")
    assert "failures" not in found.detail
    wrong = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    for text in ("nonsense", wrong, authority.root + wrong, authority.root[:-60]):
        with pytest.raises(ValueError, match="no certificates, or damaged ones"):
            provenance(generated, trusted=text)


@pytest.mark.parametrize("place", [-20, -200, 700])
def test_one_flipped_byte_makes_it_invalid_and_its_word_counts_for_nothing(
    generated: bytes, authority: Authority, place: int
) -> None:
    spoilt = bytearray(generated)
    spoilt[place] ^= 1
    (found,) = provenance(bytes(spoilt), trusted=authority.root).signs
    assert (found.kind, found.says, found.verified) == ("c2pa", "nothing certain", "invalid")
    assert "counts for nothing" in found.title


def test_an_invalid_record_still_tells_what_it_claims(generated: bytes) -> None:
    found = one(generated[:-20] + bytes(20), "c2pa")
    assert found.detail["claims"] == "generated"
    assert "assertion.dataHash.mismatch" in found.detail["failures"]


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF", "TIFF"])
def test_records_are_read_in_every_format_that_the_library_knows(form: str, authority: Authority) -> None:
    found = one(authority.sign(saved(form), form, AI), "c2pa")
    assert (found.says, found.verified) == ("generated", "untrusted")


EDITED = {"action": "c2pa.color_adjustments"}
CONVERTED = {"action": "c2pa.converted"}
BY_MODEL = {"action": "c2pa.edited", "digitalSourceType": f"{IPTC}trainedAlgorithmicMedia"}
ENHANCED = {"action": "c2pa.resized", "digitalSourceType": f"{IPTC}algorithmicallyEnhanced"}


@pytest.mark.parametrize(
    ("actions", "says", "words"),
    [
        ([created("digitalCapture")], "camera", "was taken by a camera"),
        ([created("computationalCapture"), CONVERTED], "camera", "merges several shots"),
        ([created("digitalCapture"), EDITED], "edited", "was taken by a camera and edited"),
        ([created("compositeWithTrainedAlgorithmicMedia")], "edited", "edited with AI"),
        ([created("digitalCapture"), BY_MODEL], "edited", "edited with AI"),
        ([AI, BY_MODEL], "generated", "made by an AI model"),
        ([created("digitalCapture"), ENHANCED], "edited", "was taken by a camera and edited"),
        ([created("digitalCreation")], "nothing certain", "drawn by a person"),
        ([{"action": "c2pa.created", "digitalSourceType": "http://example.org/x"}], "nothing certain", "not how it"),
    ],
)
def test_what_a_record_says_follows_from_its_actions(
    actions: list[dict[str, Any]], says: str, words: str, authority: Authority
) -> None:
    found = one(authority.sign(saved(), "JPEG", *actions), "c2pa")
    assert found.says == says
    assert words in found.title


def test_a_picture_that_began_as_a_generated_one_stays_generated(generated: bytes, authority: Authority) -> None:
    opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": ["part 0"]}}
    again = authority.sign(generated, "JPEG", opened, EDITED, ingredients=(("parentOf", generated),))
    once_more = authority.sign(again, "JPEG", opened, CONVERTED, ingredients=(("parentOf", again),))
    for data in (again, once_more):
        found = one(data, "c2pa")
        assert found.says == "generated"
        assert found.detail["ingredients"] == "1"
        assert found.detail["model"] == "Some model"


def test_a_generated_part_makes_a_photograph_an_edited_one(generated: bytes, authority: Authority) -> None:
    put = {"action": "c2pa.placed", "parameters": {"ingredientIds": ["part 0"]}}
    placed = (created("digitalCapture"), put)
    found = one(authority.sign(saved(), "JPEG", *placed, ingredients=(("componentOf", generated),)), "c2pa")
    assert found.says == "edited"
    assert "parts that AI made" in found.title


# ── no network ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_everything_in_the_library_that_asks_the_network_is_switched_off() -> None:
    assert c2pa.SETTINGS["verify"]["remote_manifest_fetch"] is False
    assert c2pa.SETTINGS["verify"]["ocsp_fetch"] is False
    assert c2pa.SETTINGS["core"]["allowed_network_hosts"] == []
    assert c2pa.SETTINGS["core"]["allow_redirects"] is False
    assert c2pa.SETTINGS["core"]["decode_identity_assertions"] is False
    library = pytest.importorskip("c2pa")
    for group, values in c2pa.SETTINGS.items():
        for name in values:
            # A setting of a wrong kind is refused only where the library knows its name: this one is no mere wish.
            with pytest.raises(library.C2paError):
                library.Context.from_dict({group: {name: {"of": "a wrong kind"}}})


def test_a_record_that_lies_elsewhere_is_not_fetched(
    authority: Authority, listener: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    address, received = listener
    data = authority.sign(saved(), "JPEG", AI, elsewhere=f"{address}/record")
    received.clear()
    found = one(data, "c2pa")
    # With a mark of a record inside, the library itself is asked.
    again = one(data[:2] + b"\xff\xfe\0\x16" + c2pa._BOX + data[2:], "c2pa")
    for each in (found, again):
        assert (each.says, each.verified) == ("nothing certain", "")
        assert each.detail == {"address": f"{address}/record"}
        assert "nothing was fetched" in each.title
    time.sleep(0.2)
    assert received == []
    # The trap works: by its own defaults the library does fetch.
    library = pytest.importorskip("c2pa")
    with pytest.raises(library.C2paError), library.Context() as context:
        library.Reader("image/jpeg", io.BytesIO(data), context=context)
    assert received
    assert b"/record" in received[0]


def test_nobody_is_asked_whether_a_certificate_was_revoked(
    generated: bytes, authority: Authority, listener: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    _, received = listener
    received.clear()
    provenance(generated, trusted=authority.root)
    time.sleep(0.2)
    assert received == []
    # The trap works: told to, the library does ask.
    library = pytest.importorskip("c2pa")
    asking = {"verify": {"ocsp_fetch": True}, "trust": {"user_anchors": authority.root}}
    with (
        library.Context.from_dict(asking) as context,
        library.Reader("image/jpeg", io.BytesIO(generated), context=context),
    ):
        assert received


# ── without the extra ────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_the_extra_a_record_is_seen_to_be_there_and_the_extra_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    body = b"\0\0\0\x40jumb\0\0\0\x20" + c2pa._BOX + b"\3c2pa\0"
    found = provenance(png_with(chunk(b"caBX", body), chunk(b"tEXt", b"Software\0NovelAI")))
    assert [(each.kind, each.says, each.verified) for each in found.signs] == [
        ("c2pa", "nothing certain", ""),
        ("generator", "generated", ""),
    ]
    assert "cannot be read here" in found.signs[0].title
    assert 'pip install "assay[provenance]"' in found.unread[0]


def test_a_picture_without_a_record_never_loads_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    assert provenance(saved()) == Provenance()


# ── mutations ────────────────────────────────────────────────────────────────────────────────────────────────────────


def victims() -> list[bytes]:
    """Files with signs of every kind, which the test below damages."""
    texts = (("parameters", WEBUI), ("prompt", json.dumps(GRAPH)), ("Dream", '"a cat" -S 7'))
    xmp = packet(f'Iptc4xmpExt:DigitalSourceType="{IPTC}digitalCapture" xmp:CreatorTool="Photoshop"', HISTORY)
    block = exif(**CAMERA, UserComment=b"UNICODE\0" + WEBUI.encode("utf-16-be"))
    record = b"\0\0\0\x40jumb\0\0\0\x20" + c2pa._BOX + b"\3c2pa\0" + bytes(range(60))
    files = [png(*texts), png(*texts, packed=True), with_iim(iim(credit="Made with Google AI", program="Midjourney"))]
    files += [with_xmp(xmp, form) for form in ("JPEG", "PNG", "WEBP", "TIFF", "GIF")]
    files += [saved(form, exif=block) for form in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")]
    return [*files, png_with(chunk(b"caBX", record))]


VICTIMS = victims()
EDIT = st.tuples(st.floats(0, 1), st.integers(0, 4), st.binary(min_size=1, max_size=8))


def mutated(data: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    changed = bytearray(data)
    for place, way, content in edits:
        at = int(place * max(0, len(changed) - 1))
        if way == 0:
            changed[at : at + len(content)] = content
        elif way == 1:
            changed[at:at] = content * 20
        elif way == 2:
            del changed[at : at + len(content) * 4]
        elif way == 3:
            changed = changed[: at + 1]
        elif changed:
            changed[at] ^= content[0]
    return bytes(changed)


@settings(
    max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(st.sampled_from(range(len(VICTIMS))), st.lists(EDIT, max_size=6))
def test_damaged_files_give_signs_or_a_typed_error_and_nothing_else(
    victim: int, edits: list[tuple[float, int, bytes]]
) -> None:
    try:
        found = provenance(mutated(VICTIMS[victim], edits))
    except InputError:
        return
    json.dumps(found.to_dict())
    assert all(len(value) <= sign.LONGEST for each in found.signs for value in each.detail.values())


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(edits=st.lists(EDIT, min_size=1, max_size=4))
def test_a_damaged_record_is_never_valid(
    edits: list[tuple[float, int, bytes]], generated: bytes, authority: Authority
) -> None:
    # Behind the record, in the picture itself: every byte there is signed for.
    start = generated.rindex(b"\xff\xda")
    damaged = generated[:start] + mutated(generated[start:], edits)
    if damaged == generated:
        return
    for found in provenance(damaged, trusted=authority.root).signs:
        assert (found.says, found.verified) == ("nothing certain", "invalid")
