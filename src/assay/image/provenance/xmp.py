"""XMP: a packet of XML in which programs write who made a picture, with what, in which steps (ISO 16684-1).

The packet comes from anywhere, so it is parsed without a document type: no entity is ever expanded. Sources: XMP part 2
(Adobe), IPTC Photo Metadata Standard 2025.1 (Digital Source Type, the AI properties), C2PA 2.2 (A.6, `provenance`).
"""

from __future__ import annotations

from xml.etree import ElementTree

from assay.image.provenance.blocks import Blocks
from assay.image.provenance.sign import EDITORS, SOURCES, Says, Sign, credited, filled, generator_named, source_type

DEEPEST = 64
"""Elements inside one another. XMP writes about ten."""

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_MM = "{http://ns.adobe.com/xap/1.0/mm/}"
_EVENT = "{http://ns.adobe.com/xap/1.0/sType/ResourceEvent#}"
_IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
_FIELDS = {
    "{http://ns.adobe.com/xap/1.0/}CreatorTool": "tool",
    "{http://ns.adobe.com/photoshop/1.0/}Credit": "credit",
    _IPTC + "DigitalSourceType": "source",
    _IPTC + "DigitalSourcefileType": "source",
    _IPTC + "AISystemUsed": "model",
    _IPTC + "AISystemVersionUsed": "version",
    _IPTC + "AIPromptInformation": "prompt",
    "{http://purl.org/dc/elements/1.1/}description": "description",
    "{http://purl.org/dc/terms/}provenance": "provenance",
}
_MOST_AGENTS = 5


class _Builder(ElementTree.TreeBuilder):
    """Builds a tree of limited depth, and none of a document that declares a type."""

    depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> ElementTree.Element:
        self.depth += 1
        if self.depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} elements inside one another")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> ElementTree.Element:
        self.depth -= 1
        return super().end(tag)

    def doctype(self, name: str, pubid: str, system: str, /) -> None:
        raise ValueError("it declares a document type")


def read(found: Blocks) -> dict[str, str]:
    """The packet's properties by short names; none, and a line in `unread`, where it cannot be parsed."""
    packet = found.xmp.strip(b"\0 \t\r\n")
    if not packet:
        return {}
    try:
        # Whatever the packet declares it is read as UTF-8, so that this look at its bytes cannot be led astray.
        if b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:
            raise ValueError("it declares a document type")
        parser = ElementTree.XMLParser(target=_Builder(), encoding="utf-8")
        parser.feed(packet)
        root = parser.close()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        why = str(error) if isinstance(error, ValueError) else "it is not well-formed"
        found.miss(f"XMP: {why}")
        return {}
    properties: dict[str, str] = {}
    events = []
    for element in root.iter():
        for name, value in element.attrib.items():
            if name in _FIELDS and value.strip():
                properties.setdefault(_FIELDS[name], value.strip())
        if element.tag in _FIELDS and (value := _value(element)):
            properties.setdefault(_FIELDS[element.tag], value)
        if element.tag == _MM + "History":
            events = list(element.iter(_RDF + "li"))
    if events:
        properties["steps"] = str(len(events))
        agents = dict.fromkeys(filter(None, (_event(event, "softwareAgent") for event in events)))
        properties["agents"] = ", ".join(list(agents)[:_MOST_AGENTS])
    return properties


def _value(element: ElementTree.Element) -> str:
    return element.get(_RDF + "resource", "").strip() or "".join(element.itertext()).strip()


def _event(event: ElementTree.Element, name: str) -> str:
    """A property of a step, which stands in an attribute or an element, of its own or of a description inside."""
    for each in (event, *event):
        value: str = each.get(_EVENT + name, "").strip()
        if value:
            return value
        for inner in each:
            if inner.tag == _EVENT + name and (value := _value(inner)):
                return value
    return ""


def signs(properties: dict[str, str]) -> list[Sign]:
    """At most one: what made the picture, by its XMP."""
    code = source_type(properties.get("source", ""))
    credit, tool, agents = (properties.get(name, "") for name in ("credit", "tool", "agents"))
    named = next(filter(None, map(generator_named, (tool, properties.get("model", ""), credit, agents))), "")
    edited = EDITORS.search(f"{tool} {agents}"[:2000])
    says, words = SOURCES[code] if code else ("nothing certain", "")
    if says == "camera" and edited:
        says, words = "edited", f"{words} and edited"
    title = f"Its XMP data say that the picture {words}."
    if not words or says == "nothing certain":
        says, title = _without_source(properties, named, bool(edited), title if words else "")
    if not title:
        return []
    names = ("credit", "tool", "agents", "steps", "model", "version", "prompt")
    shown = {name: properties.get(name, "") for name in names}
    return [Sign("xmp", says, title, filled({"source": code or properties.get("source", ""), **shown}))]


def _without_source(properties: dict[str, str], named: str, edited: bool, title: str) -> tuple[Says, str]:
    """What the other properties say, where the source type settles nothing."""
    by_ai = credited(properties.get("credit", ""))
    if by_ai == "edited":
        return by_ai, "Its XMP data credit an AI with editing the picture."
    if by_ai == "generated":
        return by_ai, "Its XMP data credit an AI with the picture."
    if named:
        return "generated", f"Its XMP data name an image generator, {named}."
    if properties.get("model") or properties.get("prompt"):
        return "generated", "Its XMP data name an AI system, or a prompt for one, as used for the picture."
    if title:
        return "nothing certain", title
    if edited:
        return "edited", "Its XMP data name a program for editing pictures."
    if any(properties.get(name) for name in ("tool", "credit", "source", "steps")):
        return "nothing certain", "It holds XMP data, but they do not say how the picture was made."
    return "nothing certain", ""
