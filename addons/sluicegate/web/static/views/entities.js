// Virtual keys, teams, users, projects, customers and models: their lists, and a page for each.
import { html, useEffect, useMemo, useState } from "../lib/ui.js";
import { api, url, useAction, useGet } from "../lib/api.js";
import { go, link } from "../lib/router.js";
import { useUnsaved } from "../lib/unsaved.js";
import { Copy, Empty, Bar, Fetched, Field, Page, Pager, Problem, SearchField, Section, Tag, Time } from "../lib/components.js";
import { Chart } from "../lib/chart.js";
import { startOf } from "../lib/time_ranges.js";
import { MONEY, costSeries, histogram } from "../lib/series.js";
import { KINDS, REFERENCES, alone, listPath, entityPath, nameOf, newKeyValues } from "../lib/entities.js";
import { Limits } from "./limits.js";
import { BudgetDialog } from "./budget_dialog.js";
import { DeleteDialog, EraseDialog, RotateDialog } from "./entity_dialogs.js";
import { Create, Edit } from "./entity_form.js";
import { ClientSetup } from "./client_setup.js";
import { SignIns } from "./sign_ins.js";
import { count, dateOf, money, moneys, nano, perPeriod, short } from "../lib/format.js";

/** Of a list: what is searched for and which page; of a form for a new entity: what it belongs to. */
export const PARAMETERS = ["q", "sort_by", "order", "offset", ...Object.keys(REFERENCES)];

export default function Entities({ name, parts, query, user }) {
  const canEdit = user.canEdit;
  const isNew = parts[0] === "new" && parts.length === 1;
  if (!canEdit && (isNew || parts[1] === "edit"))
    return html`<${Page} title="Not allowed"><p>${user.read_only ?? "Your role is read-only."}</p></${Page}>`;
  if (isNew) return html`<${Create} kind=${name} query=${query} />`;
  if (parts[0] && parts[1] === "edit") return html`<${Edit} kind=${name} id=${parts[0]} />`;
  if (parts[0]) return html`<${Detail} key=${parts[0]} kind=${name} id=${parts[0]} canEdit=${canEdit} isAdmin=${user.role === "admin"} />`;
  return html`<${List} kind=${name} query=${query} canEdit=${canEdit} />`;
}

// -- lists -------------------------------------------------------------------------------------------------------------

/** Entities on a page of a list. As many ids fit into one filter of the calls' rankings. */
const PAGE_SIZE = 100;

/** A list, which the gateway searches, sorts and pages. */
function List({ kind, query, canEdit }) {
  const k = KINDS[kind],
    [search, sortBy, order] = ["q", "sort_by", "order"].map((name) => query.get(name) || ""),
    offset = Number(query.get("offset")) || 0;
  const parents = Object.fromEntries(Object.keys(REFERENCES).map((f) => [f, query.get(f)]));
  const resource = useGet(url(listPath(kind), { ...parents, search, sort_by: sortBy, order, offset: offset || null, limit: PAGE_SIZE }), { every: 10_000, keep: true });
  const shown = resource.data?.[k.list] ?? [];
  const start = useMemo(() => startOf("30d"), []);
  const dimension = kind === "keys" ? "virtual_keys" : kind;
  const ids = shown.map((e) => e.id).join(",");
  const ranking = useGet(
    kind === "models" || ids
      ? url("/api/logs/rankings", { dimension, rank_by: "cost", start, limit: PAGE_SIZE, [k.filter]: kind === "models" ? null : ids })
      : null,
    { keep: true },
  );
  const column = kind === "models" ? "model" : `${k.entity}_id`;
  const costs = useMemo(() => new Map((ranking.data?.rankings || []).map((r) => [r[column], r])), [ranking.data]);
  const button = canEdit && html`<a class="button" href=${link([kind, "new"])}>New ${k.noun}</a>`;
  const set = (changes) => go([kind], { ...parents, q: search, sort_by: sortBy, order, ...changes }, { replace: true });
  return html`<${Page} title=${k.title} actions=${resource.data?.total_count > 0 && button}>
    <${Fetched} of=${resource} lines=${8}>${({ total_count: total }) => {
      if (!total && !search)
        return html`<${Empty} title=${kind === "models" ? "No model limits yet" : `No ${k.title.toLowerCase()} yet`}>
          <p>${k.description}</p>${button && html`<p>${button}</p>`}</${Empty}>${kind === "models" && html`<${ModelsInUse} ranking=${ranking} />`}`;
      return html`${(total > 8 || search) && html`<div class="filters"><${SearchField} value=${search} onSearch=${(q) => set({ q })} /></div>`}
        ${shown.length === 0 ? html`<p class="faint">No ${k.title.toLowerCase()} match “${search}”.</p>` : html`<${Rows} kind=${kind} shown=${shown} costs=${costs} sort=${{ sortBy, order, set }} />`}
        <${Pager} ...${{ offset, total }} shown=${shown.length} size=${PAGE_SIZE} onOffset=${(to) => set({ offset: to || null })} />
        ${kind === "models" && html`<${ModelsInUse} ranking=${ranking} />`}`;
    }}</${Fetched}>
  </${Page}>`;
}

/** Whether an entity of this kind can be disabled. */
const hasState = (kind) => kind === "keys" || kind === "users";

/** The header of the names; in a list it turns the order around. */
function NameHeader({ title, sort }) {
  if (!sort) return html`<th scope="col">${title}</th>`;
  const isSorted = sort.sortBy === "name",
    isDown = sort.order === "desc";
  const resort = () => sort.set({ sort_by: isSorted && isDown ? null : "name", order: isSorted && !isDown ? "desc" : null });
  return html`<th scope="col" aria-sort=${isSorted ? (isDown ? "descending" : "ascending") : null}>
    <button onClick=${resort}>${title}${isSorted ? (isDown ? " ↓" : " ↑") : ""}</button></th>`;
}

function Rows({ kind, shown, costs, sort }) {
  const parents = kind === "keys" ? ["team_id", "user_id"] : KINDS[kind].parents.slice(0, 1);
  return html`<div class="scroll"><table class="data rows"><thead><tr>
    <${NameHeader} title=${kind === "models" ? "Model" : "Name"} sort=${sort} />${parents.map((p) => html`<th scope="col">${REFERENCES[p][1]}</th>`)}
      <th scope="col">Budget</th>${costs && html`<th scope="col" class="num">Last 30 days</th>
        <th scope="col" class="num">Calls</th>`}${hasState(kind) && html`<th scope="col">State</th>`}</tr></thead>
    <tbody>${shown.map(
      (
        e,
      ) => html`<tr key=${e.id}><td>
        <a href=${link([kind, e.id])}>${nameOf(e)}</a>${e.name && e.name !== e.id ? html` <span class="faint id">${e.id}</span>` : ""}</td>
      ${parents.map((p) => html`<td>${e[p] ? html`<a class="cut" title=${e[p]} href=${link([REFERENCES[p][0], e[p]])}>${e[p]}</a>` : html`<span class="faint">–</span>`}</td>`)}
      <td class="budget-cell">
        <${BudgetSummary} of=${e} /></td>${costs && html`<td class="num">${costs.get(e.id) ? money(costs.get(e.id).total_cost) : html`<span class="faint">–</span>`}</td>
        <td class="num">${costs.get(e.id) ? count(costs.get(e.id).total_requests) : html`<span class="faint">–</span>`}</td>`}
      ${hasState(kind) && html`<td class="nowrap"><${KeyState} of=${e} /></td>`}</tr>`,
    )}</tbody></table></div>`;
}

function BudgetSummary({ of }) {
  const b = of.budget || of.budgets?.[0];
  if (!b) return html`<span class="faint">none</span>`;
  const [used, limit] = moneys([b.current_usage, b.limit_in_force]);
  return html`<span class="small-budget">
    <${Bar} used=${nano(b.current_usage)} reserved=${nano(b.reserved)} limit=${nano(b.limit_in_force)} label=${`${used} of ${limit}`} />
    <span class="nowrap">${used} <span class="faint">of ${limit} ${perPeriod(b.reset_duration)}</span></span></span>`;
}

function KeyState({ of }) {
  if (!of.is_active) return html`<${Tag} kind="dim">disabled</${Tag}>`;
  if (of.refusal && of.user_id && !/inactive|expired/.test(of.refusal)) return html`<${Tag} kind="bad">user disabled</${Tag}>`;
  if (of.expires_at && new Date(of.expires_at) <= new Date()) return html`<${Tag} kind="bad">expired</${Tag}>`;
  return html`<${Tag} kind="good">active</${Tag}>${of.expires_at && html` <span class="faint">until ${dateOf(of.expires_at)}</span>`}${of.is_demo && html` <span class="warn" title="Its value is its id; meant for trials only">demo key</span>`}`;
}

/** The models that calls have used, with their list prices. */
function ModelsInUse({ ranking }) {
  const models = (ranking.data?.rankings || []).filter((r) => r.model).slice(0, 20);
  if (!models.length) return null;
  return html`<${Section} title="Models in use" note="last 30 days; list price in dollars per million tokens"><div class="scroll">
    <table class="data rows"><thead><tr><th scope="col">Model</th><th scope="col" class="num">Calls</th>
    <th scope="col" class="num">Tokens</th><th scope="col" class="num">Cost</th>
      <th scope="col" class="num">Input</th><th scope="col" class="num">Cache read</th><th scope="col" class="num">Cache write</th>
        <th scope="col" class="num">Output</th></tr></thead>
    <tbody>${models.map((r) => html`<${ModelRow} key=${r.provider + r.model} r=${r} />`)}</tbody></table></div></${Section}>`;
}

function ModelRow({ r }) {
  const { data } = useGet(url("/api/prices", { model: r.model }));
  const rate = (name) =>
    data?.rates
      ? `$${data.rates[name].includes(".") ? data.rates[name].padEnd(data.rates[name].indexOf(".") + 3, "0") : data.rates[name] + ".00"}`
      : data
        ? "–"
        : "";
  return html`<tr><td><a href=${link(["calls"], { model: r.model, range: "30d" })}>${r.model}</a> <span class="faint">${r.provider}</span></td>
    <td class="num">${count(r.total_requests)}</td><td class="num">${short(r.total_tokens)}</td>
    <td class="num">${money(r.total_cost)}</td>
    <td class="num">${rate("input")}</td><td class="num">${rate("cache_read")}</td><td class="num">${rate("cache_write_5m")}</td>
      <td class="num">${rate("output")}</td></tr>`;
}

// -- one ---------------------------------------------------------------------------------------------------------------

function Detail({ kind, id, canEdit, isAdmin }) {
  const k = KINDS[kind],
    resource = useGet(alone(entityPath(kind, id)), { every: 10_000 });
  const [dialog, openDialog] = useState(null);
  useEffect(() => () => newKeyValues.delete(id), [id]);
  const e = resource.data?.[k.entity];
  const action = useAction((body) => api("PUT", entityPath(kind, id), body));
  const toggle = async () => {
    if (await action.run({ is_active: !e.is_active })) resource.reload();
  };
  const actions =
    canEdit &&
    e &&
    html`<a class="button" href=${link([kind, id, "edit"])}>Edit</a>
    ${kind === "keys" && e.kind !== "session" && html`<button onClick=${() => openDialog("rotate")}>Rotate</button>`}
    ${hasState(kind) && html`<button disabled=${action.busy} onClick=${toggle}>${e.is_active ? "Disable" : "Enable"}</button>`}
    <button class="danger" onClick=${() => openDialog("delete")}>Delete</button>
    ${kind === "users" && html`<button class="danger" onClick=${() => openDialog("erase")}>Erase</button>`}`;
  return html`<${Page} title=${e ? nameOf(e) : id} back=${{ href: link([kind]), text: k.title }} actions=${actions}>
    <${Problem} error=${action.error} />
    <${Fetched} of=${resource} lines=${6}>${() => html`
      ${kind === "keys" && newKeyValues.has(id) && html`<${NewValue} key=${newKeyValues.get(id)} value=${newKeyValues.get(id)} />`}
      <${Facts} kind=${kind} e=${e} />
      ${
        kind === "keys" &&
        e.kind !== "session" &&
        html`<${Section} title="Set up a client">
          <${ClientSetup} value=${newKeyValues.get(id) || (e.is_demo ? e.value : "<the key's value>")} model=${modelOf(e)} />
        ${!newKeyValues.has(id) && !e.is_demo && html`<p class="note">The value was shown once, when the key was created, and is not stored. If it is lost, rotate the key to get a new one.</p>`}</${Section}>`
      }
      <div class="columns">
        <${Section} title="Limits" actions=${canEdit && html`${budgetOf(e) && html`<button class="quiet small" onClick=${() => openDialog("top-up")}>Top up</button>
          <button class="quiet small" onClick=${() => openDialog("raise")}>Raise</button> `}<a href=${link([kind, id, "edit"])}>Change</a>`}><${Limits} of=${e} />
          ${(e.provider_configs || []).map((c) => (c.budget || c.budgets?.length || c.rate_limit) && html`<h3 class="sub">${c.provider}</h3>
            <${Limits} of=${c} />`)}</${Section}>
        <${Spend} kind=${kind} id=${id} />
      </div>
      ${kind === "users" && html`<${SignIns} user=${id} canEnd=${isAdmin} />`}
      ${["teams", "users", "customers", "projects"].includes(kind) && html`<${Members} kind=${kind} id=${id} canEdit=${canEdit} />`}
      ${isAdmin && html`<${History} kind=${kind} id=${id} />`}`}
    </${Fetched}>
    ${
      dialog === "rotate" &&
      html`<${RotateDialog} id=${id} onClose=${() => openDialog(null)} onDone=${() => {
        openDialog(null);
        resource.reload();
      }} />`
    }
    ${
      (dialog === "top-up" || dialog === "raise") &&
      html`<${BudgetDialog} kind=${kind} id=${id} name=${nameOf(e)} window=${budgetOf(e).reset_duration ?? "never"} operation=${dialog} onClose=${() => openDialog(null)} onDone=${() => {
        openDialog(null);
        resource.reload();
      }} />`
    }
    ${dialog === "erase" && html`<${EraseDialog} id=${id} onClose=${() => openDialog(null)} />`}
    ${dialog === "delete" && html`<${DeleteDialog} kind=${kind} e=${e} onClose=${() => openDialog(null)} />`}
  </${Page}>`;
}

/** A key's value, which is shown once: leaving it asks first until it has been copied or is said to be stored. */
function NewValue({ value }) {
  const [isStored, setStored] = useState(false);
  useUnsaved(!isStored, "The key's value has not been copied and is not shown again. Leave it, and lose it?");
  return html`<div class="notice good" role="region" aria-label="The key's value"><b>Copy the key's value now; it is shown once and never again:</b>
    <${Copy} text=${value} onCopied=${() => setStored(true)} />
    <${Field} label="I have stored it" name="is_stored" type="checkbox" value=${isStored} onInput=${setStored} /></div>`;
}

const budgetOf = (e) => e.budget ?? e.budgets?.[0];

/** What else a provider config says, after its models. */
const configDetails = (c) =>
  [
    c.blacklisted_models?.length && `except ${c.blacklisted_models.join(", ")}`,
    c.default_model && `default ${c.default_model}`,
    c.key_names && `keys ${c.key_names.join(", ") || "none"}`,
    c.weight !== 1 && `weight ${c.weight}`,
  ]
    .filter(Boolean)
    .map((words) => `; ${words}`)
    .join("");

const modelOf = (e) => e.provider_configs?.flatMap((c) => c.allowed_models || []).find((m) => !m.includes("*")) || undefined;

/** Where a key's value comes from; only a demo key's is shown. */
function Value({ of }) {
  const faint = (words) => html`<span class="faint">${words}</span>`;
  if (of.is_demo) return html`<span class="mono">${of.value}</span> ${faint("a demo key: its value is its id")}`;
  if (of.kind === "session") return faint("none: its user signs in");
  return faint(of.value?.startsWith("env.") ? `from the gateway's environment variable ${of.value.slice(4)}` : "stored as a hash");
}

function Facts({ kind, e }) {
  const fact = (label, value) => value && html`<dt>${label}</dt><dd>${value}</dd>`;
  return html`<dl class="facts">
    ${fact("Id", html`<span class="mono">${e.id}</span>`)}${fact("Email", e.email)}
    ${Object.entries(REFERENCES).map(([field, [to, label]]) => fact(label, e[field] && html`<a href=${link([to, e[field]])}>${e[field]}</a>`))}
    ${kind === "users" && fact("State", html`<${KeyState} of=${e} />`)}
    ${
      kind === "keys" &&
      html`${fact("State", html`<${KeyState} of=${e} />`)}${fact("Description", e.description)}
      ${fact("Value", html`<${Value} of=${e} />`)}
      ${fact("Previous value", e.previous_expires_at && html`valid until <${Time} at=${e.previous_expires_at} />`)}
      ${fact("Allowed models", e.provider_configs ? (e.provider_configs.length ? e.provider_configs.map((c) => html`<div>${c.provider}: ${c.allowed_models ? c.allowed_models.join(", ") || "no model" : "every model"}${configDetails(c)}</div>`) : "none") : "every provider and model")}${fact("Other providers", e.allow_all_providers && "allowed, with every model")}`
    }
    ${fact("Repositories", e.repositories?.length > 0 && e.repositories.join(", "))}
    ${fact("Labels", Object.keys(e.labels || {}).length > 0 && Object.entries(e.labels).map((pair) => pair.join(": ")).join(", "))}
    ${kind === "models" && fact("Provider", e.provider || "any")}
  </dl>`;
}

function Spend({ kind, id }) {
  const start = useMemo(() => startOf("30d"), []),
    by = kind === "keys" || kind === "users" || kind === "models" ? (kind === "models" ? "users" : "models") : "users";
  const filter = kind === "models" ? id.split("/").pop() : id;
  const glob = kind === "models" && filter.includes("*");
  const resource = useGet(glob ? null : url(histogram("cost", by), { [KINDS[kind].filter]: filter, start }), { every: 30_000 });
  const series = useMemo(() => resource.data && costSeries(resource.data, by), [resource.data]);
  const buckets = useMemo(() => resource.data?.buckets.map((b) => b.timestamp), [resource.data]);
  if (glob) return null;
  return html`<${Section} title="Spend, last 30 days" actions=${html`<a href=${link(["calls"], { [KINDS[kind].filter]: filter, range: "30d" })}>Show calls</a>`}>
    <${Fetched} of=${resource}>${(d) => html`<${Chart} title=${by === "models" ? "By model" : "By user"} buckets=${buckets} seconds=${d.bucket_size_seconds} series=${series} ...${MONEY} height=${140} />`}</${Fetched}></${Section}>`;
}

function Members({ kind, id, canEdit }) {
  const field = `${KINDS[kind].entity}_id`,
    query = { [field]: id, limit: 200 };
  const keys = useGet(url(listPath("keys"), query));
  const teams = useGet(kind === "customers" ? url(listPath("teams"), query) : null);
  const newKey = canEdit && html`<a href=${link(["keys", "new"], { [field]: id })}>New key</a>`;
  return html`${kind === "customers" && html`<${Section} title="Teams">
    <${Fetched} of=${teams} lines=${2}>${(d) => (d.teams.length ? html`<${Rows} kind="teams" shown=${d.teams} />` : html`<p class="faint">None.</p>`)}</${Fetched}></${Section}>`}
    <${Section} title="Virtual keys" actions=${newKey}><${Fetched} of=${keys} lines=${2}>${(d) => {
      const members = d.virtual_keys;
      const more = d.total_count - members.length;
      return members.length
        ? html`<${Rows} kind="keys" shown=${members} />${more > 0 && html`<p class="note"><a href=${link(["keys"], { [field]: id })}>${count(more)} more</a></p>`}`
        : html`<p class="faint">No keys belong to it.</p>`;
    }}</${Fetched}></${Section}>`;
}

const ACTIONS = {
  create: "created",
  update: "changed",
  delete: "deleted",
  rotate: "rotated",
  expire: "expired",
  top_up: "topped up",
  reset_usage: "usage reset",
};

function History({ kind, id }) {
  const resource = useGet(url("/api/audit", { entity_kind: KINDS[kind].entity, entity_id: id, limit: 10 }));
  return html`<${Section} title="Changes"><${Fetched} of=${resource} lines=${2}>${({ entries }) =>
    entries.length === 0
      ? html`<p class="faint">None in the dashboard or the API. Edits to the file are in the <a href=${link(["policy", "history"])}>policy history</a>.</p>`
      : html`<table class="data plain"><tbody>${entries.map((x) => html`<tr key=${x.id}><td class="nowrap">
        <${Time} at=${x.at} /></td><td>${x.who}${x.node && html` <span class="faint">on ${x.node}</span>`}</td><td>${ACTIONS[x.action] || x.action.replaceAll("_", " ")}</td>
        <td class="faint">${describeChange(x.before, x.after)}</td></tr>`)}</tbody></table>`}</${Fetched}></${Section}>`;
}

/** What is different, in a few words. */
function describeChange(before, after) {
  if (!before || !after) return "";
  const fields = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter(
    (f) => JSON.stringify(before[f]) !== JSON.stringify(after[f]),
  );
  const describe = (v) =>
    v && typeof v === "object"
      ? v.max_limit !== undefined
        ? `$${v.max_limit} ${perPeriod(v.reset_duration)}`
        : JSON.stringify(v)
      : String(v ?? "none");
  return fields.map((f) => `${f.replaceAll("_", " ")}: ${describe(before[f])} → ${describe(after[f])}`).join("; ");
}
