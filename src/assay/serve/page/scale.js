// The score on its scale, as a drawing: parts where it says real, can't tell and generated, and where the score lies.

import { draw, make } from "./make.js";
import { beside, number } from "./words.js";

const HATCH = "scale-hatch";
// A name has room in a part as wide as this, a number beside another one as far from it.
const ROOM = 0.16;
const APART = 0.1;

const BAR = { y: "2.2em", height: "1.6em" };
const ENDS = { 0: "start", 1: "end" };

const per = (share) => `${(100 * share).toFixed(2)}%`;

const zones = ({ doubt: [low], threshold }) => {
  const from = Math.min(threshold, 1);
  const found = [
    ["real", 0, low],
    ["uncertain", low, from],
    ["fake", from, 1],
  ];
  return found.filter(([, start, end]) => end > start);
};

const NAMES = { real: "real", uncertain: "can't tell", fake: "generated" };

// Whole, with numbers and names. Heights are in em, so that words that were made larger keep their room.
export const large = (verdict) => {
  const { score, threshold } = verdict;
  const [low] = verdict.doubt;
  const digits = beside(score, low, threshold);
  const anchor = score < 0.06 ? "start" : score > 0.94 ? "end" : "middle";
  const numbers = [0, 1];
  for (const value of [threshold, low]) {
    if (numbers.every((other) => Math.abs(other - value) >= APART)) numbers.push(value);
  }
  return draw(
    "svg",
    {
      class: "scale",
      width: "100%",
      height: "6.8em",
      role: "img",
      "aria-label": `Scale from 0, real, to 1, generated: score ${number(score, digits)}`,
    },
    draw(
      "pattern",
      { id: HATCH, width: 7, height: 7, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      draw("line", { class: "hatch", y2: 7 }),
    ),
    ...zones(verdict).flatMap(([name, start, end]) => [
      draw("rect", { class: `zone ${name}`, x: per(start), width: per(end - start), ...BAR }),
      name === "uncertain"
        ? draw("rect", { fill: `url(#${HATCH})`, x: per(start), width: per(end - start), ...BAR })
        : null,
      end - start < ROOM
        ? null
        : draw(
            "text",
            { class: "called", x: per((start + end) / 2), y: "6.4em", "text-anchor": "middle" },
            NAMES[name],
          ),
    ]),
    draw("rect", { class: "edge", width: "100%", ...BAR }),
    threshold <= 1
      ? draw("line", { class: "line", x1: per(threshold), x2: per(threshold), y1: "1.8em", y2: "4.2em" })
      : null,
    ...numbers.map((value) =>
      draw(
        "text",
        { class: value in ENDS ? "" : "between", x: per(value), y: "5.1em", "text-anchor": ENDS[value] ?? "middle" },
        value in ENDS ? String(value) : number(value, digits),
      ),
    ),
    draw("line", { class: "marker", x1: per(score), x2: per(score), y1: "1.6em", y2: "4.2em" }),
    draw("text", { class: "at", x: per(score), y: "1em", "text-anchor": anchor }, number(score, digits)),
  );
};

// As wide as a word, beside its number in a table.
export const small = (score, verdict) => {
  if (score === null || score === undefined) return null;
  return draw(
    "svg",
    { class: "scale small", width: 72, height: 14, "aria-hidden": "true" },
    ...zones(verdict).map(([name, start, end]) =>
      draw("rect", { class: `zone ${name}`, x: per(start), y: 4, width: per(end - start), height: 6 }),
    ),
    draw("rect", { class: "edge", x: 0, y: 4, width: "100%", height: 6 }),
    draw("line", { class: "marker", x1: per(score), x2: per(score), y1: 0, y2: 14 }),
  );
};

// The same in words and numbers.
export const table = ({ score, doubt: [low], threshold }) =>
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
        ...[
          ["score", number(score, 4)],
          ["called real", `below ${number(low, 4)}`],
          ["can't tell", low < threshold ? `from ${number(low, 4)} to ${number(threshold, 4)}` : "never"],
          ["called generated", `from ${number(threshold, 4)}`],
        ].map(([name, told]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, told))),
      ),
    ),
  );
