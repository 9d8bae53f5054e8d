// What is said of the stream: live, broken since when, and how old the figures are.

import { byId, text } from "./dom.js";
import { duration, now } from "./days.js";

/** `link`: {state, heard, nextTry} of the stream; `problem`: why a part of the page could not be loaded, if so. */
export function renderStatus({ state, heard, nextTry }, model, problem) {
  const behind = state === "live" && model.heartbeat?.live === false;
  const broken = state === "broken" || behind;
  const age = heard ? duration(Date.now() - heard) : null;
  // Once for a screen reader, and not with every second that passes.
  if (heard) text(byId("said"), broken ? "The stream is broken. The figures are old." : "The figures are live.");
  byId("live").dataset.state = broken ? "broken" : state;
  text(byId("live-state"), broken ? "Not live" : state === "live" ? "Live" : "Connecting");
  text(byId("live-detail"), broken ? (age ?? "") : lastChange(model.heartbeat));
  byId("main").dataset.stale = String(broken);
  byId("banner").hidden = !broken && !problem;
  byId("banner-retry").hidden = state !== "broken";
  if (behind) banner("The API cannot see the newest records.", "The figures may be old; they go on by themselves.");
  else if (broken) banner("The stream is broken.", `The figures are ${age ? `${age} old` : "not there yet"}. ${waiting(nextTry)}`);
  else if (problem) banner("A part of the page is missing.", `${problem.message}. It is asked for again.`);
}

const lastChange = (heartbeat) => (heartbeat?.newest_at ? `changed ${duration(now() - Date.parse(heartbeat.newest_at))} ago` : "");

const waiting = (nextTry) => (nextTry > Date.now() ? `Trying again in ${Math.ceil((nextTry - Date.now()) / 1000)} s.` : "Trying again now.");

function banner(what, detail) {
  text(byId("banner-what"), what);
  text(byId("banner-detail"), detail);
}
