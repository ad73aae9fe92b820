// The picture, the map over it, the faces in it.

import * as api from "./api.js";
import { byId, make, show } from "./make.js";
import { number, refused, sentence, short } from "./words.js";

// assay.judge.heat.ANCHORS: from night blue to pale yellow, each lighter than the one before.
export const ANCHORS = [
  [12, 8, 56],
  [58, 15, 105],
  [112, 26, 116],
  [163, 42, 101],
  [208, 66, 71],
  [236, 109, 36],
  [248, 168, 34],
  [252, 238, 150],
];

const NINTHS = [
  ["upper left", "top", "upper right"],
  ["left", "middle", "right"],
  ["lower left", "bottom", "lower right"],
];

const MEAN = "";

// Longer side in px of a picture that is kept.
const LONGEST = 1024;

let shown = { address: "", maps: {}, mean: null, explanation: null };
let drawing = 0;

const colour = (value) => {
  const place = Math.min((value / 255) * (ANCHORS.length - 1), ANCHORS.length - 1 - 1e-9);
  const low = Math.floor(place);
  return ANCHORS[low].map((channel, at) => Math.round(channel + (place - low) * (ANCHORS[low + 1][at] - channel)));
};

const COLOURS = Array.from({ length: 256 }, (_, value) => colour(value));

const loaded = (image, address) =>
  new Promise((done, fail) => {
    image.onload = () => done(image);
    image.onerror = () => fail(new Error("not shown"));
    image.src = address;
  });

export const clear = () => {
  if (shown.address) URL.revokeObjectURL(shown.address);
  shown = { address: "", maps: {}, mean: null, explanation: null };
  drawing += 1;
  const picture = byId("picture");
  picture.onload = picture.onerror = null;
  picture.removeAttribute("src");
  picture.classList.remove("grey");
  for (const id of ["map", "map-tools", "boxes-part", "picture"]) show(id, false);
  byId("boxes").replaceChildren();
  byId("look-words").textContent = "";
};

const sized = (width, height) => {
  const stage = byId("stage");
  stage.style.aspectRatio = `${width} / ${height}`;
  stage.style.width = `min(100%, ${(30 * width) / height}rem)`;
};

// Shows a file, or, where the browser can't, a preview by the server.
export const showPicture = async (file, verdict, detector, signal) => {
  const picture = byId("picture");
  sized(verdict.width, verdict.height);
  shown.address = URL.createObjectURL(file);
  picture.alt = `The picture ${api.nameOf(file)}`;
  try {
    await loaded(picture, shown.address);
  } catch {
    try {
      await loaded(picture, (await api.alter(file, detector, {}, signal)).preview);
    } catch (error) {
      if (api.stopped(error)) throw error;
      return;
    }
  }
  show("picture");
};

// Shows a picture that is drawn, as a frame of a video.
export const showFrame = (canvas, words) => {
  const picture = byId("picture");
  picture.alt = words;
  picture.src = canvas.toDataURL("image/jpeg", 0.9);
  show("picture");
};

// Asks where the detector looked, and shows it.
export const look = async (file, detector, toward, signal) => {
  const words = byId("look-words");
  words.textContent = "Finding out where it looked. This takes seconds, or minutes where the server is busy.";
  byId("look").setAttribute("aria-busy", "true");
  try {
    const told = await api.explain(file, detector, toward, signal);
    shown.explanation = told;
    shown.maps = told.maps;
    shown.mean = told.map;
    sized(told.width, told.height);
    tools(told);
    await drawMap();
    return told;
  } catch (error) {
    if (api.stopped(error)) throw error;
    // Nothing is gone: this detector can't say it.
    words.textContent = error.kind === "missing" ? sentence(error.message) : refused(error);
    return null;
  } finally {
    if (!signal.aborted) byId("look").removeAttribute("aria-busy");
  }
};

const tools = (told) => {
  const which = byId("which");
  const names = Object.keys(told.maps);
  const kept = which.value;
  which.replaceChildren(
    ...(names.length === 1 ? [] : [make("option", { value: MEAN }, "all streams together")]),
    ...names.map((name) => make("option", { value: name }, name)),
  );
  if (names.includes(kept)) which.value = kept;
  show("which-part", names.length > 1);
  byId("map-words").replaceChildren(...told.explanation.sentences.map((line) => make("li", {}, line)));
  const frame = told.explanation.frame ? ` It is of frame ${told.explanation.frame}.` : "";
  byId("look-words").textContent = names.length
    ? `Bright places are those that the score rests on. That is not where something was altered.${frame}`
    : "No stream of this detector has a map for this file.";
  show("map-tools", names.length > 0);
};

export const drawMap = async () => {
  const which = byId("which").value;
  const address = which === MEAN ? shown.mean : shown.maps[which];
  const mine = ++drawing;
  if (!address) {
    show("map", false);
    return;
  }
  const image = await loaded(new Image(), address);
  if (mine !== drawing) return;
  const canvas = byId("map");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < pixels.data.length; at += 4) {
    const value = pixels.data[at];
    [pixels.data[at], pixels.data[at + 1], pixels.data[at + 2]] = COLOURS[value];
    pixels.data[at + 3] = value;
  }
  context.putImageData(pixels, 0, 0);
  strength();
  ninths(which);
  show("map");
};

export const strength = () => {
  const value = Number(byId("strength").value);
  byId("map").style.opacity = value / 100;
  byId("picture").classList.toggle("grey", value > 0 && shown.explanation !== null);
};

const ninths = (which) => {
  const streams = shown.explanation.explanation.streams.filter(
    (stream) => stream.parts && (which === MEAN || stream.name === which),
  );
  const share = (name) => streams.reduce((sum, stream) => sum + stream.parts[name], 0) / (streams.length || 1);
  byId("map-table").tBodies[0].replaceChildren(
    ...NINTHS.map((row) =>
      make("tr", {}, ...row.map((name) => make("td", {}, `${name}: ${Math.round(100 * share(name))} %`))),
    ),
  );
};

// Boxes around faces: each once, with what every stream says of it.
export const facesOf = (verdict, boxes) => {
  const found = new Map();
  for (const box of boxes ?? []) found.set(String(box), { box, said: [] });
  for (const stream of verdict.streams) {
    for (const face of stream.faces ?? []) {
      const key = String(face.box);
      if (!found.has(key)) found.set(key, { box: face.box, said: [] });
      found.get(key).said.push({ stream: stream.name, score: face.score, verdict: face.verdict });
    }
  }
  return [...found.values()];
};

export const showFaces = (faces, width, height) => {
  const inside = (value, most) => Math.min(Math.max(value, 0), most);
  byId("boxes").replaceChildren(
    ...faces.map(({ box, said }, at) => {
      const [left, top, right, bottom] = [0, 1, 2, 3].map((side) => inside(box[side], side % 2 ? height : width));
      const word = said.length ? `: ${short(said[0].verdict)}, ${number(said[0].score)}` : "";
      const square = make("div", { class: "box", role: "img", "aria-label": `Face ${at + 1}${word}` });
      square.append(make("span", { "aria-hidden": "true" }, String(at + 1)));
      square.style.left = `${(100 * left) / width}%`;
      square.style.top = `${(100 * top) / height}%`;
      square.style.width = `${(100 * (right - left)) / width}%`;
      square.style.height = `${(100 * (bottom - top)) / height}%`;
      return square;
    }),
  );
  show("boxes-part", faces.length > 0);
  show("boxes", byId("boxes-shown").checked);
};

// The picture with the map and the faces, as one: a data address, empty where there is no picture.
export const flat = () => {
  const picture = byId("picture");
  if (picture.hidden) return "";
  const { naturalWidth: width, naturalHeight: height } = picture;
  const scale = Math.min(1, LONGEST / Math.max(width, height));
  const canvas = make("canvas", { width: Math.ceil(width * scale), height: Math.ceil(height * scale) });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.filter = picture.classList.contains("grey") ? "grayscale(1)" : "none";
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  context.filter = "none";
  if (!byId("map").hidden) {
    context.globalAlpha = Number(byId("strength").value) / 100;
    context.drawImage(byId("map"), 0, 0, canvas.width, canvas.height);
    context.globalAlpha = 1;
  }
  if (!byId("boxes").hidden) for (const square of byId("boxes").children) outline(context, canvas, square);
  return canvas.toDataURL("image/jpeg", 0.85);
};

const outline = (context, { width, height }, square) => {
  const share = (side) => Number.parseFloat(square.style[side]) / 100;
  const place = [share("left") * width, share("top") * height, share("width") * width, share("height") * height];
  for (const [line, colour] of [[5, "#000000"], [3, "#ffffff"]]) {
    context.lineWidth = line;
    context.strokeStyle = colour;
    context.strokeRect(...place);
  }
  context.font = "bold 16px sans-serif";
  context.textBaseline = "top";
  const number = square.textContent;
  context.fillStyle = "#000000";
  context.fillRect(place[0], place[1], context.measureText(number).width + 10, 20);
  context.fillStyle = "#ffffff";
  context.fillText(number, place[0] + 5, place[1] + 3);
};

// The colours from little to most, as a data address.
export const colours = () => byId("legend").toDataURL("image/png");

const legend = () => {
  const context = byId("legend").getContext("2d");
  COLOURS.forEach(([red, green, blue], value) => {
    context.fillStyle = `rgb(${red} ${green} ${blue})`;
    context.fillRect(value, 0, 1, 1);
  });
};

export const begin = () => {
  legend();
  byId("strength").addEventListener("input", strength);
  byId("which").addEventListener("change", drawMap);
  byId("boxes-shown").addEventListener("change", (event) => show("boxes", event.target.checked));
};
