// The details of one call: who made it, the decision, usage and cost line by line, timing, and its content.
import { html, useEffect, useMemo, useRef, useState } from "../lib/ui.js";
import { api, url, useGet } from "../lib/api.js";
import { link } from "../lib/router.js";
import { Bar, Field, FormDialog, Loading, Outcome, Problem, Time } from "../lib/components.js";
import { SCOPE_NAMES, bytes, count, duration, exactMoney, moneys, nano, period, reasonText } from "../lib/format.js";

/** ``onChange`` is called when the call has been changed, so that the list beside the panel shows it too. */
export function CallPanel({ id, known, close, user, onChange }) {
  const running = known && !known.outcome;
  const resource = useGet(running ? null : `/api/logs/${encodeURIComponent(id)}`);
  const call = running ? known : (resource.data ?? known);
  const heading = useRef();
  useEffect(() => {
    heading.current?.focus({ preventScroll: true });
  }, [id]);
  const onKeyDown = (e) => e.key === "Escape" && close();
  return html`<aside class="panel" aria-label="Call" onKeyDown=${onKeyDown}>
    <div class="panel-head"><div>
      <h2 tabindex="-1" ref=${heading}>${call ? call.model_served || call.model_requested || call.path || "Call" : "Call"}</h2>
      ${call && html`<p class="faint"><${Time} at=${call.started_at} /></p>`}</div><span class="grow" />
        <button class="quiet icon" aria-label="Close" onClick=${close}>×</button></div>
    ${!call && (resource.error ? html`<${Problem} error=${resource.error} retry=${resource.reload} />` : html`<${Loading} />`)}
    ${call && html`<${Details} call=${call} user=${user} reload=${() => (resource.reload(), onChange())} />`}
  </aside>`;
}

const filterLink = (name, value) => value && html`<a href=${link(["calls"], { [name]: value, range: "all" })}>${value}</a>`;

function Details({ call, user, reload }) {
  const isStaff = user.role !== "developer";
  const fact = (label, value) => value !== null && value !== undefined && value !== "" && html`<dt>${label}</dt><dd>${value}</dd>`;
  return html`
    <p><${Outcome} call=${call} /> ${call.status && html`<span class="faint">HTTP ${call.status}</span>`}${call.estimated ? html` <span class="warn" title="The provider did not report all usage; it was counted from what was delivered">usage estimated</span>` : ""}</p>
    <h3>Caller</h3>
    <dl class="facts">
      ${fact("Virtual key", call.virtual_key_id && (isStaff ? html`<a href=${link(["keys", call.virtual_key_id])}>${call.virtual_key_id}</a>` : call.virtual_key_id))}
      ${fact("User", call.user_id && filterLink("user", call.user_id))}${fact("Team", call.team_id && (isStaff ? filterLink("team", call.team_id) : call.team_id))}
      ${fact("Customer", call.customer_id && (isStaff ? filterLink("customer", call.customer_id) : call.customer_id))}${fact("Project", call.project_id && html`${filterLink("project", call.project_id)}${call.project_source === "client" && " (named by the client)"}`)}
      ${fact("Repository", call.claimed_project && call.claimed_project !== call.project_id && html`${filterLink("claimed_project", call.claimed_project)} (the client's word)`)}
      ${fact("Session", call.session_id && html`<span class="mono">${filterLink("session", call.session_id)}</span>`)}${fact("Sub-agent", call.agent_id && html`<span class="mono">${filterLink("agent", call.agent_id)}</span>`)}
      ${fact("Client", call.user_agent)}
    </dl>
    ${call.outcome && html`<${Decision} call=${call} />`}
    ${(call.route || call.attempts?.length > 0) && html`<${Routing} call=${call} />`}
    ${call.outcome && call.outcome !== "denied" && html`<${Cost} call=${call} />`}
    ${call.outcome && call.outcome !== "denied" && html`<${Adjustments} call=${call} user=${user} reload=${reload} />`}
    ${call.outcome && html`<${Timing} call=${call} />`}
    <${Content} call=${call} />
    <h3>Request</h3>
    <dl class="facts">
      ${fact("Labels", call.labels && Object.entries(JSON.parse(call.labels)).map(([name, value], i) => html`${i > 0 && ", "}${value.includes(",") ? `${name}: ${value}` : html`<a href=${link(["calls"], { label: `${name}:${value}` })}>${name}: ${value}</a>`}`))}
      ${fact("Provider", call.provider)}${fact("Asked model", call.asked_model)}${fact("Requested model", call.model_requested)}${fact("Served model", call.model_served)}${fact("Path", call.path)}${fact("Streamed", call.stream ? "yes" : "no")}
      ${fact("Request size", call.request_bytes !== null && bytes(call.request_bytes))}${fact("Response size", call.outcome && bytes(call.response_bytes))}
      ${fact("Policy revision", call.policy_revision && html`<span class="mono">${isStaff ? html`<a href=${link(["policy", "history", call.policy_revision])}>${call.policy_revision}</a>` : call.policy_revision}</span>`)}${fact("Call id", html`<span class="mono">${call.id}</span>`)}
    </dl>`;
}

/** The decision: every limit that was checked, with its numbers at that moment. */
function Decision({ call }) {
  // A row of the list has no limits; they come with the call itself.
  const limits = call.limits;
  return html`<h3>Decision</h3>
    <p>${call.outcome === "denied" ? html`<b class="warn">Refused</b>: ${reasonText(call.reason)}.` : html`<b class="good">Admitted</b>${limits?.length > 0 && " by every limit that applies"}.`}</p>
    ${call.message && html`<p class="note">Its client was told:</p><p class="told">${call.message}</p>`}
    ${limits === null && html`<p class="note">This record is from before limits were recorded with each call.</p>`}
    ${limits?.length === 0 && html`<p class="note">No limit applied.</p>`}
    ${
      limits?.length > 0 &&
      html`<p class="note">The limits at the time of the decision${limits.some((v) => !v.admitted) && "; those after the one that refused were not checked"}:</p>
      <ul class="rank verdicts">${limits.map((v) => html`<${Verdict} key=${v.kind + v.id + v.unit + v.window} of=${v} />`)}</ul>`
    }`;
}

/** One limit's verdict on the call. */
function Verdict({ of: v }) {
  const isMoney = v.unit === "usd";
  const [limit, used, reserved, requested] = ["limit", "used", "reserved", "asked"].map((n) => (isMoney ? nano(v[n + "_usd"]) : BigInt(v[n])));
  const unit = isMoney ? "" : { requests: " calls", concurrent: " at once" }[v.unit] || ` ${v.unit}`;
  // As the refusal put it: the sum includes a call that is counted, or that had to fit as a whole.
  const includesCall = v.unit === "requests" || v.unit === "concurrent" || (isMoney && v.enforcement === "hard");
  const sum = used + reserved + (includesCall ? requested : 0n);
  const amounts = [limit, used, reserved, requested, sum];
  const [limitText, usedText, reservedText, requestedText, sumText] = isMoney ? moneys(amounts) : amounts.map((n) => count(n));
  return html`<li>
    <span class="name">${v.id} <span class="faint">${(SCOPE_NAMES[v.kind] || v.kind).toLowerCase()}</span></span>
    <span>${limitText}<span class="faint">${unit}${v.window ? ` per ${period(v.window)}` : ""}${v.enforcement === "hard" ? ", hard" : ""}</span></span>
    <${Bar} used=${used} reserved=${reserved} limit=${limit} label=${`${v.id}: ${usedText} of ${limitText}${unit} used, ${reservedText} in flight`} />
    <span class="figures"><span class="note">${v.unit !== "concurrent" && `${usedText} used, `}${reservedText} in flight, ${requestedText} asked</span>
      ${v.admitted ? html`<span class="good">admitted</span>` : html`<b class="warn">refused</b>`}</span>
    ${!v.admitted && html`<span class="why">${sumText} of ${limitText}${unit}${includesCall ? " with this call" : ""}${v.resets_at ? html`, resets <${Time} at=${v.resets_at} />` : ""}</span>`}
  </li>`;
}

/** The route that the call took, and what was tried. A row of the list has no attempts; they come with the call itself. */
function Routing({ call }) {
  const attempts = call.attempts ?? [];
  return html`<h3>Route</h3>
    <p>${call.route ? html`By route <b>${call.route}</b>.` : "By the model's name or the virtual key's providers."}</p>
    ${
      attempts.length > 0 &&
      html`<table class="data plain attempts"><thead><tr><th scope="col">Target</th><th scope="col" class="num">Status</th>
        <th scope="col" class="num">Time</th><th scope="col" class="num">Cost</th></tr></thead>
        <tbody>${attempts.map(
          (a, i) => html`<tr key=${i}><th scope="row">${a.provider}/${a.model}
              <div class="note">${a.key_name ? `key ${a.key_name}` : "no key"}: ${a.error ? html`<span class="warn">${a.error}</span>` : html`<span class="good">answered</span>`}</div></th>
            <td class="num">${a.status ?? "–"}</td><td class="num nowrap">${duration(a.ms)}</td><td class="num">${exactMoney(nano(a.cost_usd))}</td></tr>`,
        )}</tbody></table>`
    }`;
}

const TOKEN_CLASSES = [
  ["input_tokens", "Input", "input"],
  ["cache_read_tokens", "Cache read", "cache_read"],
  ["cache_write_5m_tokens", "Cache write, 5 min", "cache_write_5m"],
  ["cache_write_1h_tokens", "Cache write, 1 h", "cache_write_1h"],
  ["output_tokens", "Output", "output"],
];

/** The cost of tokens at dollars per million, in billionths of a nano-dollar: whole numbers, rounded once at the end. */
const tokenCost = (tokens, rate) => BigInt(tokens || 0) * nano(rate) * 1000n;
const UNITS_PER_NANO = 1_000_000_000n;

/** A record's count of tool calls, what they are called, the fee in a price, and how many calls that is for. */
const TOOL_FEES = /** @type {const} */ ([
  ["web_search_requests", "Web searches", "web_search", 1000],
  ["file_search_requests", "File searches", "file_search", 1000],
  ["code_interpreter_sessions", "Code interpreter sessions", "code_interpreter", 1],
]);

function Cost({ call }) {
  const model = call.model_served || call.model_requested;
  const prompt = TOKEN_CLASSES.slice(0, 4).reduce((a, [f]) => a + (call[f] || 0), 0);
  const prices = useGet(model ? url("/api/prices", { model, at: call.started_at, prompt_tokens: prompt }) : null);
  const rates = prices.data?.rates;
  /** @type {{label: string, tokens: number, rate?: string, per?: string, sum: bigint | null}[]} */
  const lines = TOKEN_CLASSES.filter(([f]) => call[f]).map(([f, label, name]) => ({
    label,
    tokens: call[f],
    rate: rates?.[name],
    sum: rates ? tokenCost(call[f], rates[name]) : null,
  }));
  for (const [field, label, fee, per] of TOOL_FEES) {
    const amount = prices.data?.[fee];
    if (!call[field] || !amount) continue;
    const billed = fee === "web_search" && prices.data.web_search_per === "prompt" ? 1 : call[field];
    lines.push({
      label,
      tokens: call[field],
      rate: amount,
      per: count(per),
      sum: (BigInt(billed) * nano(amount) * UNITS_PER_NANO) / BigInt(per),
    });
  }
  const isPriced = rates && lines.length > 0;
  const sum = isPriced ? (lines.reduce((a, l) => a + (l.sum ?? 0n), 0n) + UNITS_PER_NANO / 2n) / UNITS_PER_NANO : null;
  const recorded = nano(call.shadow_usd ?? call.cost_usd);
  return html`<h3>Cost</h3>
    ${call.shadow_usd && html`<p class="shadow">Paid by the caller's own subscription: nothing was charged here. At list price it is ${exactMoney(call.shadow_usd)}.</p>`}
    ${
      lines.length === 0
        ? html`<p class="faint">The provider charged nothing for this call.</p>`
        : html`<table class="data plain cost"><thead><tr><th scope="col">Class</th><th scope="col" class="num">Tokens</th>
          <th scope="col" class="num">$ per million</th><th scope="col" class="num">Dollars</th></tr></thead>
      <tbody>${lines.map((l) => html`<tr key=${l.label}><th scope="row">${l.label}</th><td class="num">${count(l.tokens)}</td>
        <td class="num faint">${l.rate ? exactMoney(l.rate).slice(1) + (l.per ? ` / ${l.per}` : "") : "–"}</td>
        <td class="num">${l.sum !== null ? moneys([l.sum / UNITS_PER_NANO], 6)[0].slice(1) : "–"}</td></tr>`)}</tbody>
      <tfoot><tr><th scope="row">${call.shadow_usd ? "At list price" : "Charged"}</th><td class="num">${count(lines.reduce((a, l) => a + (l.per ? 0 : l.tokens), 0))}</td>
        <td /><td class="num"><b>${exactMoney(call.shadow_usd ?? call.cost_usd)}</b></td></tr></tfoot></table>
      ${isPriced && sum !== null && sum !== recorded && html`<p class="note">At list price this is ${exactMoney(sum)}. The response named a speed, region, tier or several steps with their own prices, or prices have changed since.</p>`}
      ${prices.data?.family && html`<p class="note">No price list has this model: an estimate by its family, ${prices.data.priced_as === prices.data.family ? prices.data.family : `as ${prices.data.priced_as}`}.</p>`}
      ${prices.data && !prices.data.known && html`<p class="note">This model has no known price, so the policy's fallback price was charged.</p>`}
      <${Problem} error=${prices.error} />`
    }`;
}

/** Corrections of the charge: recorded cost, each adjustment, and what the call costs with them. */
function Adjustments({ call, user, reload }) {
  const [isOpen, setOpen] = useState(false);
  const made = call.adjustments ?? [];
  const recorded = nano(call.cost_usd),
    effective = nano(call.effective_cost_usd ?? call.cost_usd);
  const [recordedText, effectiveText, ...amounts] = [recorded, effective, ...made.map((a) => a.amount_usd)].map(exactMoney);
  const canAdjust = user.role === "admin" && call.adjustments !== undefined && !call.shadow_usd;
  return html`${
    made.length > 0 &&
    html`<h3>Adjustments</h3><table class="data plain cost adjustments"><tbody>
      <tr><th scope="row">Recorded</th><td /><td class="num">${recordedText}</td></tr>
      ${made.map(
        (a, i) => html`<tr key=${a.id}><th scope="row"><${Time} at=${a.at} />${a.actor && html` <span class="faint">${a.actor}</span>`}</th>
          <td>${a.reason}${a.levels.some((l) => l.stopped_at_zero) && html` <span class="faint">stopped at zero: ${a.levels.filter((l) => l.stopped_at_zero).map((l) => l.id).join(", ")}</span>`}</td>
          <td class="num">${nano(a.amount_usd) > 0n ? "+" : ""}${amounts[i]}</td></tr>`,
      )}</tbody>
      <tfoot><tr><th scope="row">Effective</th><td /><td class="num"><b>${effectiveText}</b></td></tr></tfoot></table>`
  }
  ${canAdjust && html`<p><button class="quiet small" onClick=${() => setOpen(true)}>Correct the cost</button></p>`}
  ${isOpen && html`<${AdjustDialog} call=${call} cost=${effectiveText} onClose=${() => setOpen(false)} onDone=${() => (setOpen(false), reload())} />`}`;
}

function AdjustDialog({ call, cost, onClose, onDone }) {
  // One key per dialog: a form that is sent twice makes one adjustment.
  const key = useMemo(() => [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join(""), []);
  const work = (v) =>
    api("POST", "/api/adjustments", {
      call_id: call.id,
      cost: Number(v.cost),
      ...(v.reason ? { reason: v.reason } : {}),
      idempotency_key: `${key}-${v.cost}`.replace(/[^A-Za-z0-9._-]/g, "").slice(0, 64),
    });
  return html`<${FormDialog} title="Correct the cost" button="Adjust" work=${work} onClose=${onClose} onDone=${onDone} initial=${{ cost: "", reason: "" }}>
    ${({ values, set }) => html`
      <p>This call costs ${cost}. The difference is charged at every level it counts under; its record stays as it is.</p>
      <${Field} label="What it should have cost, in dollars" name="cost" type="number" min="0" step="any" required value=${values.cost} onInput=${(value) => set({ cost: value })} />
      <${Field} label="Reason" name="reason" value=${values.reason} onInput=${(reason) => set({ reason })} hint="For the audit trail" />`}
  </${FormDialog}>`;
}

function Timing({ call }) {
  const firstByte = call.ttft_ms,
    total = call.latency_ms;
  return html`<h3>Timing</h3>
    ${firstByte !== null && firstByte !== undefined && total ? html`<${Bar} plain used=${firstByte} limit=${total} label=${`First byte after ${duration(firstByte)} of ${duration(total)}`} />` : ""}
    <dl class="facts"><dt>First byte</dt><dd>${duration(firstByte)}</dd><dt>Complete</dt><dd>${duration(total)}</dd>
      ${call.output_tokens && firstByte !== null && total > firstByte ? html`<dt>Output</dt>
        <dd>${Math.round((call.output_tokens * 1000) / (total - firstByte))} tokens/s</dd>` : ""}</dl>`;
}

/** The texts of request and response, where the policy keeps them. */
function Content({ call }) {
  const content = call.content;
  if (!content) return null;
  return html`<h3>Content</h3>${["request", "response"].map(
    (name) =>
      content[name] &&
      html`<details key=${name} open=${name === "response"}><summary>${name === "request" ? "Request" : "Response"}
      ${content[`${name}_truncated`] ? html` <span class="warn">truncated</span>` : ""}${content[`${name}_encoding`] === "base64" ? html` <span class="faint">not text, shown as base64</span>` : ""}</summary>
    <pre class="content" tabindex="0">${readable(content[name])}</pre></details>`,
  )}`;
}

/** JSON indented; an event stream as the text it spells; anything else as it came. */
function readable(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    if (!/^(event|data): /m.test(text)) return text;
  }
  const deltas = [];
  for (const [, data] of text.matchAll(/^data: (.*)$/gm)) {
    try {
      const delta = JSON.parse(data).delta;
      deltas.push(delta?.text ?? delta?.partial_json ?? "");
    } catch {
      return text;
    }
  }
  return deltas.join("") || text;
}
