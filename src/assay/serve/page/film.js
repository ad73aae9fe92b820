// A video's score over time, and the people in it.

import { byId, draw, make, show } from "./make.js";
import { clock, many, number, seconds, short, worded } from "./words.js";

const HEIGHT = 240;
const EDGE = { left: 40, right: 16, top: 16, bottom: 36 };
// Seconds, or frames, from one line of the axis to the next; the least that leaves room for its words is taken.
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 36_000];
const ROOM = 72;
// Crossings that are told one by one.
const TOLD = 6;

let of = null;
let chosen = 0;
let address = "";
// Where a time lies in the chart that is drawn, in px, and the line that goes along with the video.
let placed = null;
let head = null;

const word = (score) => {
  const [low] = of.verdict.doubt;
  if (score >= of.verdict.threshold) return "fake";
  return score >= low ? "uncertain" : "real";
};

const timed = (point) => typeof point.time === "number";

const when = (point) => (timed(point) ? seconds(point.time) : `frame ${point.frame}`);

const label = (point) => {
  const place = timed(point) ? `${seconds(point.time)}, frame ${point.frame}` : `frame ${point.frame}`;
  return `${place}: score ${number(point.score)}, ${short(word(point.score))}`;
};

const series = () => {
  const track = byId("series").value;
  if (!track) return of.verdict.frames;
  return of.verdict.tracks.find((each) => String(each.track) === track).faces;
};

const place = (point) => point.time ?? point.frame;

// Where the score goes over the threshold, or back under it, on the straight lines between frames.
const crossings = (points) => {
  const { threshold } = of.verdict;
  return points.slice(1).flatMap((point, at) => {
    const before = points[at];
    const up = point.score >= threshold;
    if (up === before.score >= threshold) return [];
    const share = (threshold - before.score) / (point.score - before.score);
    return [{ at: place(before) + share * (place(point) - place(before)), up }];
  });
};

const moment = (value) => (timed(of.verdict.frames[0]) ? seconds(value) : `frame ${Math.round(value)}`);

const crossed = (points) => {
  const found = crossings(points);
  const over = points.filter((point) => point.score >= of.verdict.threshold).length;
  if (!found.length) {
    return over
      ? "In all judged frames the score is at or above the line."
      : "In no judged frame does the score reach the line.";
  }
  const told = found.slice(0, TOLD).map((each) => `${each.up ? "up" : "down"} at ${moment(each.at)}`);
  const more = found.length > TOLD ? `, and ${found.length - TOLD} more` : "";
  return (
    `It crosses the line ${many(found.length, "time")} (${told.join(", ")}${more}); ` +
    `${over} of ${many(points.length, "judged frame")} ${over === 1 ? "is" : "are"} at or above it.`
  );
};

const ticks = (first, last, width) => {
  const step = STEPS.find((each) => ((last - first) / each) * ROOM <= width) ?? last - first;
  const found = [];
  for (let number = Math.ceil(first / step); number * step <= last; number += 1) found.push(number * step);
  return found;
};

const chart = () => {
  const points = series();
  const width = Math.max(280, byId("chart").clientWidth || 600);
  const [first, last] = [place(points[0]), place(points.at(-1))];
  const across = (value) =>
    last > first
      ? EDGE.left + ((value - first) / (last - first)) * (width - EDGE.left - EDGE.right)
      : (EDGE.left + width - EDGE.right) / 2;
  const down = (score) => EDGE.top + (1 - score) * (HEIGHT - EDGE.top - EDGE.bottom);
  const [low] = of.verdict.doubt;
  const threshold = Math.min(of.verdict.threshold, 1);
  chosen = Math.min(chosen, points.length - 1);

  placed = timed(points[0]) ? (time) => across(Math.min(Math.max(time, first), last)) : null;

  const radius = Math.min(5, Math.max(2, width / points.length / 3));
  const circles = points.map((point, at) => {
    const circle = draw("circle", {
      cx: across(place(point)),
      cy: down(point.score),
      r: radius,
      class: "point",
      role: "button",
      tabindex: at === chosen ? 0 : -1,
      "aria-label": label(point),
    });
    circle.addEventListener("focus", () => choose(at, circles, points));
    circle.addEventListener("click", () => {
      circle.focus();
      seek(point);
    });
    circle.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
      const to = { Home: 0, End: points.length - 1 }[event.key] ?? (step === undefined ? undefined : at + step);
      if (event.key === "Enter" || event.key === " ") seek(point);
      else if (to === undefined) return;
      else circles[Math.min(Math.max(to, 0), points.length - 1)].focus();
      event.preventDefault();
    });
    return circle;
  });
  const text = (x, y, words, anchor = "middle") => draw("text", { x, y, "text-anchor": anchor }, words);
  const line = points.map((point) => `${across(place(point)).toFixed(1)},${down(point.score).toFixed(1)}`).join(" ");
  const below = HEIGHT - EDGE.bottom;
  head = draw("line", { class: "playhead", y1: EDGE.top, y2: below, visibility: "hidden" });
  const triangle = ({ at: value, up }) => {
    const [x, y, tip] = [across(value), down(threshold), up ? -8 : 8];
    return draw("path", { class: "crossing", d: `M${x - 5} ${y}h10L${x} ${y + tip}z` });
  };
  byId("chart").replaceChildren(
    draw(
      "svg",
      {
        onclick: ({ target, clientX }) => {
          if (target.classList.contains("point")) return;
          const { left, width: shown } = byId("chart").firstElementChild.getBoundingClientRect();
          const x = ((clientX - left) / shown) * width;
          const gap = (circle) => Math.abs(Number(circle.getAttribute("cx")) - x);
          const nearest = circles.reduce((best, circle) => (gap(circle) < gap(best) ? circle : best));
          nearest.focus();
          seek(points[circles.indexOf(nearest)]);
        },
        width,
        height: HEIGHT,
        viewBox: `0 0 ${width} ${HEIGHT}`,
        role: "group",
        "aria-label": `Score over time, ${many(points.length, "judged frame")}. Arrow keys go from one to the next.`,
      },
      draw(
        "pattern",
        { id: "chart-hatch", width: 7, height: 7, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
        draw("line", { class: "hatch", y2: 7 }),
      ),
      ...[
        { class: "zone fake", from: 1, to: threshold },
        { class: "zone uncertain", from: threshold, to: low },
        { fill: "url(#chart-hatch)", from: threshold, to: low },
        { class: "zone real", from: low, to: 0 },
      ].map(({ from, to, ...attributes }) =>
        draw("rect", {
          ...attributes,
          x: EDGE.left,
          width: width - EDGE.left - EDGE.right,
          y: down(from),
          height: Math.max(0, down(to) - down(from)),
        }),
      ),
      ...[0, 0.5, 1].map((score) => text(EDGE.left - 8, down(score) + 4, String(score), "end")),
      ...[0, 1].map((score) =>
        draw("line", { class: "axis", x1: EDGE.left, x2: width - EDGE.right, y1: down(score), y2: down(score) }),
      ),
      draw("line", {
        class: "threshold",
        x1: EDGE.left,
        x2: width - EDGE.right,
        y1: down(threshold),
        y2: down(threshold),
      }),
      ...(last > first ? ticks(first, last, width - EDGE.left - EDGE.right) : [first]).flatMap((value) => [
        draw("line", { class: "axis", x1: across(value), x2: across(value), y1: below, y2: below + 5 }),
        text(across(value), HEIGHT - 14, timed(points[0]) ? clock(value) : `frame ${value}`),
      ]),
      draw("polyline", { class: "course", points: line }),
      ...crossings(points).map(triangle),
      head,
      ...circles,
    ),
  );
  explain();
  byId("chart-crossings").textContent = crossed(points);
  byId("chart-table").tBodies[0].replaceChildren(
    ...points.map((point) =>
      make(
        "tr",
        {},
        make("th", { scope: "row" }, String(point.frame)),
        make("td", {}, timed(point) ? seconds(point.time) : "–"),
        make("td", { class: "number" }, number(point.score, 3)),
        make("td", {}, worded(word(point.score))),
      ),
    ),
  );
};

const explain = (point = null) => {
  const [low] = of.verdict.doubt;
  const line = `The dashed line is at ${number(of.verdict.threshold)}, from where it is called generated`;
  const band = low < of.verdict.threshold ? `; in the hatched band, from ${number(low)}, it can't tell.` : ".";
  byId("chart-words").textContent = point ? `${label(point)}.` : `${line}${band}`;
};

const choose = (at, circles, points) => {
  circles[chosen]?.setAttribute("tabindex", "-1");
  chosen = at;
  circles[at].setAttribute("tabindex", "0");
  explain(points[at]);
};

const seek = (point) => {
  const video = byId("video");
  if (!video.hidden && timed(point)) video.currentTime = point.time;
};

const follow = () => {
  if (!placed || byId("video").hidden) return;
  const x = placed(byId("video").currentTime);
  for (const end of ["x1", "x2"]) head.setAttribute(end, x);
  head.setAttribute("visibility", "visible");
};

const tracks = () => {
  const found = of.verdict.tracks ?? [];
  byId("tracks").tBodies[0].replaceChildren(
    ...found.map((track) => {
      const [first, last] = [track.faces[0], track.faces.at(-1)];
      const count = track.faces.length;
      const frames = `${count} frame${count > 1 ? "s" : ""}`;
      return make(
        "tr",
        {},
        make("th", { scope: "row" }, String(track.track)),
        make("td", {}, `${when(first)}${count > 1 ? ` to ${when(last)}` : ""}, ${frames}`),
        make("td", {}, worded(track.verdict)),
        make("td", { class: "number" }, number(track.score, 3)),
        make("td", {}, `± ${number(track.consistency.deviation)}`),
        make("td", {}, track.counts ? "yes" : "no, seen too little"),
      );
    }),
  );
  show("tracks-part", found.length > 0);
  byId("series").replaceChildren(
    make("option", { value: "" }, "the whole video"),
    ...found.map((track) => make("option", { value: track.track }, `person ${track.track}`)),
  );
  show("series-part", found.length > 0);
};

export const clear = () => {
  of = null;
  placed = null;
  const video = byId("video");
  video.removeAttribute("src");
  video.load();
  show("video", false);
  if (address) URL.revokeObjectURL(address);
  address = "";
  show("film", false);
};

// A verdict with frames; `file` where it is a video at hand.
export const start = (verdict, file) => {
  of = { verdict };
  chosen = 0;
  show("film");
  tracks();
  chart();
  if (!file) return;
  const video = byId("video");
  address = URL.createObjectURL(file);
  video.onloadedmetadata = () => show("video", video.videoWidth > 0);
  video.src = address;
};

// One frame of a video, drawn by the browser; null where it can't.
export const frame = async (file, time) => {
  const video = make("video", { muted: true, playsinline: true, preload: "auto" });
  const source = URL.createObjectURL(file);
  const happens = (name) =>
    new Promise((done, fail) => {
      video.addEventListener(name, done, { once: true });
      video.addEventListener("error", fail, { once: true });
      setTimeout(fail, 5000);
    });
  try {
    const ready = happens("loadeddata");
    video.src = source;
    await ready;
    const there = happens("seeked");
    video.currentTime = time + 0.001;
    await there;
    const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    return canvas;
  } catch {
    return null;
  } finally {
    video.removeAttribute("src");
    URL.revokeObjectURL(source);
  }
};

export const begin = () => {
  for (const event of ["timeupdate", "seeked"]) byId("video").addEventListener(event, follow);
  byId("series").addEventListener("change", () => {
    chosen = 0;
    chart();
  });
  let width = 0;
  new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (of && now && now !== width) {
      const held = document.activeElement?.classList.contains("point");
      chart();
      if (held) byId("chart").querySelector('[tabindex="0"]')?.focus();
    }
    width = now;
  }).observe(byId("chart"));
};
