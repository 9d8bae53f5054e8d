// The billing center of an account: its tabs, and what they all show.

import { accountPath, get, post } from "../api.js";
import { attribute, byId, h, text } from "../dom.js";
import { dayOf, now } from "../days.js";
import { remembered } from "../key.js";
import { Buy } from "./buy.js";
import { Packages } from "./packages.js";
import { showFaults } from "./parts.js";
import { Statements } from "./statements.js";
import { WalletView, inAll } from "./wallet.js";
import { priced, problemWords } from "./words.js";

const TABS = { packages: "Packages", buy: "Buy", wallet: "Wallet", statements: "Statements" };
const EVERY_MS = 4_000;
/** Entries come a moment after their balance. */
const ENTRIES_MS = 700;
const ENTRIES_TRIES = 8;

export class Center {
  /** `may`: whether the key may change anything. */
  constructor(key, accounts, catalog, may) {
    Object.assign(this, { key, catalog, may, tab: null });
    this.accounts = new Map(accounts.map((a) => [a.account, a]));
    this.meters = new Map(catalog.meters.map((m) => [m.meter, m]));
    this.buttons = Object.entries(TABS).map(([tab, words]) => {
      const one = h("button", { type: "button", "data-tab": tab }, words);
      one.addEventListener("click", () => this.show(tab, true));
      return one;
    });
    byId("billing-tabs").replaceChildren(...this.buttons);
    byId("view-usage").addEventListener("click", () => this.show(null, true));
    byId("view-billing").addEventListener("click", () => this.show(this.tab ?? "packages", true));
    byId("account").addEventListener("change", (event) => this.open(event.target.value));
    setInterval(() => this.#again(), EVERY_MS);
  }

  get today() {
    return dayOf(now(), this.zone);
  }

  get signal() {
    return this.requests?.signal;
  }

  /** Another account; what is shown stays the same page. */
  open(account) {
    this.account = account;
    this.zone = this.accounts.get(account).time_zone;
    this.requests?.abort();
    this.requests = new AbortController();
    this.shop = null;
    this.views = null;
    if (this.tab) this.show(this.tab);
  }

  /** A tab of the billing center, or null: the usage page. `push`: somebody went there. */
  async show(tab, push = false) {
    this.tab = tab in TABS ? tab : null;
    remembered(this.account, this.tab, push);
    const billing = Boolean(this.tab);
    byId("billing").hidden = !billing;
    byId("main").hidden = billing;
    byId("skip").setAttribute("href", billing ? "#billing" : "#main");
    attribute(byId("view-usage"), "aria-current", billing ? null : "page");
    attribute(byId("view-billing"), "aria-current", billing ? "page" : null);
    if (!billing) {
      document.title = `${this.account} · Drawdown`;
      return;
    }
    document.title = `${TABS[this.tab]} · ${this.account} · Drawdown`;
    for (const one of this.buttons) attribute(one, "aria-current", one.dataset.tab === this.tab ? "page" : null);
    if (!this.shop) await this.refresh().catch((error) => this.failed(error));
    else this.#draw();
  }

  /** Ask for everything again, and draw it. */
  async refresh() {
    const { account } = this;
    const [{ packages }, { workspaces }, wallet] = await Promise.all([
      this.#from("packages"), this.#workspaces(), this.#wallet(),
    ]);
    if (account !== this.account) return;
    workspaces.sort((a, b) => a.workspace.localeCompare(b.workspace, "en", { numeric: true }));
    const funded = this.shop && wallet.version !== this.shop.wallet.version;
    this.shop = { packages, workspaces, wallet, currency: wallet.currency };
    this.problem = null;
    this.views ??= { packages: new Packages(this), buy: new Buy(this), wallet: new WalletView(this), statements: new Statements(this) };
    if (funded) this.views.buy.refreshed();
    this.#draw();
    this.#entries(ENTRIES_TRIES);
  }

  #workspaces() {
    return get(`/v1/workspaces?account=${encodeURIComponent(this.account)}`, this.key, this.signal);
  }

  #from(rest) {
    return get(accountPath(this.account, rest), this.key, this.signal);
  }

  /** Its entries are ClickHouse's; while that is away, money and packages go on. */
  async #wallet() {
    try {
      return await this.#from("wallet");
    } catch (problem) {
      if (problem.status !== 503) throw problem;
      return { ...(await this.#from("wallet?limit=0")), unread: true };
    }
  }

  /** Begin a purchase for a package: its upgrade, or traffic. */
  buy(mode, of) {
    this.views.buy.begin(mode, of);
    this.show("buy", true);
  }

  addFunds() {
    this.views.wallet.addFunds();
  }

  /** A workspace leaves the Free plan. The rest of its binding is as of now, not as of when the page was drawn. */
  async toCommercial({ workspace }) {
    const { workspaces } = await this.#workspaces();
    const binding = workspaces.find((w) => w.workspace === workspace);
    if (binding) await post("/v1/workspaces", this.key, { ...binding, plan: "commercial" });
    await this.refresh();
  }

  /** A part could not be loaded: say so; it is asked for again. */
  failed(error) {
    if (error.name === "AbortError") return;
    if (!("status" in error)) throw error;
    this.problem = error;
    this.#said();
  }

  #draw() {
    if (!this.tab || !this.views) return;
    const view = this.views[this.tab];
    const place = byId("billing-view");
    if (place.firstElementChild !== view.element) place.replaceChildren(view.element);
    view.render?.();
    const { wallet, currency } = this.shop;
    text(byId("billing-balance"), `${priced(inAll(wallet), currency)} to spend`);
    this.buttons[1].hidden = !this.may;
    this.#said();
  }

  #said() {
    showFaults(byId("billing-problem"), this.problem ? problemWords(this.problem) : this.may ? [] : ["This key may look, not buy: it lacks the scope “admin”."]);
  }

  async #entries(tries) {
    const { wallet } = this.shop;
    if (!tries || wallet.unread || !wallet.version || (wallet.entries[0]?.version ?? 0) >= wallet.version) return;
    await new Promise((go) => setTimeout(go, ENTRIES_MS));
    if (!this.shop || this.shop.wallet !== wallet) return;
    await this.#again(tries - 1);
  }

  /** What changes by itself: use of packages, the wallet after a settlement. */
  async #again(tries = 0) {
    if (!this.tab || this.busy || document.hidden || document.querySelector("dialog[open]")) return;
    this.busy = true;
    try {
      const { shop } = this;
      if (!shop) await this.refresh();
      else {
        const [{ packages }, wallet] = await Promise.all([this.#from("packages"), this.#wallet()]);
        if (shop !== this.shop) return; // another account, or newer figures after something was changed
        Object.assign(shop, { packages, wallet });
        this.problem = null;
        if (this.tab !== "buy") this.#draw();
      }
    } catch (error) {
      this.failed(error);
    } finally {
      this.busy = false;
    }
    if (tries) this.#entries(tries);
  }
}
