// The wallet: what is in its pockets, what is owed, how that came about; and money that comes in.

import { accountPath, post } from "../api.js";
import { attribute, h, keyed, text } from "../dom.js";
import { clock, dayOf, shiftDay, shortDay } from "../days.js";
import { addDecimals, amountOf, money, signOf } from "../numbers.js";
import { button, dialog, field, newId, say } from "./parts.js";
import { entryWords, pocketName, priced, problemWords } from "./words.js";

const BUFFER_DAYS = 14;
const KINDS = { cash: "Cash", card: "Prepaid card, in hundreds", voucher: "Voucher", threshold: "Threshold voucher" };

export class WalletView {
  constructor(center) {
    this.center = center;
    this.owes = h("p", { class: "owes", role: "status", hidden: true });
    this.pockets = h("ul", { class: "pockets" });
    this.entries = h("ol", { class: "entries", "aria-label": "Entries, newest first" });
    this.none = h("div", { class: "empty" }, h("strong"), h("span"));
    this.add = button("Add funds", () => this.addFunds(), "main");
    this.add.id = "add-funds";
    this.element = h("div", { class: "stack" }, this.owes,
      h("section", { class: "card", "aria-labelledby": "wallet-title" },
        h("header", {}, h("div", {}, h("h2", { id: "wallet-title" }, "Balances"), h("p", {}, "Spent in this order: vouchers, prepaid cards, cash.")), this.add), this.pockets),
      h("section", { class: "card", "aria-labelledby": "entries-title" }, h("header", {}, h("div", {}, h("h2", { id: "entries-title" }, "Entries"))), this.entries, this.none));
  }

  render() {
    const { wallet, currency } = this.center.shop;
    this.add.hidden = !this.center.may;
    this.owes.hidden = !wallet.owes_since;
    if (wallet.owes_since) text(this.owes, `${priced(wallet.owes, currency)} ${wallet.locked ? `owed since ${shortDay(wallet.owes_since)}: the account is locked.` : `owed since ${shortDay(wallet.owes_since)}. It is locked on ${shortDay(shiftDay(wallet.owes_since, BUFFER_DAYS))} unless funds come in.`}`);
    const pockets = wallet.pockets.length ? wallet.pockets : [{ pocket: "cash", balance: "0", usable: "0" }];
    keyed(this.pockets, pockets, (p) => p.pocket, (p) => h("li", { "data-pocket": p.pocket }, h("span", { class: "name" }, pocketName(p.pocket)), h("strong", { class: "figure" }), h("small")), (node, p) => {
      text(node.querySelector("strong"), money(p.balance));
      attribute(node.querySelector("strong"), "title", p.balance);
      const over = signOf(p.usable) === 0 && signOf(p.balance) > 0;
      const terms = [p.expires && (over ? `ended ${shortDay(p.expires)}` : `until ${shortDay(p.expires)}`), p.threshold && `for charges from ${money(p.threshold)} on`];
      text(node.querySelector("small"), terms.filter(Boolean).join(", ") || currency);
      attribute(node, "data-over", String(over));
    });
    this.none.hidden = wallet.entries.length > 0;
    text(this.none.firstChild, wallet.unread ? "The entries cannot be read now" : "No money has moved yet");
    text(this.none.lastChild, wallet.unread ? "They are asked for again." : "What comes in, what packages cost and what a settled day is charged will be listed here.");
    keyed(this.entries, wallet.entries, (e) => e.id, (e) => this.#entry(e), () => {});
  }

  #entry(entry) {
    const { title, pockets, sum, reference } = entryWords(entry);
    const zone = this.center.zone;
    const when = Date.parse(entry.at);
    const day = shortDay(dayOf(when, zone));
    return h("li", { "data-reference": entry.reference },
      h("span", { class: "name" }, h("strong", {}, title), h("small", {}, [pockets, reference].filter(Boolean).join(" · "))),
      h("time", { datetime: entry.at, class: "figure" }, `${day}, ${clock(when, zone)}`),
      h("span", { class: `figure amount-of ${signOf(sum) > 0 ? "gain" : ""}`.trim(), title: sum }, `${signOf(sum) > 0 ? "+" : ""}${money(sum)}`));
  }

  /** Ask how much, and into which pocket. */
  addFunds() {
    const { center } = this;
    const id = newId("deposit");
    const kind = h("select", { id: "fund-kind" }, ...Object.entries(KINDS).map(([value, words]) => h("option", { value }, words)));
    const amount = h("input", { type: "text", inputmode: "decimal", id: "fund-amount", required: true, autocomplete: "off" });
    const name = h("input", { type: "text", id: "fund-name", maxlength: "64", autocomplete: "off" });
    const expires = h("input", { type: "date", id: "fund-expires", min: center.today });
    const threshold = h("input", { type: "text", inputmode: "decimal", id: "fund-threshold" });
    const named = h("div", { class: "field-row" }, field("Its number", name), field("Last day, if it ends", expires));
    const from = field("Usable for charges from", threshold, `In ${center.shop.currency}.`);
    const show = () => {
      named.hidden = kind.value === "cash";
      from.hidden = kind.value !== "threshold";
      name.required = kind.value !== "cash";
      threshold.required = kind.value === "threshold";
    };
    kind.addEventListener("change", show);
    show();
    dialog("Add funds", {
      label: "Add funds", wordsOf: problemWords,
      fill: (body) => {
        body.append(h("div", { class: "field-row" }, field("Into", kind), field(`Amount, ${center.shop.currency}`, amount)), named, from);
        setTimeout(() => amount.focus());
      },
      act: async () => {
        const pocket = kind.value === "cash" ? "cash" : `${kind.value}:${name.value.trim()}`;
        const document = { id, pocket, amount: amountOf(amount.value) ?? amount.value };
        if (kind.value !== "cash" && expires.value) document.expires = expires.value;
        if (kind.value === "threshold") document.threshold = amountOf(threshold.value) ?? threshold.value;
        await post(accountPath(center.account, "wallet/deposits"), center.key, document);
        await center.refresh();
        say("The money is in the wallet");
      },
    });
  }
}

/** What can be spent in all. */
export const inAll = (wallet) => addDecimals(["0", ...wallet.pockets.map((p) => p.usable)]);
