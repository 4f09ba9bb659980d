// A new gateway: the lines that make the first call.
import { html, useEffect } from "../lib/ui.js";
import { useGet } from "../lib/api.js";
import { link } from "../lib/router.js";
import { useLive } from "../lib/live_calls.js";
import { Empty, Fetched, Page, Section } from "../lib/components.js";
import { ClientSetup } from "./client_setup.js";

export function FirstCall({ reload }) {
  const keys = useGet("/api/governance/virtual-keys?limit=50");
  const live = useLive();
  // Also when the stream reconnects: the first call may have been made while it was down.
  useEffect(() => {
    if (live.ended.length || live.opened) reload();
  }, [live.ended.length, live.opened]);
  const key = keys.data?.virtual_keys?.find((k) => k.is_active);
  const value = key?.is_demo ? key.value : null;
  return html`<${Page} title="Overview" lead="No calls yet. This page fills in as soon as the first one arrives.">
    <${Fetched} of=${keys}>${() =>
      !key
        ? html`<${Empty} title="Create a key first">
          <p>Agents get virtual keys instead of provider keys. A virtual key says whose calls they are and what they may spend.</p>
      <p><a class="button" href=${link(["keys", "new"])}>Create key</a></p></${Empty}>`
        : html`<${Section} title="Make the first call" note="in a terminal on a developer's machine">
        <${ClientSetup} value=${value || "<virtual key>"} />
        ${!value && html`<p class="note">Replace <code>${"<virtual key>"}</code> with the key's value. It was shown when the key was created; <a href=${link(["keys", key.id])}>rotate the key</a> to get a new one, or <a href=${link(["keys", "new"])}>create another</a>.</p>`}
      </${Section}>`}</${Fetched}>
    <${Section} title="What this page will show">
      <p class="faint">Spend against budgets, calls and tokens over time, who uses what, and every call with its decision and cost, line by line.</p>
    </${Section}>
  </${Page}>`;
}
