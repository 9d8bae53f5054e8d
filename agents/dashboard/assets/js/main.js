// The page: which key, which account, which day; what comes in, and when it is drawn.

import { Problem, accountPath, get } from "./api.js";
import { Burndown } from "./burndown.js";
import { renderAlerts } from "./alerts.js";
import { renderCharges } from "./charges.js";
import { clock, dayOf, duration, shiftDay, longDay } from "./days.js";
import { byId, h, text } from "./dom.js";
import { askForKey, forgetKey, keyOfTab, remembered, takeFragment } from "./key.js";
import { Model } from "./model.js";
import { Quotas } from "./quotas.js";
import { Stream } from "./stream.js";
import { Tiles } from "./tiles.js";

const CHARGES_AFTER_MS = 1_000;
const ROWS_AFTER_MS = 300;
const ALERTS_MAX = 200;

class Page {
  constructor(key, accounts, catalog) {
    this.key = key;
    this.accounts = new Map(accounts.map((a) => [a.account, a]));
    this.meters = new Map(catalog.meters.map((m) => [m.meter, m]));
    this.plans = new Map(catalog.plans.map((p) => [p.plan, p.name]));
    this.burndown = new Burndown();
    this.quotas = new Quotas(byId("packages"), (id, byUser) => this.#select(id, byUser));
    this.tiles = new Tiles();
    this.link = { state: "connecting", heard: 0, nextTry: 0 };
    this.later = new Map();
    const options = accounts.map((a) => h("option", { value: a.account }, a.account));
    byId("account").replaceChildren(...options);
    byId("account").addEventListener("change", (event) => this.open(event.target.value));
    byId("day-before").addEventListener("click", () => this.open(this.account, shiftDay(this.model.day, -1)));
    byId("day-after").addEventListener("click", () => this.open(this.account, shiftDay(this.model.day, 1)));
    byId("day-today").addEventListener("click", () => this.open(this.account));
    byId("banner-retry").addEventListener("click", () => this.stream?.retryNow());
    setInterval(() => this.#tick(), 250);
  }

  get today() {
    return dayOf(Date.now(), this.zone);
  }

  /** Show an account's day: today unless said otherwise. */
  open(account, day = null) {
    const other = account !== this.account;
    this.account = account;
    this.zone = this.accounts.get(account).time_zone;
    this.requests?.abort();
    this.requests = new AbortController();
    this.later.forEach(clearTimeout);
    this.later.clear();
    const shown = day ?? this.today;
    this.model = new Model(account, shown);
    this.loaded = false;
    this.chosen = null;
    this.quotas.selected = null;
    if (other) this.tiles.rates = [];
    remembered(account);
    this.#frame(shown);
    this.#dirty();
    this.#load();
    this.#listen();
  }

  #frame(day) {
    byId("account").value = this.account;
    document.title = `${this.account} · Drawdown`;
    text(byId("day"), longDay(day));
    byId("day-after").disabled = day >= this.today;
    byId("day-today").disabled = day >= this.today;
    byId("app").setAttribute("aria-busy", "true");
  }

  async #load() {
    const { model } = this;
    const from = (rest) => get(accountPath(this.account, rest), this.key, this.requests.signal);
    const name = encodeURIComponent(this.account);
    const list = (what) => get(`/v1/${what}?account=${name}`, this.key, this.requests.signal);
    const parts = [
      list("packages").then((answer) => model.setPackages(answer)),
      list("workspaces").then((answer) => model.setWorkspaces(answer)),
      from(`overage?from=${model.day}&to=${model.day}`).then((answer) => answer.overage.forEach((o) => model.applyOverage(o))),
      from(`alerts?day=${model.day}&limit=${ALERTS_MAX}`).then((answer) => answer.alerts.forEach((a) => model.applyAlert(a))),
      from("charges").then((answer) => (model.charges = answer)),
      this.#rows(),
    ];
    const failed = (await Promise.allSettled(parts)).filter((p) => p.status === "rejected" && p.reason.name !== "AbortError");
    if (model !== this.model) return;
    this.problem = failed[0]?.reason ?? null;
    this.loaded = true;
    byId("app").setAttribute("aria-busy", "false");
    if (failed.length) this.#after("load", Math.max((this.problem.retryAfter ?? 0) * 1000, 3_000), () => this.#load());
    this.#dirty();
  }

  async #rows() {
    const { model } = this;
    model.setQuotas(await get(accountPath(this.account, `quotas?day=${model.day}`), this.key, this.requests.signal));
    this.#dirty();
  }

  #listen() {
    this.stream?.close();
    this.link.state = "connecting";
    this.stream = new Stream(accountPath(this.account, "stream"), this.key, {
      event: (name, data) => this.#event(name, data),
      state: (state, { nextTry = 0 }) => Object.assign(this.link, { state, nextTry }),
      refused: (problem) => leave(problem),
    });
  }

  #event(name, data) {
    this.link.heard = Date.now();
    const { model } = this;
    if (name === "snapshot") {
      data.quotas.forEach((quota) => this.#quota(quota));
      data.overage.forEach((overage) => model.applyOverage(overage));
      data.alerts.forEach((alert) => model.applyAlert(alert));
      this.#after("charges", CHARGES_AFTER_MS, () => this.#charges());
    } else if (name === "quota") this.#quota(data);
    else if (name === "overage") {
      if (model.applyOverage(data)) this.#after("charges", CHARGES_AFTER_MS, () => this.#charges());
    } else if (name === "alert") model.applyAlert(data);
    else if (name === "heartbeat") {
      model.heartbeat = data;
      this.tiles.beat(data);
    }
    this.#dirty();
  }

  #quota(wire) {
    if (this.model.applyQuota(wire)) this.#after("rows", ROWS_AFTER_MS, () => this.#packagesChanged());
  }

  async #packagesChanged() {
    this.model.setPackages(await get(`/v1/packages?account=${encodeURIComponent(this.account)}`, this.key, this.requests.signal));
    await this.#rows();
  }

  /** Amounts come from ClickHouse, which is a moment behind the stream: asked for until they are as new as the overage. */
  async #charges() {
    const { model } = this;
    model.charges = await get(accountPath(this.account, "charges"), this.key, this.requests.signal);
    this.#dirty();
  }

  /** Once after a while, however often it is asked for meanwhile. */
  #after(what, milliseconds, action) {
    if (this.later.has(what)) return;
    const run = () => {
      this.later.delete(what);
      Promise.resolve(action()).catch((error) => {
        if (error.name !== "AbortError") this.#after(what, 2 * milliseconds, action);
      });
    };
    this.later.set(what, setTimeout(run, milliseconds));
  }

  #select(id, byUser) {
    this.chosen = id;
    const [meter] = id.split("/");
    const row = this.model.quotas.get(id.replace("/", "\n"));
    if (!row) return;
    this.burndown.begin(row, this.model.bounds, this.zone);
    get(accountPath(this.account, `burndown?meter=${encodeURIComponent(meter)}&day=${this.model.day}`), this.key, this.requests.signal)
      .then((answer) => this.chosen === id && this.burndown.history(answer))
      .catch(() => {});
    if (byUser) this.#dirty();
  }

  #dirty() {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => {
      this.drawing = false;
      this.#draw();
    });
  }

  #draw() {
    const { model } = this;
    this.quotas.render(model, this.plans);
    const row = this.chosen && model.quotas.get(this.chosen.replace("/", "\n"));
    if (row) this.burndown.update(row);
    byId("burndown").hidden = !row;
    renderCharges(model, this.meters);
    renderAlerts(model, this.meters, this.zone, this.loaded);
    this.#tick();
  }

  /** What changes with the clock alone: ages, the end of the day, a broken stream. */
  #tick() {
    if (!this.model) return;
    if (this.model.bounds && this.following && this.today !== this.model.day) {
      this.open(this.account);
      return;
    }
    this.following = this.today === this.model.day;
    this.tiles.render(this.model, this.zone);
    this.#live();
    const left = this.model.bounds ? this.model.bounds[1] - Date.now() : 0;
    text(byId("subtitle"), `${this.zone}, ${clock(Date.now(), this.zone)}${this.following ? ` · ${duration(left)} left of the day` : ""}`);
  }

  #live() {
    const { state, heard, nextTry } = this.link;
    const beat = this.model.heartbeat;
    const behind = state === "live" && beat?.live === false;
    const broken = state === "broken" || behind;
    const age = heard ? duration(Date.now() - heard) : null;
    // Once for a screen reader, and not with every second that passes.
    if (heard) text(byId("said"), broken ? "The stream is broken. The figures are old." : "The figures are live.");
    byId("live").dataset.state = broken ? "broken" : state;
    text(byId("live-state"), broken ? "Not live" : state === "live" ? "Live" : "Connecting");
    text(byId("live-detail"), broken ? (age ?? "") : this.model.version === null ? "" : this.#lastChange());
    byId("main").dataset.stale = String(broken);
    byId("banner").hidden = !broken && !this.problem;
    byId("banner-retry").hidden = !(state === "broken");
    if (behind) this.#banner("The API cannot see the newest records.", "The figures may be old; they go on by themselves.");
    else if (broken) this.#banner("The stream is broken.", `The figures are ${age ? `${age} old` : "not there yet"}. ${waiting(nextTry)}`);
    else if (this.problem) this.#banner("A part of the page is missing.", `${this.problem.message}. It is asked for again.`);
  }

  #lastChange() {
    const { heartbeat } = this.model;
    if (!heartbeat?.newest_at) return "";
    return `changed ${duration(Date.now() - Date.parse(heartbeat.newest_at))} ago`;
  }

  #banner(what, detail) {
    text(byId("banner-what"), what);
    text(byId("banner-detail"), detail);
  }
}

const waiting = (nextTry) => (nextTry > Date.now() ? `Trying again in ${Math.ceil((nextTry - Date.now()) / 1000)} s.` : "Trying again now.");

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
  return `${error.message}. Try again in a moment.`;
}

async function start() {
  const wanted = takeFragment();
  let said = sessionStorage.getItem("drawdown-said") ?? "";
  sessionStorage.removeItem("drawdown-said");
  for (;;) {
    const key = keyOfTab() ?? (await askForKey(said));
    try {
      const { accounts } = await get("/v1/accounts", key);
      if (!accounts.length) throw new Problem(404, "This key sees no account that has a workspace yet");
      const catalog = await get("/v1/catalog", key);
      byId("door").hidden = true;
      byId("app").hidden = false;
      const page = new Page(key, accounts, catalog);
      page.open(page.accounts.has(wanted) ? wanted : accounts[0].account);
      return;
    } catch (error) {
      said = refusal(error);
      if (error.status !== 0 && error.status !== 503) forgetKey();
      else await askForKey(said, key);
    }
  }
}

byId("leave").addEventListener("click", () => {
  forgetKey();
  location.reload();
});
addEventListener("hashchange", () => location.reload());
start();
