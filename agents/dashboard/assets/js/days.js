// Days and clocks in an account's time zone. A day is "2026-11-24"; an instant is milliseconds since 1970.

const SKEW_MS = 2_000;
let skew = 0;

/** Now, by the API's clock where this machine's is wrong. */
export const now = () => Date.now() + skew;

/** The API said what time it is; less than two seconds may as well be the way of the message. */
export function setClock(instant) {
  const apart = instant - Date.now();
  skew = Math.abs(apart) < SKEW_MS ? 0 : apart;
}

const formats = new Map();

function format(zone, options) {
  const key = `${zone} ${JSON.stringify(options)}`;
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat("en-GB", { timeZone: zone, ...options }));
  return formats.get(key);
}

const PARTS = {
  year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
};

function wallClock(instant, zone) {
  const parts = Object.fromEntries(format(zone, PARTS).formatToParts(instant).map((p) => [p.type, p.value]));
  return Date.UTC(parts.year, parts.month - 1, parts.day, parts.hour, parts.minute, parts.second);
}

/** The day of an instant in a zone. */
export const dayOf = (instant, zone) => new Date(wallClock(instant, zone)).toISOString().slice(0, 10);

/** The day that many days later (negative: earlier). */
export function shiftDay(day, days) {
  return new Date(Date.parse(`${day}T00:00:00Z`) + days * 86_400_000).toISOString().slice(0, 10);
}

function midnight(day, zone) {
  const wanted = Date.parse(`${day}T00:00:00Z`);
  let instant = wanted;
  // Twice, because the offset at the first guess may be that of the other side of a change of the clocks.
  for (let round = 0; round < 2; round += 1) instant += wanted - wallClock(instant, zone);
  return instant;
}

/** First instant of a day, and of the next one. */
export const dayBounds = (day, zone) => [midnight(day, zone), midnight(shiftDay(day, 1), zone)];

/** "14:05", or "14:05:09" with seconds. */
export function clock(instant, zone, seconds = false) {
  return format(zone, { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...(seconds && { second: "2-digit" }) }).format(instant);
}

const shown = (day, options) => format("UTC", options).format(Date.parse(`${day}T00:00:00Z`));

/** "Tuesday, 24 November 2026" */
export const longDay = (day) => shown(day, { weekday: "long", day: "numeric", month: "long", year: "numeric" }).replace(/^(\w+) /, "$1, ");

/** "24 Nov 2026" */
export const shortDay = (day) => shown(day, { day: "numeric", month: "short", year: "numeric" });

/** A length of time in one or two units: "0.4 s", "12 s", "3 min", "2 h 5 min", "4 d". */
export function duration(milliseconds) {
  const seconds = Math.max(milliseconds, 0) / 1000;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.floor(minutes / 1440)} d`;
}
