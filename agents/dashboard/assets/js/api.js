// Requests to the API, with the key. An answer that is not a success is a Problem (RFC 9457).

import { parseExact } from "./numbers.js";

/** Why a request failed: `status` is that of HTTP, 0 when nobody answered. */
export class Problem extends Error {
  constructor(status, title, detail = "", retryAfter = 0) {
    super(detail || title);
    Object.assign(this, { status, title, detail, retryAfter });
  }
}

/** The problem that an answer tells. */
export async function problemOf(response) {
  const body = await response.json().catch(() => ({}));
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  return new Problem(response.status, body.title ?? response.statusText, body.detail, retryAfter);
}

/** GET a JSON document; numbers are exact (numbers.js). */
export async function get(path, key, signal) {
  const headers = { Authorization: `Bearer ${key}`, Accept: "application/json" };
  const response = await fetch(path, { headers, signal, cache: "no-store" }).catch((error) => {
    throw error.name === "AbortError" ? error : new Problem(0, "The API does not answer");
  });
  if (!response.ok) throw await problemOf(response);
  return parseExact(await response.text());
}

/** The path of something that belongs to an account. */
export const accountPath = (account, rest) => `/v1/accounts/${encodeURIComponent(account)}/${rest}`;
