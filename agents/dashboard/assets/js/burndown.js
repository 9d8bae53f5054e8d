// The burn-down of a quota's day: what is left over time, and the forecast to the minute when it ends.

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { byId, h, text } from "./dom.js";
import { clock, duration, now as present } from "./days.js";
import { grouped, quantity, short } from "./numbers.js";

const MINUTE = 60_000;
const RANGES = [["day", "Day", 0], ["hours", "3 h", 180], ["minutes", "15 min", 15]];
/** A live point replaces the one before it within this time, so that a day of updates stays drawable. */
const APART_MS = 1_000;
const POINTS_MAX = 4_000;
const AXIS_PX = 56;
const FLAG_PX = 56;
const FLAG_GAP_PX = 6;
const FLAG_LEFT_PX = 20;
const QUARTERS = [0, 1, 2, 3, 4];

export class Burndown {
  constructor() {
    Object.assign(this, { row: null, points: [], range: null, plot: null, bounds: null, zone: "UTC" });
    this.host = byId("chart");
    this.buttons = RANGES.map(([name, label]) => {
      const button = h("button", { type: "button" }, label);
      button.addEventListener("click", () => {
        this.range = name;
        this.draw();
      });
      return button;
    });
    byId("burndown-range").append(...this.buttons);
    this.flag = h("div", { class: "flag", hidden: true });
    this.tip = h("div", { class: "tip", hidden: true });
    new ResizeObserver(() => this.#resize()).observe(this.host);
    document.addEventListener("themechange", () => this.#rebuild());
  }

  /** Another quota or day: its history follows by `history`. */
  begin(row, bounds, zone) {
    Object.assign(this, { row, bounds, zone, points: [] });
    this.#rebuild();
  }

  /** The answer of `/burndown`. */
  history(answer) {
    const own = answer.packages.find((p) => p.package === this.row?.package);
    const past = (own?.points ?? []).map((p) => [Date.parse(p.at), quantity(p.remaining)]);
    const last = past.at(-1)?.[0] ?? 0;
    this.points = [...past, ...this.points.filter(([at]) => at > last)];
    this.draw();
  }

  /** The row changed: a live point. */
  update(row) {
    const changed = !this.row || row.version !== this.row.version;
    this.row = row;
    if (changed && row.changedAt) this.#add(row.changedAt, row.remaining);
    this.draw();
  }

  #add(at, remaining) {
    const last = this.points.at(-1);
    if (last && at < last[0]) return;
    if (last && this.points.length > 1 && at - this.points.at(-2)[0] < APART_MS) this.points.pop();
    this.points.push([at, remaining]);
    if (this.points.length > POINTS_MAX) this.points = this.points.filter((_, i) => i % 2 === 1 || i === 0);
  }

  draw() {
    const { row, bounds } = this;
    if (!row || !bounds) return;
    const now = Math.min(Math.max(present(), bounds[0]), bounds[1]);
    const today = now < bounds[1];
    this.#figures(row, now, today);
    if (!this.plot) this.#rebuild();
    if (!this.plot) return;
    const line = [[bounds[0], row.quota], ...this.points];
    if (now > line.at(-1)[0]) line.push([now, line.at(-1)[1]]);
    const end = today ? this.#forecast(row, now) : null;
    const times = line.map(([at]) => at);
    const left = line.map(([, value]) => Number(value));
    const ahead = left.map(() => null);
    if (end) {
      ahead[ahead.length - 1] = left.at(-1);
      times.push(end[0]);
      left.push(null);
      ahead.push(end[1]);
    }
    this.plot.batch(() => {
      this.plot.setData([times.map((t) => t / 1000), left, ahead], false);
      const [from, to] = this.#window(now);
      this.plot.setScale("x", { min: from / 1000, max: to / 1000 });
      this.plot.setScale("y", { min: 0, max: Math.max(Number(row.quota), 1) * 1.04 });
    });
    this.#flag(row, end, today);
  }

  /** Where the line goes at the present rate: to the end of the quota or of the day. */
  #forecast(row, now) {
    if (row.burn === 0n || row.remaining === 0n) return null;
    if (row.exhaustsAt) return row.exhaustsAt > now ? [row.exhaustsAt, 0] : null;
    const minutes = (this.bounds[1] - now) / MINUTE;
    return [this.bounds[1], Math.max(Number(row.remaining) - Number(row.burn) * minutes, 0)];
  }

  /** Until somebody chooses, the range is the smallest that holds what happened so far. */
  #window(now) {
    const first = this.points[0]?.[0] ?? this.bounds[0];
    const wanted = this.range ?? (now < this.bounds[1] && now - first < 10 * MINUTE && this.points.length ? "minutes" : "day");
    this.buttons.forEach((b, i) => b.setAttribute("aria-pressed", String(RANGES[i][0] === wanted)));
    const minutes = RANGES.find(([name]) => name === wanted)[2];
    if (!minutes) return this.bounds;
    const to = Math.min(now + (minutes / 4) * MINUTE, this.bounds[1]);
    return [Math.max(to - minutes * MINUTE, this.bounds[0]), to];
  }

  #figures(row, now, today) {
    text(byId("burndown-of"), `${row.meter_name ?? row.meter} · ${row.package}`);
    text(byId("burn-left"), short(row.remaining));
    byId("burn-left").title = grouped(row.remaining);
    const strong = (value) => h("strong", {}, value);
    const said = [];
    if (row.remaining === 0n && row.used > 0n) {
      const ended = this.points.find(([, value]) => value === 0n)?.[0];
      said.push(strong("Exhausted"), ended ? ` at ${clock(ended, this.zone)}` : "");
    } else if (today && row.exhaustsAt && row.exhaustsAt > now) {
      said.push("Runs out about ", strong(clock(row.exhaustsAt, this.zone)), `, in ${duration(row.exhaustsAt - now)}`);
    } else if (today && row.burn > 0n) {
      said.push(`Lasts the day at ${short(row.burn)} a minute`);
    } else {
      said.push(row.used === 0n ? "Nothing used yet" : today ? "Not burning now" : "The day has ended");
    }
    const sentence = said.map((s) => s.textContent ?? s).join("");
    const place = byId("burn-forecast");
    if (place.textContent !== sentence) place.replaceChildren(...said);
    this.host.setAttribute("aria-label", `Burn-down of ${row.meter_name ?? row.meter}, ${row.package}: ${grouped(row.remaining)} of ${grouped(row.quota)} left. ${sentence}.`);
  }

  #flag(row, end, today) {
    const shown = today && end && end[1] === 0;
    this.flag.hidden = !shown;
    if (!shown) return;
    const x = this.plot.valToPos(end[0] / 1000, "x");
    const inside = x >= 0 && x <= this.plot.over.clientWidth;
    this.flag.hidden = !inside;
    text(this.flag, clock(end[0], this.zone));
    // Beside the end of the line, on the side that has room.
    const width = this.plot.over.clientWidth;
    const right = x + FLAG_PX < width;
    this.flag.style.left = right ? `${x + FLAG_GAP_PX}px` : "auto";
    this.flag.style.right = right ? "auto" : `${width - x + FLAG_LEFT_PX}px`;
  }

  #size() {
    const style = getComputedStyle(this.host);
    const inner = (a, b) => parseFloat(style[a]) + parseFloat(style[b]);
    return {
      width: Math.floor(this.host.clientWidth - inner("paddingLeft", "paddingRight")),
      height: Math.floor(this.host.clientHeight - inner("paddingTop", "paddingBottom")),
    };
  }

  #resize() {
    if (!this.plot || !this.host.clientWidth) return;
    this.plot.setSize(this.#size());
    this.draw();
  }

  #rebuild() {
    this.plot?.destroy();
    this.plot = null;
    if (!this.row || !this.host.clientWidth) return;
    this.plot = new uPlot(this.#options(), [[0], [null], [null]], this.host);
    this.plot.over.append(this.flag, this.tip);
    this.plot.over.addEventListener("mouseleave", () => (this.tip.hidden = true));
    this.draw();
  }

  #options() {
    const css = getComputedStyle(document.documentElement);
    const colour = (name) => css.getPropertyValue(name).trim();
    const font = `12px ${colour("--sans")}`;
    const axis = { stroke: colour("--muted"), font, ticks: { show: false }, grid: { stroke: colour("--line"), width: 1 } };
    return {
      ...this.#size(),
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), this.zone),
      legend: { show: false },
      cursor: { y: false, drag: { setScale: false, x: false, y: false }, points: { size: 7, fill: colour("--accent"), stroke: colour("--surface"), width: 2 } },
      scales: { x: { time: true, auto: false }, y: { auto: false } },
      axes: [
        { ...axis, grid: { show: false }, space: 64, size: 28, gap: 8, values: (_u, splits) => splits.map((s) => clock(s * 1000, this.zone)) },
        { ...axis, size: AXIS_PX, gap: 8, splits: () => QUARTERS.map((q) => (Number(this.row.quota) * q) / 4), values: () => this.#quarters() },
      ],
      series: [
        {},
        // Steps: what is left stays until the next event that takes from it.
        { stroke: colour("--accent"), width: 2, fill: fade(colour("--accent")), points: { show: false }, paths: uPlot.paths.stepped({ align: 1 }) },
        { stroke: colour("--over"), width: 2, dash: [5, 5], points: { show: false } },
      ],
      hooks: { setCursor: [() => this.#point()] },
    };
  }

  /** Labels of the lines at each quarter of the quota: none, half, whole. */
  #quarters() {
    const { quota } = this.row;
    return ["0", null, quota > 1n ? short(quota / 2n) : null, null, short(quota)];
  }

  /** What the cursor points at, in words. */
  #point() {
    const { idx, left } = this.plot.cursor;
    const at = idx === null || idx === undefined ? null : this.plot.data[0][idx];
    const value = at === null ? null : (this.plot.data[1][idx] ?? this.plot.data[2][idx]);
    this.tip.hidden = value === null || value === undefined || left < 0;
    if (this.tip.hidden) return;
    text(this.tip, `${clock(at * 1000, this.zone, true)}  ${short(BigInt(Math.round(value)))} left`);
    const x = Math.min(Math.max(left - this.tip.offsetWidth / 2, 0), this.plot.over.clientWidth - this.tip.offsetWidth);
    this.tip.style.left = `${x}px`;
    this.tip.style.top = "4px";
  }
}

const fade = (colour) => (plot) => {
  const gradient = plot.ctx.createLinearGradient(0, plot.bbox.top, 0, plot.bbox.top + plot.bbox.height);
  gradient.addColorStop(0, `color-mix(in oklch, ${colour} 30%, transparent)`);
  gradient.addColorStop(1, `color-mix(in oklch, ${colour} 4%, transparent)`);
  return gradient;
};
