// The same picture after it was resized, blurred and saved again, judged while the sliders move. Of several requests
// the last one counts.

import * as api from "./api.js";
import { byId, make, show } from "./make.js";
import * as scale from "./scale.js";
import { headline, number, refused, short, worded } from "./words.js";

const PAUSE = 0.25;
const KEPT = 20;
// What happens to pictures on their way: saved again by a messenger, shrunk by a site, both, and blurred.
const COMMON = [{ jpeg: 90 }, { jpeg: 60 }, { scale: 0.5 }, { scale: 0.5, jpeg: 75 }, { blur: 1 }];
const OFF = { jpeg: 101, resize: 100, blur: 0 };

let of = null;
let running = null;

const value = (id) => Number(byId(id).value);

const changes = () => ({
  ...(value("jpeg") === OFF.jpeg ? {} : { jpeg: value("jpeg") }),
  ...(value("resize") === OFF.resize ? {} : { scale: value("resize") / 100 }),
  ...(value("blur") === OFF.blur ? {} : { blur: value("blur") }),
});

const told = () => {
  const jpeg = value("jpeg");
  const words = {
    jpeg: jpeg === OFF.jpeg ? "off" : String(jpeg),
    resize: value("resize") === OFF.resize ? "as it is" : `${value("resize")} %`,
    blur: value("blur") === OFF.blur ? "none" : `${value("blur").toFixed(1)} px`,
  };
  for (const [id, text] of Object.entries(words)) {
    byId(`${id}-told`).textContent = text;
    byId(id).setAttribute("aria-valuetext", text);
  }
};

const described = ({ jpeg, scale, blur }) =>
  [
    scale === undefined ? "" : `size ${Math.round(100 * scale)} %`,
    blur === undefined ? "" : `blur ${blur.toFixed(1)} px`,
    jpeg === undefined ? "" : `JPEG ${jpeg}`,
  ]
    .filter(Boolean)
    .join(", ") || "none";

// How many of the changes leave the verdict as it was.
const held = (tried) => {
  const { verdict } = of.verdict;
  const stays = tried.filter((each) => each.verdict.verdict === verdict).length;
  return `The verdict “${short(verdict)}” stays after ${stays} of ${tried.length} common changes.`;
};

const apart = (verdict) => {
  const now = headline(verdict);
  if (verdict.score === null || of.verdict.score === null) return `${now}.`;
  const same = verdict.verdict === of.verdict.verdict ? "The verdict stays" : "The verdict turns";
  return `${same}: ${now.toLowerCase()}, score ${number(verdict.score)}, before ${number(of.verdict.score)}.`;
};

const table = () => {
  byId("altered").tBodies[0].replaceChildren(
    ...of.altered.map((each) =>
      make(
        "tr",
        {},
        make("th", { scope: "row" }, described(each.changes)),
        make("td", {}, worded(each.verdict.verdict)),
        make("td", { class: "number" }, scale.small(each.verdict.score, each.verdict), number(each.verdict.score, 3)),
      ),
    ),
  );
  show("altered-part", of.altered.length > 0);
};

const kept = (asked, verdict) => {
  const others = of.altered.filter((each) => described(each.changes) !== described(asked));
  of.altered = [{ changes: asked, verdict }, ...others].slice(0, KEPT);
  table();
};

// Ends what runs, and runs this; what it throws is told in words.
const instead = async (run) => {
  running?.abort();
  const mine = (running = new AbortController());
  const signal = of.signal ? AbortSignal.any([mine.signal, of.signal]) : mine.signal;
  const words = byId("alter-words");
  try {
    await run(signal, words);
  } catch (error) {
    if (!api.stopped(error) && mine === running) {
      words.textContent = refused(error);
    }
  } finally {
    if (mine === running) byId("preview-part").removeAttribute("aria-busy");
  }
};

const judged = () =>
  instead(async (signal, words) => {
    await api.nap(PAUSE, signal);
    const asked = changes();
    byId("preview-part").setAttribute("aria-busy", "true");
    const { verdict, preview } = await api.alter(of.file, of.detector, asked, signal);
    if (signal.aborted) return;
    words.textContent = apart(verdict);
    byId("preview").src = preview;
    byId("preview-words").textContent = `Change: ${described(asked)}; ${verdict.width} × ${verdict.height} px`;
    show("preview-part");
    kept(asked, verdict);
  });

const common = () =>
  instead(async (signal, words) => {
    const tried = [];
    words.textContent = `Trying ${COMMON.length} common changes.`;
    for (const asked of COMMON) {
      const { verdict } = await api.alter(of.file, of.detector, asked, signal);
      if (signal.aborted) return;
      tried.push({ changes: asked, verdict });
      kept(asked, verdict);
    }
    words.textContent = held(tried);
  });

const moved = () => {
  told();
  if (of) judged();
};

const reset = () => {
  for (const [id, off] of Object.entries(OFF)) byId(id).value = off;
  told();
};

// Begins anew, for a picture: {file, verdict, detector, signal, altered}. None for what is no picture.
export const start = (picture) => {
  running?.abort();
  running = null;
  of = picture;
  reset();
  byId("alter-words").textContent = "";
  byId("preview").removeAttribute("src");
  show("preview-part", false);
  show("altered-part", false);
  show("alter", picture !== null);
};

export const begin = () => {
  for (const id of Object.keys(OFF)) byId(id).addEventListener("input", moved);
  byId("alter-common").addEventListener("click", () => {
    if (of) common();
  });
  byId("alter-reset").addEventListener("click", () => {
    reset();
    if (of) judged();
  });
};
