// The features that can be switched: what each does, how it is set, and which keys of the policy that is.
import { html } from "../lib/ui.js";
import { Field, Select } from "../lib/components.js";
import { period } from "../lib/format.js";

const SHARED_BY = {
  virtual_key: "calls of the same virtual key",
  user: "calls of the same user",
  team: "calls of the same team",
  customer: "calls of the same customer",
};

const SCOPES = [
  ["user", "One user's calls"],
  ["virtual_key", "One virtual key's calls"],
  ["team", "Everybody of a team"],
  ["customer", "Everybody of a customer"],
];

const PACED = { none: "at once", natural: "at the pace at which they came" };

const SHARING = "What one person was answered, others are answered too.";

/** A number as it was typed; what is none is left for the gateway to refuse in words. */
const numberOf = (typed) => (typed.trim() === "" ? null : Number.isNaN(Number(typed)) ? typed : Number(typed));

const wordOf = (typed) => typed.trim() || null;

const asText = (values) => Object.fromEntries(Object.entries(values).map(([k, v]) => [k, typeof v === "boolean" ? v : String(v)]));

/**
 * What a form changes in one part of `cache`. An enabled cache names its scope, whatever that is by default.
 *
 * @param {string} part
 * @param {Record<string, (typed: any) => any>} readers by key, how what was typed is read
 */
const cacheBody = (part, readers) => (values, features, operation) => {
  if (operation === "disable") return { cache: { [part]: { enabled: false } } };
  const now = asText(features.cache[part]),
    changed = operation === "enable" ? { enabled: true, scope: values.scope } : {};
  for (const [name, read] of Object.entries(readers)) if (values[name] !== now[name]) changed[name] = read(values[name]);
  return { cache: { [part]: changed } };
};

function Scope({ values, set, error }) {
  const isShared = values.scope === "team" || values.scope === "customer";
  return html`<${Field} label="Answers are shared by" name="scope" error=${error} hint=${isShared ? SHARING : "Nobody is answered from another person's calls."}>
    ${(id) => html`<${Select} id=${id} value=${values.scope} options=${SCOPES} onInput=${(scope) => set({ scope })} />`}</${Field}>`;
}

const input = (label, name, hint, { values, set, error, ...more }) =>
  html`<${Field} label=${label} name=${name} hint=${hint} value=${values[name]} error=${error} onInput=${(typed) => set({ [name]: typed })} ...${more} />`;

const exact = {
  id: "exact",
  title: "Exact caching",
  name: "exact caching",
  isOn: (f) => f.cache.exact.enabled,
  does: () =>
    "A call that says exactly the same as an earlier one is answered with the answer of that one: no provider is asked, and nothing is charged. Only complete answers are kept, and none of calls with files, images or the provider's own tools.",
  ends: () => "From then on every call asks its provider. What is kept stays on disk until it is too old, or is cleared.",
  facts: (f) => [
    ["Shared by", SHARED_BY[f.cache.exact.scope]],
    ["Kept for", `one ${period(f.cache.exact.ttl)}`.replace(/^one (\d)/, "$1")],
    ["Room", `${f.cache.exact.max_bytes} on disk, ${f.cache.exact.max_entry_bytes} for one answer`],
    ["Streams are given", PACED[f.cache.exact.pacing]],
  ],
  values: (f) => asText(f.cache.exact),
  body: cacheBody("exact", { scope: String, ttl: wordOf, max_bytes: wordOf, max_entry_bytes: wordOf, pacing: String, sampled: Boolean }),
  fields: (form) => html`<div class="fields"><${Scope} ...${form} />
      ${input("Kept for", "ttl", "30s, 5m, 1h, 1d", form)}
      ${input("Room on disk", "max_bytes", "512MB, 2GB", form)}
      ${input("Largest answer", "max_entry_bytes", "512KB, 4MB", form)}
      <${Field} label="Streams are given" name="pacing" error=${form.error} hint=${form.values.pacing === "natural" ? "No pause is longer than 2 s, and no answer takes longer than a minute." : undefined}>
        ${(id) => html`<${Select} id=${id} value=${form.values.pacing} options=${Object.entries(PACED)} onInput=${(pacing) => form.set({ pacing })} />`}</${Field}></div>
    <${Field} label="Also where a call asks for a temperature above 0" name="sampled" type="checkbox" value=${form.values.sampled} error=${form.error} onInput=${(sampled) => form.set({ sampled })} />`,
};

const semantic = {
  id: "semantic",
  title: "Semantic caching",
  name: "semantic caching",
  isOn: (f) => f.cache.semantic.enabled,
  does: () =>
    "A short question is answered with the answer to one that means the same in other words: “fix this bug” and “debug this code” with the same code, never with other code. Only questions in a single turn and without tools are, so that no answer can act. How similar is similar enough is learned for each answer, by comparing it with the provider's own, so that wrong ones stay rarer than the bound. Coding agents send tools with nearly every call: this saves money in chats and scripts beside them.",
  ends: () => "From then on a question is only answered without its provider if it says exactly the same as one before, and exact caching is on.",
  facts: (f) => [
    ["Shared by", SHARED_BY[f.cache.semantic.scope]],
    ["Least similarity", String(f.cache.semantic.threshold)],
    ["Wrong answers", `at most ${Number((100 * f.cache.semantic.error_bound).toPrecision(3))} %`],
    ["Kept for", `one ${period(f.cache.semantic.ttl)}`.replace(/^one (\d)/, "$1")],
  ],
  values: (f) => asText(f.cache.semantic),
  body: cacheBody("semantic", { scope: String, threshold: numberOf, error_bound: numberOf, ttl: wordOf }),
  fields: (form) => html`<div class="fields"><${Scope} ...${form} />
      ${input("Least similarity", "threshold", "0 to 1; 0.95 is careful", { ...form, inputmode: "decimal" })}
      ${input("Bound on wrong answers", "error_bound", "As a share: 0.01 is one in a hundred", { ...form, inputmode: "decimal" })}
      ${input("Kept for", "ttl", "30s, 5m, 1h, 1d", form)}</div>`,
};

const content = {
  id: "content",
  title: "Content recording",
  name: "content recording",
  isOn: (f) => f.content === "full",
  does: (f) =>
    `Keeps what every call sent and was answered for ${period(f.content_retention)}, so that a call's page shows it and the calls can be searched for it. Prompts can hold personal data and secrets; whoever may see a call may read them.`.replace(
      /for (day|week|month|year|hour|minute),/,
      "for one $1,",
    ),
  ends: () => "Texts of new calls are not kept any more. Those that are kept stay until they are too old.",
  facts: (f) => [
    [
      "Exceptions",
      f.content_elsewhere
        ? `${f.content_elsewhere} of the customers, teams, users, projects and keys say otherwise for themselves`
        : "none",
    ],
  ],
  values: () => ({}),
  body: (values, f, operation) => ({ content: operation === "disable" ? "off" : "full" }),
};

const percentages = (f) => f.alerts.thresholds.map((t) => `${t} %`).join(", ");

const alerts = {
  id: "alerts",
  title: "Alerts",
  name: "alerts",
  isOn: (f) => f.alerts.thresholds.length > 0,
  does: () => "Tells the policy's webhooks when a budget reaches one of several percentages.",
  ends: () => "Nothing is sent, except for budgets with thresholds of their own.",
  facts: (f) => [
    ["Sent at", percentages(f)],
    ["Told", f.alerts.webhooks.join(", ") || "nobody, until the policy names a webhook under alerts.webhooks"],
  ],
  values: (f) => ({ thresholds: (f.alerts.thresholds.length ? f.alerts.thresholds : [50, 80, 95, 100]).join(", ") }),
  body: (values, f, operation) => ({
    alerts: { thresholds: operation === "disable" ? [] : values.thresholds.split(/[\s,%]+/).filter(Boolean).map(numberOf) },
  }),
  fields: (form) => input("Percent of a budget", "thresholds", "Whole numbers from 1 to 100", form),
};

/** Logins of a provider's own that its clients can have. */
const subscriptions = (provider) => ({
  id: `subscriptions-${provider}`,
  title: `Clients' own subscriptions: ${provider}`,
  name: `clients' own subscriptions for ${provider}`,
  isOn: (f) => f.providers[provider].subscriptions === "pass",
  does: () =>
    "A login that a client has of its own (Claude Pro, Max, Team), sent beside its virtual key, goes on to the provider in place of the gateway's key. Access and rate limits hold. The call costs nothing here; what it would have cost is kept apart.",
  ends: () => "Calls with a client's own login are refused, with words that say so.",
  facts: () => [],
  values: () => ({}),
  body: (values, f, operation) => ({ providers: { [provider]: { subscriptions: operation === "disable" ? "refuse" : "pass" } } }),
});

/** Every feature, in the order in which they are shown. */
export const featuresOf = (f) => [exact, semantic, content, alerts, ...Object.keys(f.providers).map(subscriptions)];
