"""C2PA: a signed record of who made a picture, with what and in which steps (Content Credentials; C2PA 2.2).

Read and checked by the library c2pa (extra "provenance"), of which everything that could open a connection is switched
off. Without the extra a record is only seen to be there.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from assay.errors import MissingExtra
from assay.image.provenance.blocks import Blocks
from assay.image.provenance.sign import BY_AI, SOURCES, Says, Sign, Verified, cut, filled, source_type, strongest

SETTINGS: dict[str, dict[str, object]] = {
    "verify": {
        "verify_after_reading": True,
        "verify_trust": True,
        "verify_timestamp_trust": True,
        "remote_manifest_fetch": False,
        "ocsp_fetch": False,
    },
    "core": {
        # No host at all, wherever else the library may come to fetch something; nor the documents of web identities.
        "allowed_network_hosts": [],
        "allow_redirects": False,
        "decode_identity_assertions": False,
        "max_decompressed_manifest_size_in_mb": 16,
    },
}
"""What the library is told. It asks nobody for a record, a certificate's standing, an identity or a list of trust."""

_BOX = b"jumdc2pa\0\x11\0\x10\x80\0\0\xaa\0\x38\x9b\x71"
"""How the outermost box of every record begins to describe itself (C2PA 2.2, 11.1.4), in whatever container."""

_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "TIFF": "image/tiff",
    "AVIF": "image/avif",
    "HEIF": "image/heic",
    "MP4": "video/mp4",
    "MOV": "video/quicktime",
    "AVI": "video/x-msvideo",
}

_MOST = 10
"""Actions, and codes of failures, that are shown."""

_MOST_RECORDS = 1000

_BEGINNINGS = frozenset(("c2pa.created", "c2pa.opened"))

_EDITS = frozenset(
    (
        *("c2pa.edited", "c2pa.color_adjustments", "c2pa.cropped", "c2pa.drawing", "c2pa.filtered", "c2pa.placed"),
        *("c2pa.removed", "c2pa.edited.metadata", "c2pa.adjustedColor", "c2pa.enhanced", "c2pa.deleted", "c2pa.dubbed"),
    )
)
"""Actions that change what a picture shows (C2PA 2.2, 18.15.5); converting and resizing do not."""


def holds_certificates(pem: str) -> bool:
    """Whether a text holds certificates in PEM, all of which can be read."""
    import ssl  # its parser alone; nothing connects

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except (ValueError, OSError):
        return False
    return True


def signs(data: bytes, form: str, address: str, trusted: str, found: Blocks) -> list[Sign]:
    """At most one: what the record of a file says, and whether it fits the file.

    Args:
        data, form: the file, and its format as `assay.image.container.identify` gives it.
        address: where the file says that its record lies, if it lies elsewhere.
        trusted: certificates in PEM; empty for none.
        found: is told where the record is there and cannot be read.
    """
    if form not in _TYPES or not (address or _BOX in data):
        return []
    if _BOX not in data:
        return [_elsewhere(address)]
    try:
        import c2pa
    except ImportError:
        found.miss(str(MissingExtra("reading a signed record (C2PA)", "provenance")))
        title = "A signed record of its origin seems to be in it, and cannot be read here."
        return [Sign("c2pa", "nothing certain", title)]
    settings = {**SETTINGS, "trust": {"user_anchors": trusted}} if trusted else SETTINGS
    try:
        with c2pa.Context.from_dict(settings) as context:
            reader = c2pa.Reader.try_create(_TYPES[form], io.BytesIO(data), context=context)
            if reader is None:  # the mark is there by chance, or in a picture inside this one
                return []
            with reader:
                told = json.loads(reader.json())
        return [_sign(told)]
    except Exception as error:
        if str(error).startswith("Remote"):  # the box was another picture's, inside this one
            return [_elsewhere(address)]
        found.miss(cut(f"the signed record (C2PA): {error}"))
        title = "A signed record of its origin is in it, but it is damaged and cannot be read: it counts for nothing."
        return [Sign("c2pa", "nothing certain", title, verified="invalid")]


def _elsewhere(address: str) -> Sign:
    title = "It says that a signed record of its origin lies elsewhere; nothing was fetched."
    return Sign("c2pa", "nothing certain", title, filled({"address": address}))


def _sign(told: Mapping[str, Any]) -> Sign:
    records = told.get("manifests", {})
    active = records[told["active_manifest"]]
    verified = _verified(told.get("validation_state", ""))
    own, brought = _history(records, told["active_manifest"])
    says, words = _says(own, brought)
    signer = active.get("signature_info", {})
    actions = [str(action.get("action", "")) for action in _actions(active)]
    failures = told.get("validation_results", {}).get("activeManifest", {}).get("failure", [])
    detail = {
        "tool": _tool(active),
        "signer": signer.get("common_name"),
        "issuer": signer.get("issuer"),
        "signed": signer.get("time"),
        "state": told.get("validation_state"),
        "failures": ", ".join(str(failure.get("code", "")) for failure in failures[:_MOST]),
        "actions": ", ".join(actions[:_MOST]),
        "model": next((name for record in own for action in _actions(record) if (name := _agent(action))), ""),
        "source": ", ".join(dict.fromkeys(_types(own) + _types(brought))),
        "ingredients": len(active.get("ingredients", [])),
        "claims": says if verified == "invalid" else "",
    }
    return Sign(
        "c2pa", "nothing certain" if verified == "invalid" else says, _title(words, verified), filled(detail), verified
    )


def _verified(state: str) -> Verified:
    states: dict[str, Verified] = {"Trusted": "valid", "Valid": "untrusted"}
    return states.get(state, "invalid")


def _title(words: str, verified: Verified) -> str:
    if verified == "invalid":
        return (
            "A signed record of its origin is in it, but does not fit: the picture or the record was changed after "
            "signing. What it says counts for nothing."
        )
    if verified == "valid":
        return f"A signed record says that the picture {words}; it fits the file, and its signer is one you trust."
    return (
        f"A signed record says that the picture {words}; it fits the file, but its signer is not known here, and "
        "anybody can sign."
    )


def _says(own: list[Mapping[str, Any]], brought: list[Mapping[str, Any]]) -> tuple[Says, str]:
    """What a picture's own records say of it, and those of parts that were put into it.

    The source type of an action that begins a picture is the picture's, that of another is what the action added.
    """
    code = strongest(_types(own, begin=True))
    says, words = SOURCES[code or "empty"]
    if says == "generated":
        return says, words
    added = _types(own, begin=False)
    if BY_AI & {*added, *_types(brought)}:
        return SOURCES["compositeWithTrainedAlgorithmicMedia"]
    edits = [action for record in own for action in _actions(record) if action.get("action") in _EDITS]
    if (edits or "edited" in {SOURCES[each][0] for each in added}) and says != "edited":
        return "edited", f"{words} and edited" if code else "was edited"
    return says, words


def _history(records: Mapping[str, Any], label: str) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """The records of the picture and what it was made from, step by step; and those of parts that were put into it."""
    own: list[Mapping[str, Any]] = []
    brought: list[Mapping[str, Any]] = []
    ahead, seen = [(label, own)], set[str]()
    while ahead and len(seen) < _MOST_RECORDS:
        label, into = ahead.pop(0)
        if label in seen or label not in records:
            continue
        seen.add(label)
        into.append(records[label])
        for ingredient in records[label].get("ingredients", []):
            whole = ingredient.get("relationship") == "parentOf" and into is own
            ahead.append((ingredient.get("active_manifest", ""), own if whole else brought))
    return own, brought


def _actions(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for assertion in record.get("assertions", []):
        if str(assertion.get("label", "")).startswith("c2pa.actions"):
            yield from (action for action in assertion.get("data", {}).get("actions", []) if isinstance(action, dict))


def _types(records: list[Mapping[str, Any]], *, begin: bool | None = None) -> list[str]:
    """The digital source types, as codes, of all actions; of those that begin a picture, or of the others."""
    found = []
    for action in (action for record in records for action in _actions(record)):
        code = source_type(str(action.get("digitalSourceType", "")))
        if code and begin in (None, action.get("action") in _BEGINNINGS):
            found.append(code)
    return found


def _agent(action: Mapping[str, Any]) -> str:
    """What carried out an action: a name, or an object that holds one."""
    agent = action.get("softwareAgent", "")
    return str(agent.get("name", "")) if isinstance(agent, dict) else str(agent)


def _tool(record: Mapping[str, Any]) -> str:
    """The program that wrote a record."""
    for info in record.get("claim_generator_info") or ():
        return f"{info.get('name', '')} {info.get('version', '')}".strip()
    return str(record.get("claim_generator", ""))
