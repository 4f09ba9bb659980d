// A fresh gateway: the three lines that bring the first call.
import { html, useEffect } from "../lib/ui.js";
import { useGet } from "../lib/api.js";
import { link } from "../lib/route.js";
import { useLive } from "../lib/live.js";
import { Empty, Fetched, Page, Section } from "../lib/parts.js";
import { Handout } from "./handout.js";

export function FirstCall({ reload }) {
  const keys = useGet("/api/governance/virtual-keys?limit=50");
  const live = useLive();
  // Also when the stream comes back: the first call may have been made while it was away.
  useEffect(() => {
    if (live.ended.length || live.opened) reload();
  }, [live.ended.length, live.opened]);
  const first = keys.data?.virtual_keys?.find((k) => k.is_active);
  const shown = first?.is_demo ? first.value : null;
  return html`<${Page} title="Overview" lead="No call has come through yet. This page fills as soon as one does.">
    <${Fetched} of=${keys}>${() =>
      !first
        ? html`<${Empty} title="First, a key">
          <p>Agents are given virtual keys instead of the provider's: a key says whose calls they are and what they may spend.</p>
      <p><a class="button" href=${link(["keys", "new"])}>Make a key</a></p></${Empty}>`
        : html`<${Section} title="The first call" note="in a terminal on a developer's machine">
        <${Handout} value=${shown || "<virtual key>"} />
        ${first && !shown && html`<p class="note">Write the key's own value for <code>${"<virtual key>"}</code>. It was shown when the key was made; <a href=${link(["keys", first.id])}>rotate it</a> to get a new one, or <a href=${link(["keys", "new"])}>make another key</a>.</p>`}
      </${Section}>`}</${Fetched}>
    <${Section} title="What you will see">
      <p class="faint">Spend against budgets, calls and tokens over time, who uses what, and every call with the decision and its cost, line by line.</p>
    </${Section}>
  </${Page}>`;
}
