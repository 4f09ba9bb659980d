// The time ranges on offer, and days, weeks and months in the viewer's own time zone.
import { html, useState, useEffect, useMemo } from "./ui.js";
import { moment } from "./format.js";
import { Choice } from "./components.js";

const MINUTE = 60_000,
  HOUR = 60 * MINUTE,
  DAY = 24 * HOUR;

export const RANGES = [
  ["1h", "Hour"],
  ["24h", "Day"],
  ["7d", "Week"],
  ["30d", "Month"],
];
/** @type {Record<string, string>} */
const RANGE_NAMES = {
  "1h": "the last hour",
  "24h": "the last 24 hours",
  "7d": "the last 7 days",
  "30d": "the last 30 days",
};

const LENGTH_MS = { "1h": HOUR, "24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY };

const wholeMinute = (ms) => new Date(Math.floor(ms / MINUTE) * MINUTE).toISOString();

export const startOf = (range, now = Date.now()) => wholeMinute(now - (LENGTH_MS[range] || DAY));

/** The starts of today, this week and this month, each with the same stretch of the previous day, week or month. */
export function spendPeriods(now = new Date()) {
  const day = new Date(now.getFullYear(), now.getMonth(), now.getDate());
  const week = new Date(now.getFullYear(), now.getMonth(), now.getDate() - ((now.getDay() + 6) % 7));
  const month = new Date(now.getFullYear(), now.getMonth(), 1);
  const previous = {
    day: new Date(now.getFullYear(), now.getMonth(), now.getDate() - 1),
    week: new Date(week.getFullYear(), week.getMonth(), week.getDate() - 7),
    month: new Date(now.getFullYear(), now.getMonth() - 1, 1),
  };
  const withPrevious = (start, earlier) => ({
    start: wholeMinute(+start),
    previous: { start: wholeMinute(+earlier), end: wholeMinute(Math.min(+earlier + (+now - +start), +start)) },
  });
  return { today: withPrevious(day, previous.day), week: withPrevious(week, previous.week), month: withPrevious(month, previous.month) };
}

/** A number that changes every few minutes, when whatever is computed from the current time is due again. */
export function useEpoch(every = 5 * MINUTE) {
  const [epoch, setEpoch] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setEpoch((n) => n + 1), every);
    return () => clearInterval(timer);
  }, [every]);
  return epoch;
}

/** A moment of the address bar as ISO text in UTC: a time, or a day, which begins at midnight here. Null for anything else. */
function instant(text) {
  const at = /^\d{4}-\d\d-\d\d$/.test(text) ? new Date(`${text}T00:00`) : /^\d{4}-\d\d-\d\dT/.test(text) ? new Date(text) : null;
  return at && !Number.isNaN(+at) ? at.toISOString() : null;
}

/** The query parameters by which an address says what time is meant. */
export const TIME_PARAMETERS = ["range", "start", "end"];

/** What is wrong with the times of an address, in words; null if nothing is. */
export function problemOfTimes(query) {
  const range = query.get("range"),
    [start, end] = ["start", "end"].map((name) => query.get(name));
  const words = [...RANGES.map(([r]) => r), "all"];
  if (range !== null && !words.includes(range)) return `range: must be one of ${words.join(", ")}, not “${range}”`;
  for (const [name, text] of [["start", start], ["end", end]])
    if (text !== null && !instant(text)) return `${name}: must be a day such as 2026-02-28 or a time such as 2026-02-28T12:00Z, not “${text}”`;
  if (range !== null && (start ?? end) !== null) return "range: send it, or start and end, not both";
  if (start !== null && end !== null && String(instant(start)) >= String(instant(end))) return "end: must be after start";
  return null;
}

/**
 * The time that an address means: `range` is one of RANGES, `all` or `custom`, `start` and `end` are ISO text or null for open,
 * `name` says it in words, `link` has the query parameters that say it again. It moves on with the clock unless it is custom,
 and only with `held` where that is given.
 *
 * @param {URLSearchParams} query
 * @param {number} [held]
 */
export function useTimes(query, held) {
  const [start, end] = ["start", "end"].map((name) => query.get(name));
  const range = (start ?? end) !== null ? "custom" : (query.get("range") ?? "24h");
  const epoch = useEpoch();
  const at = held ?? epoch;
  return useMemo(() => {
    if (range !== "custom")
      return {
        range,
        epoch,
        start: range === "all" ? null : startOf(range),
        end: null,
        name: RANGE_NAMES[range] ?? "all time",
        link: { range: range === "24h" ? null : range, start: null, end: null },
      };
    const [from, to] = [start && instant(start), end && instant(end)];
    const name = from && to ? `${moment(from, false)} to ${moment(to, false)}` : from ? `all since ${moment(from, false)}` : `all until ${moment(to, false)}`;
    return { range, epoch, start: from, end: to, name: `the time ${name}`, link: { range: null, start, end } };
  }, [range, start, end, at]);
}

/** Text of an input for a local time, from ISO text. */
const localText = (iso) => {
  const at = new Date(iso);
  return new Date(+at - at.getTimezoneOffset() * MINUTE).toISOString().slice(0, 16);
};

/** The parameters that choose a range, or begin a custom one where the present one is. */
export const chosen = (range, times) =>
  range === "custom"
    ? { range: null, start: times.start ?? startOf("30d"), end: times.end ?? wholeMinute(Date.now()) }
    : { range: range === "24h" ? null : range, start: null, end: null };

/** Two inputs for the ends of a custom range. */
export function CustomTimes({ times, set }) {
  if (times.range !== "custom") return null;
  const input = (name, label) =>
    html`<input type="datetime-local" aria-label=${label} value=${times[name] ? localText(times[name]) : ""} onChange=${(e) => set({ ...times.link, [name]: e.target.value ? new Date(e.target.value).toISOString() : null })} />`;
  return html`<span class="custom-times">${input("start", "From")}<span class="faint"> to </span>${input("end", "Until")}</span>`;
}

/** The choice of a time: the ranges on offer, or one of one's own. */
export function TimeChoice({ times, set }) {
  return html`<${CustomTimes} times=${times} set=${set} /><${Choice} label="Time" options=${[...RANGES, ["custom", "Custom"]]} value=${times.range} onChange=${(r) => set(chosen(r, times))} />`;
}
