// Who is signed in, on which machine: those of one user, or of all; each can be ended.
import { html } from "../lib/ui.js";
import { api, url, useAction, useGet } from "../lib/api.js";
import { Fetched, Problem, Section, Time } from "../lib/components.js";

/**
 * The sign-ins of a user, or with no user those that the caller may see. Nothing where there are none.
 *
 * @param {{user?: string, title?: string, canEnd: boolean}} properties
 */
export function SignIns({ user, title = "Signed in", canEnd }) {
  const found = useGet(url("/api/sign-ins", { user }), { every: 30_000 });
  if (!found.data?.sign_ins.length) return null;
  return html`<${Section} title=${title} note="clients with tokens of the company's sign-in">
    <${Fetched} of=${found}>${(data) => html`<div class="scroll"><table class="data plain">
      <thead><tr><th scope="col">Client</th><th scope="col">Address</th><th scope="col">Since</th><th scope="col">Renewed</th>${canEnd && html`<th scope="col"><span class="sr">End</span></th>`}</tr></thead>
      <tbody>${data.sign_ins.map((s) => html`<${Row} key=${s.id} of=${s} canEnd=${canEnd} reload=${found.reload} />`)}</tbody>
    </table></div>`}</${Fetched}>
  </${Section}>`;
}

function Row({ of, canEnd, reload }) {
  const end = useAction(() => api("DELETE", `/api/sign-ins/${of.id}`));
  const click = async () => {
    if (await end.run()) reload();
  };
  return html`<tr>
    <td>${of.client || "unknown"}<${Problem} error=${end.error} /></td><td class="mono nowrap">${of.source}</td>
    <td class="nowrap"><${Time} at=${of.began_at} /></td><td class="nowrap"><${Time} at=${of.renewed_at} /></td>
    ${canEnd && html`<td class="num"><button class="small danger" disabled=${end.busy} onClick=${click}>End</button></td>`}
  </tr>`;
}
