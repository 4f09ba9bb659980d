// Budgets and rate limits: as bars, and as the fields that change them.
import { html } from "../lib/ui.js";
import { Bar, Field, Money, Select, Time } from "../lib/parts.js";
import { count, money, nano, period, short } from "../lib/format.js";

export const PERIODS = [
  ["1h", "an hour"],
  ["1d", "a day"],
  ["1w", "a week"],
  ["1M", "a month"],
  ["1Y", "a year"],
  ["never", "ever (prepaid)"],
];

const zone = () => Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

/** A budget in the API's shape, as one line of a list. */
export function BudgetLine({ of }) {
  const label = `${money(of.current_usage)} of ${money(of.max_limit)}`;
  return html`<div class="limit"><div class="limit-words"><span>
    <${Money} of=${of.current_usage} /> <span class="faint">of ${money(of.max_limit)} per ${period(of.reset_duration)}${of.enforcement === "hard" ? ", hard" : ""}</span></span>
      <span class="faint">${of.reserved > 0 ? `${money(of.reserved)} in flight, ` : ""}${of.resets_at ? html`resets <${Time} at=${of.resets_at} relative />` : "never resets"}</span></div>
    <${Bar} used=${nano(of.current_usage)} reserved=${nano(of.reserved)} limit=${nano(of.max_limit)} label=${label} /></div>`;
}

export function RateLines({ of }) {
  const line = (word, used, reserved, limit, each, resets) =>
    limit !== null &&
    limit !== undefined &&
    html`<div class="limit" key=${word}><div class="limit-words">
      <span>${short(used || 0)} <span class="faint">of ${count(limit)} ${word}${each ? ` per ${period(each)}` : ""}</span></span>
      <span class="faint">${resets ? html`resets <${Time} at=${resets} relative />` : ""}</span></div>
    <${Bar} used=${used || 0} reserved=${reserved || 0} limit=${limit} label=${`${used} of ${limit} ${word}`} /></div>`;
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
  timezone: b?.timezone && b.timezone !== "UTC" ? b.timezone : b?.calendar_aligned ? "UTC" : zone(),
});

/** What is sent for them; null where there is to be no budget. */
export function budgetSent(v) {
  if (String(v.max_limit).trim() === "") return null;
  const sent = {
    max_limit: Number(v.max_limit),
    reset_duration: v.reset_duration,
    enforcement: v.enforcement,
    calendar_aligned: Boolean(v.calendar_aligned),
  };
  sent.timezone = v.calendar_aligned ? v.timezone : "UTC";
  return sent;
}

export function BudgetFields({ values, set, error, optional }) {
  const periods = PERIODS.some(([p]) => p === values.reset_duration)
    ? PERIODS
    : [...PERIODS, [values.reset_duration, period(values.reset_duration)]];
  return html`<div class="fields">
    <${Field} label="Dollars" name="max_limit" type="number" min="0" step="any" required=${!optional} value=${values.max_limit} error=${error}
      hint=${optional ? "Empty: no budget here" : null} onInput=${(max_limit) => set({ max_limit })} />
    <${Field} label="per" name="reset_duration" error=${error}>${(id) => html`<${Select} id=${id} value=${values.reset_duration} options=${periods} onInput=${(reset_duration) => set({ reset_duration })} />`}</${Field}>
    <${Field} label="When it is used up" name="enforcement" error=${error}
      hint=${values.enforcement === "hard" ? "A call whose worst case does not fit is refused." : "The call that crosses the line passes, the next is refused."}>
      ${(id) =>
        html`<${Select} id=${id} value=${values.enforcement} options=${[
          ["soft", "Soft"],
          ["hard", "Hard"],
        ]} onInput=${(enforcement) => set({ enforcement })} />`}</${Field}>
    ${
      values.reset_duration !== "never" &&
      html`<${Field} label="Calendar days, weeks, months" name="calendar_aligned" type="checkbox" value=${values.calendar_aligned}
      hint=${values.calendar_aligned ? `Resets at midnight in ${values.timezone}` : "Resets a full window after the first use"} onInput=${(calendar_aligned) => set({ calendar_aligned })} />`
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

export function rateSent(v) {
  const sent = {};
  for (const what of ["request", "token"]) {
    const given = String(v[`${what}_max_limit`]).trim() !== "";
    sent[`${what}_max_limit`] = given ? Number(v[`${what}_max_limit`]) : null;
    sent[`${what}_reset_duration`] = given ? v[`${what}_reset_duration`] : null;
  }
  sent.max_concurrent = String(v.max_concurrent).trim() !== "" ? Number(v.max_concurrent) : null;
  return Object.values(sent).some((x) => x !== null) ? sent : null;
}

const RATES = [
  ["1m", "a minute"],
  ["5m", "5 minutes"],
  ["1h", "an hour"],
  ["1d", "a day"],
];

export function RateFields({ values, set, error }) {
  const each = (name) => {
    const options = RATES.some(([p]) => p === values[name]) ? RATES : [...RATES, [values[name], period(values[name])]];
    return html`<${Field} label="per" name=${name} error=${error}>${(id) => html`<${Select} id=${id} value=${values[name]} options=${options} onInput=${(v) => set({ [name]: v })} />`}</${Field}>`;
  };
  const limit = (label, name) =>
    html`<${Field} label=${label} name=${name} type="number" min="0" step="1" value=${values[name]} error=${error} onInput=${(v) => set({ [name]: v })} />`;
  return html`<div class="fields rates">${limit("Calls", "request_max_limit")}${each("request_reset_duration")}${limit("Tokens", "token_max_limit")}${each("token_reset_duration")}${limit("Calls at once", "max_concurrent")}</div>`;
}
