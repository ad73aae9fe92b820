"""One sign of a picture's origin, and all that a file holds; the words that several kinds of signs share.

Digital source types: IPTC's controlled vocabulary "digitalsourcetype" and C2PA 2.2, 18.15 (actions), in which a picture
states whether a camera, a person or a model made it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

Kind = Literal["c2pa", "exif", "xmp", "iptc", "generator"]
Says = Literal["generated", "edited", "camera", "nothing certain"]
Verified = Literal["valid", "invalid", "untrusted", ""]

LONGEST = 300
"""Characters of a value that is shown, prompts too."""

NOTHING = (
    "Nothing in this file says where it comes from. That says nothing of the picture: most sites and messengers strip "
    "such data, and many generators write none."
)
BESIDE = "Such data can be forged and stripped; it stands beside the score and is no part of it."
AGAINST = "These signs contradict one another."


@dataclasses.dataclass(frozen=True, slots=True)
class Sign:
    """One thing that a file says of its origin.

    Args:
        kind: where it stands.
        says: "generated" (by a model or a program), "edited" (a picture that was worked on, by AI or not), "camera", or
            "nothing certain".
        title: one sentence for a layperson.
        detail: what it rests on, short strings by short names; places and serial numbers are left out.
        verified: of what is signed: "valid" (fits the file, the signer is trusted), "untrusted" (fits the file, anybody
            may have signed it), "invalid" (damaged, or does not fit the file). Empty where nothing is signed, or where
            the signature could not be looked at.
    """

    kind: Kind
    says: Says
    title: str
    detail: Mapping[str, str] = dataclasses.field(default_factory=dict)
    verified: Verified = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "says": self.says,
            "title": self.title,
            "detail": dict(self.detail),
            "verified": self.verified,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Provenance:
    """What a file says of its origin.

    Args:
        signs: the signed record first, the camera's data last; empty says nothing of the picture.
        unread: what is there and could not be read, each with the reason.
    """

    signs: tuple[Sign, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """All of it in sentences, with what it is worth."""
        if not self.signs:
            return NOTHING
        sentences = [sign.title for sign in self.signs]
        said = {sign.says for sign in self.signs}
        if {"generated", "camera"} <= said:
            sentences.append(AGAINST)
        return " ".join([*sentences, BESIDE])

    def to_dict(self) -> dict[str, Any]:
        return {"signs": [sign.to_dict() for sign in self.signs], "unread": list(self.unread), "told": self.told}


def cut(value: object, longest: int = LONGEST) -> str:
    """A value as one line of at most so many characters."""
    text = " ".join(str(value)[: 4 * longest].split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def filled(detail: Mapping[str, object]) -> dict[str, str]:
    """The entries that hold something, each cut."""
    return {name: cut(value) for name, value in detail.items() if value not in (None, "") and cut(value)}


# ── digital source types ─────────────────────────────────────────────────────────────────────────────────────────────

SOURCES: dict[str, tuple[Says, str]] = {
    "trainedAlgorithmicMedia": ("generated", "was made by an AI model"),
    "trainedAlgorithmicData": ("generated", "was made by an AI model"),
    "algorithmicMedia": ("generated", "was made by a program, without a trained model"),
    "compositeWithTrainedAlgorithmicMedia": ("edited", "was edited with AI, or holds parts that AI made"),
    "compositeSynthetic": ("edited", "was put together from parts, some of them made by AI"),
    "algorithmicallyEnhanced": ("edited", "was enhanced by a program"),
    "humanEdits": ("edited", "was edited by a person"),
    "minorHumanEdits": ("edited", "was edited a little by a person"),
    "composite": ("edited", "was put together from several parts"),
    "compositeCapture": ("edited", "was put together from several photographs"),
    "digitalCapture": ("camera", "was taken by a camera"),
    "computationalCapture": ("camera", "was taken by a camera that merges several shots"),
    "negativeFilm": ("camera", "was scanned from a film negative"),
    "positiveFilm": ("camera", "was scanned from a slide"),
    "print": ("nothing certain", "was scanned from a print"),
    "screenCapture": ("nothing certain", "was taken from a screen"),
    "virtualRecording": ("nothing certain", "was recorded in a virtual world"),
    "digitalCreation": ("nothing certain", "was drawn by a person on a computer"),
    "digitalArt": ("nothing certain", "was drawn by a person on a computer"),
    "softwareImage": ("nothing certain", "was made with software"),
    "dataDrivenMedia": ("nothing certain", "shows data"),
    "empty": ("nothing certain", "was signed, but not how it was made"),
}
"""What each code says, and the words for it, after "the picture"."""

BY_AI = frozenset(("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "compositeSynthetic"))

_CODES = {code.lower(): code for code in SOURCES}


def source_type(value: str) -> str:
    """The code of a digital source type that is given as a URI, as "digsrctype:CODE" or alone; empty where unknown."""
    return _CODES.get(re.split(r"[/:#]", value.strip())[-1].lower(), "")


def strongest(codes: Iterable[str]) -> str:
    """Of several codes the one that says most: made by AI, then edited, then taken, then the first; empty for none."""
    order: list[Says] = ["generated", "edited", "camera", "nothing certain"]
    return min(codes, key=lambda code: (order.index(SOURCES[code][0]), code not in BY_AI), default="")


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_UNMISTAKABLE = {
    "Midjourney": r"midjourney",
    "DALL·E": r"dall[\s·.-]?e\b",
    "Stable Diffusion": r"stable[\s_-]?diffusion|stability\s?ai|dreamstudio|automatic1111",
    "ComfyUI": r"comfyui",
    "InvokeAI": r"invoke\s?ai\b",
    "NovelAI": r"novelai",
    "Adobe Firefly": r"adobe\s?firefly",
    "Google AI": r"made with google ai|google imagen|nano banana",
    "OpenAI": r"openai\b|chatgpt|gpt-(?:4o|image)",
    "Fooocus": r"fooocus",
    "Bing Image Creator": r"bing image creator|microsoft designer",
    "Meta AI": r"imagine with meta|made with meta ai",
    "FLUX": r"flux\.1|black forest labs",
    "Leonardo.Ai": r"leonardo[.\s]ai\b",
    "Craiyon": r"craiyon",
    "SwarmUI": r"swarmui",
    "Easy Diffusion": r"easy diffusion",
    "this-person-does-not-exist": r"thispersondoesnotexist",
}
_IN_FIELDS = {
    "Adobe Firefly": r"firefly",
    "Google AI": r"imagen\b|gemini",
    "Ideogram": r"ideogram",
    "Grok": r"\bgrok\b|\bxai\b",
    "Recraft": r"recraft",
    "Krea": r"\bkrea\b",
    "Sora": r"\bsora\b",
    "Runway": r"\brunway(?:ml)?\b",
    "NightCafe": r"nightcafe",
    "Playground": r"playground\s?ai",
    "Seedream": r"seedream|dreamina|jimeng",
    "Draw Things": r"draw things",
    "StyleGAN": r"stylegan",
}
"""Names that are also common words: looked for only where programs write their own name."""

EDITORS = re.compile(
    r"photoshop|lightroom|camera raw|\bgimp\b|affinity|snapseed|pixelmator|paint\.net|paintshop|luminar|capture one"
    r"|darktable|rawtherapee|picsart|facetune|faceapp|\bcanva\b|krita|meitu|remini|photopea|polarr|vsco|beautycam",
    re.IGNORECASE,
)
"""Names of programs that people edit pictures with."""


def generator_named(text: str, *, field: bool = True) -> str:
    """The image generator that a text names; empty for none.

    Args:
        field: the text is one where programs write their own name. Elsewhere only unmistakable names count.
    """
    for names in (_UNMISTAKABLE, _IN_FIELDS) if field else (_UNMISTAKABLE,):
        for name, pattern in names.items():
            if re.search(pattern, text[: 4 * LONGEST], re.IGNORECASE):
                return name
    return ""


_EDITED_BY_AI = re.compile(r"\b(?:edited|enhanced|retouched) (?:with|by) .*\bAI\b", re.IGNORECASE)
_MADE_BY_AI = re.compile(r"\b(?:made|created|generated) (?:with|by) .*\bAI\b", re.IGNORECASE)


def credited(text: str) -> Says:
    """What a credit line says of AI: "edited", "generated", or "nothing certain"."""
    text = text[: 4 * LONGEST]
    if _EDITED_BY_AI.search(text):
        return "edited"
    return "generated" if _MADE_BY_AI.search(text) else "nothing certain"
