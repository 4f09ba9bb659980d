// The form that creates or edits a key, team, user, project, customer or model limit.
import { html, useRef, useState } from "../lib/ui.js";
import { api, CREATE_ONLY, url, useAction, useGet } from "../lib/api.js";
import { go, link } from "../lib/router.js";
import { useUnsaved } from "../lib/unsaved.js";
import { Fetched, Field, Page, Problem, Select } from "../lib/components.js";
import { KINDS, REFERENCES, alone, listPath, entityPath, nameOf, newKeyValues, saveChange, editableConfig } from "../lib/entities.js";
import { BudgetFields, RateFields, budgetBody, budgetValues, rateBody, rateValues } from "./limits.js";

/** An entity as form values. */
function valuesOf(e) {
  return {
    name: e.name || "",
    id: e.id || "",
    description: e.description || "",
    email: e.email || "",
    model_name: e.model_name || "",
    provider: e.provider || "",
    customer_id: e.customer_id || "",
    team_id: e.team_id || "",
    user_id: e.user_id || "",
    project_id: e.project_id || "",
    expires_at: e.expires_at ? localTime(e.expires_at) : "",
    is_active: e.is_active !== false,
    trust_user_header: e.trust_user_header || false,
    trust_project_header: e.trust_project_header || "",
    repositories: (e.repositories || []).join(" "),
    labels: Object.entries(e.labels || {}).map(([name, value]) => ({ name, value })),
    allow_all_providers: e.allow_all_providers || false,
    configs: (e.provider_configs || []).map((c) => ({
      of: c,
      provider: c.provider,
      models: c.allowed_models ? c.allowed_models.join(", ") : "",
    })),
    isRestricted: e.provider_configs !== null && e.provider_configs !== undefined,
    budget: budgetValues(e.budget),
    rate: rateValues(e.rate_limit),
  };
}

function localTime(iso) {
  const at = new Date(iso);
  return new Date(+at - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** What the policy says where nothing is written. */
const DEFAULTS = { is_active: true, trust_user_header: false, allow_all_providers: false };

/** Labels as the API takes them, null for none. A row without a name and a value is none. */
function labelsBody(rows) {
  const filled = rows.filter((row) => row.name.trim() || row.value.trim());
  return filled.length ? Object.fromEntries(filled.map((row) => [row.name.trim(), row.value.trim()])) : null;
}

/** The request body: for a new entity what is filled in; for an edit what has changed, null for what was removed. */
function bodyOf(kind, v, before) {
  /** @type {Record<string, any>} */
  const all = {
    name: v.name.trim() || null,
    ...Object.fromEntries(KINDS[kind].parents.map((f) => [f, v[f] || null])),
    budget: budgetBody(v.budget),
    rate_limit: rateBody(v.rate),
  };
  if (kind !== "models") all.labels = labelsBody(v.labels);
  if (kind === "projects") all.repositories = v.repositories.trim() ? v.repositories.trim().split(/[,\s]+/).filter(Boolean) : null;
  if (kind === "models") {
    delete all.name;
    if (!before) Object.assign(all, { model_name: v.model_name.trim(), provider: v.provider || null });
  }
  if (kind === "customers") all.email = v.email.trim() || null;
  if (kind === "users") all.is_active = v.is_active;
  if (kind === "keys") {
    all.allow_all_providers = v.isRestricted && v.allow_all_providers;
    all.description = v.description.trim() || null;
    all.expires_at = v.expires_at ? new Date(v.expires_at).toISOString() : null;
    all.trust_user_header = v.trust_user_header;
    all.trust_project_header = v.trust_project_header || null;
    all.provider_configs = v.isRestricted
      ? v.configs.map((c) => ({
          ...(c.of ? editableConfig(c.of) : { weight: 1 }),
          provider: c.provider,
          allowed_models: c.models.trim() ? c.models.split(/[,\s]+/).filter(Boolean) : null,
        }))
      : null;
    for (const c of all.provider_configs || []) if (c.allowed_models === null) delete c.allowed_models;
  }
  if (before) {
    const unchanged = { ...DEFAULTS, ...bodyOf(kind, valuesOf(before), null) };
    return Object.fromEntries(
      Object.entries(all).filter(([f, value]) => JSON.stringify(value) !== JSON.stringify(unchanged[f] ?? null)),
    );
  }
  if (v.id.trim() && kind !== "models") all.id = v.id.trim();
  return Object.fromEntries(Object.entries(all).filter(([f, value]) => value !== null && value !== DEFAULTS[f]));
}

export function Create({ kind, query }) {
  const k = KINDS[kind];
  const initial = valuesOf(Object.fromEntries([...query].filter(([n]) => REFERENCES[n])));
  const onDone = ({ data }) => {
    const e = data[k.entity];
    if (kind === "keys" && e.value && !e.is_demo && !e.value.startsWith("env.")) newKeyValues.set(e.id, e.value);
    go([kind, e.id], {}, { replace: true });
  };
  return html`<${Page} title=${`New ${k.noun}`} back=${{ href: link([kind]), text: k.title }} lead=${k.description}>
    <${Form} kind=${kind} initial=${initial} button=${`Create ${k.noun}`} work=${(v) => api("POST", listPath(kind), bodyOf(kind, v, null), CREATE_ONLY)} onDone=${onDone} isNew /></${Page}>`;
}

export function Edit({ kind, id }) {
  const k = KINDS[kind],
    resource = useGet(alone(entityPath(kind, id)), { uncached: true });
  return html`<${Page} title=${`Edit ${id}`} back=${{ href: link([kind, id]), text: id }}><${Fetched} of=${resource} lines=${8}>${(
    d,
  ) => html`
    <${Form} kind=${kind} initial=${valuesOf(d[k.entity])} hasSeveralBudgets=${d[k.entity].budgets?.length > 0} button="Save" onDone=${() => go([kind, id], {}, { replace: true })}
      work=${(v) => {
        const body = bodyOf(kind, v, d[k.entity]);
        return Object.keys(body).length ? saveChange(entityPath(kind, id), d[k.entity], body) : { data: d };
      }} />`}</${Fetched}></${Page}>`;
}

function Form({ kind, initial, button, work, onDone, isNew, hasSeveralBudgets }) {
  const [v, setValues] = useState(initial),
    begun = useRef(JSON.stringify(initial)),
    unsaved = useUnsaved(JSON.stringify(v) !== begun.current),
    set = (changes) => setValues((old) => ({ ...old, ...changes }));
  const action = useAction(work),
    error = action.error,
    k = KINDS[kind];
  const submit = async (e) => {
    e.preventDefault();
    const result = await action.run(v);
    if (!result) return;
    unsaved.saved();
    onDone(result);
  };
  const text = (label, name, attributes = {}) =>
    html`<${Field} label=${label} name=${name} value=${v[name]} error=${error} onInput=${(x) => set({ [name]: x })} ...${attributes} />`;
  return html`<form class="form" onSubmit=${submit}>
    <div class="fields">
      ${
        kind === "models"
          ? html`${text("Model", "model_name", { required: true, disabled: !isNew, placeholder: "claude-opus-*", hint: "A name or a glob" })}<${ProviderChoice} v=${v} set=${set} disabled=${!isNew} error=${error} />`
          : html`${text("Name", "name", { required: isNew && !v.id })}${isNew && text("Id", "id", { placeholder: "derived from the name", hint: "Cannot be changed later: usage is counted under it" })}`
      }
      ${k.parents.map((f) => html`<${ParentChoice} key=${f} field=${f} ...${{ v, set, error }} />`)}
      ${kind === "projects" && text("Repositories", "repositories", { placeholder: "github.com/acme/api github.com/acme/*", hint: "Calls from them are for this project, where trust_project_header lets clients say so" })}
      ${kind === "customers" && text("Email", "email", { type: "email", hint: "Whom to write to; the gateway sends nothing there" })}
      ${kind === "keys" && html`${text("Expires", "expires_at", { type: "datetime-local", hint: "Leave empty for never" })}${text("Description", "description")}`}
    </div>
    ${kind === "users" && text("Active", "is_active", { type: "checkbox", hint: "Otherwise every key of this user is refused at once" })}
    ${kind === "keys" && html`<${AllowedModels} ...${{ v, set, error }} />`}
    <fieldset><legend>Budget</legend>${
      hasSeveralBudgets
        ? html`<p class="note">It has several budgets; change each one under <a href=${link(["budgets"])}>Budgets</a>.</p>`
        : html`<${BudgetFields} values=${v.budget} set=${(changes) => set({ budget: { ...v.budget, ...changes } })} error=${error} optional />`
    }</fieldset>
    <fieldset><legend>Rate limits</legend>
      <${RateFields} values=${v.rate} set=${(changes) => set({ rate: { ...v.rate, ...changes } })} error=${error} /></fieldset>
    ${kind === "keys" && html`<fieldset>
      <legend>User header</legend>${text("Trust the header x-bf-user-id", "trust_user_header", { type: "checkbox", hint: "For services that call on behalf of many users: the named user's limits apply." })}</fieldset>
      <fieldset><legend>Project header</legend><${Field} label="Project that a client names" name="trust_project_header" error=${error} hint="Counts for keys without a project; a known one must be of the key's team or customer, or of none">${(id) => html`<${Select} id=${id} value=${v.trust_project_header} options=${TRUST} onInput=${(trust_project_header) => set({ trust_project_header })} />`}</${Field}></fieldset>`}
    ${kind !== "models" && html`<${Labels} ...${{ v, set, error }} />`}
    <${Problem} error=${error} />
    <div class="form-foot"><button class="primary" disabled=${action.busy}>${action.busy ? "Saving …" : button}</button>
      <a class="quiet-link" href=${link([kind])}>Cancel</a></div>
  </form>`;
}

const TRUST = [
  ["", "as the policy says"],
  ["ignore", "is only recorded"],
  ["known", "counts if it is known"],
  ["any", "counts in records whatever it is"],
];

/** Names and values of an entity's own. */
function Labels({ v, set, error }) {
  const change = (i, changes) => set({ labels: v.labels.map((row, j) => (j === i ? { ...row, ...changes } : row)) });
  const problem = error?.field?.split(/[.[]/)[0] === "labels" && error.message;
  return html`<fieldset><legend>Labels</legend>
    ${v.labels.map(
      (row, i) => html`<div class="fields config" key=${i}>
      <${Field} label="Label" value=${row.name} placeholder="cost_center" onInput=${(name) => change(i, { name })} />
      <${Field} label="Value" value=${row.value} placeholder="4711" onInput=${(value) => change(i, { value })} />
      <button type="button" class="quiet small" aria-label=${`Remove label ${row.name}`} onClick=${() => set({ labels: v.labels.filter((_, j) => j !== i) })}>Remove</button></div>`,
    )}
    ${problem && html`<p class="note warn">${problem}</p>`}
    <button type="button" class="quiet small" onClick=${() => set({ labels: [...v.labels, { name: "", value: "" }] })}>Add label</button>
  </fieldset>`;
}

/** Longer lists are searched by the gateway while one types. */
const MAX_OPTIONS = 200;

function ParentChoice({ field, v, set, error }) {
  const [kind, label] = REFERENCES[field],
    resource = useGet(url(listPath(kind), { limit: MAX_OPTIONS }));
  const isLong = resource.data?.total_count > MAX_OPTIONS;
  const found = useGet(isLong && v[field] ? url(listPath(kind), { limit: 20, search: v[field] }) : null, { keep: true });
  const options = (resource.data?.[KINDS[kind].list] || []).map((e) => [e.id, nameOf(e) === e.id ? e.id : `${nameOf(e)} (${e.id})`]);
  if (resource.data && !options.length) return null;
  if (isLong)
    return html`<${Field} label=${label} name=${field} value=${v[field]} error=${error} list=${`of-${field}`} hint="Type a part of an id or name" onInput=${(x) => set({ [field]: x })} />
      <datalist id=${`of-${field}`}>${(found.data?.[KINDS[kind].list] ?? []).map((e) => html`<option value=${e.id}>${nameOf(e)}</option>`)}</datalist>`;
  return html`<${Field} label=${label} name=${field} error=${error}>${(id) => html`<${Select} id=${id} value=${v[field]} options=${[["", "none"], ...options]} onInput=${(x) => set({ [field]: x })} />`}</${Field}>`;
}

function ProviderChoice({ v, set, disabled, error }) {
  const resource = useGet("/api/providers");
  return html`<${Field} label="Provider" name="provider" error=${error}>${(id) => html`<${Select} id=${id} disabled=${disabled} value=${v.provider} options=${[["", "any"], ...(resource.data?.providers || []).map((p) => [p.name, p.name])]} onInput=${(provider) => set({ provider })} />`}</${Field}>`;
}

function AllowedModels({ v, set, error }) {
  const resource = useGet("/api/providers"),
    providers = (resource.data?.providers || []).map((p) => p.name);
  const changeConfig = (i, changes) => set({ configs: v.configs.map((c, j) => (j === i ? { ...c, ...changes } : c)) });
  const unusedProviders = providers.filter((p) => !v.configs.some((c) => c.provider === p));
  return html`<fieldset><legend>Allowed models</legend>
    <${Field} label="Restrict to the list below" name="provider_configs" type="checkbox" value=${v.isRestricted} error=${error} hint=${v.isRestricted ? null : "Every provider and model is allowed."}
      onInput=${(isRestricted) => set({ isRestricted, configs: isRestricted && !v.configs.length ? [{ provider: providers[0] || "anthropic", models: "" }] : v.configs })} />
    ${
      v.isRestricted &&
      html`${v.configs.map(
        (c, i) => html`<div class="fields config" key=${i}>
        <${Field} label="Provider" name="provider">${(id) => html`<${Select} id=${id} value=${c.provider} options=${[c.provider, ...unusedProviders].map((p) => [p, p])} onInput=${(provider) => changeConfig(i, { provider, of: null })} />`}</${Field}>
        <${Field} label="Models" name="allowed_models" value=${c.models} error=${error} placeholder="claude-haiku-*, claude-sonnet-5" hint="Names or globs; leave empty for all" onInput=${(models) => changeConfig(i, { models })} />
        <button type="button" class="quiet small" aria-label=${`Remove ${c.provider}`} onClick=${() => set({ configs: v.configs.filter((_, j) => j !== i) })}>Remove</button></div>`,
      )}
      ${unusedProviders.length > 0 && html`<button type="button" class="quiet small" onClick=${() => set({ configs: [...v.configs, { provider: unusedProviders[0], models: "" }] })}>Add provider</button>`}
      <${Field} label="Allow other providers too" name="allow_all_providers" type="checkbox" value=${v.allow_all_providers} error=${error} hint="Those that are not listed, with every model" onInput=${(allow_all_providers) => set({ allow_all_providers })} />`
    }</fieldset>`;
}
