// Requests to the API, with the key. An answer that is not a success is a Problem (RFC 9457).

import { parseExact } from "./numbers.js";

/** Why a request failed: `status` is that of HTTP, 0 when nobody answered; `errors` says what is wrong with it, one by one. */
export class Problem extends Error {
  constructor(status, title, detail = "", retryAfter = 0, errors = []) {
    super(detail || title);
    Object.assign(this, { status, title, detail, retryAfter, errors });
  }
}

/** The problem that an answer tells. */
export async function problemOf(response) {
  const body = await response.json().catch(() => ({}));
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  return new Problem(response.status, body.title ?? response.statusText, body.detail, retryAfter, body.errors);
}

async function answerOf(path, key, options) {
  const headers = { Authorization: `Bearer ${key}`, ...options.headers };
  const response = await fetch(path, { ...options, headers, cache: "no-store" }).catch((error) => {
    throw error.name === "AbortError" ? error : new Problem(0, "The API does not answer");
  });
  if (!response.ok) throw await problemOf(response);
  return response;
}

/** GET a JSON document; numbers are exact (numbers.js). */
export async function get(path, key, signal) {
  const response = await answerOf(path, key, { headers: { Accept: "application/json" }, signal });
  return parseExact(await response.text());
}

/** POST a JSON document; the answer's. */
export async function post(path, key, document, signal) {
  const headers = { Accept: "application/json", "Content-Type": "application/json" };
  const response = await answerOf(path, key, { method: "POST", headers, body: JSON.stringify(document), signal });
  return parseExact(await response.text());
}

/** GET a file, and let the browser save it: a link could not carry the key. */
export async function download(path, key, name) {
  const response = await answerOf(path, key, {});
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

/** The path of something that belongs to an account. */
export const accountPath = (account, rest) => `/v1/accounts/${encodeURIComponent(account)}/${rest}`;
