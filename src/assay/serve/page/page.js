// What the page does from the choice of files to the verdict.

import * as api from "./api.js";
import * as cards from "./card.js";
import * as job from "./job.js";
import { byId, make, named, save, say, show } from "./make.js";
import * as result from "./result.js";
import { SAYS, advice, headline, many, passes, problem, sentence, stopped, worded } from "./words.js";

const TITLE = document.title;

let going = new AbortController();
let known = new Map();
let opened = null;
let single = null;

// ── what is shown ────────────────────────────────────────────────────────────────────────────────────────────────────

// Ends what goes on, and shows nothing but the choice.
const anew = () => {
  going.abort();
  going = new AbortController();
  opened?.ending.abort();
  opened = null;
  for (const id of ["busy", "problem", "back-part"]) show(id, false);
  result.clear();
  document.title = TITLE;
  return going.signal;
};

const busy = (title, words, stop) => {
  byId("busy-title").textContent = title;
  byId("busy-words").replaceChildren(words);
  byId("busy-bar").removeAttribute("value");
  byId("busy-stop").onclick = stop;
  show("busy");
};

// `again` does once more what failed.
const failed = (error, { name = "", again = null } = {}) => {
  if (api.stopped(error)) return;
  const told = stopped(error.message || "The page failed");
  show("busy", false);
  byId("problem-title").textContent = problem(error.kind);
  byId("problem-words").replaceChildren(...(name ? [named(name), ": ", told] : [sentence(told)]));
  byId("problem-next").textContent = advice(error.kind);
  const passing = again && passes(error.kind);
  show("problem-again-part", Boolean(passing));
  byId("problem-again").onclick = () => {
    show("problem", false);
    byId("files").focus();
    again();
  };
  show("problem");
  byId("problem-title").focus();
  if (passing && error.kind === "network") returned(going.signal).catch(quiet);
  if (!(error instanceof api.Refusal)) throw error;
};

const quiet = (error) => {
  if (!api.stopped(error)) throw error;
};

const returned = async (signal) => {
  await api.back(signal);
  byId("problem-next").textContent = "The server is there again.";
  say("The server is there again.");
};

const address = (id) => history.replaceState(null, "", id ? `#job=${encodeURIComponent(id)}` : location.pathname);

// ── the detector ─────────────────────────────────────────────────────────────────────────────────────────────────────

const chosen = () => byId("detector").value || null;

const cardOf = async (name) => {
  if (!known.has(name)) known.set(name, await api.card(name));
  return known.get(name);
};

const showCard = async (name) => {
  try {
    cards.start(await cardOf(name));
  } catch (error) {
    known.delete(name);
    if (!(error instanceof api.Refusal)) throw error;
  }
};

const detectors = async () => {
  const { detectors: found, fetches } = await api.server();
  show("link-form", fetches);
  byId("detector").replaceChildren(
    ...found.map((each) => make("option", { value: each.name }, `${each.name} ${each.version}`)),
  );
  show("detector-part", found.length > 1);
  await showCard(found[0].name);
};

// ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────

// `left`: how many more there were that are no pictures.
const pick = (files, left = 0) => {
  if (!files.length) {
    if (left) failed(new api.Refusal(0, "nothing", "No file in it is a picture or a video by its kind."));
    return;
  }
  const signal = anew();
  job.clear();
  address("");
  single = null;
  if (files.length === 1 && !api.isVideo(files[0])) one(files[0], signal);
  else several(files, left, signal);
};

const link = async (url) => {
  const signal = anew();
  job.clear();
  address("");
  single = null;
  busy("Getting it", named(url), leave);
  byId("busy-title").focus();
  try {
    const file = await api.linked(url, signal);
    if (!signal.aborted) pick([file]);
  } catch (error) {
    failed(error, { name: url, again: () => link(url) });
  }
};

const leave = () => {
  anew();
  byId("files").focus();
};

const one = async (file, signal, back = null) => {
  const name = api.nameOf(file);
  busy("Judging", named(name), back ?? leave);
  say(`Judging ${name}`);
  try {
    const detector = chosen();
    const told = await api.judge(file, detector, signal);
    const card = await cardOf(told.verdict.detector.name).catch(() => null);
    if (signal.aborted) return;
    shown({ ...told, file, card, detector, video: api.isVideo(file), listed: Boolean(back) });
  } catch (error) {
    failed(error, { name, again: () => one(file, signal, back) });
  }
};

const shown = (told) => {
  show("busy", false);
  document.title = `${headline(told.verdict)}: ${told.verdict.input} – assay`;
  result.start(told);
};

const several = async (files, left, signal) => {
  const fields = { detector: chosen(), every: files.some(api.isVideo) ? byId("every").value : "", provenance: true };
  busy("Sending", many(files.length, "file"), leave);
  byId("busy-title").focus();
  try {
    const sent = (share) => {
      byId("busy-bar").value = share;
    };
    const made = await api.jobs.create(files, fields, sent, signal);
    if (signal.aborted) return;
    address(made.id);
    await follow(made, files, left, signal);
  } catch (error) {
    failed(error, { again: () => several(files, left, signal) });
  }
};

// ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

const follow = async (made, files, left, signal) => {
  if (made.total === 1) {
    await alone(made, files[0] ?? null, signal);
    return;
  }
  show("busy", false);
  document.title = `${many(made.total, "file")} – assay`;
  await job.follow(made, files, { open, left, signal });
};

// A job of one input, as a video is: no table, but its verdict.
const alone = async (made, file, signal) => {
  single = made.id;
  let found = null;
  busy(
    made.kind === "video" ? "Judging the video" : "Judging",
    file ? named(api.nameOf(file)) : "It goes on in its own time.",
    async () => {
      leave();
      address("");
      await api.jobs.delete(made.id).catch(() => {});
    },
  );
  byId("busy-title").focus();
  await api.events(
    made.id,
    (name, data) => {
      if (name === "result") found = data;
    },
    signal,
  );
  if (!found?.result) throw new api.Refusal(404, "missing", "The job has ended without a result.");
  const { error } = found.result;
  if (error) throw new api.Refusal(422, error.kind, `${found.name}: ${error.message}`);
  const card = await cardOf(found.result.detector.name).catch(() => null);
  if (signal.aborted) return;
  const { result: verdict, provenance } = found;
  shown({ verdict, provenance, file, card, detector: made.detector, job: made.id, video: made.kind === "video" });
};

// A row of a job's table, whole: a picture at hand is judged again, with what only the picture tells.
const open = async ({ result: verdict, provenance, file, from }) => {
  // The job goes on meanwhile.
  const ending = new AbortController();
  opened = { from, ending };
  const stop = () => {
    ending.abort();
    back();
  };
  show("job", false);
  show("problem", false);
  show("back-part");
  if (file && !api.isVideo(file)) {
    await one(file, ending.signal, stop);
    return;
  }
  const card = await cardOf(verdict.detector.name).catch(() => null);
  if (ending.signal.aborted) return;
  const video = file ? api.isVideo(file) : false;
  shown({ verdict, provenance, file, card, detector: verdict.detector.name, video, listed: true });
};

const back = () => {
  for (const id of ["busy", "problem", "back-part"]) show(id, false);
  result.clear();
  document.title = `${byId("job-title").textContent} – assay`;
  show("job");
  opened?.ending.abort();
  opened?.from.focus();
  opened = null;
};

const keep = async (what) => {
  const id = job.id();
  if (!id) return;
  const ends = { report: "html", "results.csv": "csv", "results.jsonl": "jsonl" };
  try {
    save(await api.jobs.file(id, what), `assay-${id}.${ends[what]}`);
    say("Saved.");
  } catch (error) {
    failed(error, { again: () => keep(what) });
  }
};

// Nothing is on the page any more.
const cleared = () => {
  leave();
  job.clear();
  single = null;
  address("");
};

const remove = async () => {
  const id = single ?? job.id();
  if (!id) return;
  job.leave(true);
  try {
    await api.jobs.delete(id);
    cleared();
    say("Deleted from the server.");
  } catch (error) {
    job.leave(false);
    failed(error, { again: remove });
  }
};

const resume = async () => {
  const id = new URLSearchParams(location.hash.slice(1)).get("job");
  if (!id) return;
  const signal = anew();
  job.clear();
  single = null;
  busy("Getting the results", "", () => {
    leave();
    address("");
  });
  try {
    await follow(await api.jobs.get(id, signal), [], 0, signal);
  } catch (error) {
    failed(error, { again: resume });
  }
};

// ── waiting, and keys ────────────────────────────────────────────────────────────────────────────────────────────────

const waits = new Set();

let lost = false;

const counted = () => {
  const left = Math.max(0, ...[...waits].map((until) => Math.ceil((until - Date.now()) / 1000)));
  byId("wait").textContent = waits.size
    ? `The server is busy. Trying again in ${left} s.`
    : "The connection to the server is lost. The job goes on there; trying to reach it.";
  show("wait", lost || waits.size > 0);
};

api.asks.lost = (is) => {
  if (is !== lost) say(is ? "The connection to the server is lost. Trying to reach it." : "The server is there again.");
  lost = is;
  counted();
};

api.asks.wait = async (seconds, signal) => {
  const until = Date.now() + 1000 * seconds;
  if (!waits.size) say(`The server is busy. Trying again in ${seconds} seconds.`);
  waits.add(until);
  try {
    while (Date.now() < until) {
      counted();
      await api.nap(Math.min(1, Math.max(0, (until - Date.now()) / 1000)), signal);
    }
  } finally {
    waits.delete(until);
    counted();
  }
};

api.asks.key = (message, signal) =>
  new Promise((done) => {
    byId("key-why").textContent = message || "Without one it answers nobody.";
    show("key");
    byId("key-title").focus();
    byId("key-form").onsubmit = (event) => {
      event.preventDefault();
      const key = byId("key-field").value.trim();
      if (!key) return;
      byId("key-field").value = "";
      show("key", false);
      done(key);
    };
  });

// ── dropping, pasting, choosing ──────────────────────────────────────────────────────────────────────────────────────

const entries = async (entry) => {
  if (entry.isFile) {
    const file = await new Promise((done, fail) => entry.file(done, fail)).catch(() => null);
    if (file) file.path = entry.fullPath.replace(/^\//, "");
    return file ? [file] : [];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    // A folder is told in parts, the last of them empty.
    const part = await new Promise((done, fail) => reader.readEntries(done, fail)).catch(() => []);
    if (!part.length) break;
    found.push(...part);
  }
  return (await Promise.all(found.map(entries))).flat();
};

const alphabet = new Intl.Collator("en", { numeric: true });

// Of a folder, what may be a picture or a video: browsers do not know all kinds, so those that they don't are sent too.
const folder = (files) => {
  const open = files.filter((file) => !api.nameOf(file).split("/").some((part) => part.startsWith(".")));
  const fits = open.filter((file) => !file.type || /^(image|video)\//.test(file.type) || api.isVideo(file));
  fits.sort((one, other) => alphabet.compare(api.nameOf(one), api.nameOf(other)));
  pick(fits, open.length - fits.length);
};

const dropped = async (data) => {
  // Entries are gone once this returns, so they are taken first.
  const found = [...data.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.());
  const files = [...data.files];
  if (!found.some((entry) => entry?.isDirectory)) pick(files);
  else folder((await Promise.all(found.filter(Boolean).map(entries))).flat());
};

// ── what is asked before it is done ──────────────────────────────────────────────────────────────────────────────────

const sure = () => {
  const dialog = byId("sure");
  dialog.returnValue = "";
  dialog.showModal();
};

const begin = () => {
  const drop = byId("drop");
  let inside = 0;
  const over = (step) => {
    inside = Math.max(0, inside + step);
    drop.classList.toggle("over", inside > 0);
  };
  document.addEventListener("dragenter", () => over(1));
  document.addEventListener("dragleave", () => over(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    over(-inside);
    dropped(event.dataTransfer);
  });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    pick(files);
  });
  for (const id of ["files", "folder"]) {
    byId(id).addEventListener("change", (event) => {
      const files = [...event.target.files];
      // The same file can be chosen twice.
      event.target.value = "";
      (id === "folder" ? folder : pick)(files);
    });
  }
  byId("link-form").addEventListener("submit", (event) => {
    event.preventDefault();
    link(byId("link").value);
  });
  document.querySelector(".skip").addEventListener("click", (event) => {
    // The address may name a job.
    event.preventDefault();
    byId("main").focus();
  });
  show("folder-part", "webkitdirectory" in HTMLInputElement.prototype);
  byId("detector").addEventListener("change", (event) => showCard(event.target.value));
  byId("back").addEventListener("click", back);
  for (const id of ["job-delete", "keep-delete"]) byId(id).addEventListener("click", sure);
  byId("sure-no").addEventListener("click", () => byId("sure").close());
  byId("sure-yes").addEventListener("click", () => byId("sure").close("delete"));
  byId("sure").addEventListener("close", () => {
    if (byId("sure").returnValue === "delete") remove();
  });
  byId("keep-close").addEventListener("click", cleared);
  byId("says-list").replaceChildren(
    ...Object.entries(SAYS).map(([word, told]) =>
      make("li", { "data-word": word }, worded(word), make("p", { class: "soft" }, told)),
    ),
  );
  for (const button of document.querySelectorAll("[data-keep]")) {
    button.addEventListener("click", () => keep(button.dataset.keep));
  }
  window.addEventListener("hashchange", resume);
  result.begin();
  job.begin();
  const first = () => detectors().then(resume, (error) => failed(error, { again: first }));
  first();
};

begin();
