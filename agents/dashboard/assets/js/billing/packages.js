// The packages: contents, the days that are left, what is used today; upgrade, traffic, who shares them, end.

import { accountPath, post } from "../api.js";
import { attribute, h, keyed, text } from "../dom.js";
import { shortDay } from "../days.js";
import { fraction, grouped, percent, quantity, short } from "../numbers.js";
import { button, dialog, field, newId, say } from "./parts.js";
import { Sharing } from "./sharing.js";
import { priced, problemWords } from "./words.js";

export class Packages {
  constructor(center) {
    this.center = center;
    this.running = h("div", { class: "stack" });
    this.earlier = h("ul", { class: "earlier" });
    this.past = h("details", { class: "card past" }, h("summary", {}, "Earlier packages"), this.earlier);
    this.empty = h("div", { class: "card empty" }, h("strong", {}, "No package yet"), "All usage is pay as you go. ",
      h("p", { class: "actions middle" }, button("Buy a package", () => center.show("buy", true), "main")));
    this.element = h("div", { class: "stack" }, this.empty, this.running, this.past);
  }

  render() {
    const { packages } = this.center.shop;
    const alive = packages.filter((p) => p.state !== "ended");
    const plans = alive.filter((p) => p.kind === "plan");
    const orphans = alive.filter((p) => p.kind !== "plan" && !plans.some((plan) => plan.package === p.belongs_to));
    const groups = [...plans.map((plan) => [plan, ...alive.filter((p) => p.belongs_to === plan.package)]), ...orphans.map((p) => [p])];
    this.empty.hidden = groups.length > 0;
    keyed(this.running, groups, ([first]) => first.package, ([first]) => this.#card(first), (node, group) => this.#update(node, group));
    const over = packages.filter((p) => p.state === "ended");
    this.past.hidden = over.length === 0;
    keyed(this.earlier, over, (p) => p.package, () => h("li", {}, h("span", { class: "name" }, h("strong"), h("small")), h("span", { class: "muted figure" })), (node, p) => {
      text(node.querySelector("strong"), titleOf(p));
      text(node.querySelector("small"), p.package);
      text(node.lastChild, `${shortDay(p.effective)} to ${shortDay(p.expires)}`);
    });
  }

  #card(first) {
    return h("article", { class: "card owned", "data-package": first.package, "aria-label": titleOf(first) },
      h("header", {}, h("div", {}, h("h2", {}, titleOf(first)), h("p", { class: "terms" })), h("p", { class: "days" }, h("strong", { class: "figure" }), h("span"))),
      h("div", { class: "parts" }), h("footer", { class: "actions" }));
  }

  #update(node, [first, ...traffic]) {
    keyed(node.querySelector(".terms"), [first.package, `${shortDay(first.effective)} to ${shortDay(first.expires)}`, priced(first.price, first.currency)], (t) => t, (t) => h("span", {}, t), () => {});
    text(node.querySelector(".days strong"), grouped(first.days_left));
    text(node.querySelector(".days span"), `${first.days_left === 1 ? "day" : "days"} ${first.state === "upcoming" ? `from ${shortDay(first.effective)} on` : "left"}`);
    keyed(node.querySelector(".parts"), [first, ...traffic], (p) => p.package, (p) => this.#part(p, first), (part, p) => this.#contents(part, p, first));
    this.#actions(node.querySelector("footer"), first);
  }

  #part(p, first) {
    const head = p === first ? [] : [h("h3", {}, titleOf(p), h("small"), h("span", { class: "part-actions" }))];
    return h("section", { class: "part", "data-package": p.package }, ...head, h("ul", { class: "contents" }), h("div", { class: "who" }, h("h4"), h("ol", { class: "chips" })));
  }

  #contents(part, p, first) {
    keyed(part.querySelector(".contents"), p.quotas, (q) => q.meter, (q) => h("li", { "data-meter": q.meter }, h("span", { class: "name" }, q.meter_name),
      h("span", { class: "gauge", "aria-hidden": "true" }, h("span")), h("span", { class: "gauge-figures figure" }), h("span", { class: "gauge-part figure" })), (row, q) => {
      const [used, quota] = [quantity(q.used), quantity(q.quota)];
      row.querySelector(".gauge span").style.setProperty("--part", fraction(used, quota));
      attribute(row, "data-full", String(quota > 0n && used >= quota));
      text(row.querySelector(".gauge-figures"), `${short(used)} / ${short(quota)}`);
      attribute(row.querySelector(".gauge-figures"), "title", `${grouped(used)} of ${grouped(quota)} used today`);
      text(row.querySelector(".gauge-part"), percent(used, quota));
    });
    const same = p !== first && p.workspaces.join("\n") === first.workspaces.join("\n");
    text(part.querySelector("h4"), same ? "Shared as the plan is" : "Shared by, in this order");
    keyed(part.querySelector(".chips"), same ? [] : p.workspaces, (w) => w, (w) => h("li", {}, w), () => {});
    const actions = part.querySelector(".part-actions");
    if (!actions) return;
    text(part.querySelector("h3 small"), `${p.package}, ${priced(p.price, p.currency)}`);
    if (!actions.firstChild && this.center.may && p.changeable) actions.append(button("Workspaces", () => this.#share(p), "quiet"), button("End", () => this.#end(p), "quiet"));
  }

  #actions(footer, p) {
    footer.hidden = !this.center.may || !p.changeable;
    if (footer.firstChild || footer.hidden) return;
    const { center } = this;
    if (p.kind === "plan") {
      footer.append(button("Upgrade", () => center.buy("upgrade", p)), button("Add traffic", () => center.buy("traffic", p)));
    }
    footer.append(button("Workspaces", () => this.#share(p)), button("End", () => this.#end(p), "danger"));
  }

  #amend(p, document) {
    return post(accountPath(this.center.account, `packages/${encodeURIComponent(p.package)}/amendments`), this.center.key, document).then(() => this.center.refresh());
  }

  #share(p) {
    const { center } = this;
    const id = newId("amendment");
    const from = startField(center);
    let chosen = [...p.workspaces];
    dialog(`Workspaces of ${titleOf(p)}`, {
      label: "Save the order", wordsOf: problemWords,
      fill: (body, go) => {
        go.disabled = true;
        const sharing = new Sharing({ workspaces: center.shop.workspaces, chosen, upgrade: async (binding) => {
          await center.toCommercial(binding);
          sharing.setWorkspaces(center.shop.workspaces);
        }, changed: (names) => {
          chosen = names;
          go.disabled = names.length === 0 || names.join("\n") === p.workspaces.join("\n");
        } });
        body.append(h("p", { class: "lead" }, "The first is covered first. Days before keep what they had; the chosen day is drawn down anew."), sharing.element, from.element);
      },
      act: async () => {
        await this.#amend(p, { id, workspaces: chosen, effective: from.value() });
        say("The workspaces are changed");
      },
    });
  }

  #end(p) {
    const id = newId("amendment");
    const from = startField(this.center);
    const also = this.center.shop.packages.filter((t) => t.belongs_to === p.package && t.state !== "ended").length;
    dialog(`End ${titleOf(p)}?`, {
      label: "End the package", kind: "danger", wordsOf: problemWords,
      fill: (body) => body.append(h("p", {}, `From the chosen day on it covers nothing: usage of its ${p.workspaces.length === 1 ? "workspace" : `${p.workspaces.length} workspaces`} is pay as you go. Nothing is paid back.`),
        ...(also ? [h("p", {}, `${also === 1 ? "Its traffic package ends" : `Its ${also} traffic packages end`} with it.`)] : []), from.element),
      act: async () => {
        await this.#amend(p, { id, end: true, effective: from.value() });
        say("The package has ended");
      },
    });
  }
}

/** The day that a change counts from. */
function startField(center) {
  const input = h("input", { type: "date", value: center.today, min: center.today });
  return { element: field("From", input), value: () => input.value || center.today };
}

const titleOf = (p) => (p.kind === "plan" ? (p.plan_name ?? "Plan") : `Traffic: ${p.quotas.map((q) => q.meter_name).join(", ")}`);
