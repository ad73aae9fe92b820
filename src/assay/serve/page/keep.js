// One verdict as files: all of it as JSON, a row of a table, a web page in one file that asks nobody for anything.

import * as heat from "./heat.js";
import { byId, make, printable } from "./make.js";
import { headline } from "./words.js";

const kept = (text, type, end) => ({ blob: new Blob([text], { type }), end });

// All that was told: {verdict, provenance, faces, explanation, altered}.
export const json = ({ verdict, provenance, faces, explanation, altered }) => {
  const told = { verdict, provenance: provenance ?? null, faces: faces ?? null, explanation, altered };
  return kept(`${JSON.stringify(told, null, 2)}\n`, "application/json", "json");
};

const SAYS = ["generated", "edited", "camera", "nothing certain"];

// What the signs say, each once; empty where nobody looked.
const said = (provenance) => {
  if (!provenance) return "";
  const found = new Set(provenance.signs.map((sign) => sign.says));
  return SAYS.filter((word) => found.has(word)).join("; ") || "none";
};

// assay.judge.sink.COLUMNS, and what a verdict has for each; last, as in a job's table, what the file says itself.
const CELLS = {
  input: (verdict) => verdict.input,
  verdict: (verdict) => verdict.verdict,
  score: (verdict) => verdict.score,
  threshold: (verdict) => verdict.threshold,
  doubt_low: (verdict) => verdict.doubt[0],
  fpr: (verdict) => verdict.fpr,
  reasons: (verdict) => verdict.reasons.join("; "),
  error_kind: () => "",
  error_message: () => "",
  sha256: (verdict) => verdict.sha256,
  width: (verdict) => verdict.width,
  height: (verdict) => verdict.height,
  detector: (verdict) => verdict.detector.name,
  version: (verdict) => verdict.detector.version,
  detector_sha256: (verdict) => verdict.detector.sha256,
  provenance: (verdict, provenance) => said(provenance),
};

// RFC 4180.
const quoted = (value) => {
  const text = String(value ?? "");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

export const csv = ({ verdict, provenance }) => {
  const rows = [Object.keys(CELLS), Object.values(CELLS).map((cell) => cell(verdict, provenance))];
  return kept(rows.map((row) => `${row.map(quoted).join(",")}\r\n`).join(""), "text/csv", "csv");
};

// What the page shows, without what only works in it.
const still = (id) => {
  const copy = byId(id).cloneNode(true);
  const picture = heat.flat();
  const alt = byId("map").hidden ? "The picture" : "The picture, and over it the map of where the detector looked";
  copy.querySelector("#stage")?.replaceWith(make("img", { class: "flat", alt, src: picture }));
  copy.querySelector("#legend")?.replaceWith(make("img", { alt: "", src: heat.colours() }));
  if (!picture) copy.querySelector("#look")?.remove();
  if (copy.querySelector("#altered-part[hidden]")) copy.querySelector("#alter").remove();
  for (const each of copy.querySelectorAll("[hidden], [data-page], button, input, select, video")) each.remove();
  for (const each of copy.querySelectorAll("details")) each.open = !each.closest("#scale, #film");
  for (const each of [copy, ...copy.querySelectorAll("*")]) {
    for (const name of ["style", "aria-live", "aria-busy"]) each.removeAttribute(name);
    if (each.getAttribute("tabindex") === "-1") each.removeAttribute("tabindex");
  }
  for (const each of copy.querySelectorAll(".point")) {
    for (const name of ["role", "tabindex", "aria-label"]) each.removeAttribute(name);
  }
  return copy;
};

// Rules as the page has them: nothing is asked for.
const rules = () =>
  [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules].map((rule) => rule.cssText)).join("\n");

const markup = (...elements) => elements.map((each) => each.outerHTML).join("\n");

export const report = ({ verdict }) => {
  const once = crypto.getRandomValues(new Uint32Array(4)).join("");
  const policy = `default-src 'none'; img-src data:; style-src 'nonce-${once}'; base-uri 'none'; form-action 'none'`;
  const day = new Date().toISOString().slice(0, 10);
  const head = markup(
    make("meta", { charset: "utf-8" }),
    make("meta", { "http-equiv": "Content-Security-Policy", content: policy }),
    make("meta", { name: "viewport", content: "width=device-width, initial-scale=1" }),
    make("meta", { name: "color-scheme", content: "light dark" }),
    make("meta", { name: "referrer", content: "no-referrer" }),
    make("title", {}, `${headline(verdict)}: ${printable(verdict.input)}`),
  );
  const body = markup(
    make(
      "header",
      {},
      make("h1", {}, "What assay says of one file"),
      make("p", { class: "soft" }, `made ${day}; a verdict is a hint, never a proof`),
    ),
    make("main", {}, still("result"), still("card")),
  );
  // The style is no element here: this page's own policy would not have it.
  const style = `<style nonce="${once}">\n${rules()}\n</style>`;
  const whole = `<html lang="en">\n<head>\n${head}\n${style}\n</head>\n<body>\n${body}\n</body>\n</html>`;
  return kept(`<!doctype html>\n${whole}\n`, "text/html", "html");
};
