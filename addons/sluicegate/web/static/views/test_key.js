// The button that tries a provider's key.
import { html, useState } from "../lib/ui.js";
import { api, useAction } from "../lib/api.js";
import { Problem } from "../lib/components.js";

/** A provider's key by name, with a button that asks the provider for its list of models with it. */
export function TestKey({ provider, name, isAdmin }) {
  const [found, setFound] = useState(/** @type {any} */ (null));
  const test = useAction(async () =>
    setFound((await api("POST", `/api/providers/${encodeURIComponent(provider)}/keys/${encodeURIComponent(name)}/test`)).data),
  );
  return html`<span class="mono">${name}</span>${" "}
    ${isAdmin && html`<button class="quiet small" aria-label=${`Test key ${name}`} disabled=${test.busy} onClick=${() => test.run()}>${test.busy ? "Testing …" : "Test key"}</button>`}
    ${found && html` <span role="status" class=${found.accepted ? "good" : "warn"}>${found.message}</span>`}
    <${Problem} error=${test.error} />`;
}
