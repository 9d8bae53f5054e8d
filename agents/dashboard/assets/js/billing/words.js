// What the billing center says in words: pockets, money that moved, faults.

import { shortDay } from "../days.js";
import { addDecimals, amountOf, money, signOf } from "../numbers.js";

const KINDS = { card: "Prepaid card", voucher: "Voucher", threshold: "Threshold voucher" };
const OTHERS = { cash: "Cash", arrears: "Arrears", bank: "Bank", granted: "Grant", packages: "Packages", usage: "Usage" };

/** "card:c1" -> "Prepaid card c1" */
export function pocketName(pocket) {
  const [kind, ...name] = pocket.split(":");
  return KINDS[kind] ? `${KINDS[kind]} ${name.join(":")}` : (OTHERS[pocket] ?? pocket);
}

const OUTSIDE = new Set(["bank", "granted", "packages", "usage"]);
const TITLES = { bank: "Funds added", granted: "Voucher granted", packages: "Packages bought" };

/** What an entry is about, which pockets it moved, and by how much the wallet changed. */
export function entryWords(entry) {
  const inside = entry.postings.filter((p) => !OUTSIDE.has(p.account));
  const outside = entry.postings.find((p) => OUTSIDE.has(p.account))?.account;
  const sum = addDecimals(inside.map((p) => p.amount));
  const pockets = inside.map((p) => (inside.length > 1 ? `${pocketName(p.account)} ${money(p.amount)}` : pocketName(p.account))).join(", ");
  return { title: outside === "usage" ? settled(entry.reference) : (TITLES[outside] ?? "Moved"), pockets, sum, reference: outside === "usage" ? "" : entry.reference };
}

function settled(reference) {
  const [day, revision] = reference.split("/");
  return `Usage of ${shortDay(day)}${revision === "1" ? "" : `, revision ${revision}`}`;
}

/** With a full stop, and a capital letter unless it begins with a 'name'. */
const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`.replace(/'/g, "");
const place = (fault) => fault.at.replace(/^\$\.?/, "").split(".").slice(1).join(".");
const usable = (fault) => money(amountOf(fault.message.split(" ")[0]) ?? "0");

const WORDS = {
  payment_differs: () => "The payment does not add up to the price.",
  wrong_price: (fault) => `The price has changed: ${sentence(fault.message)}`,
  balance_too_small: (fault) => `${pocketName(place(fault))}: only ${usable(fault)} can be spent.`,
  below_threshold: (fault) => `${pocketName(place(fault))}: ${sentence(fault.message)}`,
  unknown_pocket: (fault) => `There is no ${pocketName(place(fault)).toLowerCase() || "such pocket"}: the wallet has no money there.`,
  no_workspaces: () => "Choose at least one workspace.",
  nothing_ordered: () => "Choose a plan, or a traffic package.",
  effective_in_the_past: (fault) => sentence(fault.message),
  conflicting_id: () => "This order was placed before, with another content. Begin a new one.",
};

/** A fault for the buyer: {code, at, message} as the API has it. */
export const faultWords = (fault) => (WORDS[fault.code] ?? ((f) => sentence(f.message)))(fault);

/** Why a request failed, one sentence a reason. */
export function problemWords(problem) {
  if (problem.errors?.length) return problem.errors.map(faultWords);
  if (problem.status === 403) return ["This key may look, not change. Ask for one with the scope “admin”."];
  return [sentence(problem.message)];
}

/** An amount with its currency. */
export const priced = (amount, currency) => `${money(amount)} ${currency}`;

export const isZero = (amount) => signOf(amount) === 0;
