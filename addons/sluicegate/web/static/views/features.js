// Features: caches, kept content, alerts and clients' own logins, what each does and did, and switches that change the policy.
import { html, useEffect, useState } from "../lib/ui.js";
import { api, url, useGet } from "../lib/api.js";
import { Fetched, Field, FormDialog, Page, Section, Tag } from "../lib/components.js";
import { bytes, count, money, percent } from "../lib/format.js";
import { FeatureDialog } from "./feature_dialog.js";
import { featuresOf } from "./feature_list.js";

/** What is said once an operation is done. */
const DONE = { enable: "enabled", change: "changed", disable: "disabled" };

export default function Features({ user }) {
  const features = useGet("/api/features", { every: 10_000 }),
    cache = useGet("/api/cache", { every: 5000 });
  const [dialog, openDialog] = useState(/** @type {any} */ (null));
  /** What was done, to which feature: it is said, and the keyboard is there again. */
  const [done, setDone] = useState({ words: "", id: "" });
  useEffect(() => {
    if (done.id) /** @type {HTMLElement | null} */ (document.querySelector(`.feature-${CSS.escape(done.id)} button`))?.focus();
  }, [done]);
  const close = () => openDialog(null);
  const finish = async (words) => {
    const { id } = dialog.feature;
    close();
    await Promise.all([features.reload(), cache.reload()]);
    setDone({ words, id });
  };
  const isAdmin = user.role === "admin";
  return html`<${Page} title="Features" lead="What can be switched on and off. A switch changes lines of the policy, which are shown before they are written.">
    ${!isAdmin && html`<p class="note">Your role is read-only.</p>`}
    <p class="sr" role="status">${done.words}</p>
    <${Fetched} of=${features} lines=${8}>${(f) =>
      featuresOf(f).map(
        (feature) => html`<${Feature} key=${feature.id} feature=${feature} features=${f} cache=${cache.data} isAdmin=${isAdmin}
          isReadOnly=${!user.canEdit} onOpen=${(operation) => openDialog({ feature, operation })} />`,
      )}</${Fetched}>
    ${
      dialog?.operation === "clear"
        ? html`<${ClearDialog} onClose=${close} onDone=${({ data }) => finish(data.message)} />`
        : dialog &&
          html`<${FeatureDialog} key=${dialog.feature.id + dialog.operation} ...${dialog} features=${features.data} isReadOnly=${!user.canEdit} onClose=${close} onStale=${features.reload}
            onDone=${() => finish(`${dialog.feature.title}: ${DONE[dialog.operation]}`)} />`
    }</${Page}>`;
}

/** What each operation's button says, and what it says where the policy cannot be written here. */
const BUTTONS = {
  enable: ["Enable", "YAML to enable"],
  change: ["Change", "YAML to change"],
  disable: ["Disable", "YAML to disable"],
};

function Feature({ feature, features, cache, isAdmin, isReadOnly, onOpen }) {
  const isOn = feature.isOn(features),
    kept = feature.id === "exact" ? cache : feature.id === "semantic" ? cache?.semantic : null;
  const operations = isOn ? (feature.fields ? ["change", "disable"] : ["disable"]) : ["enable"];
  const button = (operation) =>
    html`<button key=${operation} class=${operation === "enable" && !isReadOnly ? "primary" : ""} aria-label=${`${BUTTONS[operation][Number(isReadOnly)]} ${feature.name}`}
      onClick=${() => onOpen(operation)}>${BUTTONS[operation][Number(isReadOnly)]}</button>`;
  const facts = isOn ? feature.facts(features) : [];
  return html`<${Section} class=${`feature feature-${feature.id}`} title=${feature.title} note=${html`<${Tag} kind=${isOn ? "good" : "dim"}>${isOn ? "on" : "off"}</${Tag}>`}
      actions=${isAdmin && html`<div class="actions">${operations.map(button)}
        ${feature.id === "exact" && kept?.entries > 0 && html`<button class="danger" aria-label="Clear the cache" onClick=${() => onOpen("clear")}>Clear</button>`}</div>`}>
    <p>${feature.does(features)}</p>
    ${facts.length > 0 && html`<dl class="facts">${facts.map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${value}</dd>`)}</dl>`}
    ${kept && (isOn ? html`<${Figures} id=${feature.id} of=${kept} />` : kept.entries > 0 && !features.cache.semantic.enabled && html`<p class="note">${count(kept.entries)} answers from before are still on disk, and not used.</p>`)}
  </${Section}>`;
}

const rate = (inPercent) => (inPercent === null ? "–" : percent(inPercent / 100, 1));

/** @type {[string, (kept: any) => string][]} names of what a cache did, and how it is shown */
const FIGURES = [
  ["Hits", (k) => count(k.hits)],
  ["Misses", (k) => count(k.misses)],
  ["Hit rate", (k) => rate(k.hit_rate)],
  ["Saved", (k) => money(k.saved_usd)],
];

/** @type {Record<string, [string, (kept: any) => string][]>} what one of the caches has besides */
const MORE = {
  exact: [["Kept answers", (k) => `${count(k.entries)}, ${bytes(k.bytes)}`]],
  semantic: [
    ["False hits, estimated", (k) => rate(k.false_hit_rate)],
    ["Kept questions", (k) => count(k.questions)],
  ],
};

function Figures({ id, of }) {
  return html`<dl class="stats minor">${[...FIGURES, ...MORE[id]].map(([name, show]) => html`<div class="stat" key=${name}><dt>${name}</dt><dd>${show(of)}</dd></div>`)}</dl>
    <p class="note">Since the gateway started. ${id === "semantic" && (of.compared ? `Of ${count(of.compared)} kept answers that were compared with the provider's own, ${count(of.disagreed)} would have been wrong; what is given is surer than what is compared.` : "No kept answer has been compared with the provider's own yet.")}</p>`;
}

function ClearDialog({ onClose, onDone }) {
  const work = (v) => api("DELETE", url("/api/cache", { scope: v.scope.trim() }));
  return html`<${FormDialog} title="Clear the cache?" button="Delete the answers" danger isConfirmation work=${work} onClose=${onClose} onDone=${onDone} initial=${{ scope: "" }}>
    ${({ values, set, error }) => html`<p>Kept answers are deleted for good, and the next calls ask their provider. Records and what was saved stay.</p>
      <${Field} label="Only those shared by" name="scope" value=${values.scope} error=${error} placeholder="team/team-data" hint="As kind/ID; leave it empty for all of them" onInput=${(scope) => set({ scope })} />`}</${FormDialog}>`;
}
