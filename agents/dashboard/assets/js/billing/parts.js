// Parts that the views of the billing center share: fields, dialogs, lists of faults.

import { h, icon, keyed, text } from "../dom.js";
import { faultWords } from "./words.js";

let fields = 0;

/** A labelled control: field("Amount", h("input", {...}), "in CNY"). */
export function field(label, control, note = "") {
  fields += 1;
  control.id ||= `field-${fields}`;
  const hint = note && h("small", { id: `${control.id}-note` }, note);
  if (note) control.setAttribute("aria-describedby", `${control.id}-note`);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, ...(hint ? [hint] : []));
}

/** A button with an action; `kind` is a class, like "main". */
export function button(label, action, kind = "") {
  const element = h("button", { type: "button", class: kind === "quiet" ? "quiet" : `button ${kind}`.trim() }, label);
  element.addEventListener("click", action);
  return element;
}

/** A square button with an icon and a name for those who do not see it. */
export function iconButton(name, label, action) {
  const element = h("button", { type: "button", class: "square small", "aria-label": label, title: label }, icon(name));
  element.addEventListener("click", action);
  return element;
}

/** Show reasons, or nothing. */
export function showFaults(list, faults) {
  const all = faults.map((fault) => (typeof fault === "string" ? fault : faultWords(fault)));
  keyed(list, [...new Set(all)], (words) => words, (words) => h("li", {}, icon("i-warn"), h("span", {}, words)), () => {});
  list.hidden = all.length === 0;
}

export const faultList = () => h("ul", { class: "faults", "aria-live": "polite", hidden: true });

/** A modal dialog: `fill(body)` makes its content; `act()` does it and may throw a Problem. It is closed once that is done. */
export function dialog(title, { fill, label, act, kind = "main", wordsOf }) {
  const faults = faultList();
  const body = h("div", { class: "dialog-body" });
  const go = h("button", { class: `button ${kind}`.trim() }, label);
  const form = h("form", { method: "dialog" },
    h("header", {}, h("h2", {}, title)), body, faults,
    h("footer", {}, button("Cancel", () => element.close()), go));
  const element = h("dialog", { class: "card", "aria-label": title }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    showFaults(faults, []);
    try {
      await act();
      element.close();
    } catch (problem) {
      if (!("status" in problem)) throw problem;
      showFaults(faults, wordsOf(problem));
    } finally {
      go.disabled = false;
    }
  });
  element.addEventListener("close", () => element.remove());
  fill(body, go);
  document.body.append(element);
  element.showModal();
  return element;
}

/** Say it to a screen reader. */
export const say = (words) => text(document.getElementById("said"), words);

/** An id that nobody has used. */
export function newId(kind) {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return `${kind}-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
