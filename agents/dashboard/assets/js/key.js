// The API key: out of the URL's fragment or the form, into this tab's sessionStorage, never into the address bar.

import { byId, text } from "./dom.js";

const KEY = "drawdown-key";

/** Keep `#key=...`, take it off the address bar; the account and the page that the fragment names, if any. */
export function takeFragment() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  if (fragment.get("key")) sessionStorage.setItem(KEY, fragment.get("key"));
  history.replaceState(null, "", location.pathname);
  return { account: fragment.get("account"), view: fragment.get("view") };
}

/** The account in the address bar, and which page of it, so that a reload, a bookmark and the back button come back to it. */
export function remembered(account, view, push = false) {
  const shown = view === undefined ? new URLSearchParams(location.hash.slice(1)).get("view") : view;
  const fragment = `#${new URLSearchParams({ account, ...(shown && { view: shown }) })}`;
  if (fragment !== location.hash) history[push ? "pushState" : "replaceState"](null, "", fragment);
}

export const keyOfTab = () => sessionStorage.getItem(KEY);
export const forgetKey = () => sessionStorage.removeItem(KEY);

/** Show the form, with what was wrong with the last key, until somebody enters one. */
export function askForKey(problem, given = "") {
  const form = byId("door-form");
  const field = byId("door-key");
  // Nothing is taken from somebody who is typing while we try again.
  if (byId("door").hidden || !given) {
    byId("app").hidden = true;
    byId("door").hidden = false;
    field.value = given;
    field.focus();
  }
  text(byId("door-problem"), problem);
  field.setAttribute("aria-invalid", String(Boolean(problem)));
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      text(byId("door-problem"), "");
      sessionStorage.setItem(KEY, field.value.trim());
      resolve(field.value.trim());
    };
  });
}
