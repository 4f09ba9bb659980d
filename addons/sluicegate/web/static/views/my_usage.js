// A developer's own view: remaining limits, spend, and the lines that set up a machine.
import { html, useMemo } from "../lib/ui.js";
import { url, useGet } from "../lib/api.js";
import { go, link } from "../lib/router.js";
import { useLive, useTick } from "../lib/live_calls.js";
import { Fetched, Money, Outcome, Page, Section, Time } from "../lib/components.js";
import { Chart } from "../lib/chart.js";
import { TIME_PARAMETERS, TimeChoice, spendPeriods, useTimes } from "../lib/time_ranges.js";
import { COUNT, MONEY, costSeries, histogram, tokenSeries } from "../lib/series.js";
import { SCOPE_NAMES, completedShare, count, duration, money, moneys, percent, reasonText, short } from "../lib/format.js";
import { BudgetLine, RateLines } from "./limits.js";
import { ClientSetup } from "./client_setup.js";
import { SignIns } from "./sign_ins.js";

export const PARAMETERS = TIME_PARAMETERS;

export default function MyUsage({ query, user }) {
  const times = useTimes(query);
  const quota = useGet("/api/governance/virtual-keys/quota", { every: 5000 });
  const completed = useGet("/api/logs?outcome=completed&limit=1", { every: 10_000 });
  const isNew = completed.data && !completed.data.logs.length;
  return html`<${Page} title="My usage" lead=${quota.data ? `Virtual key ${quota.data.virtual_key_name || user.virtual_key_id}` : ""}
      actions=${!isNew && html`<${TimeChoice} times=${times} set=${(changes) => go([], changes, { replace: true })} />`}>
    <${Blocked} quota=${quota.data} />
    ${isNew ? html`<${Section} title="Your first call" note="in a terminal"><${Setup} quota=${quota.data} value=${user.virtual_key_id} />
      ${quota.data?.kind === "value" && html`<p class="note">If your key's value differs from its id, use the value.</p>`}
      </${Section}>` : html`<${Spend} epoch=${times.epoch} />`}
    <${Section} title="Your limits"><${Fetched} of=${quota}>${(q) => html`<${Remaining} q=${q} />`}</${Fetched}></${Section}>
    <${SignIns} title="Where you are signed in" canEnd />
    ${
      !isNew &&
      html`<${Charts} chosen=${times} />
      <div class="columns"><${Now} /><${Section} title="Set up another machine">
        <${Setup} quota=${quota.data} value=${"<your key>"} /></${Section}></div>`
    }
  </${Page}>`;
}

/** How to set up a client: the lines with a key, or for a key without a value how to sign in. */
function Setup({ quota, value }) {
  if (!quota) return null;
  if (quota.kind !== "session") return html`<${ClientSetup} value=${value} />`;
  return html`<p>In Claude Code, run <code>/login</code>, choose the gateway <code>${location.origin}</code>, and approve in the browser that opens. You need no key.</p>`;
}

/** Why calls are refused now, as far as the key's limits tell, in a few words each. */
function reasonsOf(q) {
  const found = [];
  if (!q.is_active) found.push("the key is disabled");
  if (q.expires_at && Date.parse(q.expires_at) <= Date.now()) found.push(html`the key has expired <${Time} at=${q.expires_at} />`);
  const level = (l) => `${(SCOPE_NAMES[l.source] || l.source).toLowerCase()} ${l.scope_id}`;
  const until = (at) => (at ? html`, until <${Time} at=${at} />` : ", and never resets");
  for (const b of q.budgets)
    if (b.current_usage >= b.limit_in_force) {
      const [used, limit] = moneys([b.current_usage, b.limit_in_force]);
      found.push(html`the budget of ${level(b)} is used up (${used} of ${limit})${until(b.resets_at)}`);
    }
  for (const r of q.rate_limits)
    for (const [unit, name] of [["request", "calls"], ["token", "tokens"]])
      if (r[`${unit}_max_limit`] !== null && r[`${unit}_current_usage`] >= r[`${unit}_max_limit`])
        found.push(html`${level(r)} has used its ${count(r[`${unit}_max_limit`])} ${name}${until(r[`${unit}_resets_at`])}`);
  return found;
}

/** A banner for a developer whose calls are refused, and why; else for one whose last call was, in the words its client got. */
function Blocked({ quota }) {
  const latest = useGet("/api/logs?limit=1", { every: 5000 });
  const reasons = quota ? reasonsOf(quota) : [];
  const call = latest.data?.logs[0];
  const isDenied = call?.outcome === "denied";
  if (!reasons.length && !isDenied) return null;
  return html`<div class="notice warn" role="status">
    <b>${reasons.length ? "Your calls are refused" : "Your last call was refused"}</b>${reasons.map((r, i) => html`${i ? "; " : ": "}${r}`)}.
    ${isDenied && html`<p>${reasons.length ? "The last call was told" : html`<${Time} at=${call.started_at} />`}: <span class="mono">${call.message ?? reasonText(call.reason)}</span>${" "}
      <a href=${link(["calls", call.id], { range: "all" })}>What was checked</a></p>`}
  </div>`;
}

function Spend({ epoch }) {
  const periods = useMemo(() => spendPeriods(), [epoch]);
  return html`<dl class="stats big">
    <${Spent} title="Today" start=${periods.today.start} />
    <${Spent} title="This week" start=${periods.week.start} />
    <${Spent} title="This month" start=${periods.month.start} />
  </dl>`;
}

function Spent({ title, start }) {
  const { data, error } = useGet(url("/api/logs/stats", { start }), { every: 10_000, keep: true });
  return html`<div class="stat"><dt>${title}</dt><dd>${data ? money(data.total_cost) : "…"}</dd>
    <dd class="note">${error ? error.message : data ? `${count(data.total_requests)} calls, ${short(data.total_tokens)} tokens${data.total_shadow_cost > 0 ? `, ${money(data.total_shadow_cost)} by subscription` : ""}` : " "}</dd></div>`;
}

function Remaining({ q }) {
  const limits = [...q.budgets.map((b) => ["budget", b]), ...q.rate_limits.map((r) => ["rate", r])];
  const allowed = q.provider_configs;
  return html`${
    limits.length === 0
      ? html`<p class="faint">This key has no limits.</p>`
      : html`<div class="limits">${limits.map(
          ([
            what,
            l,
          ]) => html`<div key=${what + l.source + l.scope_id + l.reset_duration}>
            <p class="note">${SCOPE_NAMES[l.source] || l.source.replace("virtual_key", "Virtual key")} ${l.scope_id}</p>
    ${what === "budget" ? html`<${BudgetLine} of=${l} />` : html`<${RateLines} of=${l} />`}</div>`,
        )}</div>`
  }
    ${allowed && html`<p class="section">Allowed models: ${allowed.map((c) => `${c.provider}: ${c.allowed_models ? c.allowed_models.join(", ") || "no model" : "every model"}`).join("; ")}.</p>`}
`;
}

function Charts({ chosen }) {
  const { start, end } = chosen;
  const options = { every: 10_000, keep: true };
  const cost = useGet(url(histogram("cost", "models"), { start, end }), options),
    tokens = useGet(url(histogram("tokens"), { start, end }), options),
    all = useGet(url("/api/logs/stats", { start, end }), options);
  const series = {
    cost: useMemo(() => cost.data && costSeries(cost.data, "models"), [cost.data]),
    tokens: useMemo(() => tokens.data && tokenSeries(tokens.data), [tokens.data]),
  };
  const times = {
    cost: useMemo(() => cost.data?.buckets.map((b) => b.timestamp), [cost.data]),
    tokens: useMemo(() => tokens.data?.buckets.map((b) => b.timestamp), [tokens.data]),
  };
  const cacheRead = (tokens.data?.buckets || []).reduce((a, b) => a + b.cache_read_tokens, 0),
    prompt = (tokens.data?.buckets || []).reduce((a, b) => a + b.prompt_tokens, 0);
  return html`<${Section} title=${`In ${chosen.name}`} actions=${html`<a href=${link(["calls"], chosen.link)}>My calls</a>`}>
    <${Fetched} of=${all} lines=${2}>${(
    s,
  ) => html`<dl class="stats minor">
      <div class="stat"><dt>Calls</dt><dd>${count(s.total_requests)}</dd></div><div class="stat"><dt>Completed, of admitted</dt>
        <dd>${completedShare(s)}</dd></div><div class="stat"><dt>Mean latency</dt>
        <dd>${s.total_requests ? duration(s.average_latency) : "–"}</dd></div><div class="stat"><dt>Prompt read from cache</dt>
        <dd>${prompt ? percent(cacheRead / prompt) : "–"}</dd></div></dl>`}</${Fetched}></${Section}>
    <div class="section charts">
      <div><${Fetched} of=${cost}>${(d) => html`<${Chart} title="Cost" note="by model" buckets=${times.cost} seconds=${d.bucket_size_seconds} series=${series.cost} ...${MONEY} />`}</${Fetched}></div>
      <div><${Fetched} of=${tokens}>${(d) => html`<${Chart} title="Tokens" buckets=${times.tokens} seconds=${d.bucket_size_seconds} series=${series.tokens} ...${COUNT} />`}</${Fetched}></div></div>`;
}

function Now() {
  const live = useLive(),
    running = [...live.running.values()];
  useTick(running.length > 0);
  const shown = [...running.reverse(), ...live.ended].slice(0, 8);
  return html`<${Section} title="Now" note=${live.connected ? `${live.running.size} running` : "connecting …"}>${shown.length === 0 ? html`<p class="faint">No calls right now.</p>` : html`<ul class="live-list">${shown.map((c) => html`<li key=${c.id}>
    <a class="name" href=${link(["calls", c.id])}>${c.model_requested || c.path}</a><${Outcome} call=${c} />
    <span class="num">${c.outcome ? html`<${Money} of=${c.cost_usd} decimals=${4} />` : duration(Math.max(0, Date.now() - Date.parse(c.started_at)))}</span></li>`)}</ul>`}</${Section}>`;
}
