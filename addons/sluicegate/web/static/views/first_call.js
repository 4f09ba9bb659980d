// A new gateway: what is there and what is missing until a first call has completed.
import { html, useEffect } from "../lib/ui.js";
import { api, useAction, useGet } from "../lib/api.js";
import { link } from "../lib/router.js";
import { useLive } from "../lib/live_calls.js";
import { Fetched, Outcome, Page, Problem, Section, Tag } from "../lib/components.js";
import { ClientSetup } from "./client_setup.js";
import { TestKey } from "./test_key.js";

export function FirstCall({ reload, isAdmin }) {
  const keys = useGet("/api/governance/virtual-keys?limit=50");
  const providers = useGet("/api/providers", { every: 5000 });
  const latest = useGet("/api/logs?limit=1");
  const live = useLive();
  // Also when the stream reconnects: the first call may have been made while it was down.
  useEffect(() => {
    if (!live.ended.length && !live.opened) return;
    reload();
    latest.reload();
  }, [live.ended[0], live.opened]);
  const key = keys.data?.virtual_keys?.find((k) => k.is_active);
  const value = key?.is_demo ? key.value : null;
  const call = latest.data?.logs[0];
  const ready = (providers.data?.providers ?? []).filter((p) => p.provider_status === "active");
  return html`<${Page} title="Overview" lead="No call has completed yet. This page fills in as soon as the first one has.">
    <${Section} title="To the first call"><ol class="checklist">
      <${Step} done=${ready.length > 0} title="A provider can be called">
        <${Fetched} of=${providers} lines=${2}>${(d) => html`<${ProviderStep} providers=${d.providers} ready=${ready} isAdmin=${isAdmin} reload=${providers.reload} />`}</${Fetched}>
      </${Step}>
      <${Step} done=${Boolean(key)} title="There is a virtual key">
        <${Fetched} of=${keys} lines=${1}>${() =>
          key
            ? html`<p class="note"><a href=${link(["keys", key.id])}>${key.name || key.id}</a>${!value && html`. Its value was shown when it was created; <a href=${link(["keys", key.id])}>rotate the key</a> to get a new one, or <a href=${link(["keys", "new"])}>create another</a>`}.</p>`
            : html`<p class="note">Agents get virtual keys instead of provider keys. A virtual key says whose calls they are and what they may spend.</p>
              <p><a class="button" href=${link(["keys", "new"])}>Create key</a></p>`}</${Fetched}>
      </${Step}>
      <${Step} done=${false} title="A call has completed">
        ${
          call
            ? html`<p role="status">The last call has not: <${Outcome} call=${call} />. <a href=${link(["calls", call.id], { range: "all" })}>What its client was told</a></p>`
            : html`<p class="note">None has come in yet.</p>`
        }
      </${Step}>
    </ol></${Section}>
    ${
      key &&
      html`<${Section} title="Make the first call" note="in a terminal on a developer's machine">
        <${ClientSetup} value=${value || "<virtual key>"} />
        ${!value && html`<p class="note">Replace <code>${"<virtual key>"}</code> with the key's value.</p>`}
      </${Section}>`
    }
  </${Page}>`;
}

const Step = ({ done, title, children }) =>
  html`<li class=${done ? "done" : ""}><b>${title}</b> ${done ? html`<${Tag} kind="good">done</${Tag}>` : html`<${Tag} kind="warn">to do</${Tag}>`}<div>${children}</div></li>`;

/** The providers that can be called, each real key with a button that tries it; without one, how to get one, or do without. */
function ProviderStep({ providers, ready, isAdmin, reload }) {
  const simulate = useAction(async (name) => {
    await api("PUT", `/api/providers/${encodeURIComponent(name)}`, { simulate: true });
    await reload();
  });
  const waiting = providers.find((p) => p.keys.length) ?? providers[0];
  return html`${ready.map(
    (p) => html`<p key=${p.name}><a href=${link(["providers", p.name])}>${p.name}</a> ${
      p.simulate
        ? html`<span class="note">is simulated: answers are made on this machine, nothing is spent.</span>`
        : p.keys.filter((k) => k.usable).map((k) => html`<${TestKey} key=${k.name} provider=${p.name} name=${k.name} isAdmin=${isAdmin} />`)
    }</p>`,
  )}
  ${
    !ready.length &&
    waiting &&
    html`<p class="note">Calls are refused until a provider has a key: ${waiting.name}'s ${waiting.keys.length ? `key ${waiting.keys[0].name} has no value (${waiting.keys[0].value})` : "has none"}.</p>
    ${isAdmin && html`<p><a class="button" href=${link(["providers", waiting.name])}>Add a provider key</a>${" "}
      <button disabled=${simulate.busy} onClick=${() => simulate.run(waiting.name)}>Simulate ${waiting.name}</button>
      <span class="note"> The simulator needs no key and spends nothing.</span></p>`}
    <${Problem} error=${simulate.error} />`
  }`;
}
