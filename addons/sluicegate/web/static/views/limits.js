// Budgets and rate limits: as bars, and as form fields.
import { html } from "../lib/ui.js";
import { Bar, Field, Select, Time } from "../lib/components.js";
import { count, moneys, nano, perPeriod, period, short } from "../lib/format.js";

export const PERIODS = [
  ["1h", "every hour"],
  ["1d", "every day"],
  ["1w", "every week"],
  ["1M", "every month"],
  ["1Y", "every year"],
  ["never", "never (prepaid)"],
];

export const timeZone = () => Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

const endOf = (raise) => (raise.until === "never" ? Infinity : Date.parse(raise.until));

/** The raises of a budget that have not ended, the next one to end first. */
export const runningRaises = (b) =>
  (b.raises ?? []).filter((r) => endOf(r) > Date.now()).sort((a, c) => (endOf(a) < endOf(c) ? -1 : 1));

/** A budget in the API's shape, as one line of a list. */
export function BudgetLine({ of }) {
  const [used, reserved, limit] = moneys([of.current_usage, of.reserved, of.limit_in_force]);
  return html`<div class="limit"><div class="limit-words"><span>
    <span class="money">${used}</span> <span class="faint">of ${limit} ${perPeriod(of.reset_duration)}${of.enforcement === "hard" ? ", hard" : ""}</span></span>
      <span class="faint">${of.reserved > 0 ? `${reserved} in flight, ` : ""}${of.resets_at ? html`resets <${Time} at=${of.resets_at} relative />` : "never resets"}</span></div>
    <${Bar} used=${nano(of.current_usage)} reserved=${nano(of.reserved)} limit=${nano(of.limit_in_force)} label=${`${used} of ${limit}`} />
    ${runningRaises(of).map((r) => html`<div class="note">Raised by ${moneys([r.amount])[0]} ${r.until === "never" ? "until it is taken back" : html`until <${Time} at=${r.until} seconds=${false} /> (${timeZone()}); then by itself as before`}</div>`)}</div>`;
}

export function RateLines({ of }) {
  const line = (unit, used, reserved, limit, window, resetsAt) =>
    limit !== null &&
    limit !== undefined &&
    html`<div class="limit" key=${unit}><div class="limit-words">
      <span>${short(used || 0)} <span class="faint">of ${count(limit)} ${unit}${window ? ` per ${period(window)}` : ""}</span></span>
      <span class="faint">${resetsAt ? html`resets <${Time} at=${resetsAt} relative />` : ""}</span></div>
    <${Bar} used=${used || 0} reserved=${reserved || 0} limit=${limit} label=${`${used} of ${limit} ${unit}`} /></div>`;
  return html`${line("calls", of.request_current_usage, of.request_reserved, of.request_max_limit, of.request_reset_duration, of.request_resets_at)}
    ${line("tokens", of.token_current_usage, of.token_reserved, of.token_max_limit, of.token_reset_duration, of.token_resets_at)}
    ${line("calls at once", of.concurrent_current_usage, 0, of.max_concurrent, null, null)}`;
}

export function Limits({ of }) {
  const budgets = [of.budget, ...(of.budgets || [])].filter(Boolean);
  if (!budgets.length && !of.rate_limit) return html`<p class="faint">No limits of its own.</p>`;
  return html`<div class="limits">${budgets.map((b) => html`<${BudgetLine} key=${b.reset_duration} of=${b} />`)}${of.rate_limit && html`<${RateLines} of=${of.rate_limit} />`}</div>`;
}

/** A budget as form values, all text or boolean. */
export const budgetValues = (b) => ({
  max_limit: b ? String(b.max_limit) : "",
  reset_duration: b?.reset_duration || "1M",
  enforcement: b?.enforcement || "soft",
  calendar_aligned: b?.calendar_aligned || false,
  timezone: b?.timezone && b.timezone !== "UTC" ? b.timezone : b?.calendar_aligned ? "UTC" : timeZone(),
});

/** The request body for form values; null for no budget. */
export function budgetBody(v) {
  if (String(v.max_limit).trim() === "") return null;
  return {
    max_limit: Number(v.max_limit),
    reset_duration: v.reset_duration,
    enforcement: v.enforcement,
    calendar_aligned: Boolean(v.calendar_aligned),
    timezone: v.calendar_aligned ? v.timezone : "UTC",
  };
}

export function BudgetFields({ values, set, error, optional }) {
  const periods = PERIODS.some(([p]) => p === values.reset_duration)
    ? PERIODS
    : [...PERIODS, [values.reset_duration, `every ${period(values.reset_duration)}`]];
  return html`<div class="fields">
    <${Field} label="Dollars" name="max_limit" type="number" min="0" step="any" required=${!optional} value=${values.max_limit} error=${error}
      hint=${optional ? "Leave empty for no budget" : null} onInput=${(max_limit) => set({ max_limit })} />
    <${Field} label="Resets" name="reset_duration" error=${error}>${(id) => html`<${Select} id=${id} value=${values.reset_duration} options=${periods} onInput=${(reset_duration) => set({ reset_duration })} />`}</${Field}>
    <${Field} label="Enforcement" name="enforcement" error=${error}
      hint=${values.enforcement === "hard" ? "A call is refused if its worst case does not fit." : "The call that crosses the limit passes; the next one is refused."}>
      ${(id) =>
        html`<${Select} id=${id} value=${values.enforcement} options=${[
          ["soft", "Soft"],
          ["hard", "Hard"],
        ]} onInput=${(enforcement) => set({ enforcement })} />`}</${Field}>
    ${
      values.reset_duration !== "never" &&
      html`<${Field} label="Align to the calendar" name="calendar_aligned" type="checkbox" value=${values.calendar_aligned}
      hint=${values.calendar_aligned ? `Resets at midnight in ${values.timezone}` : "The window starts with the first use"} onInput=${(calendar_aligned) => set({ calendar_aligned })} />`
    }
  </div>`;
}

export const rateValues = (r) => ({
  request_max_limit: r?.request_max_limit ?? "",
  request_reset_duration: r?.request_reset_duration || "1h",
  token_max_limit: r?.token_max_limit ?? "",
  token_reset_duration: r?.token_reset_duration || "1h",
  max_concurrent: r?.max_concurrent ?? "",
});

export function rateBody(v) {
  /** @type {Record<string, any>} */
  const body = {};
  for (const what of ["request", "token"]) {
    const given = String(v[`${what}_max_limit`]).trim() !== "";
    body[`${what}_max_limit`] = given ? Number(v[`${what}_max_limit`]) : null;
    body[`${what}_reset_duration`] = given ? v[`${what}_reset_duration`] : null;
  }
  body.max_concurrent = String(v.max_concurrent).trim() !== "" ? Number(v.max_concurrent) : null;
  return Object.values(body).some((x) => x !== null) ? body : null;
}

const RATE_PERIODS = [
  ["1m", "every minute"],
  ["5m", "every 5 minutes"],
  ["1h", "every hour"],
  ["1d", "every day"],
];

export function RateFields({ values, set, error }) {
  const window = (name) => {
    const options = RATE_PERIODS.some(([p]) => p === values[name]) ? RATE_PERIODS : [...RATE_PERIODS, [values[name], `every ${period(values[name])}`]];
    return html`<${Field} label="Resets" name=${name} error=${error}>${(id) => html`<${Select} id=${id} value=${values[name]} options=${options} onInput=${(v) => set({ [name]: v })} />`}</${Field}>`;
  };
  const limit = (label, name) =>
    html`<${Field} label=${label} name=${name} type="number" min="0" step="1" value=${values[name]} error=${error} onInput=${(v) => set({ [name]: v })} />`;
  return html`<div class="fields rates">${limit("Calls", "request_max_limit")}${window("request_reset_duration")}${limit("Tokens", "token_max_limit")}${window("token_reset_duration")}${limit("Calls at once", "max_concurrent")}</div>`;
}
