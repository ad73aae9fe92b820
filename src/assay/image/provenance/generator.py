"""Settings that image generators leave in their pictures: in the text chunks of a PNG, or a JPEG's user comment.

No standard says how; each program has a form of its own, told here by what it always writes. Known are Stable Diffusion
WebUI and its followers, ComfyUI, InvokeAI, NovelAI, SwarmUI, Fooocus, Easy Diffusion and Midjourney; of others their
bare name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from assay.image.provenance.sign import Says, Sign, filled, generator_named

_SETTINGS = re.compile(r"^Steps: \d+,.*\b(?:Sampler|Seed|CFG scale): ", re.MULTILINE)
_LONGEST_LINE = 20_000
_JOB = re.compile(r"Job ID:\s*([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})", re.IGNORECASE)
_MOST_NODES = 10_000
_FAREST = 20
"""Nodes between a sampler and the text that it follows."""

Found = tuple[str, Mapping[str, object]]
"""A generator's name, and the settings."""


def signs(texts: Mapping[str, str], description: str = "") -> list[Sign]:
    """At most one, of the first form that fits.

    Args:
        texts: by the names that they have in the file.
        description: of the XMP packet.
    """
    texts = {**texts, "xmp": description}
    for form in _FORMS:
        if found := form(texts):
            name, settings = found
            edited = settings.get("loaded") and not settings.get("sampler")
            says: Says = "edited" if edited else "generated"
            verb = "change" if edited else "make"
            title = f"It holds the settings with which {name} was asked to {verb} it."
            shown = {key: value for key, value in settings.items() if key != "loaded"}
            return [Sign("generator", says, title, filled({"generator": name, **shown}))]
    for key in ("Software", "software", "Source", "Author", "Creator", "generator"):
        if name := generator_named(texts.get(key, "")):
            title = f"Its text data name an image generator, {name}."
            return [Sign("generator", "generated", title, filled({"generator": name, key.lower(): texts[key]}))]
    return []


def _json(text: str) -> dict[str, Any]:
    """The object that a text holds; an empty one for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # ValueError: no JSON, or a number of thousands of digits
        return {}
    return value if isinstance(value, dict) else {}


def _novelai(texts: Mapping[str, str]) -> Found | None:
    if "novelai" not in texts.get("Software", "").lower():
        return None
    told = _json(texts.get("Comment", ""))
    prompt = told.get("prompt") or texts.get("Description", "")
    return "NovelAI", {"prompt": prompt, "model": texts.get("Source", ""), **_plain(told)}


def _invokeai(texts: Mapping[str, str]) -> Found | None:
    if told := _json(texts.get("invokeai_metadata", "")):
        model = told.get("model")
        named = model.get("name") or model.get("model_name") if isinstance(model, dict) else model
        prompt = told.get("positive_prompt")
        return "InvokeAI", {"prompt": prompt, "model": named, **_plain(told), "sampler": told.get("scheduler")}
    if told := _json(texts.get("sd-metadata", "")):
        image = told.get("image")
        image = image if isinstance(image, dict) else {}
        prompt = image.get("prompt")
        if isinstance(prompt, list) and prompt and isinstance(prompt[0], dict):
            prompt = prompt[0].get("prompt")
        return "InvokeAI", {"prompt": prompt, "model": told.get("model_weights"), **_plain(image)}
    if dream := texts.get("Dream", ""):
        prompt = re.match(r'\s*"(.*?)"', dream[:_LONGEST_LINE], re.DOTALL)
        flags = dict(re.findall(r" -([sSA]) ?([\w.]+)", dream[:_LONGEST_LINE]))
        settings = {"sampler": flags.get("A"), "seed": flags.get("S"), "steps": flags.get("s")}
        return "InvokeAI", {"prompt": prompt[1] if prompt else dream, **settings}
    return None


def _easy_diffusion(texts: Mapping[str, str]) -> Found | None:
    if "use_stable_diffusion_model" not in texts:
        return None
    names = {"model": "use_stable_diffusion_model", "sampler": "sampler_name", "steps": "num_inference_steps"}
    settings = {name: texts.get(key) for name, key in names.items()}
    return "Easy Diffusion", {"prompt": texts.get("prompt"), **settings, "seed": texts.get("seed")}


def _comfyui(texts: Mapping[str, str]) -> Found | None:
    graph = {key: node for key, node in _json(texts.get("prompt", "")).items() if _is_node(node)}
    if not graph:
        # The layout of the nodes on screen; what was run is in "prompt" alone.
        drawn = _json(texts.get("workflow", ""))
        return ("ComfyUI", {"nodes": len(drawn["nodes"])}) if isinstance(drawn.get("nodes"), list) else None
    settings: dict[str, object] = {}
    kinds = []
    for node in list(graph.values())[:_MOST_NODES]:
        inputs = node["inputs"]
        kinds.append(str(node["class_type"]))
        for name, keys in (
            ("model", ("ckpt_name", "unet_name", "model_name")),
            ("sampler", ("sampler_name",)),
            ("seed", ("seed", "noise_seed")),
            ("steps", ("steps",)),
        ):
            value = next((inputs[key] for key in keys if isinstance(inputs.get(key), str | int | float)), None)
            if value is not None:
                settings.setdefault(name, value)
        if "prompt" not in settings and "positive" in inputs and (text := _followed(graph, inputs["positive"])):
            settings["prompt"] = text
    if "prompt" not in settings:
        told = (node["inputs"].get("text") for node in graph.values() if "TextEncode" in str(node["class_type"]))
        settings["prompt"] = next((text for text in told if isinstance(text, str) and text), None)
    settings["loaded"] = any(kind.startswith("LoadImage") for kind in kinds)
    return "ComfyUI", settings


def _is_node(node: object) -> bool:
    return isinstance(node, dict) and "class_type" in node and isinstance(node.get("inputs"), dict)


def _followed(graph: Mapping[str, Any], link: object) -> str:
    """The text that a link of a graph leads to; links may go in circles."""
    for _ in range(_FAREST):
        if not (isinstance(link, list) and link and isinstance(link[0], str | int) and str(link[0]) in graph):
            break
        inputs = graph[str(link[0])]["inputs"]
        link = next(
            (inputs[key] for key in ("text", "conditioning", "text_g", "string", "positive") if key in inputs), 0
        )
    return link if isinstance(link, str) else ""


def _webui(texts: Mapping[str, str]) -> Found | None:
    for name in ("parameters", "UserComment", "comment", "Comment"):
        text = texts.get(name, "")
        if told := _json(text):
            return _in_json(texts, told)
        line = _SETTINGS.search(text)
        if line is None:
            continue
        settings = text[line.start() :][:_LONGEST_LINE]
        prompt = re.split(r"^Negative prompt:", text[: line.start()], maxsplit=1, flags=re.MULTILINE)[0]
        maker = "Fooocus" if "fooocus" in (texts.get("fooocus_scheme", "") + settings).lower() else ""
        shown = {name.lower(): _setting(settings, name) for name in ("Model", "Sampler", "Seed", "Steps")}
        return maker or "Stable Diffusion WebUI", {"prompt": prompt, **shown}
    return None


def _in_json(texts: Mapping[str, str], told: dict[str, Any]) -> Found | None:
    """The followers of Stable Diffusion WebUI that write an object in place of its lines."""
    if isinstance(told.get("sui_image_params"), dict):
        return "SwarmUI", _plain(told["sui_image_params"])
    if "fooocus_scheme" in texts or "fooocus" in str(told.get("version", "")).lower():
        return "Fooocus", {**_plain(told), "model": told.get("base_model")}
    if isinstance(told.get("prompt"), str) and {"seed", "steps", "sampler"} & set(told):
        return "an image generator", _plain(told)
    return None


def _setting(line: str, name: str) -> str:
    found = re.search(rf'(?:^|, ){name}: ("[^"]*"|[^,\n]*)', line)
    return found[1].strip('"') if found else ""


def _plain(told: Mapping[str, Any]) -> dict[str, object]:
    """Of an object the settings that have their usual names, and are no objects themselves."""
    names = ("prompt", "model", "sampler", "seed", "steps")
    return {name: told[name] for name in names if isinstance(told.get(name), str | int | float)}


def _midjourney(texts: Mapping[str, str]) -> Found | None:
    for name in ("Description", "ImageDescription", "xmp", "comment"):
        text = texts.get(name, "")[:_LONGEST_LINE]
        if job := _JOB.search(text):
            asked = text[: job.start()]
            version = re.search(r"--(v|version|niji)\s+([\d.]+)", asked)
            model = f"{'niji' if version[1] == 'niji' else 'v'} {version[2]}" if version else ""
            seed = re.search(r"--seed\s+(\d+)", asked)
            return "Midjourney", {"prompt": asked, "model": model, "seed": seed and seed[1], "job": job[1]}
    return None


_FORMS: tuple[Callable[[Mapping[str, str]], Found | None], ...] = (
    *(_novelai, _invokeai, _easy_diffusion, _comfyui, _webui, _midjourney),
)
