// Overage and charges per workspace: live quantities of the day, amounts from ClickHouse up to now and up to yesterday.

import { attribute, byId, h, keyed, text } from "./dom.js";
import { addDecimals, grouped, money } from "./numbers.js";
import { shortDay } from "./days.js";

const HEADS = ["Overage, this day", "Units × price", "Up to yesterday", "Up to now"];
const lineKey = (line) => `${line.meter} ${line.basis} ${line.retention_days}`;

/** How a line is charged, in words. */
function basis(line) {
  if (line.basis === "package") return "Over the packages";
  return line.retention_days ? `Pay as you go, ${line.retention_days} d` : "Pay as you go";
}

/** Lines of the charges together with overage that is so new that no charge knows it. */
function linesOf(model) {
  const groups = new Map();
  const group = (workspace) => {
    if (!groups.has(workspace)) groups.set(workspace, { workspace, lines: new Map() });
    return groups.get(workspace);
  };
  for (const w of model.charges?.workspaces ?? []) {
    const own = group(w.workspace);
    Object.assign(own, { upToNow: w.up_to_now, upToYesterday: w.up_to_yesterday });
    for (const line of w.lines) {
      const known = own.lines.get(lineKey(line));
      own.lines.set(lineKey(line), known ? added(known, line) : line);
    }
  }
  for (const event of model.overage.values()) {
    const { lines } = group(event.workspace);
    if (event.quantity > 0n && !lines.has(lineKey(event))) lines.set(lineKey(event), { ...event, units: null, price: null, amount: undefined });
  }
  return [...groups.values()].filter((g) => g.lines.size).sort((a, b) => a.workspace.localeCompare(b.workspace, "en", { numeric: true }));
}

const sumOf = (a, b) => (a === null || b === null ? null : addDecimals([a, b]));

/** A price that changed within the month gives two lines; here they are one, without a single price. */
const added = (a, b) => ({ ...a, units: sumOf(a.units, b.units), amount: sumOf(a.amount, b.amount), price: a.price === b.price ? a.price : null });

export function renderCharges(model, meters) {
  const groups = linesOf(model);
  const { charges } = model;
  byId("charges-empty").hidden = !charges || groups.length > 0;
  byId("charges-scroll").hidden = groups.length === 0;
  byId("charges-loading").hidden = Boolean(charges) || groups.length > 0;
  if (charges) text(byId("charges-of"), `${shortDay(charges.from)} to ${shortDay(charges.to)}, in ${charges.currency}`);
  const rows = groups.flatMap((g) => [
    { key: g.workspace, group: g },
    ...[...g.lines.values()].map((line) => ({ key: `${g.workspace}\n${lineKey(line)}`, line: { ...line, workspace: g.workspace } })),
  ]);
  keyed(byId("charges-rows"), rows, (r) => r.key, create, (tr, r) => (r.group ? head(tr, r.group, model) : line(tr, r.line, model, meters)));
  foot(charges);
}

function create(row) {
  const cells = HEADS.map((label) => h("td", { class: "number", "data-label": label }));
  if (row.group) return h("tr", { class: "group", "data-workspace": row.key }, h("th", { scope: "rowgroup", class: "name", colspan: "3" }, h("span"), h("small")), ...cells.slice(2));
  return h("tr", { "data-line": row.key.replace("\n", " ") }, h("td", { class: "name" }, h("span"), h("small")), ...cells);
}

function head(tr, group, model) {
  const [name, label] = tr.firstChild.children;
  text(name, group.workspace);
  text(label, model.workspaces.get(group.workspace)?.name ?? "");
  amount(tr.children[1], group.upToYesterday);
  amount(tr.children[2], group.upToNow);
}

function line(tr, item, model, meters) {
  const [name, label] = tr.firstChild.children;
  text(name, meters.get(item.meter)?.name ?? item.meter);
  text(label, basis(item));
  const today = model.overageOf(item);
  text(tr.children[1], grouped(today));
  tr.children[1].classList.toggle("zero", today === 0n);
  text(tr.children[2], item.units === null || item.price === null ? "–" : `${money(item.units)} × ${item.price}`);
  text(tr.children[3], "");
  if (item.amount === undefined) text(tr.children[4], "rating…");
  else if (item.amount === null) text(tr.children[4], "no price");
  else amount(tr.children[4], item.amount);
}

/** Two places on the page; the exact amount is in the title. */
function amount(cell, exact) {
  if (exact === undefined) {
    text(cell, "–");
    return;
  }
  text(cell, money(exact));
  attribute(cell, "title", exact);
  cell.classList.toggle("zero", Number(exact) === 0);
}

function foot(charges) {
  const parent = byId("charges-foot");
  if (!parent.firstChild) parent.append(h("tr", {}, h("th", { scope: "row", colspan: "3" }), ...HEADS.slice(2).map((label) => h("td", { class: "number", "data-label": label }))));
  const [name, yesterday, now] = parent.firstChild.children;
  const unpriced = charges?.unpriced ?? 0;
  text(name, unpriced ? `All workspaces (without ${unpriced} ${unpriced === 1 ? "line that has" : "lines that have"} no price)` : "All workspaces");
  amount(yesterday, charges?.up_to_yesterday);
  amount(now, charges?.up_to_now);
}
