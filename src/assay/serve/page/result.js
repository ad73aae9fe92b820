// One verdict, whole.

import * as alter from "./alter.js";
import * as api from "./api.js";
import * as film from "./film.js";
import * as heat from "./heat.js";
import { byId, listed, make, named, save, show } from "./make.js";
import { VERIFIED, beside, headline, isFilm, looksAt, mark, meaning, next, number, worded, wrong } from "./words.js";

let shown = null;

const scale = (verdict) => {
  const low = verdict.doubt[0];
  const threshold = Math.min(verdict.threshold, 1);
  const bar = make("div", { class: "bar" });
  const part = (kind, from, to) => {
    const piece = make("div", { class: `part ${kind}` });
    piece.style.left = `${100 * from}%`;
    piece.style.width = `${100 * (to - from)}%`;
    return piece;
  };
  const line = make("div", { class: "line" });
  line.style.left = `${100 * threshold}%`;
  bar.append(part("real", 0, low), part("doubt", low, threshold), part("fake", threshold, 1), line);
  const digits = verdict.score === null ? 2 : beside(verdict.score, low, verdict.threshold);
  if (verdict.score !== null) {
    const marker = make("div", { class: "marker" }, make("span", {}, number(verdict.score, digits)));
    marker.style.left = `${100 * verdict.score}%`;
    if (verdict.score < 0.06) marker.classList.add("first");
    if (verdict.score > 0.94) marker.classList.add("last");
    bar.append(marker);
  }
  const rows = [
    ["score", verdict.score === null ? "none" : number(verdict.score, 4)],
    ["called real", `below ${number(low, 4)}`],
    ["can't tell", low < verdict.threshold ? `from ${number(low, 4)} to ${number(verdict.threshold, 4)}` : "never"],
    ["called generated", `from ${number(verdict.threshold, 4)}`],
  ];
  const [from, to] = [number(low, digits), number(verdict.threshold, digits)];
  const words = verdict.score === null ? "no score" : `score ${number(verdict.score, digits)}`;
  byId("scale").replaceChildren(
    make(
      "div",
      { class: "scale", role: "img", "aria-label": `Scale from 0, real, to 1, generated: ${words}` },
      bar,
      make("div", { class: "ends" }, make("span", {}, "0 real"), make("span", {}, "generated 1")),
    ),
    make(
      "p",
      { class: "soft" },
      low < verdict.threshold
        ? `The hatched band, ${from} to ${to}, is where it can't tell; the line at ${to} is its threshold.`
        : `The line at ${to} is its threshold.`,
    ),
    make(
      "details",
      {},
      make("summary", {}, "The scale as a table"),
      make(
        "table",
        {},
        make("caption", {}, "The score, and what scores are called"),
        make(
          "tbody",
          {},
          ...rows.map(([name, told]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, told))),
        ),
      ),
    ),
  );
};

const streams = (verdict, card) => {
  byId("streams").tBodies[0].replaceChildren(
    ...verdict.streams.map((stream) => {
      const applies = stream.applies !== false;
      return make(
        "tr",
        {},
        make("th", { scope: "row" }, named(stream.name)),
        make("td", {}, looksAt(card, stream.name)),
        make("td", { class: "number" }, applies ? number(stream.score, 3) : "none"),
        make("td", {}, applies ? "" : `has no part in this: ${stream.reason}`),
      );
    }),
  );
};

const faces = (verdict, boxes) => {
  const found = isFilm(verdict) ? [] : heat.facesOf(verdict, boxes);
  const rows = found.flatMap(({ box, said }, at) =>
    (said.length ? said : [null]).map((one) =>
      make(
        "tr",
        {},
        make("th", { scope: "row" }, String(at + 1)),
        make("td", {}, one ? worded(one.verdict) : "–"),
        make("td", { class: "number" }, one ? number(one.score, 3) : "–"),
        make("td", {}, one ? named(one.stream) : "–"),
        make("td", {}, `x ${box[0]} to ${box[2]}, y ${box[1]} to ${box[3]} px`),
      ),
    ),
  );
  byId("faces").tBodies[0].replaceChildren(...rows);
  show("faces-part", rows.length > 0);
  heat.showFaces(found, verdict.width, verdict.height);
};

const SAYS = {
  generated: "says: generated",
  edited: "says: edited",
  camera: "says: from a camera",
  "nothing certain": "says nothing certain",
};

const origin = (told) => {
  const words = byId("origin-words");
  const signs = told?.signs ?? [];
  byId("signs").replaceChildren(
    ...signs.map((sign) =>
      make(
        "li",
        {},
        make("strong", {}, sign.title),
        ` (${sign.kind.toUpperCase()}, ${SAYS[sign.says] ?? sign.says})`,
        sign.verified ? make("p", {}, VERIFIED[sign.verified] ?? sign.verified) : null,
        make(
          "dl",
          {},
          ...Object.entries(sign.detail).map(([name, value]) =>
            make("div", {}, make("dt", {}, named(name)), make("dd", {}, named(value))),
          ),
        ),
      ),
    ),
    ...(told?.unread ?? []).map((line) => make("li", {}, "Could not be read: ", named(line))),
  );
  byId("signs").hidden = !byId("signs").children.length;
  const said = new Set(signs.map((sign) => sign.says));
  if (!told) words.textContent = "It was not read here; it is read of single pictures.";
  else if (!signs.length) words.textContent = told.told;
  else words.textContent = said.has("generated") && said.has("camera") ? "These signs contradict one another." : "";
};

const sized = (verdict, file) => {
  const kib = file ? `, ${Math.ceil(file.size / 1024).toLocaleString("en")} KiB` : "";
  return `${verdict.width} × ${verdict.height} px${kib}`;
};

// Ends what goes on for the verdict that is shown, and hides it.
export const clear = () => {
  shown?.ending.abort();
  shown = null;
  heat.clear();
  film.clear();
  alter.start(null);
  show("result", false);
};

// Shows a verdict, and looks where the detector looked where it is a picture.
//
// `told`: {verdict, provenance, faces, file, card, detector, job, video}; file, job and provenance may be missing.
export const start = (told) => {
  clear();
  const ending = new AbortController();
  shown = { ...told, ending, explanation: null, altered: [] };
  const { verdict, file } = told;
  byId("verdict").replaceChildren(mark(verdict.verdict), make("span", {}, headline(verdict)));
  byId("about").replaceChildren(
    named(verdict.input),
    `, ${sized(verdict, file)}; judged by `,
    named(`${verdict.detector.name} ${verdict.detector.version}`),
  );
  byId("meaning").textContent = meaning(verdict);
  scale(verdict);
  listed(byId("reasons"), verdict.score === null ? verdict.reasons : verdict.reasons.slice(1));
  listed(byId("wrong"), wrong(verdict, told.card));
  byId("next-title").textContent = verdict.verdict === "uncertain" ? "What to do next" : "Before you rely on it";
  listed(byId("next"), next(verdict));
  streams(verdict, told.card);
  faces(verdict, told.faces);
  origin(told.provenance);
  show("keep-job", Boolean(told.job));
  show("look", Boolean(file));
  show("look-ask-part", Boolean(file && told.video));
  show("result");
  if (isFilm(verdict)) film.start(verdict, told.video ? file : null);
  else if (file) alter.start(Object.assign(shown, { signal: ending.signal }));
  if (file && !told.video) pictured().catch(quiet);
  byId("verdict").focus();
};

const quiet = (error) => {
  if (!api.stopped(error)) throw error;
};

const pictured = async () => {
  const { file, verdict, detector, ending } = shown;
  await Promise.all([heat.showPicture(file, verdict, detector, ending.signal), looked()]);
};

const looked = async () => {
  const mine = shown;
  mine.looking?.abort();
  mine.looking = new AbortController();
  const signal = AbortSignal.any([mine.looking.signal, mine.ending.signal]);
  const told = await heat.look(mine.file, mine.detector, byId("toward").value, signal);
  if (!told || mine !== shown) return;
  mine.explanation = told.explanation;
  if (!mine.video) return;
  const frame = await film.frame(mine.file, told.explanation.time ?? 0);
  if (frame && mine === shown) {
    heat.showFrame(frame, `Frame ${told.explanation.frame} of the video`);
    heat.strength();
  }
};

const kept = () => {
  const { verdict, provenance, faces, explanation, altered } = shown;
  const told = { verdict, provenance: provenance ?? null, faces: faces ?? null, explanation, altered };
  const name = verdict.input.replace(/^.*[/\\]/, "").replace(/[^\p{L}\p{N}._-]+/gu, "_").slice(0, 80) || "picture";
  save(new Blob([`${JSON.stringify(told, null, 2)}\n`], { type: "application/json" }), `${name}.json`);
};

export const begin = () => {
  heat.begin();
  alter.begin();
  film.begin();
  byId("toward").addEventListener("change", () => {
    if (shown?.explanation) looked().catch(quiet);
  });
  byId("look-ask").addEventListener("click", () => {
    show("look-ask-part", false);
    looked().catch(quiet);
  });
  byId("keep-json").addEventListener("click", kept);
};
