// What an account's day looks like, as last heard. Everything carries a version; the newest wins, so repeats are harmless.

import { quantity } from "./numbers.js";

const quotaKey = (row) => `${row.meter}\n${row.package}`;
const overageKey = (row) => `${row.workspace}\n${row.meter}\n${row.basis}\n${row.retention_days}`;

function status(wire) {
  return {
    ...wire,
    quota: quantity(wire.quota),
    used: quantity(wire.used),
    remaining: quantity(wire.remaining),
    burn: quantity(wire.burn_rate_per_minute),
    exhaustsAt: wire.exhausts_at ? Date.parse(wire.exhausts_at) : null,
    changedAt: wire.at ? Date.parse(wire.at) : null,
    shares: wire.workspaces.map((w) => ({ workspace: w.workspace, demand: quantity(w.demand), covered: quantity(w.covered) })),
  };
}

const overage = (wire) => ({ ...wire, quantity: quantity(wire.quantity) });
const alert = (wire) => ({ ...wire, value: quantity(wire.value), quota: quantity(wire.quota), when: Date.parse(wire.at) });

export class Model {
  constructor(account, day) {
    Object.assign(this, { account, day, bounds: null, quotas: new Map(), overage: new Map(), alerts: new Map() });
    this.early = new Map();
    Object.assign(this, { packages: new Map(), workspaces: new Map(), charges: null, version: null, heartbeat: null });
  }

  /** The answer of `/quotas`: which packages there are, in draw-down order; a figure that is newer here stays. */
  setQuotas(answer) {
    const before = this.quotas;
    this.bounds = [Date.parse(answer.day_starts_at), Date.parse(answer.day_ends_at)];
    this.quotas = new Map();
    for (const wire of answer.quotas) {
      const row = status(wire);
      const known = before.get(quotaKey(row)) ?? this.early.get(quotaKey(row));
      this.quotas.set(quotaKey(row), known && newer(known, row) ? { ...row, ...known, order: row.order } : row);
      this.#saw(row.version);
    }
    this.early.clear();
  }

  setPackages(answer) {
    this.packages = new Map(answer.packages.map((p) => [p.package, p]));
  }

  setWorkspaces(answer) {
    this.workspaces = new Map(answer.workspaces.map((w) => [w.workspace, w]));
  }

  /** Whether packages came or went: a quota that is not known yet, or one that takes part no more. */
  applyQuota(wire) {
    if (wire.day !== this.day) return false;
    const row = status(wire);
    this.#saw(row.version);
    const known = this.quotas.get(quotaKey(row));
    if (!known) {
      this.early.set(quotaKey(row), row);
      return row.quota > 0n;
    }
    if (newer(known, row)) return false;
    this.quotas.set(quotaKey(row), { ...known, ...row });
    return row.quota === 0n && known.quota > 0n;
  }

  /** Whether it changed something. */
  applyOverage(wire) {
    if (wire.day !== this.day) return false;
    this.#saw(wire.version);
    const known = this.overage.get(overageKey(wire));
    if (known && known.version >= wire.version) return false;
    this.overage.set(overageKey(wire), overage(wire));
    return true;
  }

  applyAlert(wire) {
    if (wire.day === this.day) this.alerts.set(wire.id, alert(wire));
  }

  #saw(version) {
    if (version !== null && version !== undefined && (this.version === null || version > this.version)) this.version = version;
  }

  /** [{package, rows}] in draw-down order: plans before traffic, then earlier expiry, earlier order, package id. */
  byPackage() {
    const groups = new Map();
    for (const row of this.quotas.values()) {
      if (!groups.has(row.package)) groups.set(row.package, []);
      groups.get(row.package).push(row);
    }
    const rank = ([name, [row]]) => {
      const ordered = this.packages.get(name)?.ordered_at ?? "";
      return [row.kind === "plan" ? "0" : "1", row.expires ?? "", ordered, name].join("\n");
    };
    return [...groups].sort((a, b) => (rank(a) < rank(b) ? -1 : 1)).map(([name, rows]) => ({ package: name, rows }));
  }

  /** What becomes of each workspace's demand on a quota: `passed` goes on to a later package, `over` is overage. */
  shares(row) {
    const later = [...this.quotas.values()].filter((r) => r.meter === row.meter && r.order > row.order);
    const listed = new Set(later.flatMap((r) => r.shares.map((s) => s.workspace)));
    return row.shares.map((share) => {
      const rest = share.demand - share.covered;
      const goesOn = listed.has(share.workspace);
      return { ...share, passed: goesOn ? rest : 0n, over: goesOn ? 0n : rest };
    });
  }

  /** Live overage of a workspace, meter, basis and retention, or 0. */
  overageOf(line) {
    return this.overage.get(overageKey(line))?.quantity ?? 0n;
  }
}

const newer = (known, row) => (known.version ?? -1) > (row.version ?? -1);
