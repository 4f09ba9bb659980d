// Health: whether the gateway works as it should, and where its time goes.
import { html } from "../lib/ui.js";
import { useGet } from "../lib/api.js";
import { link } from "../lib/router.js";
import { Bar, Fetched, Page, Section, Tag, Time } from "../lib/components.js";
import { bytes, count, duration } from "../lib/format.js";

export default function Health() {
  const resource = useGet("/api/health", { every: 3000 });
  return html`<${Page} title="Health">
    <${Fetched} of=${resource} lines=${10}>${(h) => html`<${Report} h=${h} />`}</${Fetched}></${Page}>`;
}

/** The gateways that share a store, each with how it is doing. */
function Nodes() {
  const resource = useGet("/api/nodes", { every: 3000, keep: true });
  return html`<${Section} title="Gateways" note="share one store: limits hold over all of them">
    <${Fetched} of=${resource} lines=${3}>${(d) => html`
      ${d.policy_revisions.length > 1 && html`<div class="problem" role="alert">Not all gateways have the same policy: ${d.policy_revisions.join(", ")}</div>`}
      <div class="scroll"><table class="data rows"><thead><tr><th scope="col">Gateway</th><th scope="col">State</th><th scope="col">Version</th>
        <th scope="col">Since</th><th scope="col">Policy</th><th scope="col" class="num">In flight</th><th scope="col" class="num">Not delivered</th></tr></thead>
      <tbody>${d.nodes.map((n) => html`<tr key=${n.id}><th scope="row" class="nowrap">${n.name}${n.is_this && html` <span class="faint">(this one)</span>`}</th>
        <td><${Tag} kind=${n.state === "live" ? "good" : n.state === "expired" ? "bad" : "warn"}>${n.state}</${Tag}></td><td>${n.version}</td>
        <td class="nowrap"><${Time} at=${n.since} /></td><td class="mono">${n.policy_revision}</td>
        <td class="num">${count(n.calls_in_flight)}</td><td class="num">${count(n.lag)}</td></tr>`)}</tbody></table></div>`}</${Fetched}></${Section}>`;
}

function Report({ h }) {
  const errors = [
    ["ledger", h.ledger.error],
    ["audit trail", h.audit.error],
  ].filter(([, e]) => e);
  return html`
    <dl class="stats">
      <div class="stat"><dt>Gateway</dt>
        <dd class=${h.status === "ok" ? "good" : "bad"}>${h.draining ? "stopping" : h.status === "ok" ? "healthy" : "degraded"}</dd>
        </div>
      <div class="stat"><dt>Uptime</dt><dd>${duration(h.uptime_s * 1000)}</dd></div>
      <div class="stat"><dt>Open reservations</dt><dd>${count(h.ledger.reservations)}</dd></div>
      <div class="stat"><dt>Audit backlog</dt>
        <dd>${h.audit.backlog ? `${count(h.audit.backlog)}, ${duration(h.audit.lag_ms)}` : "none"}</dd></div>
      <div class="stat"><dt>Version</dt><dd>${h.version}</dd></div>
    </dl>
    ${errors.map(([what, e]) => html`<div class="problem" role="alert">The ${what} cannot be written: ${e}. Calls are refused until this is fixed.</div>`)}
    ${h.prices.error && html`<div class="problem" role="alert">prices.yaml cannot be used; the prices from before stay in force.
      <p><code>${h.prices.error}</code></p></div>`}
    ${h.policy.error && html`<div class="problem" role="alert">The last policy edit is invalid; the previous revision stays in force. ${[h.policy.error].flat().map((p) => html`<p>
      <code>${p.file}${p.line ? `:${p.line}` : ""}</code> ${p.path && html`<code>${p.path}</code>`} ${p.message}</p>`)}</div>`}
    <div class="columns">
      <div><${Chain} chain=${h.chain} /></div>
      <div>
        <${Section} title="Ledger and audit trail"><dl class="facts">
          <dt>Ledger</dt><dd>${h.ledger.error ? html`<${Tag} kind="bad">cannot be written</${Tag}>` : html`<${Tag} kind="good">writable</${Tag}> <span class="faint">${count(h.ledger.counters)} counters, ${bytes(h.ledger.bytes)}, log ${bytes(h.ledger.wal_bytes)}</span>`}</dd>
          <dt>Audit trail</dt><dd>${h.audit.error ? html`<${Tag} kind="bad">cannot be written</${Tag}>` : html`<${Tag} kind="good">writable</${Tag}>`} <span class="faint">${h.audit.mode === "required" ? "required: no call without a record" : "best effort: calls may pass without a record"}</span></dd>
          <dt>Recovered at start</dt><dd>${
            Object.values(h.recovered || {}).some(Boolean)
              ? Object.entries(h.recovered)
                  .filter(([, n]) => n)
                  .map(([what, n]) => `${count(n)} ${what.replaceAll("_", " ")}`)
                  .join(", ")
              : html`<span class="faint">nothing</span>`
          }</dd></dl></${Section}>
        <${Section} title="Policy" actions=${html`<a href=${link(["policy"])}>Edit</a>`}><dl class="facts">
          <dt>Revision</dt><dd class="mono"><a href=${link(["policy", "history", h.policy.revision])}>${h.policy.revision}</a></dd>
            <dt>In force since</dt><dd><${Time} at=${h.policy.loaded_at} /></dd><dt>Source</dt>
            <dd class="mono">${h.policy.source}</dd>
          <dt>Failed reloads</dt><dd>${count(h.policy.reload_errors)}</dd></dl>
          ${h.policy.warnings.length > 0 && html`<details>
            <summary>${count(h.policy.warning_count)} ${h.policy.warning_count === 1 ? "warning" : "warnings"}</summary>
            <ul class="problems">${h.policy.warnings.map((w) => html`<li class="faint">${w}</li>`)}</ul></details>`}</${Section}>
        <${Section} title="Provider keys" actions=${html`<a href=${link(["providers"])}>Providers</a>`}>
          <dl class="facts">${Object.entries(
          h.providers,
        ).map(
          ([name, p]) => html`<dt key=${name}><a href=${link(["providers", name])}>${name}</a></dt><dd>
          ${p.simulate ? html`<${Tag} kind="good">simulated</${Tag}>` : p.keys.length === 0 ? html`<span class="faint">no key</span>` : p.keys.map((k) => html`<div>${k.name} ${k.set_aside_until ? html`<${Tag} kind="warn">paused until</${Tag}> <${Time} at=${k.set_aside_until} />` : k.usable ? html`<${Tag} kind="good">usable</${Tag}>` : html`<${Tag} kind="bad">value not set</${Tag}>`}</div>`)}</dd>`,
        )}</dl></${Section}>
        ${h.options_refused.length > 0 && html`<${Section} title="Refused options">
          <dl class="facts">${h.options_refused.map((o) => html`<dt class="mono">${o.option}</dt>
          <dd>${o.why}</dd>`)}</dl></${Section}>`}
      </div>
    </div>
    ${h.fleet && html`<${Nodes} />`}
    <${Section} title="What is enforced" note="enforced: an agent cannot get around it; cooperative: an agent that tries to can">
      <div class="scroll"><table class="data rows enforced"><tbody>${h.enforcement.map((f) => html`<tr key=${f.what}>
        <th scope="row">${GUARANTEES[f.what] || f.what.replaceAll("_", " ")}</th><td class="nowrap">
        <${Tag} kind=${f.how === "enforced" ? "good" : "warn"}>${f.how}</${Tag}></td>
        <td>${f.why}</td></tr>`)}</tbody></table></div></${Section}>`;
}

const GUARANTEES = {
  calls: "Every check on every call",
  way: "No way around the gateway",
  virtual_keys: "Keys are used by their owners",
  users: "Users are who they claim to be",
  provider_keys: "Provider keys stay secret",
  other_hosts: "Other hosts",
  records: "A record of every call",
  prices: "A price for every call",
};

function Chain({ chain }) {
  const longest = Math.max(1, ...chain.map((a) => a.us_per_call || 0)),
    total = chain.reduce((a, x) => a + (x.us_per_call || 0), 0);
  return html`<${Section} title="Addon chain" note=${total ? `${Math.round(total)} µs per request in total` : "no requests yet"}>
    <table class="data plain"><thead class="sr"><tr><th scope="col">Addon</th><th scope="col">Share</th>
      <th scope="col">Microseconds per request</th></tr></thead>
    <tbody>${chain.map(
      (
        a,
      ) => html`<tr key=${a.addon} title=${a.hooks.map((x) => `${x.hook}: ${count(x.calls)} times, ${duration(x.seconds * 1000)}`).join("\n")}>
        <th scope="row" class="nowrap">${a.addon.toLowerCase()}</th>
      <td class="bar-cell">
        <${Bar} plain used=${a.us_per_call || 0} limit=${longest} label=${`${a.us_per_call ?? 0} microseconds`} /></td>
        <td class="num">${a.us_per_call === null ? "–" : `${a.us_per_call < 10 ? a.us_per_call.toFixed(1) : Math.round(a.us_per_call)} µs`}</td></tr>`,
    )}</tbody></table></${Section}>`;
}
