// Statements: a month's settled days, each line of a day with where it comes from, its revisions, and the month as CSV.

import { accountPath, download, get } from "../api.js";
import { attribute, h, keyed, text } from "../dom.js";
import { clock, dayOf, longDay, shortDay } from "../days.js";
import { addDecimals, grouped, minus, money, quantity, signOf } from "../numbers.js";
import { button, iconButton, say } from "./parts.js";
import { priced } from "./words.js";

const HEADS = ["Quantity", "Units", "Price", "Amount"];

const shiftMonth = (month, by) => {
  const [year, number] = month.split("-").map(Number);
  return new Date(Date.UTC(year, number - 1 + by, 1)).toISOString().slice(0, 7);
};
const monthName = (month) => new Intl.DateTimeFormat("en-GB", { month: "long", year: "numeric", timeZone: "UTC" }).format(Date.parse(`${month}-01T00:00:00Z`));

export class Statements {
  constructor(center) {
    this.center = center;
    this.title = h("h2", { id: "month-title" });
    this.sum = h("p", { class: "month-sum figure" });
    this.later = iconButton("i-right", "Month after", () => this.open(shiftMonth(this.month, 1)));
    this.csv = button("Download CSV", () => this.#download());
    this.csv.id = "download-csv";
    this.days = h("div", { class: "statement-days" });
    this.empty = h("div", { class: "empty" }, h("strong", {}, "No day of this month is settled yet"), "A day is settled an hour after its midnight; then its statement is here.");
    this.element = h("section", { class: "card", "aria-labelledby": "month-title" },
      h("header", {}, h("div", {}, this.title, this.sum), h("div", { class: "actions" },
        h("div", { class: "stepper", role: "group", "aria-label": "Month" }, iconButton("i-left", "Month before", () => this.open(shiftMonth(this.month, -1))), this.later), this.csv)),
      this.days, this.empty);
  }

  render() {
    this.month ??= this.center.today.slice(0, 7);
    this.open(this.month);
  }

  reset() {
    this.month = null;
    keyed(this.days, [], (d) => d, () => {}, () => {});
  }

  async open(month) {
    const { center } = this;
    this.month = month;
    text(this.title, monthName(month));
    this.later.disabled = month >= center.today.slice(0, 7);
    let answer;
    try {
      answer = await get(accountPath(center.account, `statements?month=${month}`), center.key, center.signal);
    } catch (error) {
      center.failed(error);
      return;
    }
    if (this.month !== month || answer.account !== center.account) return;
    const { days } = answer;
    text(this.sum, days.length ? `${priced(answer.amount, answer.currency)} for ${days.length} settled ${days.length === 1 ? "day" : "days"}` : "Nothing to pay yet");
    attribute(this.sum, "title", answer.amount);
    this.csv.disabled = days.length === 0;
    this.empty.hidden = days.length > 0;
    keyed(this.days, [...days].reverse(), (d) => d.day, (d) => this.#day(d), (node, d) => this.#update(node, d));
  }

  #day({ day }) {
    const node = h("details", { class: "statement-day", "data-day": day },
      h("summary", {}, h("span", { class: "name" }, h("strong", {}, longDay(day).replace(/ \d+$/, "")), h("small")), h("span", { class: "figure amount-of" })), h("div", { class: "statement-lines" }));
    node.addEventListener("toggle", () => node.open && this.#load(node, day));
    return node;
  }

  #update(node, d) {
    text(node.querySelector("small"), `${d.lines} ${d.lines === 1 ? "line" : "lines"}${d.revision > 1 ? `, revision ${d.revision}` : ""}`);
    text(node.querySelector("summary .amount-of"), priced(d.amount, d.currency));
    node.dataset.newest = d.revision;
    if (node.open && node.dataset.shown !== node.dataset.newest) this.#load(node, d.day);
  }

  async #load(node, day) {
    const { center } = this;
    node.dataset.shown = node.dataset.newest; // on its way: asked for twice, the second answer would undo what was chosen in the first
    try {
      const { statements } = await get(accountPath(center.account, `statements/${day}/revisions`), center.key, center.signal);
      node.dataset.shown = statements[0].revision;
      this.#lines(node.querySelector(".statement-lines"), statements, 0);
    } catch (error) {
      delete node.dataset.shown;
      center.failed(error);
    }
  }

  #lines(parent, statements, chosen) {
    const { center } = this;
    const statement = statements[chosen];
    const when = Date.parse(statement.at);
    const said = `Revision ${statement.revision}, stated ${shortDay(dayOf(when, center.zone))}, ${clock(when, center.zone)}`;
    const before = statements.find((s) => s.revision === statement.replaces);
    const change = before ? minus(statement.amount, before.amount) : null;
    const differs = change === null ? "" : `; ${signOf(change) < 0 ? "" : "+"}${money(change)} against revision ${before.revision}`;
    const pick = statements.length < 2 ? [] : [h("div", { class: "segments", role: "group", "aria-label": "Revision" },
      ...statements.map((s, i) => {
        const one = button(`Revision ${s.revision}`, () => this.#lines(parent, statements, i));
        attribute(one, "class", null);
        attribute(one, "aria-pressed", String(i === chosen));
        return one;
      }).reverse())];
    parent.replaceChildren(h("div", { class: "revision" }, h("p", { class: "muted" }, said + differs), ...pick), this.#table(statement));
  }

  #table(statement) {
    const names = new Map(this.center.shop.workspaces.map((w) => [w.workspace, w.name]));
    if (!statement.lines.length) return h("p", { class: "hollow" }, "The packages covered everything: nothing is charged.");
    const rows = statement.lines.map((l) => {
      const meter = this.center.meters.get(l.meter);
      const basis = l.basis === "package" ? "over the packages" : `pay as you go${l.retention_days ? `, ${l.retention_days} d kept` : ""}`;
      const size = meter ? ` per ${grouped(quantity(meter.unit_size))}` : "";
      const cells = [grouped(quantity(l.quantity)), money(l.units), l.price === null ? "no price" : l.price + size, l.amount === null ? "–" : money(l.amount)];
      return h("tr", {}, h("th", { scope: "row", class: "name" }, h("strong", {}, l.workspace), h("small", {}, [names.get(l.workspace), `${meter?.name ?? l.meter}, ${basis}`].filter(Boolean).join(" · "))),
        ...cells.map((cell, i) => h("td", { class: "number", "data-label": HEADS[i], title: i === 3 && l.amount !== null ? l.amount : null }, cell)));
    });
    const exact = addDecimals(["0", ...statement.lines.map((l) => l.amount ?? "0")]);
    return h("div", { class: "table-scroll", tabindex: "0", role: "region", "aria-label": "Lines of the statement" }, h("table", { class: "lines" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Workspace, meter"), ...HEADS.map((t) => h("th", { scope: "col", class: "number" }, t)))),
      h("tbody", {}, ...rows),
      h("tfoot", {}, h("tr", {}, h("th", { scope: "row", colspan: "4" }, "Payable"), h("td", { class: "number", title: exact }, money(statement.amount))))));
  }

  async #download() {
    const { center } = this;
    try {
      await download(accountPath(center.account, `statements.csv?month=${this.month}`), center.key, `${center.account}-${this.month}.csv`.replace(/[^\w.-]+/g, "_"));
      say("The file is saved");
    } catch (error) {
      center.failed(error);
    }
  }
}
