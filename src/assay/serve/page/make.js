// Elements, made without markup: what is told of files is text, and stays text.

const SVG = "http://www.w3.org/2000/svg";

const filled = (element, attributes, children) => {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
};

export const make = (tag, attributes = {}, ...children) =>
  filled(document.createElement(tag), attributes, children);

export const draw = (tag, attributes = {}, ...children) =>
  filled(document.createElementNS(SVG, tag), attributes, children);

export const byId = (id) => document.getElementById(id);

// A name of whatever script: that it runs from right to left moves nothing around it.
export const named = (words) => make("bdi", {}, printable(words));

// Signs that steer text, or that nobody sees, are shown as escapes.
export const printable = (words) =>
  words.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, (sign) => `\\u{${sign.codePointAt(0).toString(16)}}`);

export const listed = (list, lines) => {
  list.replaceChildren(...lines.map((line) => make("li", {}, line)));
  list.hidden = !lines.length;
};

// Told to screen readers, politely. The same words twice in a row are told twice.
export const say = (words) => {
  const place = byId("said");
  place.textContent = place.textContent === words ? `${words}\u00a0` : words;
};

export const show = (id, shown = true) => {
  byId(id).hidden = !shown;
};

export const save = (blob, name) => {
  const address = URL.createObjectURL(blob);
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
};
