// Asks the server. What it refuses is told in its own words; what it asks to wait for is waited for.

const TRIES = 20;
const LONGEST = 120;
// Seconds between two tries where nothing answers.
const SELDOM = 8;

// A request that was not answered as asked for.
export class Refusal extends Error {
  constructor(status, kind, message, seconds = 0) {
    super(message);
    this.status = status;
    this.kind = kind;
    this.seconds = seconds;
  }
}

// What the page does when it must ask for a key, or wait. Both get a signal that ends them.
export const asks = {
  key: async (message, signal) => {
    throw new Refusal(401, "key", message);
  },
  wait: async (seconds, signal) => {},
  // Told when a connection is lost, and when it is back.
  lost: (is) => {},
};

let key = "";
let asking = null;

export const stopped = (error) => error instanceof DOMException && error.name === "AbortError";

export const nap = (seconds, signal) =>
  new Promise((done, fail) => {
    const stop = () => {
      clearTimeout(timer);
      fail(new DOMException("stopped", "AbortError"));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      done();
    }, 1000 * seconds);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });

const unreachable = () => new Refusal(0, "network", "No answer came from the server.");

// fetch tells nothing of how far an upload is.
const uploaded = (path, { body, headers, signal, sent }) =>
  new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    request.open("POST", path);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.responseType = "blob";
    request.upload.addEventListener("progress", (event) => sent(event.loaded / (event.total || 1)));
    request.addEventListener("load", () => {
      const told = new Headers();
      for (const name of ["Retry-After"]) {
        const value = request.getResponseHeader(name);
        if (value !== null) told.set(name, value);
      }
      done(new Response(request.response, { status: request.status, headers: told }));
    });
    request.addEventListener("error", () => fail(unreachable()));
    request.addEventListener("abort", () => fail(new DOMException("stopped", "AbortError")));
    request.addEventListener("loadend", () => signal?.removeEventListener("abort", stop));
    if (signal?.aborted) {
      fail(new DOMException("stopped", "AbortError"));
      return;
    }
    signal?.addEventListener("abort", stop, { once: true });
    request.send(body);
  });

const refusal = async (answer) => {
  let told = {};
  try {
    told = (await answer.json()).error ?? {};
  } catch (error) {
    if (stopped(error)) throw error;
  }
  const seconds = Number.parseInt(answer.headers.get("Retry-After") ?? "", 10);
  const words = told.message ?? `The server says ${answer.status}.`;
  return new Refusal(answer.status, told.kind ?? "http", words, seconds || 0);
};

// An answer that is fine.
export const request = async (path, { method = "GET", body, headers = {}, signal, sent } = {}) => {
  for (let tries = 1; ; tries += 1) {
    const used = key;
    const asked = used ? { ...headers, Authorization: `Bearer ${used}` } : headers;
    let answer;
    try {
      answer = sent
        ? await uploaded(path, { body, headers: asked, signal, sent })
        : await fetch(path, { method, body, headers: asked, signal, cache: "no-store" });
    } catch (error) {
      if (stopped(error) || error instanceof Refusal) throw error;
      throw unreachable();
    }
    if (answer.ok) return answer;
    const refused = await refusal(answer);
    if (refused.status === 401) {
      if (used === key) {
        // Several requests ask once.
        asking ??= asks.key(used ? "That key is not known here." : "", signal).finally(() => (asking = null));
        key = await asking;
      }
    } else if ([429, 503].includes(refused.status) && refused.seconds && tries < TRIES) {
      await asks.wait(Math.min(refused.seconds, LONGEST), signal);
    } else {
      throw refused;
    }
  }
};

const query = (fields) => {
  const given = Object.entries(fields).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
};

const VIDEO = /\.(mp4|m4v|mov|webm|mkv|avi|mts|m2ts|ts|mpg|mpeg|flv|3gp)$/i;

export const isVideo = (file) => file.type.startsWith("video/") || VIDEO.test(file.name);

export const nameOf = (file) => file.path || file.webkitRelativePath || file.name || "picture";

const form = (files) => {
  const body = new FormData();
  for (const file of files) body.append("file", file, nameOf(file));
  return body;
};

const post = async (path, file, fields, signal) =>
  (await request(path + query(fields), { method: "POST", body: form([file]), signal })).json();

export const judge = (file, detector, signal) => post("/v1/judge", file, { detector, provenance: true }, signal);

export const explain = (file, detector, toward, signal) => post("/v1/explain", file, { detector, toward }, signal);

export const alter = (file, detector, changes, signal) => post("/v1/alter", file, { detector, ...changes }, signal);

export const server = async () => (await request("/v1/detectors")).json();

// The picture at an address, as a file; the server gets it.
export const linked = async (url, signal) => {
  const data = await (await request(`/v1/fetch${query({ url })}`, { method: "POST", signal })).blob();
  return new File([data], lastOf(url));
};

const lastOf = (url) => {
  const { pathname, hostname } = new URL(url);
  try {
    return decodeURIComponent(pathname.split("/").at(-1)) || hostname;
  } catch {
    return hostname;
  }
};

export const card = async (name) => (await request(`/v1/detectors/${encodeURIComponent(name)}`)).json();

// Not crypto.randomUUID, which a page has only where its connection is encrypted.
const random = () => crypto.getRandomValues(new Uint8Array(16)).join("-");

export const jobs = {
  // Sent again after a wait, it is the same job.
  create: async (files, fields, sent, signal) => {
    const headers = { "Idempotency-Key": random() };
    const asked = { method: "POST", body: form(files), headers, signal, sent };
    return (await request(`/v1/jobs${query(fields)}`, asked)).json();
  },
  get: async (id, signal) => (await request(`/v1/jobs/${encodeURIComponent(id)}`, { signal })).json(),
  delete: (id) => request(`/v1/jobs/${encodeURIComponent(id)}`, { method: "DELETE" }),
  file: async (id, what) => (await request(`/v1/jobs/${encodeURIComponent(id)}/${what}`)).blob(),
};

// Server-sent events of a job, to their end. The browser's own reader of events can't send a key. A connection that is
// lost is taken up where it was, however long that takes: the job outlives the server.
export const events = async (id, told, signal) => {
  let last = "";
  let lost = 0;
  try {
    for (;;) {
      try {
        const headers = last ? { "Last-Event-ID": last } : {};
        const answer = await request(`/v1/jobs/${encodeURIComponent(id)}/events`, { headers, signal });
        if (lost) asks.lost(false);
        for await (const event of read(answer.body)) {
          lost = 0;
          last = event.id || last;
          told(event.name, event.data);
          if (event.name === "end") return;
        }
      } catch (error) {
        if (stopped(error) || (error instanceof Refusal && error.status)) throw error;
      }
      lost += 1;
      if (lost > 1) asks.lost(true);
      await nap(Math.min(2 ** lost / 4, SELDOM), signal);
    }
  } finally {
    asks.lost(false);
  }
};

// Waits until the server answers again.
export const back = async (signal) => {
  for (;;) {
    await nap(SELDOM / 4, signal);
    const answer = await fetch("/ready", { signal, cache: "no-store" }).catch((error) => {
      if (stopped(error)) throw error;
    });
    if (answer?.ok) return;
  }
};

async function* read(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += decoder.decode(value, { stream: true });
      const blocks = text.split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const event = { name: "", id: "", data: null };
        for (const line of block.split("\n")) {
          if (line.startsWith("event: ")) event.name = line.slice(7);
          else if (line.startsWith("id: ")) event.id = line.slice(4);
          else if (line.startsWith("data: ")) event.data = JSON.parse(line.slice(6));
        }
        if (event.name) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
