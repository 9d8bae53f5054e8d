// Who shares a package, in draw-down order: dragged by the handle, or moved with buttons.

import { attribute, h, icon, keyed, text } from "../dom.js";
import { button, iconButton, say } from "./parts.js";

const SEARCH_FROM = 8;

export class Sharing {
  /** `workspaces`: bindings of the account; `chosen`: names in order; `changed(names)`; `upgrade(binding)`: to Commercial. */
  constructor({ workspaces, chosen, changed, upgrade }) {
    Object.assign(this, { workspaces, chosen: [...chosen], changed, upgrade, search: "" });
    this.list = h("ol", { class: "sharing", "aria-label": "Workspaces that share it, in draw-down order" });
    this.others = h("ul", { class: "others", "aria-label": "Other workspaces of the account" });
    this.none = h("p", { class: "hollow" }, "Nobody yet. Add the workspace that is covered first.");
    const find = h("input", { type: "search", placeholder: "Find a workspace", "aria-label": "Find a workspace" });
    find.addEventListener("input", () => {
      this.search = find.value.trim().toLowerCase();
      this.#draw();
    });
    find.hidden = workspaces.length < SEARCH_FROM;
    this.rest = h("div", {}, h("h4", {}, "Other workspaces"), find, this.others);
    this.element = h("div", { class: "sharing-whole" },
      h("div", {}, h("h4", {}, "Draw-down order"), this.none, this.list), this.rest);
    this.list.addEventListener("pointerdown", (event) => this.#grab(event));
    this.#draw();
  }

  setWorkspaces(workspaces) {
    this.workspaces = workspaces;
    this.#draw();
  }

  #draw() {
    const named = new Map(this.workspaces.map((w) => [w.workspace, w]));
    keyed(this.list, this.chosen, (name) => name, (name) => this.#row(name), (row, name) => {
      const place = this.chosen.indexOf(name);
      text(row.querySelector(".place"), String(place + 1));
      text(row.querySelector("small"), named.get(name)?.name ?? "");
      const [up, down] = row.querySelectorAll(".square");
      up.disabled = place === 0;
      down.disabled = place === this.chosen.length - 1;
    });
    const others = this.workspaces.filter((w) => !this.chosen.includes(w.workspace) && `${w.workspace} ${w.name}`.toLowerCase().includes(this.search));
    keyed(this.others, others, (w) => `${w.workspace}\n${w.plan}`, (w) => this.#other(w), () => {});
    this.none.hidden = this.chosen.length > 0;
    this.rest.hidden = this.workspaces.every((w) => this.chosen.includes(w.workspace));
  }

  #row(name) {
    const row = h("li", { "data-workspace": name },
      h("span", { class: "handle", title: "Drag" }, icon("i-grip")), h("span", { class: "place figure" }),
      h("span", { class: "name" }, h("strong", {}, name), h("small")),
      iconButton("i-up", `Move ${name} up`, (event) => this.#move(name, -1, event.currentTarget)),
      iconButton("i-down", `Move ${name} down`, (event) => this.#move(name, 1, event.currentTarget)),
      iconButton("i-cross", `Remove ${name}`, () => this.#set(this.chosen.filter((w) => w !== name))));
    return row;
  }

  #other(w) {
    const free = w.plan !== "commercial";
    const label = h("span", { class: "name" }, h("strong", {}, w.workspace), h("small", {}, free ? "on the Free plan" : w.name));
    const action = free
      ? button("Upgrade to Commercial", (event) => this.#upgrade(w, event.currentTarget), "small")
      : button("Add", () => this.#set([...this.chosen, w.workspace]), "small");
    attribute(action, "aria-label", `${action.textContent}: ${w.workspace}`);
    return h("li", { "data-workspace": w.workspace }, label, action);
  }

  async #upgrade(binding, pressed) {
    pressed.disabled = true;
    try {
      await this.upgrade(binding);
    } catch (problem) {
      if (!("status" in problem)) throw problem;
      pressed.disabled = false;
      say(problem.message);
    }
  }

  #move(name, step, pressed) {
    const next = [...this.chosen];
    const from = next.indexOf(name);
    next.splice(from, 1);
    next.splice(from + step, 0, name);
    this.#set(next);
    if (pressed.disabled) pressed.parentElement.querySelector(".square:not(:disabled)").focus();
    else pressed.focus();
    say(`${name} is now number ${from + step + 1}`);
  }

  #set(next) {
    this.chosen = next;
    this.#draw();
    this.changed([...next]);
  }

  /** With the mouse, a pen or a finger: the row goes where the pointer is. */
  #grab(event) {
    const row = event.target.closest(".handle") && event.target.closest("li");
    if (!row) return;
    event.preventDefault();
    const name = row.dataset.workspace;
    row.classList.add("held");
    const over = (move) => {
      const rows = [...this.list.children].filter((other) => other !== row);
      const place = rows.filter((other) => move.clientY > other.getBoundingClientRect().top + other.offsetHeight / 2).length;
      const next = this.chosen.filter((w) => w !== name);
      next.splice(place, 0, name);
      if (next.join("\n") === this.chosen.join("\n")) return;
      this.chosen = next;
      this.#draw();
    };
    const stop = () => {
      row.classList.remove("held");
      removeEventListener("pointermove", over);
      removeEventListener("pointerup", stop);
      removeEventListener("pointercancel", stop);
      this.changed([...this.chosen]);
    };
    addEventListener("pointermove", over);
    addEventListener("pointerup", stop);
    addEventListener("pointercancel", stop);
  }
}
