// One verdict, whole.

import * as alter from "./alter.js";
import * as api from "./api.js";
import * as film from "./film.js";
import * as heat from "./heat.js";
import * as keep from "./keep.js";
import { byId, listed, make, named, save, show } from "./make.js";
import * as scales from "./scale.js";
import {
  VERIFIED,
  beside,
  headline,
  isFilm,
  looksAt,
  mark,
  meaning,
  next,
  number,
  sentence,
  size,
  worded,
  wrong,
} from "./words.js";

let shown = null;

const scale = (verdict) => {
  const low = verdict.doubt[0];
  const { score, threshold } = verdict;
  if (score === null) {
    byId("scale").replaceChildren();
    return;
  }
  const [from, to] = [low, threshold].map((each) => number(each, beside(score, low, threshold)));
  byId("scale").replaceChildren(
    scales.large(verdict),
    make(
      "p",
      { class: "soft" },
      low < threshold
        ? `In the hatched band, from ${from} to ${to}, it can't tell; the dashed line at ${to} is its threshold.`
        : `The dashed line at ${to} is its threshold.`,
    ),
    scales.table(verdict),
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
        make(
          "td",
          {},
          looksAt(card, stream.name),
          applies ? null : make("p", {}, `has no part in this: ${stream.reason}`),
        ),
        make(
          "td",
          { class: "number" },
          ...(applies ? [scales.small(stream.score, verdict), number(stream.score, 3)] : ["none"]),
        ),
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

const KINDS = {
  c2pa: "Signed record (C2PA)",
  exif: "What the camera or an editor wrote (EXIF)",
  xmp: "Description in the file (XMP)",
  iptc: "Description in the file (IPTC)",
  generator: "A generator's settings",
};

const sign = ({ kind, says, title, verified, detail }) =>
  make(
    "li",
    { class: "sign" },
    make("h4", {}, KINDS[kind] ?? kind.toUpperCase()),
    make("p", {}, title),
    make(
      "p",
      { class: "tags" },
      make("span", { class: "tag" }, SAYS[says] ?? says),
      verified ? make("span", { class: `tag ${verified}` }, `${verified}: ${VERIFIED[verified] ?? ""}`) : null,
    ),
    Object.keys(detail).length
      ? make(
          "details",
          {},
          make("summary", {}, "What it holds"),
          make(
            "dl",
            {},
            ...Object.entries(detail).map(([name, value]) =>
              make("div", {}, make("dt", {}, named(name)), make("dd", {}, named(value))),
            ),
          ),
        )
      : null,
  );

const origin = (told) => {
  const words = byId("origin-words");
  const signs = told?.signs ?? [];
  byId("signs").replaceChildren(
    ...signs.map(sign),
    ...(told?.unread ?? []).map((line) => make("li", {}, "Could not be read: ", named(line))),
  );
  byId("signs").hidden = !byId("signs").children.length;
  const said = new Set(signs.map((each) => each.says));
  if (!told) words.textContent = "It was not read here.";
  else if (!signs.length) words.textContent = told.told;
  else words.textContent = said.has("generated") && said.has("camera") ? "These signs contradict one another." : "";
};

const sized = (verdict, file) => {
  return `${verdict.width} × ${verdict.height} px${file ? `, ${size(file.size)}` : ""}`;
};

const whereabouts = ({ job, listed }) => {
  if (listed) return "It is one of the results of the list, and stays and goes with them.";
  if (!job) return "The server keeps nothing of it.";
  return "The server deletes the result some time after its end; until then this page's address leads back to it.";
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
// `told`: {verdict, provenance, faces, file, card, detector, job, video, listed}; file, job and provenance may be
// missing, and `listed` says that there is a list to go back to.
export const start = (told) => {
  clear();
  const ending = new AbortController();
  shown = { ...told, ending, explanation: null, altered: [] };
  const { verdict, file } = told;
  byId("result").dataset.word = verdict.verdict;
  byId("verdict").replaceChildren(mark(verdict.verdict), make("span", {}, headline(verdict)));
  byId("about").replaceChildren(
    named(verdict.input),
    `, ${sized(verdict, file)}; judged by `,
    named(`${verdict.detector.name} ${verdict.detector.version}`),
  );
  byId("meaning").textContent = meaning(verdict);
  scale(verdict);
  listed(byId("reasons"), verdict.reasons.slice(1).map(sentence));
  const errors = wrong(verdict, told.card);
  show("wrong-part", errors.length > 0);
  byId("wrong-title").textContent =
    verdict.verdict === "uncertain" ? "How often it can't tell" : "How often such a verdict is wrong";
  listed(byId("wrong"), errors);
  byId("next-title").textContent = verdict.verdict === "uncertain" ? "What to do next" : "Before you rely on it";
  listed(byId("next"), next(verdict));
  streams(verdict, told.card);
  faces(verdict, told.faces);
  origin(told.provenance);
  byId("keep-words").textContent = whereabouts(told);
  show("keep-delete", Boolean(told.job));
  show("keep-close", !told.listed);
  show("look", Boolean(file));
  show("look-ask-part", Boolean(file && told.video));
  show("result");
  if (isFilm(verdict)) film.start(verdict, told.video ? file : null);
  else if (file && verdict.score !== null) alter.start(Object.assign(shown, { signal: ending.signal }));
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

const kept = (make) => () => {
  const { blob, end } = make(shown);
  const plain = shown.verdict.input.replace(/^.*[/\\]/, "").replace(/[^\p{L}\p{N}._-]+/gu, "_");
  save(blob, `${plain.slice(0, 80) || "picture"}.${end}`);
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
  byId("keep-json").addEventListener("click", kept(keep.json));
  byId("keep-csv").addEventListener("click", kept(keep.csv));
  byId("keep-report").addEventListener("click", kept(keep.report));
};
