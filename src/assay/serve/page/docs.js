// The API in words, from the server's own description of it.

import { byId, make } from "./make.js";

// What stands between backticks is code.
const paragraphs = (text) =>
  (text ?? "")
    .split(/\n\n+/)
    .map((part) => make("p", {}, ...part.split("`").map((piece, at) => (at % 2 ? make("code", {}, piece) : piece))));

const rows = (caption, heads, cells) =>
  make(
    "div",
    { class: "wide", role: "group", tabindex: 0, "aria-label": `${caption}, a table that scrolls sideways` },
    make(
      "table",
      {},
      make("caption", {}, caption),
      make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
      make(
        "tbody",
        {},
        ...cells.map(([first, ...others]) =>
          make(
            "tr",
            {},
            make("th", { scope: "row" }, make("code", {}, first)),
            ...others.map((told) => make("td", {}, told)),
          ),
        ),
      ),
    ),
  );

const kind = (schema) => {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.anyOf) return schema.anyOf.map(kind).filter((each) => each !== "null").join(" or ");
  if (schema.const !== undefined) return String(schema.const);
  if (schema.enum) return schema.enum.join(" or ");
  const range = [
    schema.minimum === undefined ? "" : `from ${schema.minimum}`,
    schema.maximum === undefined ? "" : `to ${schema.maximum}`,
  ].filter(Boolean);
  const first = schema.type === "array" ? `many of ${kind(schema.items)}` : (schema.format ?? schema.type ?? "any");
  return [first, ...range].join(" ");
};

const body = (route) => {
  const [[type, told] = []] = Object.entries(route.requestBody?.content ?? {});
  if (!type) return [];
  return Object.entries(told.schema.properties ?? {}).map(([name, schema]) => [
    name,
    `field of ${type}`,
    kind(schema),
    schema.description ?? schema.items?.description ?? "",
  ]);
};

const section = (path, method, route) => {
  const fields = [
    ...body(route),
    ...(route.parameters ?? []).map((each) => [each.name, each.in, kind(each.schema), each.description ?? ""]),
  ];
  const answers = Object.entries(route.responses).map(([status, told]) => [
    status,
    Object.entries(told.content ?? {})
      .map(([type, { schema }]) => [type, kind(schema)].filter(Boolean).join(": "))
      .join("; "),
    told.description,
  ]);
  return make(
    "section",
    { class: "card" },
    make("h2", {}, make("code", {}, `${method.toUpperCase()} ${path}`)),
    ...paragraphs(route.description ?? route.summary),
    fields.length ? rows("What it takes", ["Name", "Where", "Kind", "What"], fields) : null,
    make("details", {}, make("summary", {}, "Answers"), rows("What it answers", ["Status", "Body", "When"], answers)),
  );
};

const models = (schemas) =>
  Object.entries(schemas ?? {}).map(([name, schema]) =>
    make(
      "details",
      {},
      make("summary", {}, name),
      ...paragraphs(schema.description),
      rows(
        `Fields of ${name}`,
        ["Name", "Kind", "What"],
        Object.entries(schema.properties ?? {}).map(([field, told]) => [field, kind(told), told.description ?? ""]),
      ),
    ),
  );

const begin = async () => {
  const place = byId("routes");
  try {
    const told = await (await fetch("/openapi.json")).json();
    byId("title").textContent = `The API of ${told.info.title} ${told.info.version}`;
    byId("about").replaceChildren(...paragraphs(told.info.description));
    const routes = Object.entries(told.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, route]) => section(path, method, route)),
    );
    place.removeAttribute("aria-live");
    const objects = make("h2", {}, "Objects");
    place.replaceChildren(...routes, make("section", { class: "card" }, objects, ...models(told.components?.schemas)));
  } catch {
    place.replaceChildren(make("p", {}, "The description could not be fetched. See whether the server still runs."));
  }
};

begin();
