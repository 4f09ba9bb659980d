// How figures, times and terms are shown. Money is never a binary fraction here: it is whole nano-dollars in a BigInt.

const NANO = 1_000_000_000n;

/** Nano-dollars of exact decimal text ("0.074"), or of a JSON number in dollars. */
export function nano(value) {
  if (typeof value === "bigint") return value;
  if (value === null || value === undefined || value === "") return 0n;
  let text = typeof value === "number" ? value.toFixed(9) : String(value).trim();
  const negative = text.startsWith("-");
  if (negative) text = text.slice(1);
  const match = /^(\d*)(?:\.(\d*))?$/.exec(text);
  if (!match) return 0n;
  const sum = BigInt(match[1] || "0") * NANO + BigInt((match[2] || "").slice(0, 9).padEnd(9, "0"));
  return negative ? -sum : sum;
}

const grouped = (digits) => digits.replace(/\B(?=(\d{3})+$)/g, ",");

/** An amount in units of its last decimal, rounded half away from zero. */
function rounded(n, decimals) {
  const unit = 10n ** BigInt(9 - decimals),
    size = ((n < 0n ? -n : n) + unit / 2n) / unit;
  return n < 0n ? -size : size;
}

/**
 * Amounts that are shown side by side: each with cents (or `least` decimals) where they tell it from the others and from
 * zero, otherwise with as many more digits as that takes; below a cent with two digits that are not leading zeros.
 */
export function moneys(values, least = 2) {
  const amounts = values.map(nano),
    different = [0n, ...amounts];
  return amounts.map((n) => {
    const size = n < 0n ? -n : n;
    let decimals = n && size < NANO / 100n ? Math.min(9, Math.max(least, 11 - String(size).length)) : least;
    const isAlone = () => different.every((other) => other === n || rounded(other, decimals) !== rounded(n, decimals));
    while (decimals < 9 && !isAlone()) decimals += 1;
    const text = money(n, decimals);
    // Zeros behind the cents say nothing, and without them different amounts still differ.
    const end = text.indexOf(".") + 1 + least;
    return text.slice(0, end) + text.slice(end).replace(/0+$/, "");
  });
}

/**
 * Dollars, thousands grouped: "$1,234.50". Without `decimals`, cents, or more digits where cents would look like zero.
 * @param {any} value
 * @param {number} [decimals]
 */
export function money(value, decimals) {
  if (decimals === undefined) return moneys([value])[0];
  let n = nano(value);
  const sign = n < 0n ? "−" : "";
  if (n < 0n) n = -n;
  const unit = 10n ** BigInt(9 - decimals);
  n = (n + unit / 2n) / unit;
  const text = n.toString().padStart(decimals + 1, "0");
  const whole = grouped(decimals ? text.slice(0, -decimals) : text);
  return `${sign}$${whole}${decimals ? "." + text.slice(-decimals) : ""}`;
}

/** Dollars at a useful precision: cents from a dollar on, more digits below. */
export function shortMoney(value) {
  const n = nano(value);
  const size = n < 0n ? -n : n;
  if (size === 0n || size >= NANO) return money(n, 2);
  if (size >= NANO / 100n) return money(n, 3);
  return moneys([n], 4)[0];
}

/** Dollars with every digit, at least cents: "$0.074". */
export function exactMoney(value) {
  const text = money(value, 9).replace(/0+$/, "").replace(/\.$/, "");
  const [whole, part = ""] = text.split(".");
  return `${whole}.${part.padEnd(2, "0")}`;
}

/** The share of calls that completed among those that were not refused, from the API's statistics. */
export const completedShare = (stats) =>
  stats.completion_rate === null || stats.completion_rate === undefined ? "–" : percent(stats.completion_rate / 100, 1);

export const count = (n) => (n === null || n === undefined ? "–" : grouped(String(Math.round(Number(n)))));

/** @type {[number, string][]} */
const MAGNITUDES = [
  [1e9, "B"],
  [1e6, "M"],
  [1e3, "k"],
];

/** A large count in three digits: 12.3k, 4.56M. */
export function short(n) {
  if (n === null || n === undefined) return "–";
  for (const [size, unit] of MAGNITUDES) {
    if (n >= size * 0.9995) {
      const value = n / size;
      return `${value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : Math.round(value)}${unit}`;
    }
  }
  return String(Math.round(n));
}

export const bytes = (n) =>
  n === null || n === undefined
    ? "–"
    : n < 1000
      ? `${n} B`
      : `${short(n).replace("k", " k").replace("M", " M").replace("B", " G")}B`;

/** Milliseconds as people write durations. */
export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 9950 ? 1 : 0)} s`;
  const s = Math.round(ms / 1000);
  if (s < 3600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, "0")} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

export const percent = (share, decimals = 0) => (Number.isFinite(share) ? `${(100 * share).toFixed(decimals)} %` : "–");

const timeFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const minuteFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const dayFormat = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const dateFormat = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const fullFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

const sameDay = (a, b) => a.toDateString() === b.toDateString();

/** A moment in the viewer's time zone: today only the time, otherwise with the day. */
export function moment(iso, seconds = true) {
  const at = new Date(iso),
    now = new Date();
  if (sameDay(at, now)) return (seconds ? timeFormat : minuteFormat).format(at);
  return `${(at.getFullYear() === now.getFullYear() ? dayFormat : dateFormat).format(at)}, ${minuteFormat.format(at)}`;
}

export const fullTime = (iso) => fullFormat.format(new Date(iso));
export const dateOf = (iso) => dateFormat.format(new Date(iso));

/** The label of a bucket on an axis or in a table. */
export const bucketLabel = (iso, seconds) => {
  const at = new Date(iso);
  // Buckets of a day begin at midnight UTC, which is another hour elsewhere.
  const midnight = at.getHours() === 0 && at.getMinutes() === 0;
  return seconds < 86_400 || !midnight ? `${dayFormat.format(at)} ${minuteFormat.format(at)}` : dayFormat.format(at);
};

/** How far away a moment is: "in 6 days", "3 min ago". */
export function relativeTime(iso, now = Date.now()) {
  const ms = Date.parse(iso) - now,
    size = Math.abs(ms);
  const text =
    size < 60_000
      ? `${Math.round(size / 1000)} s`
      : size < 3_600_000
        ? `${Math.round(size / 60_000)} min`
        : size < 86_400_000 * 1.5
          ? `${Math.round(size / 3_600_000)} h`
          : `${Math.round(size / 86_400_000)} days`;
  return ms >= 0 ? `in ${text}` : `${text} ago`;
}

const PERIOD_UNITS = { s: "second", m: "minute", h: "hour", d: "day", w: "week", M: "month", Y: "year" };

/** A window in words: "1M" is "month", "30m" is "30 minutes". */
export function period(text) {
  const match = /^(\d+)([smhdwMY])$/.exec(text || "");
  if (!match) return text && text !== "never" ? text : "unlimited";
  return match[1] === "1" ? PERIOD_UNITS[match[2]] : `${match[1]} ${PERIOD_UNITS[match[2]]}s`;
}

/** What an amount is counted over: "per month"; "in total" for a limit that never resets. */
export const perPeriod = (text) => (text && text !== "never" ? `per ${period(text)}` : "in total");

export const SCOPE_NAMES = {
  customer: "Customer",
  team: "Team",
  project: "Project",
  user: "User",
  virtual_key: "Virtual key",
  provider_config: "Key's provider",
  provider: "Provider",
  model: "Model",
};

const REASON_TEXTS = {
  budget_exceeded: "budget exceeded",
  request_limited: "too many requests",
  token_limited: "too many tokens",
  concurrency_limited: "too many calls at once",
  model_blocked: "model not allowed",
  provider_blocked: "provider not allowed",
};
export const reasonText = (reason) => REASON_TEXTS[reason] || String(reason || "").replaceAll("_", " ");
