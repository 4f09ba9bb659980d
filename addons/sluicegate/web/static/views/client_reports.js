// What a session's client reports of its calls, next to our own records: dollars and tokens by model, and the drift.
import { html } from "../lib/ui.js";
import { url, useGet } from "../lib/api.js";
import { Problem, Section, Time } from "../lib/components.js";
import { count, exactMoney } from "../lib/format.js";

const REFRESH_MS = 15_000;
const TOKENS = ["input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"];

export function ClientReports({ session }) {
  const resource = useGet(url("/api/client-telemetry", { session_id: session }), { every: REFRESH_MS, keep: true });
  const { data, error } = resource;
  if (error) return html`<${Problem} error=${error} retry=${resource.reload} />`;
  if (!data || data.sessions.length === 0) return null;
  return html`<${Section} title="What the client counts" class="client-reports" note="Reported by the client itself; it never counts as money. Drift: our figure less the client's.">
    <div class="scroll"><table class="data"><thead><tr><th scope="col">Model</th><th scope="col">Source</th><th scope="col">Until</th>
      <th scope="col" class="num">Client</th><th scope="col" class="num">Ours</th><th scope="col" class="num">Drift</th><th scope="col" class="num">Drift, tokens</th></tr></thead>
      <tbody>${data.sessions.map((s) => html`<${Row} key=${`${s.virtual_key_id} ${s.model} ${s.source}`} of=${s} />`)}</tbody></table></div>
  </${Section}>`;
}

function Row({ of: s }) {
  const tokens = TOKENS.reduce((sum, name) => sum + s.drift[name], 0);
  const agrees = s.drift.cost_usd === 0 && TOKENS.every((name) => s.drift[name] === 0);
  const tone = agrees ? "num good" : "num warn";
  return html`<tr><td class="nowrap">${s.model}</td><td class="nowrap">${s.source}</td><td class="nowrap"><${Time} at=${s.last_at} /></td>
    <td class="num">${exactMoney(s.client.cost_usd)}</td><td class="num">${exactMoney(s.gateway.cost_usd)}</td>
    <td class=${tone}>${exactMoney(s.drift.cost_usd)}</td><td class=${tone}>${count(tokens)}</td></tr>`;
}
