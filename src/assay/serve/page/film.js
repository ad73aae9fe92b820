// A video's score over time, and the people in it.

import { byId, draw, make, show } from "./make.js";
import { number, seconds, worded, short } from "./words.js";

const HEIGHT = 220;
const EDGE = { left: 40, right: 12, top: 12, bottom: 36 };

let of = null;
let chosen = 0;
let address = "";

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

const chart = () => {
  const points = series();
  const width = Math.max(280, byId("chart").clientWidth || 600);
  const place = (point) => point.time ?? point.frame;
  const [first, last] = [place(points[0]), place(points.at(-1))];
  const across = (value) =>
    last > first
      ? EDGE.left + ((value - first) / (last - first)) * (width - EDGE.left - EDGE.right)
      : (EDGE.left + width - EDGE.right) / 2;
  const down = (score) => EDGE.top + (1 - score) * (HEIGHT - EDGE.top - EDGE.bottom);
  const [low] = of.verdict.doubt;
  const threshold = Math.min(of.verdict.threshold, 1);
  chosen = Math.min(chosen, points.length - 1);

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
  byId("chart").replaceChildren(
    draw(
      "svg",
      {
        width,
        height: HEIGHT,
        viewBox: `0 0 ${width} ${HEIGHT}`,
        role: "group",
        "aria-label": `Score over time, ${points.length} judged frames. Arrow keys go from one to the next.`,
      },
      draw(
        "pattern",
        { id: "hatch", width: 7, height: 7, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
        draw("line", { class: "hatch", y2: 7 }),
      ),
      draw("rect", {
        fill: "url(#hatch)",
        x: EDGE.left,
        width: width - EDGE.left - EDGE.right,
        y: down(threshold),
        height: Math.max(0, down(low) - down(threshold)),
      }),
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
      draw("polyline", { class: "course", points: line }),
      text(EDGE.left, HEIGHT - 12, when(points[0]), "start"),
      points.length > 1 ? text(width - EDGE.right, HEIGHT - 12, when(points.at(-1)), "end") : null,
      ...circles,
    ),
  );
  explain();
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
