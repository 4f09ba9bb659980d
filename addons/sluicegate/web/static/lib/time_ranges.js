// The time ranges on offer, and days, weeks and months in the viewer's own time zone.
import { useState, useEffect } from "./ui.js";

const MINUTE = 60_000,
  HOUR = 60 * MINUTE,
  DAY = 24 * HOUR;

export const RANGES = [
  ["1h", "Hour"],
  ["24h", "Day"],
  ["7d", "Week"],
  ["30d", "Month"],
];
export const RANGE_NAMES = {
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
