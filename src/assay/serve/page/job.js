// Many files: how far they are, and what was said of each.

import * as api from "./api.js";
import { byId, make, named, say, show } from "./make.js";
import { WORDS, many, number, refused, short, worded } from "./words.js";

const THUMB = 96;

let of = null;
let sorted = { by: "", down: false };
let waiting = 0;

const thumbnail = async (canvas, file) => {
  try {
    const whole = await createImageBitmap(file);
    const scale = THUMB / Math.max(whole.width, whole.height);
    canvas.width = Math.max(1, Math.round(whole.width * scale));
    canvas.height = Math.max(1, Math.round(whole.height * scale));
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(whole, 0, 0, canvas.width, canvas.height);
    whole.close();
  } catch {
    canvas.replaceWith(make("span", { class: "soft" }, "no preview"));
  }
};

// Pictures are large: one is decoded when its row comes into sight, one after another.
let line = Promise.resolve();
const sight = new IntersectionObserver(
  (entries) => {
    for (const entry of entries.filter((each) => each.isIntersecting)) {
      sight.unobserve(entry.target);
      const file = of?.files[Number(entry.target.dataset.number)];
      if (file) line = line.then(() => thumbnail(entry.target, file));
    }
  },
  { rootMargin: "200px" },
);

const wordOf = (result) => (result.error ? "failed" : result.verdict);

const why = (result) => {
  if (!result.error) return result.reasons[0] ?? "";
  return refused(result.error);
};

const row = ({ number: place, name, result }) => {
  const file = of.files[place];
  const open = result.error
    ? ""
    : make("button", { type: "button", class: "button", "aria-label": `Look closer at ${name}` }, "Look closer");
  if (open) open.addEventListener("click", () => of.open({ place, name, result, file, from: open }));
  const picture = file ? make("canvas", { width: 1, height: 1, "aria-hidden": "true", "data-number": place }) : "–";
  if (file) sight.observe(picture);
  const line = make(
    "tr",
    {},
    make("td", { class: "thumb" }, picture),
    make("th", { scope: "row" }, named(name)),
    make("td", {}, worded(wordOf(result))),
    make("td", { class: "number" }, result.error ? "–" : number(result.score, 3)),
    make("td", { class: "why" }, why(result)),
    make("td", {}, open),
  );
  const text = `${name} ${why(result)}`.toLowerCase();
  return { line, place, name, word: wordOf(result), score: result.score ?? null, text };
};

const fill = () => {
  waiting = 0;
  if (!of) return;
  const wanted = byId("job-search").value.trim().toLowerCase();
  const word = byId("job-word").value;
  const keys = { name: (one) => one.name, word: (one) => WORDS.indexOf(one.word), score: (one) => one.score };
  const key = keys[sorted.by];
  const rows = [...of.rows.values()].filter((one) => (!word || one.word === word) && one.text.includes(wanted));
  rows.sort((one, other) => {
    if (!key) return one.place - other.place;
    const [a, b] = [key(one), key(other)];
    // What has no score comes last, whichever way.
    if (a === null || b === null) return (a === null) - (b === null) || one.place - other.place;
    const order = typeof a === "string" ? a.localeCompare(b) : a - b;
    return (sorted.down ? -order : order) || one.place - other.place;
  });
  byId("job-rows").replaceChildren(...rows.map((one) => one.line));
  byId("job-shown").textContent = `${rows.length} of ${of.rows.size} shown`;
};

const soon = () => {
  waiting ||= requestAnimationFrame(fill);
};

const progress = (job) => {
  of.job = job;
  const bar = byId("job-bar");
  bar.max = job.total;
  bar.value = job.finished;
  byId("job-words").textContent = `${job.finished} of ${many(job.total, "file")} done`;
  byId("job-counts").replaceChildren(
    ...WORDS.filter((word) => job.counts[word] || word !== "failed").map((word) =>
      make("li", {}, worded(word), ` ${job.counts[word]}`),
    ),
  );
  const quarter = Math.floor((4 * job.finished) / Math.max(job.total, 1));
  if (quarter > of.told && job.finished < job.total) say(`${job.finished} of ${job.total} files done`);
  of.told = Math.max(of.told, quarter);
};

const ended = (job) => {
  const counts = WORDS.filter((word) => job.counts[word]).map((word) => `${job.counts[word]} ${short(word)}`);
  show("job-going", false);
  byId("job-delete").textContent = "Delete from the server";
  say(`Done. ${counts.join(", ")}.`);
};

export const clear = () => {
  of = null;
  sight.disconnect();
  byId("job-rows").replaceChildren();
  show("job", false);
};

// Follows a job to its end. `open` is called for a row that is to be seen whole.
export const follow = async (job, files, open, signal) => {
  clear();
  of = { job, files, open, rows: new Map(), told: 0 };
  sorted = { by: "", down: false };
  for (const head of byId("job-table").querySelectorAll("th")) head.removeAttribute("aria-sort");
  byId("job-search").value = byId("job-word").value = "";
  byId("job-title").textContent = many(job.total, "file");
  byId("job-delete").textContent = "Stop, and delete from the server";
  show("job-going");
  show("job");
  byId("job-title").focus();
  progress(job);
  fill();
  const mine = of;
  await api.events(
    job.id,
    (name, data) => {
      if (mine !== of) return;
      if (name === "result" && data.result) {
        of.rows.set(data.number, row(data));
        soon();
      } else if (name === "progress") progress(data);
      else if (name === "end" && data.counts) {
        progress(data);
        ended(data);
      }
    },
    signal,
  );
};

export const id = () => of?.job.id ?? null;

export const begin = () => {
  byId("job-search").addEventListener("input", fill);
  byId("job-word").addEventListener("change", fill);
  for (const head of byId("job-table").querySelectorAll("[data-sort]")) {
    head.querySelector("button").addEventListener("click", () => {
      const down = sorted.by === head.dataset.sort && !sorted.down;
      sorted = { by: head.dataset.sort, down };
      for (const each of byId("job-table").querySelectorAll("th")) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      fill();
    });
  }
};
