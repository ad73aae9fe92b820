// What a verdict means, in words for somebody who has never seen a score.

import { draw, make } from "./make.js";

export const WORDS = ["fake", "uncertain", "real", "failed"];

// A shape of its own for each, so that no colour has to be told apart; doubt is hatched as its band on the scale is.
const SHAPES = {
  fake: () => [draw("path", { d: "M8 1 15 8 8 15 1 8z", fill: "currentColor" })],
  real: () => [draw("circle", { cx: 8, cy: 8, r: 6, fill: "none", stroke: "currentColor", "stroke-width": 2.5 })],
  uncertain: () => [
    draw("rect", { x: 2, y: 2, width: 12, height: 12, fill: "none", stroke: "currentColor", "stroke-width": 1.8 }),
    draw("path", { d: "M2 9 9 2M3 13.5 13.5 3M7 14 14 7", stroke: "currentColor", "stroke-width": 1.6 }),
  ],
  failed: () => [draw("path", { d: "M3 3 13 13M13 3 3 13", stroke: "currentColor", "stroke-width": 2.5 })],
};

export const mark = (word) =>
  draw("svg", { class: "mark", viewBox: "0 0 16 16", "aria-hidden": "true" }, ...SHAPES[word]());

const SHORT = { fake: "probably generated", real: "probably real", uncertain: "can't tell", failed: "not judged" };

export const short = (word) => SHORT[word] ?? word;

// A word with its shape.
export const worded = (word) => make("span", { class: "word", "data-word": word }, mark(word), short(word));

// What a detector can say, for somebody who meets it for the first time.
export const SAYS = {
  fake: "It found traces that generators leave. It can be wrong, so look further before you rely on it.",
  uncertain: "Too close to call, neither real nor generated. It says so rather than guess.",
  real: "It found no such traces. That is a hint and no proof.",
};

export const number = (score, digits = 2) => (score === null || score === undefined ? "–" : score.toFixed(digits));

// So many digits that a score and a line it is compared with do not look the same unless they are.
export const beside = (score, ...others) => {
  for (const digits of [2, 3, 4, 5]) {
    if (others.every((other) => score === other || score.toFixed(digits) !== other.toFixed(digits))) return digits;
  }
  return 6;
};

export const inHundred = (share) => {
  const hundred = 100 * share;
  if (hundred > 0 && hundred < 1) return "fewer than 1 in 100";
  return `${Math.round(hundred)} in 100`;
};

const between = (figure) =>
  typeof figure.low === "number" && typeof figure.high === "number"
    ? ` (likely between ${Math.round(100 * figure.low)} and ${Math.round(100 * figure.high)})`
    : "";

export const isFilm = (verdict) => (verdict.frames ?? []).length > 0;

export const headline = (verdict) => {
  if (verdict.verdict === "fake") return "Probably generated";
  if (verdict.verdict === "real") return isFilm(verdict) ? "Probably a real recording" : "Probably a real photograph";
  return verdict.score === null ? "Can't tell: there is nothing to judge" : "Can't tell: too close to call";
};

// With an end to it.
export const stopped = (words) => (/[.!?]$/.test(words) ? words : `${words}.`);

export const sentence = (words) => stopped(`${words.charAt(0).toUpperCase()}${words.slice(1)}`);

export const meaning = (verdict) => {
  const { score, threshold } = verdict;
  const [low] = verdict.doubt;
  if (score === null) {
    const reason = (verdict.reasons[0] ?? "no part of the detector applies to this file").replace(/^not judged: /, "");
    return `${sentence(reason)} So there is no score, and that says nothing of the picture.`;
  }
  const digits = beside(score, low, threshold);
  const [shown, from, over] = [score, low, threshold].map((value) => value.toFixed(digits));
  const scale = `On a scale from 0 (real) to 1 (generated) the score is ${shown}.`;
  if (verdict.verdict === "fake") {
    return (
      `${scale} From ${over} on, this detector says generated. That line was set so that at most ` +
      `${inHundred(verdict.fpr)} real pictures, of the kind it was tuned on, are called generated.`
    );
  }
  if (verdict.verdict === "real") {
    return `${scale} Below ${from}, this detector says real. It found nothing that it takes for a generator's trace.`;
  }
  return (
    `${scale} Between ${from} and ${over} this detector would be wrong too often, so it does not decide. ` +
    "This is neither “real” nor “generated”, nor half of each."
  );
};

const PLACES = {
  seen: "pictures from sources like those it was trained on",
  unseen: "pictures from sources and generators it had never met",
};

const measured = (figures) =>
  Object.entries(figures ?? {})
    .filter(([, part]) => part && typeof part === "object" && part.metrics && typeof part.metrics === "object")
    .sort(([one], [other]) => (other === "unseen") - (one === "unseen"));

const fits = (figure) => figure && typeof figure.value === "number";

// How often a word is wrong, by the figures of a detector's card; what was measured on what it had never met first.
export const wrong = (verdict, card) => {
  const lines = [];
  if (verdict.score === null) return lines;
  for (const [name, part] of measured(card?.figures)) {
    const place = PLACES[name] ?? `the pictures of “${name}”`;
    const { false_fake, false_real, coverage, base_rate_precision } = part.metrics;
    if (verdict.verdict === "fake" && fits(false_fake)) {
      lines.push(
        `Measured on ${place}: of the real ones that got a verdict, ${inHundred(false_fake.value)}` +
          `${between(false_fake)} were called generated.`,
      );
      if (fits(base_rate_precision)) {
        lines.push(
          "There, if 1 picture in 100 were generated, the word “generated” would be right " +
            `${inHundred(base_rate_precision.value)} times.`,
        );
      }
    } else if (verdict.verdict === "real" && fits(false_real)) {
      lines.push(
        `Measured on ${place}: of the generated ones that got a verdict, ${inHundred(false_real.value)}` +
          `${between(false_real)} were called real.`,
      );
    } else if (verdict.verdict === "uncertain" && fits(coverage)) {
      lines.push(`Measured on ${place}: it could not tell for ${inHundred(1 - coverage.value)} of them.`);
    }
  }
  if (lines.length && isFilm(verdict)) lines.push("These figures are of single pictures, not of videos.");
  if (lines.length) return lines;
  const headline = Object.entries(card?.figures?.headline ?? {}).filter(([, figure]) => fits(figure));
  if (headline.length) return headline.map(([name, figure]) => `${name}: ${figured(figure)}`);
  const unknown = "Nobody has measured how often this detector is wrong, so take its word as a hint at most.";
  if (verdict.verdict !== "fake") return [unknown];
  return [unknown, `It was only tuned: to call at most ${inHundred(verdict.fpr)} real pictures generated.`];
};

export const figured = (figure) => {
  const digits = (value) => String(Number(Math.abs(value) < 1 ? value.toFixed(3) : value.toPrecision(3)));
  const range =
    typeof figure.low === "number" && typeof figure.high === "number"
      ? ` (${digits(figure.low)} to ${digits(figure.high)})`
      : "";
  return `${digits(figure.value)}${range}${typeof figure.n === "number" ? `, n = ${figure.n}` : ""}`;
};

export const next = (verdict) => {
  const film = isFilm(verdict);
  if (verdict.verdict !== "uncertain") {
    return [
      "Take it as a hint, not as a proof, and accuse nobody on it.",
      film
        ? "See below whether the score holds over time; a few frames can carry it."
        : "See below whether the verdict stays when the picture is saved again or resized.",
      "Look up where it was first published, and who vouches for it.",
    ];
  }
  return [
    "Look for the original: the largest and earliest copy. Each time it is resized or saved again, traces go.",
    "Look up where it was first published, with a search by picture, and who vouches for it.",
    film
      ? "Judge more of its frames (see the options), or single frames saved from the original."
      : "Read below what the file says of its origin; what is signed weighs most.",
    "If it matters, ask whoever took it for the file from the camera and for other shots of the same scene.",
  ];
};

const LAYOUTS = {
  centre: "a piece from the middle, at full resolution",
  grid: "pieces from all over the picture, at full resolution",
  whole: "the whole picture, shrunk",
  faces: "each face",
};

export const looksAt = (card, name) => {
  const view = card?.streams?.find((stream) => stream.name === name)?.view;
  return view ? `${LAYOUTS[view.layout] ?? view.layout} (${view.size} px)` : "–";
};

const KINDS = {
  not_an_image: "This is no picture or video",
  unsupported: "This kind of file can't be read",
  needs_extra: "This server can't read this kind of file",
  empty: "The file is empty",
  truncated: "The file is cut off",
  corrupt: "The file is damaged",
  too_many_bytes: "The file is too large",
  too_many_pixels: "The picture has too many pixels",
  too_many_frames: "It has too many frames",
  too_many_files: "These are too many files at once",
  too_slow: "It took too long to read",
  timeout: "It took too long",
  slow: "The upload stood still",
  busy: "The server is busy",
  disk: "The server has no room left",
  output: "The server can't write",
  decoder: "The server can't read files just now",
  disconnected: "The connection broke off",
  starting: "The server is still starting",
  stopping: "The server is stopping",
  missing: "It is not there any more",
  unreachable: "The picture could not be got",
  private: "That address is not asked",
  network: "The server can't be reached",
  crashed: "It can't be judged here",
  nothing: "There is nothing to judge",
};

// Beside the server's own words, which say what to do.
const ADVICE = {
  too_many_pixels: "Crop it rather than shrink it: shrinking destroys traces.",
  network: "See whether the server runs and you are connected. A very large file may have been turned away, too.",
  missing: "Results are deleted some time after the end. Judge the files again.",
  too_many_files: "Send the folder in parts.",
};

// What may go better the next time, with nothing changed.
const PASSING = ["network", "disconnected", "timeout", "slow", "busy", "starting", "stopping"];
const BROKEN = ["disk", "output", "decoder", "http"];

export const passes = (kind) => PASSING.includes(kind) || BROKEN.includes(kind);

export const problem = (kind) => KINDS[kind] ?? "This did not work";

export const advice = (kind) => ADVICE[kind] ?? "";

// An error of the server in words: {kind, message}.
export const refused = ({ kind, message }) => `${problem(kind)}: ${stopped(message)} ${advice(kind)}`.trim();

export const VERIFIED = {
  valid: "the signature fits the file, and its signer is trusted here",
  untrusted: "the signature fits the file, but anybody may have signed it",
  invalid: "the signature does not fit the file: it counts for nothing",
};

export const many = (count, one, several = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : several}`;

export const seconds = (time) =>
  time < 60 ? `${time.toFixed(2)} s` : `${Math.floor(time / 60)} min ${Math.floor(time % 60)} s`;

// As a clock shows it.
export const clock = (time) => {
  if (time < 60) return `${Number(time.toFixed(1))} s`;
  const [minutes, left] = [Math.floor(time / 60), Math.floor(time % 60)];
  return `${minutes}:${String(left).padStart(2, "0")}`;
};

export const size = (bytes) =>
  bytes < 1 << 20 ? `${Math.ceil(bytes / 1024).toLocaleString("en")} KiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
