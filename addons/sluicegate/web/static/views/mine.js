// A developer's own view: what is left, what was spent, and the lines for the own machine.
import { html, useMemo } from "../lib/ui.js";
import { url, useGet } from "../lib/api.js";
import { go, link } from "../lib/route.js";
import { useLive, useTick } from "../lib/live.js";
import { Choice, Fetched, Money, Outcome, Page, Section } from "../lib/parts.js";
import { Chart } from "../lib/chart.js";
import { RANGES, RANGE_WORDS, spans, startOf, useEpoch } from "../lib/ranges.js";
import { COUNT, MONEY, costSeries, histogram, tokenSeries } from "../lib/logs.js";
import { KIND_WORDS, count, duration, money, percent, short } from "../lib/format.js";
import { BudgetLine, RateLines } from "./limits.js";
import { Handout } from "./handout.js";

export default function Mine({ query, who }) {
  const range = RANGES.some(([r]) => r === query.get("range")) ? query.get("range") : "24h";
  const epoch = useEpoch(),
    start = useMemo(() => startOf(range), [range, epoch]);
  const quota = useGet("/api/governance/virtual-keys/quota", { every: 5000 });
  const first = useGet("/api/logs?limit=1", { every: 10_000 });
  const fresh = first.data && !first.data.has_logs;
  return html`<${Page} title="My usage" lead=${quota.data ? `Key ${quota.data.virtual_key_name || who.virtual_key_id}` : ""}
      actions=${!fresh && html`<${Choice} label="Time" options=${RANGES} value=${range} onChange=${(r) => go([], { range: r === "24h" ? null : r }, { replace: true })} />`}>
    ${fresh ? html`<${Section} title="Your first call" note="in a terminal"><${Handout} value=${who.virtual_key_id} />
      <p class="note">Write your key's own value where it differs from its id.</p>
      </${Section}>` : html`<${Spend} epoch=${epoch} />`}
    <${Section} title="What is left"><${Fetched} of=${quota}>${(q) => html`<${Left} q=${q} />`}</${Fetched}></${Section}>
    ${
      !fresh &&
      html`<${Over} start=${start} range=${range} />
      <div class="columns"><${Now} /><${Section} title="Set up another machine">
        <${Handout} value=${"<your key>"} /></${Section}></div>`
    }
  </${Page}>`;
}

function Spend({ epoch }) {
  const all = useMemo(() => spans(), [epoch]);
  return html`<dl class="stats big">${[
    ["Today", all.today],
    ["This week", all.week],
    ["This month", all.month],
  ].map(([word, of]) => html`<${Spent} key=${word} word=${word} start=${of.start} />`)}</dl>`;
}

function Spent({ word, start }) {
  const { data, error } = useGet(url("/api/logs/stats", { start }), { every: 10_000, keep: true });
  return html`<div class="stat"><dt>${word}</dt><dd>${data ? money(data.total_cost) : "…"}</dd>
    <dd class="note">${error ? error.message : data ? `${count(data.total_requests)} calls, ${short(data.total_tokens)} tokens` : " "}</dd></div>`;
}

function Left({ q }) {
  const levels = [...q.budgets.map((b) => ["budget", b]), ...q.rate_limits.map((r) => ["rate", r])];
  const allowed = q.provider_configs;
  return html`${
    levels.length === 0
      ? html`<p class="faint">Nothing limits this key.</p>`
      : html`<div class="limits">${levels.map(
          ([
            what,
            l,
          ]) => html`<div key=${what + l.source + l.scope_id + l.reset_duration}>
            <p class="note">${KIND_WORDS[l.source] || l.source.replace("virtual_key", "Key")} ${l.scope_id}</p>
    ${what === "budget" ? html`<${BudgetLine} of=${l} />` : html`<${RateLines} of=${l} />`}</div>`,
        )}</div>`
  }
    ${allowed && html`<p class="section">May use ${allowed.map((c) => `${c.provider}: ${c.allowed_models ? c.allowed_models.join(", ") || "no model" : "every model"}`).join("; ")}.</p>`}
    ${!q.is_active && html`<div class="notice warn">This key is disabled.</div>`}`;
}

function Over({ start, range }) {
  const look = { every: 10_000, keep: true };
  const cost = useGet(url(histogram("cost", "models"), { start }), look),
    tokens = useGet(url(histogram("tokens"), { start }), look),
    all = useGet(url("/api/logs/stats", { start }), look);
  const made = {
    cost: useMemo(() => cost.data && costSeries(cost.data, "models"), [cost.data]),
    tokens: useMemo(() => tokens.data && tokenSeries(tokens.data), [tokens.data]),
  };
  const times = {
    cost: useMemo(() => cost.data?.buckets.map((b) => b.timestamp), [cost.data]),
    tokens: useMemo(() => tokens.data?.buckets.map((b) => b.timestamp), [tokens.data]),
  };
  const read = (tokens.data?.buckets || []).reduce((a, b) => a + b.cache_read_tokens, 0),
    prompt = (tokens.data?.buckets || []).reduce((a, b) => a + b.prompt_tokens, 0);
  return html`<${Section} title=${`In ${RANGE_WORDS[range]}`} actions=${html`<a href=${link(["calls"], { range })}>My calls</a>`}>
    <${Fetched} of=${all} lines=${2}>${(
    s,
  ) => html`<dl class="stats minor">
      <div class="stat"><dt>Calls</dt><dd>${count(s.total_requests)}</dd></div><div class="stat"><dt>Completed</dt>
        <dd>${s.total_requests ? `${s.success_rate} %` : "–"}</dd></div><div class="stat"><dt>Mean latency</dt>
        <dd>${s.total_requests ? duration(s.average_latency) : "–"}</dd></div><div class="stat"><dt>Prompt read from cache</dt>
        <dd>${prompt ? percent(read / prompt) : "–"}</dd></div></dl>`}</${Fetched}></${Section}>
    <div class="section charts">
      <div><${Fetched} of=${cost}>${(d) => html`<${Chart} title="Cost" note="by model" buckets=${times.cost} seconds=${d.bucket_size_seconds} series=${made.cost} ...${MONEY} />`}</${Fetched}></div>
      <div><${Fetched} of=${tokens}>${(d) => html`<${Chart} title="Tokens" buckets=${times.tokens} seconds=${d.bucket_size_seconds} series=${made.tokens} ...${COUNT} />`}</${Fetched}></div></div>`;
}

function Now() {
  const live = useLive(),
    running = [...live.running.values()];
  useTick(running.length > 0);
  const shown = [...running.reverse(), ...live.ended].slice(0, 8);
  return html`<${Section} title="Now" note=${live.up ? `${live.running.size} running` : "not connected; trying again"}>${shown.length === 0 ? html`<p class="faint">Quiet.</p>` : html`<ul class="live-list">${shown.map((c) => html`<li key=${c.id}>
    <a class="name" href=${link(["calls", c.id])}>${c.model_requested || c.path}</a><${Outcome} call=${c} />
    <span class="num">${c.outcome ? html`<${Money} of=${c.cost_usd} decimals=${4} />` : duration(Math.max(0, Date.now() - Date.parse(c.started_at)))}</span></li>`)}</ul>`}</${Section}>`;
}
