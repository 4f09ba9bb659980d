// The prompt cache of one session: what share of its prompts was read from it, and which calls paid again for what was cached.
import { html } from "../lib/ui.js";
import { useGet } from "../lib/api.js";
import { link } from "../lib/router.js";
import { Problem, Section, Time } from "../lib/components.js";
import { count, exactMoney, short } from "../lib/format.js";

const REFRESH_MS = 15_000;

export function PromptCache({ session }) {
  const resource = useGet(`/api/sessions/${encodeURIComponent(session)}/prompt-cache?limit=20`, { every: REFRESH_MS, keep: true });
  const { data, error } = resource;
  if (error) return html`<${Problem} error=${error} retry=${resource.reload} />`;
  if (!data || data.totals.calls === 0) return null;
  return html`<${Section} title="Prompt cache" class="prompt-cache" note=${html`<${Share} of=${data.totals} />`}>
    ${
      data.findings.length > 0 &&
      html`<div class="scroll"><table class="data"><thead><tr><th scope="col">Time</th><th scope="col">What changed</th>
        <th scope="col" class="num">Tokens</th><th scope="col" class="num">Lost</th></tr></thead>
        <tbody>${data.findings.map((f) => html`<${Finding} key=${f.call_id} of=${f} session=${session} />`)}</tbody></table></div>`
    }
  </${Section}>`;
}

function Share({ of: totals }) {
  const share = totals.read_share === null ? "–" : `${(100 * totals.read_share).toFixed(1)} %`;
  const lost = html`<b class="warn">${count(totals.breaks)}</b> ${totals.breaks === 1 ? "call" : "calls"} paid again for what was cached: <b>${exactMoney(totals.lost_usd)}</b>`;
  return html`<b>${share}</b> of ${short(totals.input_tokens + totals.read_tokens + totals.written_tokens)} prompt tokens read from the provider's cache; ${totals.breaks > 0 ? lost : "nothing was paid twice"}.`;
}

function Finding({ of: found, session }) {
  return html`<tr><td class="nowrap"><a href=${link(["calls", found.call_id], { session, range: "all" })}><${Time} at=${found.at} /></a></td>
    <td>${found.message}${found.agent_id && html` <span class="faint">(sub-agent)</span>`}<div class="note">${found.advice}</div></td>
    <td class="num">${short(found.lost_tokens)}</td><td class="num">${exactMoney(found.lost_usd)}</td></tr>`;
}
