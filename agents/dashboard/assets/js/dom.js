// The few lines of DOM that the views share. Text is always set as text, never as markup.

/** An element: h("p", { class: "note", hidden: true }, "text", child). */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) attribute(element, name, value);
  element.append(...children);
  return element;
}

/** Set an attribute if it differs; false and null remove it. */
export function attribute(element, name, value) {
  if (value === false || value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value === true ? "" : value);
}

/** Set text if it differs, so that a selection and a screen reader are left in peace. */
export function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

/** An icon of the sprite in index.html. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#${name}`);
  svg.append(use);
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  return svg;
}

const rowsOf = new WeakMap();

/** Make the children of `parent` those of `items`: by key, so that focus and transitions survive an update. */
export function keyed(parent, items, keyOf, create, update) {
  const before = rowsOf.get(parent) ?? new Map();
  const after = new Map();
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    const node = before.get(key) ?? create(item);
    before.delete(key);
    after.set(key, node);
    update(node, item);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  for (const node of before.values()) node.remove();
  rowsOf.set(parent, after);
}

export const byId = (id) => document.getElementById(id);
