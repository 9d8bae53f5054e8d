// The way in: which key, and what to say when it does not open.

import { Problem, get } from "./api.js";
import { Center } from "./billing/center.js";
import { byId } from "./dom.js";
import { askForKey, forgetKey, keyOfTab, takeFragment } from "./key.js";
import { Page } from "./page.js";

const AGAIN_MS = 3_000;
/** Passes by itself: nobody answers, too many requests, a server is away. */
const PASSES = new Set([0, 429, 503]);

function leave(problem) {
  forgetKey();
  sessionStorage.setItem("drawdown-said", problem.status === 401 ? "The key was refused: it is wrong or was revoked." : problem.message);
  location.reload();
}

/** Why the door stays shut, in words. */
function refusal(error) {
  if (!(error instanceof Problem)) throw error;
  if (error.status === 401) return "This key is not known. Check that it is whole and was not revoked.";
  if (error.status === 403) return "This key may not read figures. Ask for one with the scope “read”.";
  return `${error.message}.`;
}

async function start() {
  const wanted = takeFragment();
  let said = sessionStorage.getItem("drawdown-said") ?? "";
  sessionStorage.removeItem("drawdown-said");
  for (;;) {
    const key = keyOfTab() ?? (await askForKey(said));
    try {
      const { accounts } = await get("/v1/accounts", key);
      if (!accounts.length) throw new Problem(0, "This key sees no account yet: the first workspace that is bound makes one");
      const catalog = await get("/v1/catalog", key);
      const { scopes } = await get("/v1/key", key);
      byId("door").hidden = true;
      byId("app").hidden = false;
      const page = new Page(key, accounts, catalog, leave);
      const center = new Center(key, accounts, catalog, scopes.includes("admin"));
      const account = page.accounts.has(wanted.account) ? wanted.account : accounts[0].account;
      page.open(account);
      center.open(account);
      center.show(wanted.view);
      return;
    } catch (error) {
      said = refusal(error);
      if (PASSES.has(error.status)) await Promise.race([askForKey(said, key), new Promise((go) => setTimeout(go, AGAIN_MS))]);
      else forgetKey();
    }
  }
}

byId("leave").addEventListener("click", () => {
  forgetKey();
  location.reload();
});
// A key or an account that is put into the address of an open page; the skip link is none.
addEventListener("hashchange", () => /[#&](key|account)=/.test(location.hash) && location.reload());
start();
