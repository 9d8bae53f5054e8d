// The page of an account's day: what is asked for, what comes in, and when it is drawn.

import { accountPath, get } from "./api.js";
import { Burndown } from "./burndown.js";
import { renderAlerts } from "./alerts.js";
import { renderCharges } from "./charges.js";
import { clock, dayOf, duration, longDay, now, setClock, shiftDay } from "./days.js";
import { byId, h, text } from "./dom.js";
import { remembered } from "./key.js";
import { Model } from "./model.js";
import { Quotas } from "./quotas.js";
import { renderStatus } from "./status.js";
import { Stream } from "./stream.js";
import { Tiles } from "./tiles.js";

const CHARGES_AFTER_MS = 2_000;
const ROWS_AFTER_MS = 300;
const ALERTS_MAX = 200;
const AGAIN_MS = 3_000;
const AGAIN_MS_MAX = 30_000;

export class Page {
  /** `refused(problem)` is called once the key or the account is refused for good. */
  constructor(key, accounts, catalog, refused) {
    Object.assign(this, { key, refused });
    this.accounts = new Map(accounts.map((a) => [a.account, a]));
    this.meters = new Map(catalog.meters.map((m) => [m.meter, m]));
    this.plans = new Map(catalog.plans.map((p) => [p.plan, p.name]));
    this.burndown = new Burndown();
    this.quotas = new Quotas(byId("packages"), (id) => this.#select(id), () => this.#dirty());
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
    return dayOf(now(), this.zone);
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
    this.latest = null;
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
    if (!byId("main").hidden) document.title = `${this.account} · Drawdown`;
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
      this.#askCharges(model),
      this.#rows(),
    ];
    const failed = (await Promise.allSettled(parts)).filter((p) => p.status === "rejected" && p.reason.name !== "AbortError");
    if (model !== this.model) return;
    this.problem = failed[0]?.reason ?? null;
    this.loaded = true;
    byId("app").setAttribute("aria-busy", "false");
    if (failed.length) this.#after("load", Math.max((this.problem.retryAfter ?? 0) * 1000, AGAIN_MS), () => this.#load());
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
      refused: (problem) => this.refused(problem),
    });
  }

  #event(name, data) {
    this.link.heard = Date.now();
    if (data.time) setClock(Date.parse(data.time));
    const { model } = this;
    if (name === "snapshot") {
      data.quotas.forEach((quota) => this.#quota(quota));
      data.overage.forEach((overage) => this.#overage(overage));
      data.alerts.forEach((alert) => model.applyAlert(alert));
    } else if (name === "quota") this.#quota(data);
    else if (name === "overage") this.#overage(data);
    else if (name === "alert") model.applyAlert(data);
    else if (name === "heartbeat") {
      model.heartbeat = data;
      this.tiles.beat(data);
    }
    this.#dirty();
  }

  /** Of any day: a late event of yesterday changes the charges, too. */
  #overage(wire) {
    this.model.applyOverage(wire);
    if (wire.version < (this.latest?.version ?? 0)) return;
    this.latest = wire;
    this.#after("charges", CHARGES_AFTER_MS, () => this.#charges());
  }

  #quota(wire) {
    if (this.model.applyQuota(wire)) this.#after("rows", ROWS_AFTER_MS, () => this.#packagesChanged());
  }

  async #packagesChanged() {
    this.model.setPackages(await get(`/v1/packages?account=${encodeURIComponent(this.account)}`, this.key, this.requests.signal));
    await this.#rows();
  }

  /** Amounts come from ClickHouse, a moment behind the stream: asked for again until it knows the latest overage. */
  async #charges() {
    const { model, latest } = this;
    const from = (rest) => get(accountPath(this.account, rest), this.key, this.requests.signal);
    const { overage } = await from(`overage?from=${latest.day}&to=${latest.day}`);
    await this.#askCharges(model);
    this.#dirty();
    const behind = !overage.some((row) => row.version >= latest.version);
    if (behind) this.#after("charges", CHARGES_AFTER_MS, () => this.#charges());
  }

  /** An answer that was asked for earlier never replaces a later one. */
  async #askCharges(model) {
    const asked = (this.chargesAsked = (this.chargesAsked ?? 0) + 1);
    const charges = await get(accountPath(this.account, "charges"), this.key, this.requests.signal);
    if (asked > (model.chargesOf ?? 0)) Object.assign(model, { charges, chargesOf: asked });
  }

  /** Once after a while, however often it is asked for meanwhile; what fails is tried again, later each time. */
  #after(what, milliseconds, action) {
    if (this.later.has(what)) return;
    const run = () => {
      this.later.delete(what);
      Promise.resolve(action()).catch((error) => {
        if (error.name !== "AbortError") this.#after(what, Math.min(2 * milliseconds, AGAIN_MS_MAX), action);
      });
    };
    this.later.set(what, setTimeout(run, milliseconds));
  }

  #select(id) {
    this.chosen = id;
    const [meter] = id.split("/");
    const row = this.model.quotas.get(id.replace("/", "\n"));
    if (!row) return;
    this.burndown.begin(row, this.model.bounds, this.zone);
    this.later.delete("history");
    this.#history(id, meter).catch((error) => {
      if (error.name !== "AbortError") this.#after("history", AGAIN_MS, () => this.#history(id, meter));
    });
  }

  async #history(id, meter) {
    const path = accountPath(this.account, `burndown?meter=${encodeURIComponent(meter)}&day=${this.model.day}`);
    const answer = await get(path, this.key, this.requests.signal);
    if (this.chosen === id) this.burndown.history(answer);
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
    renderStatus(this.link, this.model, this.problem);
    const left = this.model.bounds ? this.model.bounds[1] - now() : 0;
    text(byId("subtitle"), `${this.zone}, ${clock(now(), this.zone)}${this.following ? ` · ${duration(left)} left of the day` : ""}`);
  }
}
