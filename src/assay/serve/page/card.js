// What a detector is good for, and what it can't do.

import { byId, make, named, show } from "./make.js";
import { figured, inHundred, number } from "./words.js";

const isFigure = (value) => value && typeof value === "object" && typeof value.value === "number";

// Figures by their place, those that the card calls its most telling ones first.
const figures = (told) => {
  const found = [];
  const walk = (value, place) => {
    if (isFigure(value)) found.push([place.join(", "), figured(value)]);
    else if (value && typeof value === "object" && !Array.isArray(value)) {
      for (const [name, part] of Object.entries(value)) walk(part, [...place, name]);
    }
  };
  walk(told.headline ?? told, []);
  return found.slice(0, 20);
};

const rows = (caption, pairs) =>
  make(
    "table",
    {},
    make("caption", {}, caption),
    make(
      "tbody",
      {},
      ...pairs.map(([name, told]) =>
        make("tr", {}, make("th", { scope: "row" }, named(name)), make("td", {}, named(told))),
      ),
    ),
  );

const lines = (heading, list) =>
  list.length ? [make("h3", {}, heading), make("ul", {}, ...list.map((line) => make("li", {}, line)))] : [];

export const start = (card) => {
  const [low, high] = card.doubt;
  const streams = card.streams.map((stream) => `${stream.name}: ${stream.backbone}`);
  const measured = figures(card.figures ?? {});
  const sources = card.data?.summary;
  byId("card-short").replaceChildren(named(`${card.name} ${card.version}`), `: ${card.summary}`);
  byId("card-body").replaceChildren(
    make("p", {}, card.description),
    ...lines("What it can't do", card.limits ?? []),
    make("h3", {}, "What was measured"),
    measured.length
      ? rows("Its most telling figures; shares of 1, with the range they likely lie in", measured)
      : make("p", {}, "Nothing yet."),
    make("h3", {}, "When it says what"),
    rows("By the score, from 0 (real) to 1 (generated)", [
      ["probably generated", `from ${number(high, 4)}`],
      ["can't tell", low < high ? `from ${number(low, 4)} up to that` : "never"],
      ["probably real", `below ${number(low, 4)}`],
      ["set so that", `at most ${inHundred(card.fpr)} real pictures are called generated`],
    ]),
    ...(typeof sources === "string" ? [make("h3", {}, "Made from"), make("p", {}, sources)] : []),
    ...(card.notes ? [make("h3", {}, "Notes"), make("p", {}, card.notes)] : []),
    make(
      "p",
      { class: "soft" },
      `Made ${card.created} by the recipe ${card.recipe}; streams: ${streams.join("; ")}. SHA-256 ${card.sha256}`,
    ),
  );
  show("card");
};
