// The form that makes or changes a key, team, user, project, customer or model limit.
import { html, useState } from "../lib/ui.js";
import { api, useDo, useGet } from "../lib/api.js";
import { go, link } from "../lib/route.js";
import { Fetched, Field, Page, Problem, Select } from "../lib/parts.js";
import { KINDS, REFERS, base, change, fresh, nameOf, one, writtenConfig } from "../lib/entities.js";
import { BudgetFields, RateFields, budgetSent, budgetValues, rateSent, rateValues } from "./limits.js";

function valuesOf(kind, e = {}) {
  return {
    name: e.name || "",
    id: e.id || "",
    description: e.description || "",
    model_name: e.model_name || "",
    provider: e.provider || "",
    customer_id: e.customer_id || "",
    team_id: e.team_id || "",
    user_id: e.user_id || "",
    project_id: e.project_id || "",
    expires_at: e.expires_at ? localTime(e.expires_at) : "",
    trust_user_header: e.trust_user_header || false,
    configs: (e.provider_configs || []).map((c) => ({
      of: c,
      provider: c.provider,
      models: c.allowed_models ? c.allowed_models.join(", ") : "",
    })),
    limited: e.provider_configs !== null && e.provider_configs !== undefined,
    budget: budgetValues(e.budget),
    rate: rateValues(e.rate_limit),
  };
}

function localTime(iso) {
  const at = new Date(iso);
  return new Date(at - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** What is sent: for a new one what is filled in, for a change what is different from before, null where it is taken away. */
function sent(kind, v, before) {
  const all = {
    name: v.name.trim() || null,
    ...Object.fromEntries(KINDS[kind].belongs.map((f) => [f, v[f] || null])),
    budget: budgetSent(v.budget),
    rate_limit: rateSent(v.rate),
  };
  if (kind === "models") {
    delete all.name;
    if (!before) Object.assign(all, { model_name: v.model_name.trim(), provider: v.provider || null });
  }
  if (kind === "keys") {
    all.description = v.description.trim() || null;
    all.expires_at = v.expires_at ? new Date(v.expires_at).toISOString() : null;
    all.trust_user_header = v.trust_user_header;
    all.provider_configs = v.limited
      ? v.configs.map((c) => ({
          ...(c.of ? writtenConfig(c.of) : { weight: 1 }),
          provider: c.provider,
          allowed_models: c.models.trim() ? c.models.split(/[,\s]+/).filter(Boolean) : null,
        }))
      : null;
    for (const c of all.provider_configs || []) if (c.allowed_models === null) delete c.allowed_models;
  }
  if (before) {
    const was = sent(kind, valuesOf(kind, before), null);
    return Object.fromEntries(Object.entries(all).filter(([f, value]) => JSON.stringify(value) !== JSON.stringify(was[f])));
  }
  if (v.id.trim() && kind !== "models") all.id = v.id.trim();
  return Object.fromEntries(Object.entries(all).filter(([f, value]) => value !== null && !(f === "trust_user_header" && !value)));
}

export function Make({ kind, query }) {
  const k = KINDS[kind];
  const initial = valuesOf(kind, Object.fromEntries([...query].filter(([n]) => REFERS[n])));
  const done = (answer) => {
    const e = answer.data[k.one];
    if (kind === "keys" && e.value && !e.is_demo && !e.value.startsWith("env.")) fresh.set(e.id, e.value);
    go([kind, e.id], {}, { replace: true });
  };
  return html`<${Page} title=${`New ${k.word}`} back=${{ href: link([kind]), text: k.words }} lead=${k.empty}>
    <${Form} kind=${kind} initial=${initial} button=${`Make the ${k.word}`} work=${(v) => api("POST", base(kind), sent(kind, v, null))} done=${done} isNew /></${Page}>`;
}

export function Edit({ kind, id }) {
  const k = KINDS[kind],
    found = useGet(one(kind, id), { anew: true });
  return html`<${Page} title=${`Edit ${id}`} back=${{ href: link([kind, id]), text: id }}><${Fetched} of=${found} lines=${8}>${(
    d,
  ) => html`
    <${Form} kind=${kind} initial=${valuesOf(kind, d[k.one])} several=${d[k.one].budgets?.length > 0} button="Save" done=${() => go([kind, id], {}, { replace: true })}
      work=${(v) => {
        const body = sent(kind, v, d[k.one]);
        return Object.keys(body).length ? change(one(kind, id), d[k.one], body) : { data: d };
      }} />`}</${Fetched}></${Page}>`;
}

function Form({ kind, initial, button, work, done, isNew, several }) {
  const [v, setAll] = useState(initial),
    set = (more) => setAll((old) => ({ ...old, ...more }));
  const doing = useDo(work),
    error = doing.error,
    k = KINDS[kind];
  const submit = async (e) => {
    e.preventDefault();
    const answer = await doing.run(v);
    if (answer) done(answer);
  };
  const text = (label, name, more = {}) =>
    html`<${Field} label=${label} name=${name} value=${v[name]} error=${error} onInput=${(x) => set({ [name]: x })} ...${more} />`;
  return html`<form class="form" onSubmit=${submit}>
    <div class="fields">
      ${
        kind === "models"
          ? html`${text("Model", "model_name", { required: true, disabled: !isNew, placeholder: "claude-opus-*", hint: "A name or a glob" })}<${ProviderChoice} v=${v} set=${set} disabled=${!isNew} error=${error} />`
          : html`${text("Name", "name", { required: isNew && !v.id })}${isNew && text("Id", "id", { placeholder: "made from the name", hint: "Stays for good: limits are counted under it" })}`
      }
      ${k.belongs.map((f) => html`<${Belongs} key=${f} field=${f} ...${{ v, set, error }} />`)}
      ${kind === "keys" && html`${text("Ends", "expires_at", { type: "datetime-local", hint: "Empty: never" })}${text("Description", "description")}`}
    </div>
    ${kind === "keys" && html`<${MayUse} ...${{ v, set, error }} />`}
    <fieldset><legend>Budget</legend>${
      several
        ? html`<p class="note">It has several: each is changed under <a href=${link(["budgets"])}>Budgets</a>.</p>`
        : html`<${BudgetFields} values=${v.budget} set=${(more) => set({ budget: { ...v.budget, ...more } })} error=${error} optional />`
    }</fieldset>
    <fieldset><legend>Rate limits</legend>
      <${RateFields} values=${v.rate} set=${(more) => set({ rate: { ...v.rate, ...more } })} error=${error} /></fieldset>
    ${kind === "keys" && html`<fieldset>
      <legend>Trust</legend>${text("The header x-bf-user-id says whose call it is", "trust_user_header", { type: "checkbox", hint: "For keys of services that call for many users: that user's limits apply." })}</fieldset>`}
    <${Problem} error=${error} />
    <div class="form-foot"><button class="primary" disabled=${doing.busy}>${doing.busy ? "Saving …" : button}</button>
      <a class="quiet-link" href=${link([kind])}>Cancel</a></div>
  </form>`;
}

function Belongs({ field, v, set, error }) {
  const [kind, word] = REFERS[field],
    found = useGet(base(kind));
  const options = (found.data?.[KINDS[kind].list] || []).map((e) => [e.id, nameOf(e) === e.id ? e.id : `${nameOf(e)} (${e.id})`]);
  if (found.data && !options.length) return null;
  return html`<${Field} label=${word} name=${field} error=${error}>${(id) => html`<${Select} id=${id} value=${v[field]} options=${[["", "none"], ...options]} onInput=${(x) => set({ [field]: x })} />`}</${Field}>`;
}

function ProviderChoice({ v, set, disabled, error }) {
  const found = useGet("/api/providers");
  return html`<${Field} label="Provider" name="provider" error=${error}>${(id) => html`<${Select} id=${id} disabled=${disabled} value=${v.provider} options=${[["", "any"], ...(found.data?.providers || []).map((p) => [p.name, p.name])]} onInput=${(provider) => set({ provider })} />`}</${Field}>`;
}

function MayUse({ v, set, error }) {
  const found = useGet("/api/providers"),
    providers = (found.data?.providers || []).map((p) => p.name);
  const change = (i, more) => set({ configs: v.configs.map((c, j) => (j === i ? { ...c, ...more } : c)) });
  const free = providers.filter((p) => !v.configs.some((c) => c.provider === p));
  return html`<fieldset><legend>May use</legend>
    <${Field} label="Only what is listed here" name="provider_configs" type="checkbox" value=${v.limited} error=${error} hint=${v.limited ? null : "Every provider and model is allowed."}
      onInput=${(limited) => set({ limited, configs: limited && !v.configs.length ? [{ provider: providers[0] || "anthropic", models: "" }] : v.configs })} />
    ${
      v.limited &&
      html`${v.configs.map(
        (c, i) => html`<div class="fields config" key=${i}>
        <${Field} label="Provider" name="provider">${(id) => html`<${Select} id=${id} value=${c.provider} options=${[c.provider, ...free].map((p) => [p, p])} onInput=${(provider) => change(i, { provider, of: null })} />`}</${Field}>
        <${Field} label="Models" name="allowed_models" value=${c.models} error=${error} placeholder="claude-haiku-*, claude-sonnet-5" hint="Names or globs; empty: all of them" onInput=${(models) => change(i, { models })} />
        <button type="button" class="quiet small" aria-label=${`Remove ${c.provider}`} onClick=${() => set({ configs: v.configs.filter((_, j) => j !== i) })}>Remove</button></div>`,
      )}
      ${free.length > 0 && html`<button type="button" class="quiet small" onClick=${() => set({ configs: [...v.configs, { provider: free[0], models: "" }] })}>Add a provider</button>`}`
    }</fieldset>`;
}
