// Alerts of the day, newest first.

import { attribute, byId, h, icon, keyed, text } from "./dom.js";
import { clock } from "./days.js";
import { money, percent, short } from "./numbers.js";

/** "0.8" -> "80%" */
const share = (threshold) => `${Math.round(Number(threshold) * 1000) / 10}%`;

/** What an alert says: [icon, level, headline, detail]. */
function words(alert, meters, zone) {
  const meter = meters.get(alert.meter)?.name ?? (alert.meter || "All meters");
  const where = alert.package ? ` · ${alert.package}` : "";
  switch (alert.kind) {
    case "threshold": {
      const full = Number(alert.threshold) >= 1;
      return ["i-bell", full ? "full" : "near", full ? `${meter} is exhausted` : `${meter} passed ${share(alert.threshold)}`,
        `${short(alert.value)} of ${short(alert.quota)}${where}`];
    }
    case "forecast":
      return ["i-trend", "near", `${meter} will run out${alert.exhausts_at ? ` about ${clock(Date.parse(alert.exhausts_at), zone)}` : " before the day ends"}`,
        `${percent(alert.value, alert.quota)} used${where}`];
    case "high_consumption":
      return ["i-coin", "full", `High consumption: ${meter}`,
        `The day's charge is ${money(alert.amount)} ${alert.currency}, more than ${money(alert.threshold)}`];
    case "arrears":
      return ["i-coin", "full", "The account owes", `${money(alert.amount)} ${alert.currency}; it is locked after 14 days`];
    case "locked":
      return ["i-coin", "full", "The account is locked", `It owes ${money(alert.amount)} ${alert.currency} for more than 14 days`];
    default:
      return ["i-bell", "near", `${meter}: ${alert.kind.replaceAll("_", " ")}`, `${short(alert.value)} of ${short(alert.quota)}${where}`];
  }
}

export function renderAlerts(model, meters, zone, loaded) {
  const alerts = [...model.alerts.values()].sort((a, b) => b.when - a.when || b.threshold - a.threshold || (a.id < b.id ? 1 : -1));
  byId("alerts-empty").hidden = alerts.length > 0 || !loaded;
  byId("alerts-loading").hidden = alerts.length > 0 || loaded;
  byId("alerts").hidden = alerts.length === 0;
  text(byId("alerts-count"), alerts.length ? `${alerts.length} on this day` : "");
  keyed(byId("alerts"), alerts, (a) => a.id, create, (item, alert) => {
    const [sign, level, headline, detail] = words(alert, meters, zone);
    attribute(item, "data-level", level);
    attribute(item.querySelector("use"), "href", `#${sign}`);
    text(item.querySelector("strong"), headline);
    text(item.querySelector("p span"), detail);
    const time = item.querySelector("time");
    text(time, clock(alert.when, zone));
    attribute(time, "datetime", alert.at);
  });
}

function create(alert) {
  return h("li", { "data-alert": alert.id }, h("span", { class: "badge" }, icon("i-bell")),
    h("p", {}, h("strong"), h("br"), h("span", { class: "muted" })), h("time", { class: "figure" }));
}
