// The packages: each quota as a bar that fills, split by workspace in draw-down order, what overflows beside it.

import { attribute, h, keyed, text } from "./dom.js";
import { shortDay } from "./days.js";
import { fraction, grouped, percent, short } from "./numbers.js";

const SHARE_HEADS = ["Demand", "Covered", "Passed on", "Overage"];
const SHOWN_SHARES = 8;
/** Overage is drawn to the scale of the quota up to this part of the bar; beyond, its end fades out. */
const OVER_MAX = 0.4;
const THIN = 0.02;
const NEAR = 800n;

let panels = 0;

const sum = (values) => values.reduce((total, value) => total + value, 0n);
const idOf = (row) => `${row.meter}/${row.package}`;

/** How full: "over" (exhausted, with overage), "full", "near" (80 % and more), "free". */
export function level(row, over) {
  if (over > 0n) return "over";
  if (row.remaining === 0n && row.used > 0n) return "full";
  return row.quota > 0n && row.used * 1000n >= row.quota * NEAR ? "near" : "free";
}

export class Quotas {
  /** `onSelect(id)`: another quota is the open one; `redraw()`: please render again. */
  constructor(parent, onSelect, redraw) {
    Object.assign(this, { parent, onSelect, redraw, selected: null, whole: new Set() });
    parent.addEventListener("keydown", (event) => this.#walk(event));
  }

  render(model, plans) {
    if (!model.bounds) {
      keyed(this.parent, ["\nloading"], (key) => key, loading, () => {});
      return;
    }
    const groups = model.byPackage();
    if (!groups.some((g) => g.rows.some((r) => idOf(r) === this.selected))) this.select(mostUsed(groups));
    const cards = groups.length ? groups : [{ empty: true }];
    keyed(this.parent, cards, (g) => g.package ?? "\nempty", (g) => (g.empty ? nothing() : card(g.package)), (node, g) => {
      if (!g.empty) this.#card(node, g, model, plans);
    });
  }

  select(id) {
    if (!id || id === this.selected) return;
    this.selected = id;
    this.onSelect(id);
  }

  #card(node, group, model, plans) {
    const [row] = group.rows;
    const terms = [row.kind === "plan" ? (plans.get(row.plan) ?? "Plan") : "Traffic package"];
    const count = (model.packages.get(group.package)?.workspaces ?? row.shares).length;
    terms.push(`${count} ${count === 1 ? "workspace" : "workspaces"}`);
    if (row.expires) terms.push(`until ${shortDay(row.expires)}`);
    const list = node.querySelector(".terms");
    keyed(list, terms, (t) => t, (t) => h("span", {}, t), () => {});
    keyed(node.querySelector(".quotas"), group.rows, idOf, (r) => this.#quota(r), (item, r) => this.#update(item, r, model));
  }

  #quota(row) {
    panels += 1;
    const id = `shares-${panels}`;
    const item = h("div", { class: "quota", "data-quota": idOf(row) },
      h("button", { type: "button", class: "quota-head", "aria-controls": id },
        h("span", { class: "quota-name" }, row.meter_name ?? row.meter),
        h("span", { class: "bar-whole", "aria-hidden": "true" }, h("span", { class: "bar-quota" }), h("span", { class: "bar-over", hidden: true })),
        h("span", { class: "quota-used figure" }, h("span", { class: "used" }), h("span", { class: "of" })),
        h("span", { class: "quota-percent figure" })),
      h("div", { class: "shares", id, hidden: true }));
    item.firstChild.addEventListener("click", () => {
      this.select(idOf(row));
      this.redraw();
    });
    return item;
  }

  #update(item, row, model) {
    const shares = model.shares(row);
    const over = sum(shares.map((s) => s.over));
    const open = this.selected === idOf(row);
    const head = item.firstChild;
    const exact = `${grouped(row.used)} of ${grouped(row.quota)}`;
    attribute(item, "data-open", open);
    attribute(item, "data-level", level(row, over));
    attribute(head, "aria-expanded", String(open));
    attribute(head, "aria-label", `${row.meter_name ?? row.meter}: ${exact} used, ${percent(row.used, row.quota)}${over ? `, overage ${grouped(over)}` : ""}`);
    text(head.querySelector(".used"), short(row.used));
    text(head.querySelector(".of"), ` / ${short(row.quota)}`);
    attribute(head.querySelector(".quota-used"), "title", exact);
    text(head.querySelector(".quota-percent"), percent(row.used, row.quota));
    bar(head.querySelector(".bar-whole"), row, shares, over);
    const panel = item.lastChild;
    panel.hidden = !open;
    if (open) this.#shares(panel, row, shares);
  }

  #shares(panel, row, shares) {
    if (!panel.firstChild) {
      const heads = SHARE_HEADS.map((t) => h("th", { scope: "col", class: "number" }, t));
      panel.append(
        h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Workspaces, in draw-down order"), ...heads)), h("tbody")),
        h("p", { class: "more" }, h("button", { type: "button", class: "quiet" })));
      panel.querySelector(".quiet").addEventListener("click", () => {
        if (!this.whole.delete(this.selected)) this.whole.add(this.selected);
        this.redraw();
      });
    }
    const whole = this.whole.has(idOf(row));
    const passes = shares.some((s) => s.passed > 0n);
    attribute(panel, "data-passes", String(passes));
    panel.querySelector("th:nth-child(4)").hidden = !passes;
    const rows = shares.map((s, place) => ({ ...s, depth: depth(place, shares.length) }));
    keyed(panel.querySelector("tbody"), whole ? rows : rows.slice(0, SHOWN_SHARES), (s) => s.workspace, shareRow, (tr, s) => {
      tr.querySelector(".swatch").style.setProperty("--depth", s.depth);
      attribute(tr, "data-covered", s.covered > 0n ? "some" : "none");
      const cells = [s.demand, s.covered, s.passed, s.over];
      cells.forEach((value, i) => {
        const td = tr.children[i + 1];
        text(td, grouped(value));
        td.classList.toggle("zero", value === 0n);
        td.classList.toggle("over-ink", i === 3 && value > 0n);
      });
      tr.children[3].hidden = !passes;
    });
    const more = panel.querySelector(".more");
    more.hidden = shares.length <= SHOWN_SHARES;
    text(more.firstChild, whole ? "Show fewer" : `Show all ${shares.length} workspaces`);
  }

  #walk(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !event.target.matches(".quota-head")) return;
    const heads = [...this.parent.querySelectorAll(".quota-head")];
    const next = heads[heads.indexOf(event.target) + step];
    if (!next) return;
    event.preventDefault();
    next.focus();
  }
}

/** Where in the colour ramp a workspace stands: 0 is drawn down first. */
const depth = (place, count) => (count < 2 ? 0 : place / (count - 1));

function shareRow(share) {
  const numbers = SHARE_HEADS.map((label) => h("td", { class: "number", "data-label": label }));
  return h("tr", {}, h("td", { class: "name" }, h("span", { class: "swatch" }), share.workspace), ...numbers);
}

function bar(whole, row, shares, over) {
  const [track, beside] = whole.children;
  const filled = shares.map((s, place) => ({ ...s, place })).filter((s) => s.covered > 0n);
  keyed(track, filled, (s) => s.workspace, () => h("span", { class: "share" }), (node, s) => {
    const part = fraction(s.covered, row.quota);
    node.style.setProperty("--part", part);
    node.style.setProperty("--depth", depth(s.place, shares.length));
    attribute(node, "data-thin", String(part < THIN));
    attribute(node, "title", `${s.workspace}: ${grouped(s.covered)}`);
  });
  const part = fraction(over, row.quota + over);
  beside.hidden = over === 0n;
  beside.style.setProperty("--part", Math.min(Math.max(part, 0.012), OVER_MAX));
  attribute(beside, "data-cut", String(part > OVER_MAX));
  attribute(beside, "title", `Overage: ${grouped(over)}`);
}

function card(name) {
  return h("article", { class: "card package", "aria-label": `Package ${name}` },
    h("header", {}, h("h2", {}, name), h("p", { class: "terms" })), h("div", { class: "quotas" }));
}

function loading() {
  const bars = Array.from({ length: 4 }, () => h("div", { class: "ghost" }));
  return h("article", { class: "card loading", role: "status" }, h("span", { class: "hidden-text" }, "Loading"), ...bars);
}

function nothing() {
  return h("article", { class: "card empty" }, h("strong", {}, "No package covers this day"),
    "All usage is pay as you go; it is in the table below.");
}

function mostUsed(groups) {
  const rows = groups.flatMap((g) => g.rows);
  const first = rows.reduce((best, row) => (best && row.used * best.quota <= best.used * row.quota ? best : row), null);
  return first && idOf(first);
}
