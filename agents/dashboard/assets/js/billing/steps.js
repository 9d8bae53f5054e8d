// The choices of a purchase: a plan, traffic packages, and how it is paid.

import { attribute, h, keyed, text } from "../dom.js";
import { shortDay } from "../days.js";
import { addDecimals, amountOf, dividedBy, grouped, minus, money, quantity, ratio, short, signOf } from "../numbers.js";
import { button, field, iconButton } from "./parts.js";
import { pocketName, priced } from "./words.js";

/** Cards of the plans, as radio buttons. `least`: only plans that cost more than this one (an upgrade). */
export function planStep(center, draft, changed) {
  const { catalog, meters, shop } = center;
  const old = catalog.plans.find((p) => p.plan === draft.replaces);
  const plans = catalog.plans.filter((p) => p.currency === shop.currency && (!old || signOf(minus(p.price, old.price)) > 0));
  const cards = plans.map((plan) => {
    const input = h("input", { type: "radio", name: "plan", value: plan.plan });
    input.checked = draft.plan === plan.plan;
    input.addEventListener("change", () => changed({ plan: plan.plan }));
    const quotas = Object.entries(plan.quotas).map(([meter, quota]) =>
      h("li", {}, h("strong", { class: "figure", title: grouped(quantity(quota)) }, short(quantity(quota))), ` ${meters.get(meter)?.name ?? meter}`));
    return h("label", { class: "plan", "data-plan": plan.plan }, input,
      h("span", { class: "plan-name" }, plan.name),
      h("span", { class: "plan-price figure" }, money(plan.price), h("small", {}, ` ${plan.currency} for ${plan.term_days} days`)),
      h("span", { class: "plan-note" }, `${money(dividedBy(plan.price, plan.term_days))} a day, ${ratio(plan.price, plan.payg_price)} of pay as you go`),
      h("ul", { class: "plan-quotas", "aria-label": "Quotas a day" }, ...quotas));
  });
  if (!plans.length) return h("p", { class: "hollow" }, old ? "This is the largest plan." : `No plan is sold in ${shop.currency}.`);
  const legend = old ? "Choose the larger plan. It keeps the term; you pay the difference for the days that are left." : "Choose a plan. Its quotas are for each day, shared by the workspaces that you choose.";
  return h("fieldset", { class: "plans" }, h("legend", {}, legend), ...cards);
}

/** How many of each traffic package. */
export function trafficStep(center, draft, changed) {
  const { catalog, meters, shop } = center;
  const items = catalog.traffic.filter((t) => t.currency === shop.currency);
  const rows = items.map((item) => {
    const meter = meters.get(item.meter);
    const count = h("input", { type: "text", inputmode: "numeric", class: "count", "aria-label": `${meter.name}: how many`, maxlength: "7" });
    const sum = h("span", { class: "traffic-sum figure" });
    const show = () => {
      const multiples = BigInt(draft.traffic[item.traffic] ?? 0);
      if (document.activeElement !== count) count.value = String(multiples);
      text(sum, multiples ? `${short(quantity(item.quota) * multiples)} a day` : "");
    };
    const set = (multiples) => {
      const traffic = { ...draft.traffic, [item.traffic]: Math.max(0, multiples) };
      if (!traffic[item.traffic]) delete traffic[item.traffic];
      changed({ traffic });
      show();
    };
    count.addEventListener("input", () => set(Number(/^\d+$/.test(count.value) ? count.value : 0)));
    count.addEventListener("blur", show);
    count.addEventListener("focus", () => count.select());
    const step = (by) => set((draft.traffic[item.traffic] ?? 0) + by);
    show();
    const [least, rate] = Object.entries(item.rates ?? {})[0] ?? [];
    const note = `${grouped(quantity(item.quota))} a day for ${priced(item.price, item.currency)} a day`;
    return h("li", { "data-traffic": item.traffic },
      h("span", { class: "name" }, h("strong", {}, meter.name), h("small", {}, note + (least ? `; from ${least} on you pay ${ratio(rate, "1")}` : ""))),
      sum, h("span", { class: "counter" }, iconButton("i-minus", `Fewer ${meter.name}`, () => step(-1)), count, iconButton("i-plus", `More ${meter.name}`, () => step(1))));
  });
  return h("div", {}, h("p", { class: "lead" }, "Traffic packages add to one meter, for as long as the plan lasts. You may leave this out."), h("ul", { class: "traffic" }, ...rows));
}

/** What may be spent on an order of that price: usable, and no threshold above it. */
const spendable = (pockets, price) => pockets.filter((p) => signOf(p.usable) > 0 && !(p.threshold && signOf(minus(p.threshold, price)) > 0));

/** Cash first, then cards, then vouchers, until the price is paid or all is used. */
export function suggested(pockets, price) {
  let left = price;
  const payment = {};
  for (const pocket of spendable(pockets, price)) {
    if (signOf(left) <= 0) break;
    const part = signOf(minus(left, pocket.usable)) > 0 ? pocket.usable : left;
    payment[pocket.pocket] = part;
    left = minus(left, part);
  }
  return payment;
}

/** An amount for each pocket; any combination that adds up to the price. */
export function payStep(center, draft, price, changed) {
  const { shop } = center;
  const left = h("strong", { class: "figure", id: "pay-left" });
  const inputs = new Map();
  const remaining = () => minus(price, addDecimals(["0", ...Object.values(draft.payment)]));
  const show = () => {
    const rest = remaining();
    text(left, signOf(rest) < 0 ? `${priced(rest.slice(1), shop.currency)} too much` : priced(rest, shop.currency));
    attribute(left, "data-paid", String(signOf(rest) === 0));
  };
  const set = (pocket, amount) => {
    const payment = { ...draft.payment };
    if (amount && signOf(amount) > 0) payment[pocket] = amount;
    else delete payment[pocket];
    changed({ payment });
    show();
  };
  const rows = shop.wallet.pockets.map((p) => {
    const input = h("input", { type: "text", inputmode: "decimal", class: "amount", "data-pocket": p.pocket });
    input.value = draft.payment[p.pocket] ? money(draft.payment[p.pocket]) : "";
    inputs.set(p.pocket, input);
    input.addEventListener("input", () => {
      const amount = input.value.trim() === "" ? "0" : amountOf(input.value);
      attribute(input, "aria-invalid", amount === null ? "true" : null);
      set(p.pocket, amount);
    });
    const fill = () => {
      const rest = addDecimals([remaining(), draft.payment[p.pocket] ?? "0"]);
      const part = signOf(minus(rest, p.usable)) > 0 ? p.usable : rest;
      input.value = signOf(part) > 0 ? money(part) : "";
      attribute(input, "aria-invalid", null);
      set(p.pocket, part);
    };
    const terms = [`${priced(p.usable, shop.currency)} to spend`, p.expires && `until ${shortDay(p.expires)}`, p.threshold && `from ${money(p.threshold)} on`];
    const control = field(pocketName(p.pocket), input, terms.filter(Boolean).join(", "));
    control.append(button("Use it for the rest", fill, "quiet"));
    return h("li", {}, control);
  });
  show();
  const funds = button("Add funds", () => center.addFunds(), "small");
  return h("div", {}, h("p", { class: "lead" }, "Pay with any combination of cash, prepaid cards and vouchers."), h("ul", { class: "pockets-to-pay" }, ...rows),
    h("p", { class: "pay-left" }, "Left to pay ", left, " ", funds));
}

/** The order as a list: what it makes and costs. */
export function orderLines(parent, lines) {
  keyed(parent, lines, (l) => l.key, () => h("li", {}, h("span", { class: "name" }, h("strong"), h("small")), h("span", { class: "figure" })), (node, l) => {
    text(node.querySelector("strong"), l.title);
    text(node.querySelector("small"), l.note ?? "");
    text(node.lastChild, l.amount ?? "");
  });
}
