// Buying in steps: plan, traffic packages, workspaces in order, confirm, pay, done. An upgrade and traffic for a plan are a part of it.

import { accountPath, post } from "../api.js";
import { attribute, byId, h, icon, text } from "../dom.js";
import { shortDay } from "../days.js";
import { addDecimals, grouped, minus, money, quantity, signOf } from "../numbers.js";
import { button, faultList, field, newId, say, showFaults } from "./parts.js";
import { Sharing } from "./sharing.js";
import { orderLines, payStep, planStep, suggested, trafficStep } from "./steps.js";
import { priced, problemWords } from "./words.js";

const STEPS = {
  plan: "Choose a plan",
  traffic: "Traffic packages",
  workspaces: "Workspaces in order",
  confirm: "Confirm",
  pay: "Pay",
  done: "Done",
};
const MODES = {
  new: { title: "Buy a package", steps: ["plan", "traffic", "workspaces", "confirm", "pay", "done"] },
  upgrade: { title: "Upgrade a plan", steps: ["plan", "confirm", "pay", "done"] },
  traffic: { title: "Add traffic packages", steps: ["traffic", "confirm", "pay", "done"] },
};
const QUOTE_AFTER_MS = 150;
/** Faults that only say what has not been chosen yet. */
const LATER = { nothing_ordered: "confirm", no_workspaces: "workspaces" };

export class Buy {
  constructor(center) {
    this.center = center;
    this.element = h("div", { class: "buy" });
    this.begin();
  }

  /** Begin anew: a purchase, or for a plan package its upgrade, or traffic. */
  begin(mode = "new", of = null) {
    this.mode = mode;
    this.draft = { id: newId("order"), plan: null, traffic: {}, workspaces: [], payment: {}, effective: null, package: of?.package ?? null, replaces: mode === "upgrade" ? of.plan : null };
    this.of = of;
    this.quote = null;
    this.seen = 0;
    this.asked = 0;
    this.step = MODES[mode].steps[0];
    this.#frame();
    this.#show();
    this.#ask();
  }

  get steps() {
    return MODES[this.mode].steps;
  }

  #frame() {
    this.trail = h("ol", { class: "trail", "aria-label": "Steps" });
    this.body = h("div", { class: "step-body" });
    this.title = h("h2", { tabindex: "-1", id: "buy-title" });
    this.faults = faultList();
    this.back = button("Back", () => this.#go(-1));
    this.next = button("Continue", () => this.#forward(), "main");
    this.next.id = "buy-next";
    this.total = h("strong", { class: "figure", id: "buy-total" });
    this.lines = h("ul", { class: "order-lines" });
    this.warnings = faultList();
    this.start = h("input", { type: "date", id: "buy-start" });
    this.start.addEventListener("change", () => this.#changed({ effective: this.start.value || null }));
    this.summary = h("aside", { class: "card summary", "aria-label": "Your order" },
      h("h3", {}, "Your order"), this.lines, field("Covers from", this.start, "The whole day counts, from its midnight on."),
      h("p", { class: "total" }, h("span", {}, "Price"), this.total), this.warnings);
    this.element.replaceChildren(this.trail, h("div", { class: "buy-columns" },
      h("section", { class: "card step", "aria-labelledby": "buy-title" }, h("header", {}, this.title), this.body, this.faults,
        h("footer", {}, this.back, this.next)), this.summary));
  }

  #show() {
    const place = this.steps.indexOf(this.step);
    this.seen = Math.max(this.seen, place);
    const done = this.step === "done";
    this.trail.replaceChildren(...this.steps.map((step, i) => h("li", { "aria-current": step === this.step ? "step" : null, "data-done": String(i < place || done) },
      h("span", { class: "number-of" }, String(i + 1)), h("span", {}, STEPS[step]))));
    text(this.title, place === 0 && this.of ? `${MODES[this.mode].title}: ${this.of.package}` : STEPS[this.step]);
    const body = this[`_${this.step}`]();
    this.body.replaceChildren(body);
    this.back.hidden = place === 0 || done;
    this.summary.hidden = done;
    this.next.hidden = done;
    showFaults(this.faults, []);
    this.#summarize();
  }

  _plan() {
    return planStep(this.center, this.draft, (change) => this.#changed(change));
  }

  _traffic() {
    return trafficStep(this.center, this.draft, (change) => this.#changed(change));
  }

  _workspaces() {
    const { center, draft } = this;
    this.sharing = new Sharing({ workspaces: center.shop.workspaces, chosen: draft.workspaces, changed: (workspaces) => this.#changed({ workspaces }),
      upgrade: async (binding) => {
        await center.toCommercial(binding);
        this.sharing.setWorkspaces(center.shop.workspaces);
      } });
    return h("div", {}, h("p", { class: "lead" }, "The first is covered first; what it leaves goes on to the next. What nobody is covered for is charged as overage."), this.sharing.element);
  }

  _confirm() {
    const list = h("ul", { class: "order-lines whole" });
    this.whole = list;
    const who = this.draft.workspaces.length ? this.draft.workspaces : (this.of?.workspaces ?? []);
    return h("div", {}, h("p", { class: "lead" }, "Check your order. Nothing is paid yet."), list,
      h("h4", {}, "Shared by, in this order"), h("ol", { class: "chips" }, ...who.map((w) => h("li", {}, w))));
  }

  _pay() {
    if (!Object.keys(this.draft.payment).length) {
      this.draft.payment = suggested(this.center.shop.wallet.pockets, this.quote.price);
      this.#ask();
    }
    return payStep(this.center, this.draft, this.quote.price, (change) => this.#changed(change));
  }

  _done() {
    const [made] = this.outcome.packages.filter((p) => p.order === this.outcome.id);
    const again = button("Buy another", () => this.begin());
    const see = button("See packages", () => this.center.show("packages", true), "main");
    see.id = "buy-see";
    return h("div", { class: "done" }, h("span", { class: "tick" }, icon("i-tick")), h("p", { class: "done-words" }, "It is yours."),
      h("p", { class: "muted" }, `${this.outcome.id}: ${priced(this.paid, this.center.shop.currency)}, covers ${shortDay(made.effective)} to ${shortDay(made.expires)}.`), h("p", { class: "actions" }, see, again));
  }

  #changed(change) {
    Object.assign(this.draft, change);
    showFaults(this.faults, []);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#ask(), QUOTE_AFTER_MS);
    this.element.setAttribute("aria-busy", "true");
    this.#summarize();
  }

  /** What the API is told of; the price only when it is placed. */
  #document() {
    const { plan, traffic, workspaces, effective, payment, id, package: of } = this.draft;
    const day = effective ?? this.center.today;
    return { id, traffic, payment, effective: day, ...(plan && { plan }), ...(of ? { package: of } : { workspaces }) };
  }

  async #ask() {
    this.asked += 1;
    const { asked } = this;
    try {
      const quote = await post(accountPath(this.center.account, "orders/quote"), this.center.key, this.#document());
      if (asked !== this.asked) return;
      this.quote = quote;
      this.problem = null;
    } catch (problem) {
      if (asked !== this.asked) return;
      if (!("status" in problem)) throw problem;
      this.problem = problem;
    }
    this.element.setAttribute("aria-busy", "false");
    this.#summarize();
  }

  /** The price and everything that is wrong, as last quoted. */
  #summarize() {
    const { quote, draft, center } = this;
    if (!this.start.value) this.start.value = draft.effective ?? center.today;
    attribute(this.start, "min", center.today);
    const made = (quote?.packages ?? []).filter((p) => p.order === draft.id);
    const lines = this.#linesOf(made);
    orderLines(this.lines, lines);
    if (this.whole) orderLines(this.whole, [...lines, { key: "total", title: "Price", amount: priced(quote?.price ?? "0", center.shop.currency) }]);
    const busy = this.element.getAttribute("aria-busy") === "true";
    text(this.total, quote && (!busy || signOf(quote.price)) ? priced(quote.price, center.shop.currency) : "–");
    const far = (fault) => !LATER[fault.code] || this.seen >= this.steps.indexOf(LATER[fault.code]);
    const shown = this.problem ? problemWords(this.problem) : (quote?.faults ?? []).filter(far);
    showFaults(this.warnings, shown);
    const faulty = Boolean(this.problem) || (quote?.faults.length ?? 1) > 0;
    this.next.disabled = { plan: !draft.plan, traffic: this.mode === "traffic" && !Object.keys(draft.traffic).length, workspaces: !draft.workspaces.length, confirm: busy || faulty, pay: busy || faulty || !this.#paid() }[this.step] ?? false;
    text(this.next, { confirm: "Confirm and pay", pay: `Pay ${money(quote?.price ?? "0")} ${center.shop.currency}` }[this.step] ?? "Continue");
  }

  #paid() {
    return this.quote && signOf(minus(this.quote.price, addDecimals(["0", ...Object.values(this.draft.payment)]))) === 0;
  }

  #linesOf(made) {
    const { center, draft } = this;
    const traffic = made.filter((p) => p.kind === "traffic");
    const beside = addDecimals(["0", ...traffic.map((p) => p.price)]);
    const plan = center.catalog.plans.find((p) => p.plan === draft.plan);
    const lines = plan ? [{ key: "plan", title: plan.name, note: this.of ? `upgrade of ${this.of.package}` : `${plan.term_days} days`, amount: money(this.quote && made.length ? minus(this.quote.price, beside) : this.of ? "0" : plan.price) }] : [];
    for (const p of traffic) {
      const [[meter, quota]] = Object.entries(p.quotas);
      lines.push({ key: p.package, title: `Traffic: ${center.meters.get(meter)?.name ?? meter}`, note: `${grouped(quantity(quota))} a day`, amount: money(p.price) });
    }
    if (draft.workspaces.length) lines.push({ key: "who", title: `${draft.workspaces.length} ${draft.workspaces.length === 1 ? "workspace" : "workspaces"}`, note: draft.workspaces.slice(0, 4).join(" → ") + (draft.workspaces.length > 4 ? " → …" : "") });
    return lines.length ? lines : [{ key: "none", title: "Nothing chosen yet" }];
  }

  async #forward() {
    if (this.step !== "pay") {
      this.#go(1);
      return;
    }
    this.next.disabled = true;
    text(this.next, "Paying…");
    try {
      const wanted = { ...this.#document(), price: this.quote.price };
      // Should the answer be lost, the same order again is the same one, also after midnight.
      this.draft.effective = wanted.effective;
      this.outcome = await post(accountPath(this.center.account, "orders"), this.center.key, wanted);
      this.paid = wanted.price;
      this.#go(1);
      say("The order is placed");
      this.center.refresh().catch((error) => this.center.failed(error));
    } catch (problem) {
      if (!("status" in problem)) throw problem;
      showFaults(this.faults, problemWords(problem));
      this.#summarize();
    }
  }

  #go(by) {
    this.step = this.steps[this.steps.indexOf(this.step) + by];
    this.whole = null;
    this.#show();
    this.title.focus({ preventScroll: true });
    byId("billing").scrollIntoView({ block: "start" });
  }

  /** Money came in, or workspaces changed: what is shown of them is drawn again. */
  refreshed() {
    if (this.step === "pay") {
      this.draft.payment = {};
      this.#show();
    }
  }
}
