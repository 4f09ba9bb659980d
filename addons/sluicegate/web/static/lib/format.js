// How figures, times and words are shown. Money is never a binary fraction here: it is whole nano-dollars in a BigInt.

const NANO = 1_000_000_000n;

/** Nano-dollars of exact decimal text ("0.074"), or of a JSON number in dollars. */
export function nano(value) {
  if (typeof value === "bigint") return value;
  if (value === null || value === undefined || value === "") return 0n;
  let text = typeof value === "number" ? value.toFixed(9) : String(value).trim();
  const negative = text.startsWith("-");
  if (negative) text = text.slice(1);
  const found = /^(\d*)(?:\.(\d*))?$/.exec(text);
  if (!found) return 0n;
  const sum = BigInt(found[1] || "0") * NANO + BigInt((found[2] || "").slice(0, 9).padEnd(9, "0"));
  return negative ? -sum : sum;
}

const grouped = (digits) => digits.replace(/\B(?=(\d{3})+$)/g, ",");

/** Dollars with this many decimals, rounded half up, thousands grouped: "$1,234.50". */
export function money(value, decimals = 2) {
  let n = nano(value);
  const sign = n < 0n ? "−" : "";
  if (n < 0n) n = -n;
  const unit = 10n ** BigInt(9 - decimals);
  n = (n + unit / 2n) / unit;
  const text = n.toString().padStart(decimals + 1, "0");
  const whole = grouped(decimals ? text.slice(0, -decimals) : text);
  return `${sign}$${whole}${decimals ? "." + text.slice(-decimals) : ""}`;
}

/** Dollars at the precision that tells something: cents from a dollar on, more below. */
export function shortMoney(value) {
  const n = nano(value);
  const size = n < 0n ? -n : n;
  if (size === 0n || size >= NANO) return money(n, 2);
  if (size >= NANO / 100n) return money(n, 3);
  return size < NANO / 100_000n ? "<$0.0001" : money(n, 4);
}

/** Every digit there is: "$0.074". */
export function exactMoney(value) {
  const text = money(value, 9).replace(/0+$/, "").replace(/\.$/, "");
  const [whole, part = ""] = text.split(".");
  return `${whole}.${part.padEnd(2, "0")}`;
}

export const count = (n) => (n === null || n === undefined ? "–" : grouped(String(Math.round(Number(n)))));

/** A large count in three digits: 12.3k, 4.56M. */
export function short(n) {
  if (n === null || n === undefined) return "–";
  for (const [size, unit] of [
    [1e9, "B"],
    [1e6, "M"],
    [1e3, "k"],
  ]) {
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

/** Milliseconds as people say them. */
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

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const hour = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const dated = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

const sameDay = (a, b) => a.toDateString() === b.toDateString();

/** A moment in the viewer's zone: the time alone today, with the day otherwise. */
export function moment(iso, seconds = true) {
  const at = new Date(iso),
    now = new Date();
  if (sameDay(at, now)) return (seconds ? clock : hour).format(at);
  return `${(at.getFullYear() === now.getFullYear() ? day : dated).format(at)}, ${hour.format(at)}`;
}

export const fully = (iso) => whole.format(new Date(iso));
export const dateOf = (iso) => dated.format(new Date(iso));

/** A bucket's place on an axis or in a table. */
export const bucketLabel = (iso, seconds) => {
  const at = new Date(iso);
  // Days that begin at midnight UTC begin at another hour elsewhere.
  const midnight = at.getHours() === 0 && at.getMinutes() === 0;
  return seconds < 86_400 || !midnight ? `${day.format(at)} ${hour.format(at)}` : day.format(at);
};

/** How far away a moment is: "in 6 days", "3 min ago". */
export function away(iso, now = Date.now()) {
  const ms = new Date(iso) - now,
    size = Math.abs(ms);
  const said =
    size < 60_000
      ? `${Math.round(size / 1000)} s`
      : size < 3_600_000
        ? `${Math.round(size / 60_000)} min`
        : size < 86_400_000 * 1.5
          ? `${Math.round(size / 3_600_000)} h`
          : `${Math.round(size / 86_400_000)} days`;
  return ms >= 0 ? `in ${said}` : `${said} ago`;
}

const UNITS = { s: "second", m: "minute", h: "hour", d: "day", w: "week", M: "month", Y: "year" };

/** A window in words: "1M" is "month", "30m" is "30 minutes", null is "ever". */
export function period(text) {
  const found = /^(\d+)([smhdwMY])$/.exec(text || "");
  if (!found) return text && text !== "never" ? text : "ever";
  return found[1] === "1" ? UNITS[found[2]] : `${found[1]} ${UNITS[found[2]]}s`;
}

export const KIND_WORDS = {
  customer: "Customer",
  team: "Team",
  project: "Project",
  user: "User",
  virtual_key: "Key",
  provider_config: "Provider of a key",
  provider: "Provider",
  model: "Model",
};

const REASON_WORDS = {
  budget_exceeded: "budget exceeded",
  request_limited: "too many requests",
  token_limited: "too many tokens",
  concurrency_limited: "too many at once",
  model_blocked: "model not allowed",
  provider_blocked: "provider not allowed",
};
export const reasonWords = (reason) => REASON_WORDS[reason] || String(reason || "").replaceAll("_", " ");
