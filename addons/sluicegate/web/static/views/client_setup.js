// The lines that set up a client, for the developer to copy.
import { html, useState } from "../lib/ui.js";
import { CLIENTS, MODES, PLATFORMS, setupLines } from "../lib/clients.js";
import { Choice, Copy } from "../lib/components.js";

export function ClientSetup({ value, model }) {
  const [client, setClient] = useState("claude");
  const [platform, setPlatform] = useState(/Win/.test(navigator.userAgent) ? "windows" : "unix");
  const [mode, setMode] = useState("base");
  const text = setupLines({ client, platform, mode, value, model }).join("\n");
  return html`<div class="client-setup">
    <div class="filters">
      <${Choice} label="Client" options=${CLIENTS} value=${client} onChange=${setClient} />
      <${Choice} label="Platform" options=${PLATFORMS} value=${platform} onChange=${setPlatform} />
      ${client === "claude" && html`<${Choice} label="Connection" options=${MODES} value=${mode} onChange=${setMode} />`}
    </div>
    <${Copy} text=${text} />
    <p class="note">${
      client === "curl"
        ? "Sends one call, to try it out."
        : client === "claude" && mode === "base"
          ? "With the base URL, only model calls pass the gateway. With the proxy, the agent's other traffic is governed and recorded too."
          : "The certificate is the gateway's own; it lets the client trust the gateway to read its model calls. Other hosts are tunnelled unread."
    }</p>
  </div>`;
}
