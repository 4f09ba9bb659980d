// Overview: what is spent and by whom, how calls fare, and what is in flight.
import { html, useMemo } from "../lib/ui.js";
import { useGet, url } from "../lib/api.js";
import { go, link } from "../lib/router.js";
import { useLive, useTick } from "../lib/live_calls.js";
import { Bar, Fetched, Money, Outcome, Page, Section, moneyBar } from "../lib/components.js";
import { Chart } from "../lib/chart.js";
import { TIME_PARAMETERS, TimeChoice, spendPeriods, useTimes } from "../lib/time_ranges.js";
import { COUNT, DURATION, GROUPINGS, MONEY, callSeries, costSeries, histogram, latencySeries, tokenSeries } from "../lib/series.js";
import { SCOPE_NAMES, completedShare, count, duration, money, moneys, nano, percent, perPeriod, short, shortMoney } from "../lib/format.js";
import { FirstCall } from "./first_call.js";

const REFRESH_MS = 10_000;

export const PARAMETERS = [...TIME_PARAMETERS, "by"];

export default function Overview({ query, user }) {
  const times = useTimes(query);
  const by = Object.hasOwn(GROUPINGS, query.get("by")) ? query.get("by") : "models";
  const completed = useGet("/api/logs?outcome=completed&limit=1");
  const set = (more) =>
    go([], { ...times.link, by: by === "models" ? null : by, ...more }, { replace: true });
  if (completed.data && !completed.data.logs.length) return html`<${FirstCall} reload=${completed.reload} isAdmin=${user.role === "admin"} />`;
  return html`<${Page} title="Overview" actions=${html`<${TimeChoice} times=${times} set=${set} />`}>
    <${Spend} epoch=${times.epoch} />
    <${Totals} times=${times} />
    <${Charts} ...${{ times, by, set }} />
    <div class="columns three">
      <${Now} />
      <${NearestToLimit} />
      <${Latencies} times=${times} />
    </div>
    <div class="columns three">
      ${[
        ["users", "Top users", "user_id"],
        ["teams", "Top teams", "team_id"],
        ["models", "Top models", "model"],
      ].map(
        ([d, title, column]) =>
          html`<${Ranking} key=${d} title=${title} dimension=${d} column=${column} times=${times} />`,
      )}
    </div>
  </${Page}>`;
}

const stats = (query) => url("/api/logs/stats", query);

function Spend({ epoch }) {
  const periods = useMemo(() => spendPeriods(), [epoch]);
  return html`<dl class="stats big">
    <${Spent} title="Today" period=${periods.today} comparison="yesterday by this time" />
    <${Spent} title="This week" period=${periods.week} comparison="last week by this time" />
    <${Spent} title="This month" period=${periods.month} comparison="last month by this time" />
    <${LargestBudget} />
  </dl>`;
}

function Spent({ title, period, comparison }) {
  const now = useGet(stats({ start: period.start }), { every: REFRESH_MS, keep: true });
  const previous = useGet(stats(period.previous), { keep: true });
  return html`<div class="stat"><dt>${title}</dt><dd>${now.data ? money(now.data.total_cost) : "…"}</dd>
    <dd class="note">${now.error ? now.error.message : previous.data ? `${money(previous.data.total_cost)} ${comparison}` : " "}</dd></div>`;
}

/** The largest budget of the highest level that has one, to read spend against. */
function LargestBudget() {
  const usage = useGet("/api/usage?unit=usd&sort_by=size&limit=1", { every: REFRESH_MS });
  const row = usage.data?.usage[0];
  if (!row) return null;
  const [used, limit, forecast] = moneys([row.used_usd, row.limit_usd, row.forecast_usd]);
  return html`<div class="stat"><dt>${row.name || row.id}, ${perPeriod(row.window)}</dt>
    <dd>${percent(Number(nano(row.used_usd)) / Math.max(1, Number(nano(row.limit_usd))))}</dd>
    <dd class="note">${used} of ${limit}${row.forecast_usd ? `, ${forecast} forecast` : ""}</dd></div>`;
}

function Totals({ times }) {
  const { start, end } = times;
  const all = useGet(stats({ start, end }), { every: REFRESH_MS, keep: true });
  const tokens = useGet(url(histogram("tokens"), { start, end }), { every: REFRESH_MS, keep: true });
  const calls = all.data?.total_requests || 0,
    refused = all.data?.denied_requests || 0,
    admitted = calls - refused;
  const sum = (field) => (tokens.data?.buckets || []).reduce((a, b) => a + (b[field] || 0), 0);
  const cacheRead = sum("cache_read_tokens"),
    prompt = sum("prompt_tokens");
  return html`<${Section} title=${`In ${times.name}`}>
    <${Fetched} of=${all} lines=${2}>${() => html`<dl class="stats minor">
      <div class="stat"><dt>Calls</dt><dd>${count(calls)}</dd></div>
      <div class="stat"><dt>Completed, of admitted</dt><dd>${completedShare(all.data)}</dd></div>
      <div class="stat"><dt>Refused</dt><dd>
        <a href=${link(["calls"], { outcome: "denied", ...times.link })}>${calls ? percent(refused / calls, 1) : "–"}</a></dd></div>
      <div class="stat"><dt>Mean latency</dt><dd>${calls ? duration(all.data.average_latency) : "–"}</dd></div>
      <div class="stat"><dt>Tokens</dt><dd>${short(all.data.total_tokens)}</dd></div>
      <div class="stat"><dt>Prompt read from cache</dt><dd>${prompt ? percent(cacheRead / prompt) : "–"}</dd></div>
      ${all.data.total_shadow_cost > 0 && html`<div class="stat"><dt>Paid by subscriptions, at list price</dt><dd>${money(all.data.total_shadow_cost)}</dd></div>`}
      <div class="stat"><dt>Cost per call</dt><dd>${admitted > 0 ? shortMoney(all.data.total_cost / admitted) : "–"}</dd></div>
    </dl>`}</${Fetched}>
  </${Section}>`;
}

function Charts({ times: { start, end }, by, set }) {
  const options = { every: REFRESH_MS, keep: true };
  const cost = useGet(url(histogram("cost", by), { start, end }), options);
  const calls = useGet(url("/api/logs/histogram", { start, end }), options);
  const denied = useGet(url("/api/logs/histogram", { start, end, outcome: "denied" }), options);
  const tokens = useGet(url(histogram("tokens"), { start, end }), options);
  const latency = useGet(url(histogram("latency"), { start, end, outcome: "completed" }), options);
  const seriesOf = {
    cost: useMemo(() => cost.data && costSeries(cost.data, by), [cost.data]),
    calls: useMemo(() => calls.data && callSeries(calls.data, denied.data), [calls.data, denied.data]),
    tokens: useMemo(() => tokens.data && tokenSeries(tokens.data), [tokens.data]),
    latency: useMemo(() => latency.data && latencySeries(latency.data), [latency.data]),
  };
  const grouping = html`<label class="sr" for="cost-by">Group by</label>
    <select id="cost-by" onChange=${(e) => set({ by: e.target.value === "models" ? null : e.target.value })}>
    ${Object.entries(GROUPINGS).map(([d, [, title]]) => html`<option value=${d} selected=${d === by}>by ${title.toLowerCase()}</option>`)}</select>`;
  const chart = (name, of, more) =>
    html`<div key=${name}>
      <${Fetched} of=${of}>${(d) => html`<${Chart} buckets=${timesOf(d)} seconds=${d.bucket_size_seconds} series=${seriesOf[name] || []} ...${more} />`}</${Fetched}></div>`;
  return html`<div class="section charts">
    ${chart("cost", cost, { title: "Cost", ...MONEY, actions: grouping })}
    ${chart("calls", calls, { title: "Calls", ...COUNT })}
    ${chart("tokens", tokens, { title: "Tokens", ...COUNT })}
    ${chart("latency", latency, { title: "Latency", note: "completed calls", kind: "lines", ...DURATION })}
  </div>`;
}

const times = new WeakMap();
/** The buckets' times; the same array for the same response, so that a redraw does not rebuild the chart. */
function timesOf(response) {
  if (!times.has(response))
    times.set(
      response,
      response.buckets.map((b) => b.timestamp),
    );
  return times.get(response);
}

const LATENCY_CLASSES = [
  [500, "under 0.5 s"],
  [1000, "0.5 – 1 s"],
  [2000, "1 – 2 s"],
  [4000, "2 – 4 s"],
  [8000, "4 – 8 s"],
  [16_000, "8 – 16 s"],
  [32_000, "16 – 32 s"],
  [64_000, "32 – 64 s"],
  [Infinity, "over 64 s"],
];

/** How many calls took how long, by class. */
function Latencies({ times: { start, end } }) {
  const { data } = useGet(url(histogram("latency"), { start, end, outcome: "completed" }), { every: REFRESH_MS, keep: true });
  const counts = LATENCY_CLASSES.map(() => 0);
  for (const { under_ms: under, calls } of data?.distribution || [])
    counts[LATENCY_CLASSES.findIndex(([edge]) => (under ?? Infinity) <= edge)] += calls;
  const highest = Math.max(1, ...counts);
  return html`<${Section} title="Latency distribution" note="completed calls">
    <table class="data plain"><thead class="sr"><tr><th scope="col">Latency</th><th scope="col">Share</th>
      <th scope="col">Calls</th></tr></thead><tbody>
    ${LATENCY_CLASSES.map(
      ([, title], i) => html`<tr key=${title}><th scope="row" class="nowrap">${title}</th>
      <td class="bar-cell"><${Bar} plain used=${counts[i]} limit=${highest} label=${`${title}: ${counts[i]} calls`} /></td>
      <td class="num">${count(counts[i])}</td></tr>`,
    )}
    </tbody></table>
  </${Section}>`;
}

function Now() {
  const live = useLive();
  const running = [...live.running.values()].slice(-8).reverse();
  useTick(running.length > 0);
  const ended = live.ended.slice(0, Math.max(3, 8 - running.length));
  return html`<${Section} title="Now" note=${live.connected ? `${live.running.size} running` : "connecting …"} actions=${html`<a href=${link(["calls"], { live: 1 })}>Live tail</a>`}>
    ${
      running.length + ended.length === 0
        ? html`<p class="faint">No calls right now. They appear here as they happen.</p>`
        : html`<ul class="live-list">
      ${[...running, ...ended].map(
        (c) => html`<li key=${c.id}>
        <a class="name" href=${link(["calls", c.id])}>${c.user_id || c.virtual_key_id || "unknown"} <span class="faint">${c.model_requested || c.path || ""}</span></a>
        <${Outcome} call=${c.reason ? { ...c, reason: null } : c} />
          <span class="num">${c.outcome ? html`<${Money} of=${c.cost_usd} decimals=${4} />` : duration(Math.max(0, Date.now() - Date.parse(c.started_at)))}</span></li>`,
      )}
    </ul>`
    }
  </${Section}>`;
}

function NearestToLimit() {
  const usage = useGet("/api/usage?unit=usd&sort_by=share&limit=6", { every: REFRESH_MS });
  return html`<${Section} title="Closest to their limit" actions=${html`<a href=${link(["budgets"])}>All budgets</a>`}>
    <${Fetched} of=${usage}>${({ usage: nearest }) => {
      if (nearest.length === 0)
        return html`<p class="faint">No budgets yet. <a href=${link(["budgets"])}>Budgets</a> cap what a key, user, team or customer may spend.</p>`;
      return html`<ul class="rank">${nearest.map(
        (r) => html`<li key=${r.kind + r.id + r.window}>
        <span class="name">${r.name || r.id} <span class="faint">${(SCOPE_NAMES[r.kind] || r.kind).toLowerCase()}, ${perPeriod(r.window)}</span></span>
        <span class="money">${usedOf(r)}
          </span>${moneyBar(r, r.id)}</li>`,
      )}</ul>`;
    }}</${Fetched}>
  </${Section}>`;
}

function usedOf(row) {
  const [used, limit] = moneys([row.used_usd, row.limit_usd]);
  return html`${used} <span class="faint">of ${limit}</span>`;
}

const PARAMETER = { user_id: "user", team_id: "team", model: "model" };

function Ranking({ title, dimension, column, times }) {
  const resource = useGet(url("/api/logs/rankings", { dimension, rank_by: "cost", start: times.start, end: times.end, limit: 7 }), { every: REFRESH_MS, keep: true });
  return html`<${Section} title=${title} note="by cost">
    <${Fetched} of=${resource}>${({ rankings }) => {
      const highest = Math.max(1e-9, ...rankings.map((r) => r.total_cost));
      if (!rankings.length) return html`<p class="faint">No calls in this period.</p>`;
      return html`<ul class="rank">${rankings.map(
        (r, i) => html`<li key=${i}>
        ${r[column] ? html`<a class="name" href=${link(["calls"], { [PARAMETER[column]]: r[column], ...times.link })} title=${r[column]}>${r.name ?? r[column]} ${r.name && r.name !== r[column] && html`<span class="faint">${r[column]}</span>`}</a>` : html`<span class="name faint">none</span>`}
        <span class="money">${money(r.total_cost)} <span class="faint">${short(r.total_requests)} calls</span></span>
        <${Bar} plain used=${r.total_cost} limit=${highest} label=${`${r[column] || "none"}: ${money(r.total_cost)}`} /></li>`,
      )}</ul>`;
    }}</${Fetched}>
  </${Section}>`;
}
