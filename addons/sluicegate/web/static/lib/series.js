// The call list's histograms as series for charts, and how charts format their values.
import { PALETTE } from "./chart.js";
import { money, moneys, shortMoney, short, count, duration } from "./format.js";

export const GROUPINGS = {
  models: ["model", "Model"],
  teams: ["team_id", "Team"],
  users: ["user_id", "User"],
  virtual_keys: ["virtual_key_id", "Key"],
};
const SINGULAR = {
  models: "model",
  teams: "team",
  users: "user",
  virtual_keys: "virtual_key",
  providers: "provider",
  customers: "customer",
  projects: "project",
};

/** The path of a histogram, optionally grouped by a dimension. */
export const histogram = (kind, by) => `/api/logs/histogram/${kind}${by ? `/by-${SINGULAR[by].replace("_", "-")}` : ""}`;

/** Cost per bucket: a series for each of the most expensive names and one for the rest. */
export function costSeries(response, by) {
  // A Map: someone may be called `constructor`, which every object has.
  const buckets = response.buckets.map((b) => /** @type {Map<string, number>} */ (new Map(Object.entries(b[`by_${SINGULAR[by]}`] || {})))),
    sums = new Map();
  for (const bucket of buckets) for (const [name, cost] of bucket) sums.set(name, (sums.get(name) || 0) + cost);
  const ranked = [...sums]
    .sort((a, b) => b[1] - a[1])
    .filter(([, v]) => v > 0)
    .map(([name]) => name);
  const shown = ranked.slice(0, ranked.length > 6 ? 5 : 6);
  const series = shown.map((name, i) => ({
    name: name || "none",
    colour: PALETTE[i],
    values: buckets.map((b) => b.get(name) || 0),
  }));
  if (ranked.length > shown.length) {
    const named = new Set(shown);
    series.push({
      name: `${ranked.length - shown.length} others`,
      colour: "--c6",
      values: buckets.map((b) => [...b].reduce((a, [n, v]) => a + (named.has(n) ? 0 : v), 0)),
    });
  }
  return series.length ? series : [{ name: "cost", colour: PALETTE[0], values: response.buckets.map((b) => b.total_cost) }];
}

export function callSeries(all, denied) {
  const refused = all.buckets.map((b, i) => denied?.buckets[i]?.count || 0);
  return [
    { name: "completed", colour: "--c1", values: all.buckets.map((b) => b.success) },
    { name: "refused", colour: "--c-warn", values: refused },
    { name: "failed or cancelled", colour: "--c-bad", values: all.buckets.map((b, i) => Math.max(0, b.error - refused[i])) },
  ];
}

const TOKEN_SERIES = [
  ["input_tokens", "input", "--c1"],
  ["output_tokens", "output", "--c3"],
  ["cache_read_tokens", "cache read", "--c2"],
  ["cache_write_tokens", "cache write", "--c4"],
];

export const tokenSeries = (response) =>
  TOKEN_SERIES.map(([field, name, colour]) => ({
    name,
    colour,
    values: response.buckets.map((b) =>
      field === "cache_write_tokens" ? (b.cache_write_5m_tokens || 0) + (b.cache_write_1h_tokens || 0) : b[field] || 0,
    ),
  }));

export const latencySeries = (response) =>
  [
    ["avg_latency", "mean", "--c1"],
    ["p90_latency", "90 %", "--c3"],
    ["p99_latency", "99 %", "--c-bad"],
  ].map(([field, name, colour]) => ({
    name,
    colour,
    values: response.buckets.map((b) => (b.total_requests ? b[field] : null)),
  }));

// How a chart formats values: under the pointer, in the table (all with the same decimals), on the axis, and a whole series.

export const MONEY = {
  format: (v) => (v >= 100 ? money(v, 0) : v >= 1 || v === 0 ? money(v, 2) : shortMoney(v)),
  cell: (v) => moneys([v], 4)[0],
  tick: (v, step) => money(v, step >= 1 ? 0 : step >= 0.01 ? 2 : 4),
  total: (s) => money(s.values.reduce((a, v) => a + v, 0)),
};

export const COUNT = {
  format: (v) => (v >= 10_000 ? short(v) : count(v)),
  cell: count,
  tick: (v) =>
    v < 1000 ? String(v) : `${+(v / (v < 1e6 ? 1e3 : v < 1e9 ? 1e6 : 1e9)).toFixed(2)}${v < 1e6 ? "k" : v < 1e9 ? "M" : "B"}`,
};

export const DURATION = {
  format: duration,
  cell: (v) => `${count(v)} ms`,
  tick: (v, step) =>
    step < 1000 ? `${v} ms` : step < 60_000 && v < 120_000 ? `${+(v / 1000).toFixed(1)} s` : `${+(v / 60_000).toFixed(1)} min`,
  /** Latencies do not add up, so show the latest. */
  total: (s) => duration(s.values.findLast((v) => v !== null)),
};
