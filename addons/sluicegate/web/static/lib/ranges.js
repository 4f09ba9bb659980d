// Ranges of time people look at, and the days of the viewer's own zone.
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
export const RANGE_WORDS = {
  "1h": "the last hour",
  "24h": "the last 24 hours",
  "7d": "the last 7 days",
  "30d": "the last 30 days",
};

// A few minutes short of a full week: the gateway's buckets are a size larger from there on.
const LENGTH = { "1h": HOUR, "24h": DAY, "7d": 7 * DAY - 10 * MINUTE, "30d": 30 * DAY - 10 * MINUTE };

const minutes = (ms) => new Date(Math.floor(ms / MINUTE) * MINUTE).toISOString();

export const startOf = (range, now = Date.now()) => minutes(now - (LENGTH[range] || DAY));

/** Midnights of today, this Monday and the first of this month, and the same stretch of the day, week and month before. */
export function spans(now = new Date()) {
  const day = new Date(now.getFullYear(), now.getMonth(), now.getDate());
  const week = new Date(now.getFullYear(), now.getMonth(), now.getDate() - ((now.getDay() + 6) % 7));
  const month = new Date(now.getFullYear(), now.getMonth(), 1);
  const before = {
    day: new Date(now.getFullYear(), now.getMonth(), now.getDate() - 1),
    week: new Date(week.getFullYear(), week.getMonth(), week.getDate() - 7),
    month: new Date(now.getFullYear(), now.getMonth() - 1, 1),
  };
  const one = (start, earlier) => ({
    start: minutes(+start),
    before: { start: minutes(+earlier), end: minutes(Math.min(+earlier + (now - start), +start)) },
  });
  return { today: one(day, before.day), week: one(week, before.week), month: one(month, before.month) };
}

/** Changes every few minutes: what is reckoned from now is to be reckoned again. */
export function useEpoch(every = 5 * MINUTE) {
  const [epoch, set] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => set((n) => n + 1), every);
    return () => clearInterval(timer);
  }, [every]);
  return epoch;
}
