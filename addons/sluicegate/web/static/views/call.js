// One call's whole story: who, what was decided, what it used and cost, line by line, how long it took, what was said.
import { html, useEffect, useRef } from "../lib/ui.js";
import { url, useGet } from "../lib/api.js";
import { link } from "../lib/route.js";
import { Loading, Outcome, Problem, Time, Bar } from "../lib/parts.js";
import { KIND_WORDS, bytes, count, duration, exactMoney, money, nano, period, reasonWords, shortMoney } from "../lib/format.js";

export function CallPanel({ id, known, close, who }) {
  const running = known && !known.outcome;
  const found = useGet(running ? null : `/api/logs/${encodeURIComponent(id)}`);
  const call = running ? known : (found.data ?? known);
  const head = useRef();
  useEffect(() => {
    head.current?.focus({ preventScroll: true });
  }, [id]);
  const key = (e) => e.key === "Escape" && close();
  return html`<aside class="panel" aria-label="Call" onKeyDown=${key}>
    <div class="panel-head"><div>
      <h2 tabindex="-1" ref=${head}>${call ? call.model_served || call.model_requested || call.path || "Call" : "Call"}</h2>
      ${call && html`<p class="faint"><${Time} at=${call.started_at} /></p>`}</div><span class="grow" />
        <button class="quiet icon" aria-label="Close" onClick=${close}>×</button></div>
    ${!call && (found.error ? html`<${Problem} error=${found.error} retry=${found.reload} />` : html`<${Loading} />`)}
    ${call && html`<${Story} call=${call} who=${who} />`}
  </aside>`;
}

const filtered = (name, value) => value && html`<a href=${link(["calls"], { [name]: value, range: "all" })}>${value}</a>`;

function Story({ call, who }) {
  const staff = who.role !== "developer";
  const fact = (word, value) => value !== null && value !== undefined && value !== "" && html`<dt>${word}</dt><dd>${value}</dd>`;
  return html`
    <p><${Outcome} call=${call} /> ${call.status && html`<span class="faint">HTTP ${call.status}</span>`}${call.estimated ? html` <span class="warn" title="The provider did not report everything: counted from what was delivered">usage estimated</span>` : ""}</p>
    <h3>Who</h3>
    <dl class="facts">
      ${fact("Key", call.virtual_key_id && (staff ? html`<a href=${link(["keys", call.virtual_key_id])}>${call.virtual_key_id}</a>` : call.virtual_key_id))}
      ${fact("User", call.user_id && filtered("user", call.user_id))}${fact("Team", call.team_id && (staff ? filtered("team", call.team_id) : call.team_id))}
      ${fact("Customer", call.customer_id && (staff ? filtered("customer", call.customer_id) : call.customer_id))}${fact("Project", call.project_id && filtered("project", call.project_id))}
      ${fact("Session", call.session_id && html`<span class="mono">${filtered("session", call.session_id)}</span>`)}${fact("Sub-agent", call.agent_id && html`<span class="mono">${filtered("agent", call.agent_id)}</span>`)}
      ${fact("Client", call.user_agent)}
    </dl>
    ${call.outcome && html`<${Decision} call=${call} />`}
    ${call.outcome && call.outcome !== "denied" && html`<${Cost} call=${call} />`}
    ${call.outcome && html`<${Timing} call=${call} />`}
    <${Content} call=${call} />
    <h3>On the wire</h3>
    <dl class="facts">
      ${fact("Provider", call.provider)}${fact("Asked for", call.model_requested)}${fact("Served by", call.model_served)}${fact("Path", call.path)}${fact("Streamed", call.stream ? "yes" : "no")}
      ${fact("Request", call.request_bytes !== null && bytes(call.request_bytes))}${fact("Answer", call.outcome && bytes(call.response_bytes))}
      ${fact("Policy", call.policy_revision && html`<span class="mono">${staff ? html`<a href=${link(["policy", "history", call.policy_revision])}>${call.policy_revision}</a>` : call.policy_revision}</span>`)}${fact("Id", html`<span class="mono">${call.id}</span>`)}
    </dl>`;
}

/** What was decided: every limit that was asked, with its numbers as they were at that moment. */
function Decision({ call }) {
  // A row of a list has no limits: they come with the call itself.
  const asked = call.limits;
  return html`<h3>Decision</h3>
    <p>${call.outcome === "denied" ? html`<b class="warn">Refused</b>: ${reasonWords(call.reason)}.` : html`<b class="good">Admitted</b>${asked?.length > 0 && " under every limit it falls under"}.`}</p>
    ${asked === null && html`<p class="note">Its record is from before the numbers of limits were kept.</p>`}
    ${asked?.length === 0 && html`<p class="note">No limit was asked.</p>`}
    ${
      asked?.length > 0 &&
      html`<p class="note">The limits as they were when it was judged${asked.some((v) => !v.admitted) && "; those behind the one that refused were not asked"}:</p>
      <ul class="rank verdicts">${asked.map((v) => html`<${Verdict} key=${v.kind + v.id + v.unit + v.window} of=${v} />`)}</ul>`
    }`;
}

/** One limit's word on the call. */
function Verdict({ of: v }) {
  const dollars = v.unit === "usd";
  const [limit, used, held, wanted] = ["limit", "used", "reserved", "asked"].map((n) => (dollars ? nano(v[n + "_usd"]) : BigInt(v[n])));
  const shown = dollars ? money : count,
    small = dollars ? shortMoney : count;
  const what = dollars ? "" : { requests: " calls", concurrent: " at once" }[v.unit] || ` ${v.unit}`;
  // As the refusal said it: a call that is counted, or had to fit whole, is in the sum.
  const whole = v.unit === "requests" || v.unit === "concurrent" || (dollars && v.enforcement === "hard");
  const sum = used + held + (whole ? wanted : 0n);
  return html`<li>
    <span class="name">${v.id} <span class="faint">${(KIND_WORDS[v.kind] || v.kind).toLowerCase()}</span></span>
    <span>${shown(limit)}<span class="faint">${what}${v.window ? ` per ${period(v.window)}` : ""}${v.enforcement === "hard" ? ", hard" : ""}</span></span>
    <${Bar} used=${used} reserved=${held} limit=${limit} label=${`${v.id}: ${shown(used)} of ${shown(limit)}${what} used, ${shown(held)} in flight`} />
    <span class="said"><span class="note">${v.unit !== "concurrent" && `${small(used)} used, `}${small(held)} in flight, ${small(wanted)} asked</span>
      ${v.admitted ? html`<span class="good">admitted</span>` : html`<b class="warn">refused</b>`}</span>
    ${!v.admitted && html`<span class="why">${shown(sum)} of ${shown(limit)}${what}${whole ? " with this call" : ""}${v.resets_at ? html`, resets <${Time} at=${v.resets_at} />` : ""}</span>`}
  </li>`;
}

const CLASSES = [
  ["input_tokens", "Input", "input"],
  ["cache_read_tokens", "Cache read", "cache_read"],
  ["cache_write_5m_tokens", "Cache write, 5 min", "cache_write_5m"],
  ["cache_write_1h_tokens", "Cache write, 1 h", "cache_write_1h"],
  ["output_tokens", "Output", "output"],
];

/** Billionths of a nano-dollar for so many tokens at dollars per million: whole numbers all the way, rounded once at the end. */
const units = (tokens, rate) => BigInt(tokens || 0) * nano(rate) * 1000n;
const UNITS = 1_000_000_000n;

function Cost({ call }) {
  const model = call.model_served || call.model_requested;
  const prompt = CLASSES.slice(0, 4).reduce((a, [f]) => a + (call[f] || 0), 0);
  const prices = useGet(model ? url("/api/prices", { model, at: call.started_at, prompt_tokens: prompt }) : null);
  const rates = prices.data?.rates;
  const lines = CLASSES.filter(([f]) => call[f]).map(([f, word, name]) => ({
    word,
    tokens: call[f],
    rate: rates?.[name],
    sum: rates ? units(call[f], rates[name]) : null,
  }));
  if (call.web_search_requests && prices.data?.web_search)
    lines.push({
      word: "Web searches",
      tokens: call.web_search_requests,
      rate: prices.data.web_search,
      each: "1,000",
      sum: BigInt(call.web_search_requests) * nano(prices.data.web_search) * (UNITS / 1000n),
    });
  const known = rates && lines.length > 0;
  const sum = known ? (lines.reduce((a, l) => a + l.sum, 0n) + UNITS / 2n) / UNITS : null;
  const recorded = nano(call.cost_usd);
  return html`<h3>Cost</h3>
    ${
      lines.length === 0
        ? html`<p class="faint">The provider charged nothing for it.</p>`
        : html`<table class="data plain cost"><thead><tr><th scope="col">What</th><th scope="col" class="num">Tokens</th>
          <th scope="col" class="num">$ per million</th><th scope="col" class="num">Dollars</th></tr></thead>
      <tbody>${lines.map((l) => html`<tr key=${l.word}><th scope="row">${l.word}</th><td class="num">${count(l.tokens)}</td>
        <td class="num faint">${l.rate ? exactMoney(l.rate).slice(1) + (l.each ? ` / ${l.each}` : "") : "–"}</td>
        <td class="num">${l.sum !== null ? money(l.sum / UNITS, 6).slice(1) : "–"}</td></tr>`)}</tbody>
      <tfoot><tr><th scope="row">Charged</th><td class="num">${count(lines.reduce((a, l) => a + (l.each ? 0 : l.tokens), 0))}</td>
        <td /><td class="num"><b>${exactMoney(call.cost_usd)}</b></td></tr></tfoot></table>
      ${known && sum !== recorded && html`<p class="note">At list price this is ${exactMoney(sum)}. The answer named a speed, place, tier or several steps with prices of their own, or prices have been changed since.</p>`}
      ${prices.data && !prices.data.known && html`<p class="note">Nobody has a price for this model: the policy's fallback price was charged.</p>`}
      <${Problem} error=${prices.error} />`
    }`;
}

function Timing({ call }) {
  const first = call.ttft_ms,
    all = call.latency_ms;
  return html`<h3>Timing</h3>
    ${first !== null && first !== undefined && all ? html`<${Bar} plain used=${first} limit=${all} label=${`First byte after ${duration(first)} of ${duration(all)}`} />` : ""}
    <dl class="facts"><dt>First byte</dt><dd>${duration(first)}</dd><dt>Complete</dt><dd>${duration(all)}</dd>
      ${call.output_tokens && first !== null && all > first ? html`<dt>Output</dt>
        <dd>${Math.round((call.output_tokens * 1000) / (all - first))} tokens/s</dd>` : ""}</dl>`;
}

/** What was said and answered, where policy keeps it. */
function Content({ call }) {
  const kept = call.content;
  if (!kept) return null;
  return html`<h3>Content</h3>${["request", "response"].map(
    (name) =>
      kept[name] &&
      html`<details key=${name} open=${name === "response"}><summary>${name === "request" ? "Request" : "Answer"}
      ${kept[`${name}_truncated`] ? html` <span class="warn">cut off</span>` : ""}${kept[`${name}_encoding`] === "base64" ? html` <span class="faint">not text: base64</span>` : ""}</summary>
    <pre class="content" tabindex="0">${readable(kept[name])}</pre></details>`,
  )}`;
}

/** JSON laid out; an event stream as the text it spells, with what is no text left as it came. */
function readable(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    if (!/^(event|data): /m.test(text)) return text;
  }
  const said = [];
  for (const [, data] of text.matchAll(/^data: (.*)$/gm)) {
    try {
      const delta = JSON.parse(data).delta;
      said.push(delta?.text ?? delta?.partial_json ?? "");
    } catch {
      return text;
    }
  }
  return said.join("") || text;
}
