// The four figures at a glance, and what is said of the stream.

import { attribute, byId, h, text } from "./dom.js";
import { clock, duration, now as present } from "./days.js";
import { addDecimals, grouped, money, percent } from "./numbers.js";

const SPARK_POINTS = 48;

const meterOf = (row) => row.meter_name ?? row.meter;

function big(id, figure, unit = "", exact = "") {
  const place = byId(id);
  if (!place.firstChild) place.append(h("span"), h("span", { class: "unit" }));
  text(place.firstChild, figure);
  text(place.lastChild, unit);
  attribute(place, "title", exact || null);
}

function charges(model) {
  const { charges: known } = model;
  if (!known) {
    big("tile-charges", "–");
    text(byId("tile-charges-note"), "\u00a0");
    return;
  }
  big("tile-charges", money(known.up_to_now), known.currency, known.up_to_now);
  const today = addDecimals([known.up_to_now, known.up_to_yesterday.startsWith("-") ? known.up_to_yesterday.slice(1) : `-${known.up_to_yesterday}`]);
  text(byId("tile-charges-note"), `${money(known.up_to_yesterday)} up to yesterday, ${money(today)} today`);
}

function next(model, zone) {
  const rows = [...model.quotas.values()].filter((r) => r.quota > 0n);
  const now = present();
  const ending = rows.filter((r) => r.exhaustsAt > now && r.remaining > 0n).sort((a, b) => a.exhaustsAt - b.exhaustsAt);
  const ended = rows.filter((r) => r.remaining === 0n);
  const more = ended.length ? `, ${ended.length} exhausted` : "";
  if (ending.length) {
    big("tile-next", clock(ending[0].exhaustsAt, zone), `in ${duration(ending[0].exhaustsAt - now)}`);
    text(byId("tile-next-note"), `${meterOf(ending[0])}${more}`);
  } else if (ended.length) {
    big("tile-next", String(ended.length), ended.length === 1 ? "quota exhausted" : "quotas exhausted");
    text(byId("tile-next-note"), ended.length === 1 ? `${meterOf(ended[0])} · ${ended[0].package}` : `of ${rows.length}`);
  } else {
    if (!model.bounds) {
      big("tile-next", "–");
      text(byId("tile-next-note"), "\u00a0");
      return;
    }
    const most = rows.sort((a, b) => (b.used * a.quota > a.used * b.quota ? 1 : -1))[0];
    big("tile-next", "None", rows.length ? "on this day" : "");
    text(byId("tile-next-note"), most ? `Most used: ${meterOf(most)}, ${percent(most.used, most.quota)}` : "No package on this day");
  }
}

export class Tiles {
  constructor() {
    this.rates = [];
  }

  /** A heartbeat came: one more point of the line. */
  beat(heartbeat) {
    this.rates = [...this.rates.slice(1 - SPARK_POINTS), Number(heartbeat.events_per_second)];
    const top = Math.max(...this.rates, 1);
    const step = 96 / (SPARK_POINTS - 1);
    const first = SPARK_POINTS - this.rates.length;
    const points = this.rates.map((rate, i) => `${((first + i) * step).toFixed(1)},${(30 - (28 * rate) / top).toFixed(1)}`);
    if (points.length > 1) byId("spark").firstElementChild.setAttribute("points", points.join(" "));
  }

  render(model, zone) {
    charges(model);
    next(model, zone);
    const beat = model.heartbeat;
    const rate = Number(beat?.events_per_second ?? 0);
    big("tile-rate", beat ? (rate > 0 && rate < 10 ? rate.toFixed(1) : grouped(BigInt(Math.round(rate)))) : "–");
    text(byId("tile-rate-note"), "this account, last 10 s");
    const lag = beat?.lag_records;
    big("tile-lag", lag === null || lag === undefined ? "–" : grouped(BigInt(lag)), lag === null ? "unknown" : "records");
    text(byId("tile-lag-note"), model.version === null ? "No figure yet" : `Version ${grouped(BigInt(model.version))}`);
  }
}
