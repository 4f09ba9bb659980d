// The lines to hand to a developer, per client and platform.
import { html, useState } from "../lib/ui.js";
import { CLIENTS, MODES, PLATFORMS, lines } from "../lib/clients.js";
import { Choice, Copy } from "../lib/parts.js";

export function Handout({ value, model }) {
  const [client, setClient] = useState("claude");
  const [platform, setPlatform] = useState(/Win/.test(navigator.userAgent) ? "windows" : "unix");
  const [mode, setMode] = useState("base");
  const text = lines({ client, platform, mode, value, model }).join("\n");
  return html`<div class="handout">
    <div class="filters">
      <${Choice} label="Client" options=${CLIENTS} value=${client} onChange=${setClient} />
      <${Choice} label="Platform" options=${PLATFORMS} value=${platform} onChange=${setPlatform} />
      ${client === "claude" && html`<${Choice} label="How" options=${MODES} value=${mode} onChange=${setMode} />`}
    </div>
    <${Copy} text=${text} />
    <p class="note">${
      client === "curl"
        ? "One call, to try it."
        : client === "claude" && mode === "base"
          ? "The base URL governs the model calls. Through the proxy the agent's other traffic is governed and recorded as well."
          : "The certificate is the gateway's own: with it the client trusts the gateway to look into its model calls. Other hosts are tunnelled unread."
    }</p>
  </div>`;
}
