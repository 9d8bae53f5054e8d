// Server-sent events over fetch (EventSource cannot send the key): resumes, watches for silence, backs off.

import { Problem, problemOf } from "./api.js";
import { parseExact } from "./numbers.js";

const SILENCE_MS = 6_000;
const PAUSE_MS = [500, 1_000, 2_000, 4_000, 8_000, 15_000];
const REFUSED = new Set([401, 403, 404]);

/** Parser of the event stream format: feed it text, it calls `emit({id, event, data})`. */
export function parser(emit) {
  let rest = "";
  let fields = {};
  const line = (text) => {
    if (text === "") {
      if (fields.data !== undefined) emit(fields);
      fields = {};
      return;
    }
    const colon = text.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? text : text.slice(0, colon);
    const value = colon < 0 ? "" : text.slice(colon + 1).replace(/^ /, "");
    fields[name] = name === "data" && fields.data !== undefined ? `${fields.data}\n${value}` : value;
  };
  return (chunk) => {
    const lines = (rest + chunk).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    lines.forEach(line);
  };
}

/**
 * A stream that stays open. `on.event(name, data)`; `on.state("connecting" | "live" | "broken", {nextTry})`;
 * `on.refused(problem)` once the key or the account is refused for good.
 */
export class Stream {
  constructor(path, key, on) {
    Object.assign(this, { path, key, on, lastId: null, failures: 0, closed: false });
    this.retryNow = this.retryNow.bind(this);
    addEventListener("online", this.retryNow);
    this.run();
  }

  close() {
    this.closed = true;
    removeEventListener("online", this.retryNow);
    clearTimeout(this.watchdog);
    this.abort?.abort();
    this.wake?.();
  }

  /** Do not wait for the end of the pause. */
  retryNow() {
    this.wake?.();
  }

  async run() {
    while (!this.closed) {
      let wait = 0;
      try {
        await this.read();
      } catch (error) {
        if (this.closed) return;
        if (error instanceof Problem && REFUSED.has(error.status)) {
          this.on.refused(error);
          return;
        }
        wait = (error.retryAfter ?? 0) * 1000;
      }
      if (this.closed) return;
      await this.pause(wait);
    }
  }

  async pause(least) {
    const step = PAUSE_MS[Math.min(this.failures, PAUSE_MS.length - 1)];
    this.failures += 1;
    const wait = Math.max(least, step * (0.75 + Math.random() / 2));
    this.on.state("broken", { nextTry: Date.now() + wait });
    await new Promise((resolve) => {
      this.wake = resolve;
      setTimeout(resolve, wait);
    });
    this.wake = null;
  }

  async read() {
    this.abort = new AbortController();
    if (!this.failures) this.on.state("connecting", {});
    const headers = { Authorization: `Bearer ${this.key}`, Accept: "text/event-stream" };
    if (this.lastId) headers["Last-Event-ID"] = this.lastId;
    this.listen();
    const response = await fetch(this.path, { headers, signal: this.abort.signal, cache: "no-store" });
    if (!response.ok) throw await problemOf(response);
    const feed = parser((message) => this.take(message));
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      this.listen();
      feed(value);
    }
  }

  take({ id, event = "message", data }) {
    if (this.closed) return;
    this.failures = 0;
    this.on.state("live", {});
    this.on.event(event, parseExact(data));
    // Only now: what was not applied is asked for again.
    if (id !== undefined) this.lastId = id;
  }

  /** Silence for too long is a broken stream, whatever the connection says. */
  listen() {
    clearTimeout(this.watchdog);
    this.watchdog = setTimeout(() => this.abort.abort(), SILENCE_MS);
  }
}
