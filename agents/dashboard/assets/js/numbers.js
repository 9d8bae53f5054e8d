// Exact numbers. Quantities reach 10^18 and money is decimal, so neither ever becomes a float here.

const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const SAFE_DIGITS = 15;

/** JSON, where a number that a float could not hold exactly arrives as the string of its digits. */
export function parseExact(text) {
  const quoted = text.replace(TOKEN, (token) => {
    const exact = token[0] === '"' || (token.length <= SAFE_DIGITS && /^-?\d+$/.test(token));
    return exact ? token : `"${token}"`;
  });
  return JSON.parse(quoted);
}

/** A quantity as the wire has it (a number or a string of digits) as a bigint. */
export const quantity = (value) => BigInt(value ?? 0);

const GROUPS = new Intl.NumberFormat("en-US");

/** 150000000n -> "150,000,000" */
export const grouped = (value) => GROUPS.format(value);

const STEPS = [
  [10n ** 12n, "T"],
  [10n ** 9n, "B"],
  [10n ** 6n, "M"],
  [10n ** 3n, "k"],
];

/** 1234567n -> "1.23M": three digits, cut off and not rounded, so that 149,999,999 never reads as 150M. */
export function short(value) {
  for (const [size, suffix] of STEPS) {
    if (value < size) continue;
    const whole = value / size;
    const places = whole >= 100n ? 0 : whole >= 10n ? 1 : 2;
    const scale = 10n ** BigInt(places);
    const cut = (value * scale) / size;
    const fraction = places ? String(cut % scale).padStart(places, "0").replace(/0+$/, "") : "";
    return `${grouped(cut / scale)}${fraction && "."}${fraction}${suffix}`;
  }
  return String(value);
}

/** Part of a whole with one decimal, cut off: "93.4%"; "–" where there is no whole. */
export function percent(part, whole) {
  if (whole === 0n) return "–";
  const tenths = (part * 1000n) / whole;
  return `${grouped(tenths / 10n)}.${tenths % 10n}%`;
}

/** Part of a whole as a float between 0 and 1, for widths and charts only. */
export const fraction = (part, whole) => (whole === 0n ? 0 : Number((part * 1_000_000n) / whole) / 1_000_000);

const PLACES = 12;

/** "12.3400" -> the decimal in units of 10^-12, as a bigint. */
function scaled(text) {
  const [, sign, whole, part = ""] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(String(text));
  const value = BigInt(whole + part.slice(0, PLACES).padEnd(PLACES, "0"));
  return sign ? -value : value;
}

function unscaled(value) {
  const digits = String(value < 0n ? -value : value).padStart(PLACES + 1, "0");
  const part = digits.slice(-PLACES).replace(/0+$/, "");
  return `${value < 0n ? "-" : ""}${digits.slice(0, -PLACES)}${part && "."}${part}`;
}

/** The exact sum of decimal strings. */
export const addDecimals = (texts) => unscaled(texts.reduce((sum, text) => sum + scaled(text), 0n));

/** a - b, exactly. */
export const minus = (a, b) => unscaled(scaled(a) - scaled(b));

/** Below, equal to or above zero: -1, 0 or 1. */
export function signOf(text) {
  const value = scaled(text);
  return value < 0n ? -1 : value > 0n ? 1 : 0;
}

/** Divided by a whole number, to display only. */
export const dividedBy = (text, count) => unscaled(scaled(text) / BigInt(count));

/** One decimal as a percentage of another: "58.1%". */
export const ratio = (part, whole) => percent(scaled(part), scaled(whole));

/** What somebody typed as a decimal: "1,234.5" -> "1234.5"; null for what is no amount of money. */
export function amountOf(typed) {
  const text = typed.replace(/[,\s\u00a0']/g, "");
  return /^\d{1,13}(\.\d{1,2})?$/.test(text) ? text : null;
}

/** A decimal string rounded half up to two places, grouped: "1,234.50". */
export function money(text) {
  const value = scaled(text);
  const size = value < 0n ? -value : value;
  const cents = (size + 5n * 10n ** BigInt(PLACES - 3)) / 10n ** BigInt(PLACES - 2);
  return `${value < 0n ? "−" : ""}${grouped(cents / 100n)}.${String(cents % 100n).padStart(2, "0")}`;
}
