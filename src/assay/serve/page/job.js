// Many files: how far they are, and what was said of each.

import * as api from "./api.js";
import * as film from "./film.js";
import { byId, make, named, say, show } from "./make.js";
import * as scale from "./scale.js";
import { WORDS, many, number, refused, sentence, short, worded } from "./words.js";

const THUMB = 96;
// Rows that are drawn at a time: the others cost nothing until they are asked for.
const PART = 200;
// Seconds between two drawings while results come in.
const PAUSE = 0.1;

const alphabet = new Intl.Collator("en", { numeric: true });

let of = null;
let sorted = { by: "", down: false };
let waiting = 0;

const thumbnail = async (canvas, file) => {
  try {
    const whole = api.isVideo(file) ? await film.frame(file, 0) : await createImageBitmap(file);
    const share = THUMB / Math.max(whole.width, whole.height);
    canvas.width = Math.max(1, Math.round(whole.width * share));
    canvas.height = Math.max(1, Math.round(whole.height * share));
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(whole, 0, 0, canvas.width, canvas.height);
    whole.close?.();
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
      const mine = of;
      const file = of?.files[Number(entry.target.dataset.number)];
      if (file) line = line.then(() => (mine === of ? thumbnail(entry.target, file) : null));
    }
  },
  { rootMargin: "200px" },
);

const wordOf = (result) => (result.error ? "failed" : result.verdict);

const why = (result) => (result.error ? refused(result.error) : sentence(result.reasons[0] ?? ""));

// The parts of a row say what they are: where it is narrow they are laid out as no table.
const cell = (kind, ...children) => make("td", { class: kind, role: "cell" }, ...children);

const drawn = ({ place, name, word, result, provenance }) => {
  const file = of.files[place];
  const open = result.error
    ? null
    : make("button", { type: "button", class: "button", "aria-label": `Look closer at ${name}` }, "Look closer");
  open?.addEventListener("click", () => of.open({ result, provenance, file, from: open }));
  const picture = file ? make("canvas", { width: 1, height: 1, "aria-hidden": "true", "data-number": place }) : "–";
  if (file) sight.observe(picture);
  const score = result.error ? ["–"] : [scale.small(result.score, result), number(result.score, 3)];
  return make(
    "tr",
    { role: "row" },
    cell("thumb", picture),
    make("th", { scope: "row", class: "name-of", role: "rowheader" }, named(name)),
    cell("word-of", worded(word)),
    cell("number", ...score),
    cell("why", why(result)),
    cell("more", open),
  );
};

const entry = ({ number: place, name, result, provenance }) => {
  const text = `${name} ${why(result)}`.toLowerCase();
  return { place, name, result, provenance, word: wordOf(result), score: result.score ?? null, text, line: null };
};

// Puts lines in place of those that are there. What is to stay is not moved, so that it keeps the focus.
const placed = (body, lines) => {
  const wanted = new Set(lines);
  for (const each of [...body.children]) if (!wanted.has(each)) each.remove();
  let at = body.firstElementChild;
  for (const each of lines) {
    if (each === at) at = at.nextElementSibling;
    else body.insertBefore(each, at);
  }
};

const KEYS = { name: (one) => one.name, word: (one) => WORDS.indexOf(one.word), score: (one) => one.score };

const ordered = (one, other) => {
  const key = KEYS[sorted.by];
  if (!key) return one.place - other.place;
  const [a, b] = [key(one), key(other)];
  // What has no score comes last, whichever way.
  if (a === null || b === null) return (a === null) - (b === null) || one.place - other.place;
  const order = typeof a === "string" ? alphabet.compare(a, b) : a - b;
  return (sorted.down ? -order : order) || one.place - other.place;
};

const fill = () => {
  clearTimeout(waiting);
  waiting = 0;
  if (!of) return;
  const wanted = byId("job-search").value.trim().toLowerCase();
  const word = byId("job-word").value;
  const fits = (one) => (!word || one.word === word) && one.text.includes(wanted);
  const found = [...of.rows.values()].filter(fits).sort(ordered);
  const listed = found.slice(0, of.listed);
  placed(
    byId("job-rows"),
    listed.map((one) => (one.line ??= drawn(one))),
  );
  const left = found.length - listed.length;
  byId("job-shown").textContent =
    `${found.length.toLocaleString("en")} of ${of.rows.size.toLocaleString("en")} shown` +
    (left ? `, the first ${listed.length.toLocaleString("en")} of them at once` : "");
  byId("job-more").textContent = `Show ${Math.min(PART, left)} more`;
  show("job-more-part", left > 0);
};

const anew = () => {
  of.listed = PART;
  fill();
};

const soon = () => {
  waiting ||= setTimeout(fill, 1000 * PAUSE);
};

const progress = (job) => {
  of.job = job;
  const bar = byId("job-bar");
  bar.max = job.total;
  bar.value = job.finished;
  byId("job-words").textContent = `${job.finished.toLocaleString("en")} of ${many(job.total, "file")} done`;
  byId("job-counts").replaceChildren(
    ...WORDS.filter((word) => job.counts[word] || word !== "failed").map((word) =>
      make("li", {}, worded(word), " ", make("strong", {}, job.counts[word].toLocaleString("en"))),
    ),
  );
  const quarter = Math.floor((4 * job.finished) / Math.max(job.total, 1));
  if (quarter > of.told && job.finished < job.total) say(`${job.finished} of ${job.total} files done`);
  of.told = Math.max(of.told, quarter);
};

const ended = (job) => {
  const counts = WORDS.filter((word) => job.counts[word]).map((word) => `${job.counts[word]} ${short(word)}`);
  fill();
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

// Follows a job to its end. `open` is called for a row that is to be seen whole; `left`: files that were not sent.
export const follow = async (job, files, { open, left, signal }) => {
  clear();
  of = { job, files, open, rows: new Map(), told: 0, listed: PART };
  sorted = { by: "", down: false };
  for (const head of byId("job-table").querySelectorAll("th")) head.removeAttribute("aria-sort");
  byId("job-table").classList.toggle("bare", !files.length);
  byId("job-search").value = byId("job-word").value = "";
  byId("job-title").textContent = many(job.total, "file");
  byId("job-left").textContent = `Not sent, as no picture or video by its kind: ${many(left, "file")}.`;
  show("job-left", left > 0);
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
        // Told twice, as after a lost connection, it stays as it is.
        if (!of.rows.has(data.number)) of.rows.set(data.number, entry(data));
        soon();
      } else if (name === "progress") progress(data);
      else if (name === "end" && data.counts) {
        progress(data);
        ended(data);
      } else if (name === "end" && !of.leaving) throw new api.Refusal(404, "missing", "The job was deleted.");
    },
    signal,
  );
};

export const id = () => of?.job.id ?? null;

// That it will be gone from the server is no surprise from here on.
export const leave = (is) => {
  if (of) of.leaving = is;
};

export const begin = () => {
  byId("job-search").addEventListener("input", anew);
  byId("job-word").addEventListener("change", anew);
  byId("job-more").addEventListener("click", () => {
    const next = byId("job-rows").children.length;
    of.listed += PART;
    fill();
    // The button may be gone now, and what it brought comes next.
    const line = byId("job-rows").children[next];
    line?.setAttribute("tabindex", "-1");
    line?.focus();
  });
  for (const head of byId("job-table").querySelectorAll("[data-sort]")) {
    head.querySelector("button").addEventListener("click", () => {
      const down = sorted.by === head.dataset.sort && !sorted.down;
      sorted = { by: head.dataset.sort, down };
      for (const each of byId("job-table").querySelectorAll("th")) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      anew();
    });
  }
};
