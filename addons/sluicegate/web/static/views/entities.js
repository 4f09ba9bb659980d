// Keys, teams, users, projects, customers and models: lists of them, and each by itself.
import { html, useEffect, useMemo, useState } from "../lib/ui.js";
import { api, url, useDo, useGet } from "../lib/api.js";
import { go, link } from "../lib/route.js";
import { Ask, Copy, Empty, Bar, Fetched, Field, Page, Problem, Section, Select, Tag, Time } from "../lib/parts.js";
import { Chart } from "../lib/chart.js";
import { startOf } from "../lib/ranges.js";
import { MONEY, costSeries, histogram } from "../lib/logs.js";
import { KINDS, REFERS, base, fresh, nameOf, one } from "../lib/entities.js";
import { Limits } from "./limits.js";
import { Edit, Make } from "./entity_form.js";
import { Handout } from "./handout.js";
import { count, dateOf, money, nano, period, short } from "../lib/format.js";

export default function Entities({ name, parts, query, who }) {
  const admin = who.role === "admin";
  const making = parts[0] === "new" && parts.length === 1;
  if (!admin && (making || parts[1] === "edit"))
    return html`<${Page} title="Not yours"><p>Your role may look, not change.</p></${Page}>`;
  if (making) return html`<${Make} kind=${name} query=${query} />`;
  if (parts[0] && parts[1] === "edit") return html`<${Edit} kind=${name} id=${parts[0]} />`;
  if (parts[0]) return html`<${One} key=${parts[0]} kind=${name} id=${parts[0]} admin=${admin} />`;
  return html`<${List} kind=${name} query=${query} admin=${admin} />`;
}

// -- lists -------------------------------------------------------------------------------------------------------------

function List({ kind, query, admin }) {
  const k = KINDS[kind],
    found = useGet(base(kind), { every: 10_000 }),
    wanted = query.get("q") || "";
  const spent = useGet(
    url("/api/logs/rankings", {
      dimension: kind === "keys" ? "virtual_keys" : kind,
      rank_by: "cost",
      start: useMemo(() => startOf("30d"), []),
      limit: 1000,
    }),
  );
  const column = kind === "models" ? "model" : kind === "keys" ? "virtual_key_id" : `${k.one}_id`;
  const costs = useMemo(() => new Map((spent.data?.rankings || []).map((r) => [r[column], r])), [spent.data]);
  const button = admin && html`<a class="button" href=${link([kind, "new"])}>New ${k.word}</a>`;
  return html`<${Page} title=${k.words} actions=${found.data?.[k.list].length > 0 && button}>
    <${Fetched} of=${found} lines=${8}>${(data) => {
      const all = data[k.list],
        part = wanted.toLowerCase();
      const shown = all.filter(
        (e) => !part || `${e.id} ${nameOf(e)} ${e.team_id || ""} ${e.user_id || ""}`.toLowerCase().includes(part),
      );
      if (!all.length)
        return html`<${Empty} title=${kind === "models" ? "No model has limits" : `No ${k.words.toLowerCase()} yet`}>
          <p>${k.empty}</p>${button && html`<p>${button}</p>`}</${Empty}>${kind === "models" && html`<${Seen} ranked=${spent} />`}`;
      return html`${all.length > 8 && html`<div class="filters">
        <input type="search" aria-label="Find" placeholder="Find" value=${wanted} onInput=${(e) => go([kind], { q: e.target.value || null }, { replace: true })} /></div>`}
        ${shown.length === 0 ? html`<p class="faint">Nothing is called so.</p>` : html`<${Rows} kind=${kind} shown=${shown.slice(0, 500)} costs=${costs} />`}
        ${shown.length > 500 && html`<p class="note">The first 500 of ${count(shown.length)}: find the others by name.</p>`}
        ${kind === "models" && html`<${Seen} ranked=${spent} />`}`;
    }}</${Fetched}>
  </${Page}>`;
}

function Rows({ kind, shown, costs }) {
  const belongs = kind === "keys" ? ["team_id", "user_id"] : KINDS[kind].belongs.slice(0, 1);
  return html`<div class="scroll"><table class="data rows"><thead><tr>
    <th scope="col">${kind === "models" ? "Model" : "Name"}</th>${belongs.map((b) => html`<th scope="col">${REFERS[b][1]}</th>`)}
      <th scope="col">Budget</th>${costs && html`<th scope="col" class="num">Last 30 days</th>
        <th scope="col" class="num">Calls</th>`}${kind === "keys" && html`<th scope="col">State</th>`}</tr></thead>
    <tbody>${shown.map(
      (
        e,
      ) => html`<tr key=${e.id}><td>
        <a href=${link([kind, e.id])}>${nameOf(e)}</a>${e.name && e.name !== e.id ? html` <span class="faint id">${e.id}</span>` : ""}</td>
      ${belongs.map((b) => html`<td>${e[b] ? html`<a class="cut" title=${e[b]} href=${link([REFERS[b][0], e[b]])}>${e[b]}</a>` : html`<span class="faint">–</span>`}</td>`)}
      <td class="budget-cell">
        <${Small} of=${e} /></td>${costs && html`<td class="num">${costs.get(e.id) ? money(costs.get(e.id).total_cost) : html`<span class="faint">–</span>`}</td>
        <td class="num">${costs.get(e.id) ? count(costs.get(e.id).total_requests) : html`<span class="faint">–</span>`}</td>`}
      ${kind === "keys" && html`<td class="nowrap"><${KeyState} of=${e} /></td>`}</tr>`,
    )}</tbody></table></div>`;
}

function Small({ of }) {
  const b = of.budget || of.budgets?.[0];
  if (!b) return html`<span class="faint">none</span>`;
  return html`<span class="small-budget">
    <${Bar} used=${nano(b.current_usage)} reserved=${nano(b.reserved)} limit=${nano(b.max_limit)} label=${`${money(b.current_usage)} of ${money(b.max_limit)}`} />
    <span class="nowrap">${money(b.current_usage)} <span class="faint">of ${money(b.max_limit)} per ${period(b.reset_duration)}</span></span></span>`;
}

function KeyState({ of }) {
  if (!of.is_active) return html`<${Tag} kind="dim">disabled</${Tag}>`;
  if (of.expires_at && new Date(of.expires_at) <= new Date()) return html`<${Tag} kind="bad">expired</${Tag}>`;
  return html`<${Tag} kind="good">active</${Tag}>${of.expires_at && html` <span class="faint">until ${dateOf(of.expires_at)}</span>`}${of.is_demo && html` <span class="warn" title="Its value is its id: for trying things out">demo key</span>`}`;
}

/** The models that calls have used, with their prices. */
function Seen({ ranked }) {
  const models = (ranked.data?.rankings || []).filter((r) => r.model).slice(0, 20);
  if (!models.length) return null;
  return html`<${Section} title="Models in use" note="last 30 days; list price in dollars per million tokens"><div class="scroll">
    <table class="data rows"><thead><tr><th scope="col">Model</th><th scope="col" class="num">Calls</th>
    <th scope="col" class="num">Tokens</th><th scope="col" class="num">Cost</th>
      <th scope="col" class="num">Input</th><th scope="col" class="num">Cache read</th><th scope="col" class="num">Cache write</th>
        <th scope="col" class="num">Output</th></tr></thead>
    <tbody>${models.map((r) => html`<${Priced} key=${r.provider + r.model} r=${r} />`)}</tbody></table></div></${Section}>`;
}

function Priced({ r }) {
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

function One({ kind, id, admin }) {
  const k = KINDS[kind],
    found = useGet(one(kind, id), { every: 10_000 });
  const [asking, ask] = useState(null);
  useEffect(() => () => fresh.delete(id), [id]);
  const e = found.data?.[k.one];
  const doing = useDo((body) => api("PUT", one(kind, id), body));
  const toggle = async () => {
    if (await doing.run({ is_active: !e.is_active })) found.reload();
  };
  const actions =
    admin &&
    e &&
    html`<a class="button" href=${link([kind, id, "edit"])}>Edit</a>
    ${kind === "keys" && html`<button onClick=${() => ask("rotate")}>Rotate</button>
      <button disabled=${doing.busy} onClick=${toggle}>${e.is_active ? "Disable" : "Enable"}</button>`}
    <button class="danger" onClick=${() => ask("delete")}>Delete</button>`;
  return html`<${Page} title=${e ? nameOf(e) : id} back=${{ href: link([kind]), text: k.words }} actions=${actions}>
    <${Problem} error=${doing.error} />
    <${Fetched} of=${found} lines=${6}>${() => html`
      ${kind === "keys" && fresh.has(id) && html`<div class="notice good"><b>The key's value, shown this once:</b>
        <${Copy} text=${fresh.get(id)} /></div>`}
      <${Facts} kind=${kind} e=${e} />
      ${
        kind === "keys" &&
        html`<${Section} title="Hand to the developer">
          <${Handout} value=${fresh.get(id) || (e.is_demo ? e.value : "<the key's value>")} model=${modelOf(e)} />
        ${!fresh.has(id) && !e.is_demo && html`<p class="note">The value was shown when the key was made. It is not kept: who has lost it needs a new one, by Rotate.</p>`}</${Section}>`
      }
      <div class="columns">
        <${Section} title="Limits" actions=${admin && html`<a href=${link([kind, id, "edit"])}>Change</a>`}><${Limits} of=${e} />
          ${(e.provider_configs || []).map((c) => (c.budget || c.budgets?.length || c.rate_limit) && html`<h3 class="sub">${c.provider}</h3>
            <${Limits} of=${c} />`)}</${Section}>
        <${Spend} kind=${kind} id=${id} />
      </div>
      ${["teams", "users", "customers", "projects"].includes(kind) && html`<${Members} kind=${kind} id=${id} admin=${admin} />`}
      ${admin && html`<${History} kind=${kind} id=${id} />`}`}
    </${Fetched}>
    ${
      asking === "rotate" &&
      html`<${Rotate} id=${id} onClose=${() => ask(null)} onDone=${() => {
        ask(null);
        found.reload();
      }} />`
    }
    ${asking === "delete" && html`<${Delete} kind=${kind} e=${e} onClose=${() => ask(null)} />`}
  </${Page}>`;
}

const modelOf = (e) => e.provider_configs?.flatMap((c) => c.allowed_models || []).find((m) => !m.includes("*")) || undefined;

function Facts({ kind, e }) {
  const fact = (word, value) => value && html`<dt>${word}</dt><dd>${value}</dd>`;
  return html`<dl class="facts">
    ${fact("Id", html`<span class="mono">${e.id}</span>`)}
    ${Object.entries(REFERS).map(([field, [to, word]]) => fact(word, e[field] && html`<a href=${link([to, e[field]])}>${e[field]}</a>`))}
    ${
      kind === "keys" &&
      html`${fact("State", html`<${KeyState} of=${e} />`)}${fact("Description", e.description)}
      ${fact("Value", e.is_demo ? html`<span class="mono">${e.value}</span> <span class="faint">a demo key: its value is its id</span>` : html`<span class="faint">${e.value?.startsWith("env.") ? `from the gateway's variable ${e.value.slice(4)}` : "kept as a hash"}</span>`)}
      ${fact("Value before", e.previous_expires_at && html`good until <${Time} at=${e.previous_expires_at} />`)}
      ${fact("May use", e.provider_configs ? (e.provider_configs.length ? e.provider_configs.map((c) => html`<div>${c.provider}: ${c.allowed_models ? c.allowed_models.join(", ") || "no model" : "every model"}</div>`) : "nothing") : "every provider and model")}`
    }
    ${kind === "models" && fact("Provider", e.provider || "any")}
  </dl>`;
}

function Spend({ kind, id }) {
  const start = useMemo(() => startOf("30d"), []),
    by = kind === "keys" || kind === "users" || kind === "models" ? (kind === "models" ? "users" : "models") : "users";
  const filter = kind === "models" ? id.split("/").pop() : id;
  const glob = kind === "models" && filter.includes("*");
  const found = useGet(glob ? null : url(histogram("cost", by), { [KINDS[kind].filter]: filter, start }), { every: 30_000 });
  const series = useMemo(() => found.data && costSeries(found.data, by), [found.data]);
  const buckets = useMemo(() => found.data?.buckets.map((b) => b.timestamp), [found.data]);
  if (glob) return null;
  return html`<${Section} title="Spend, last 30 days" actions=${html`<a href=${link(["calls"], { [KINDS[kind].filter]: filter, range: "30d" })}>Its calls</a>`}>
    <${Fetched} of=${found}>${(d) => html`<${Chart} title=${by === "models" ? "By model" : "By user"} buckets=${buckets} seconds=${d.bucket_size_seconds} series=${series} ...${MONEY} height=${140} />`}</${Fetched}></${Section}>`;
}

function Members({ kind, id, admin }) {
  const field = `${KINDS[kind].one}_id`,
    query = ["teams", "customers"].includes(kind) ? { [field]: id } : {};
  const keys = useGet(url(base("keys"), query));
  const teams = useGet(kind === "customers" ? url(base("teams"), query) : null);
  const make = admin && html`<a href=${link(["keys", "new"], { [field]: id })}>New key here</a>`;
  return html`${kind === "customers" && html`<${Section} title="Teams">
    <${Fetched} of=${teams} lines=${2}>${(d) => (d.teams.length ? html`<${Rows} kind="teams" shown=${d.teams} />` : html`<p class="faint">None.</p>`)}</${Fetched}></${Section}>`}
    <${Section} title="Keys" actions=${make}><${Fetched} of=${keys} lines=${2}>${(d) => {
      const mine = d.virtual_keys.filter((e) => e[field] === id);
      return mine.length ? html`<${Rows} kind="keys" shown=${mine.slice(0, 200)} />` : html`<p class="faint">No key names it.</p>`;
    }}</${Fetched}></${Section}>`;
}

const ACTIONS = {
  create: "created",
  update: "changed",
  delete: "deleted",
  rotate: "rotated",
  expire: "ended",
  top_up: "topped up",
  reset_usage: "usage reset",
};

function History({ kind, id }) {
  const found = useGet(url("/api/audit", { entity_kind: KINDS[kind].one, entity_id: id, limit: 10 }));
  return html`<${Section} title="Changes"><${Fetched} of=${found} lines=${2}>${({ entries }) =>
    entries.length === 0
      ? html`<p class="faint">None through the gateway. Edits of the file are in <a href=${link(["policy", "history"])}>the policy's history</a>.</p>`
      : html`<table class="data plain"><tbody>${entries.map((x) => html`<tr key=${x.id}><td class="nowrap">
        <${Time} at=${x.at} /></td><td>${x.who}</td><td>${ACTIONS[x.action] || x.action.replaceAll("_", " ")}</td>
        <td class="faint">${changed(x.before, x.after)}</td></tr>`)}</tbody></table>`}</${Fetched}></${Section}>`;
}

/** In a few words what is different. */
function changed(before, after) {
  if (!before || !after) return "";
  const fields = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter(
    (f) => JSON.stringify(before[f]) !== JSON.stringify(after[f]),
  );
  const said = (v) =>
    v && typeof v === "object"
      ? v.max_limit !== undefined
        ? `$${v.max_limit} per ${period(v.reset_duration)}`
        : JSON.stringify(v)
      : String(v ?? "none");
  return fields.map((f) => `${f.replaceAll("_", " ")}: ${said(before[f])} → ${said(after[f])}`).join("; ");
}

const GRACES = [
  ["", "The old value ends at once"],
  ["15m", "The old value stays good for 15 minutes"],
  ["1h", "… for an hour"],
  ["1d", "… for a day"],
  ["1w", "… for a week"],
];

function Rotate({ id, onClose, onDone }) {
  const work = async (v) => {
    const answer = (await api("POST", `${one("keys", id)}/rotate`, v.grace ? { grace: v.grace } : {})).data;
    fresh.set(id, answer.virtual_key.value);
    return answer;
  };
  return html`<${Ask} title=${`Rotate ${id}`} button="Make a new value" work=${work} onClose=${onClose} onDone=${onDone} initial=${{ grace: "1h" }}>
    ${({
      values,
      set,
      error,
    }) => html`<p>The key stays what it is, with its usage and limits. Its value is replaced by a new one, shown once.</p>
      <${Field} label="Until it is handed out" name="grace" error=${error}>${(i) => html`<${Select} id=${i} value=${values.grace} options=${GRACES} onInput=${(grace) => set({ grace })} />`}</${Field}>`}</${Ask}>`;
}

function Delete({ kind, e, onClose }) {
  const detaches = ["customers", "teams", "users", "projects"].includes(kind);
  const work = (v) => api("DELETE", url(one(kind, e.id), detaches && v.detach ? { detach: "true" } : {}));
  return html`<${Ask} title=${`Delete ${nameOf(e)}?`} button="Delete" danger work=${work} onClose=${onClose} onDone=${() => go([kind])} initial=${{ detach: false }}>
    ${({
      values,
      set,
      error,
    }) => html`<p>${kind === "keys" ? "Calls with it are refused from then on." : "Its limits are gone with it."} Records of calls stay.</p>
      ${detaches && html`<${Field} label="Let keys and others that name it name nothing" name="detach" type="checkbox" value=${values.detach} error=${error} onInput=${(detach) => set({ detach })} hint="Otherwise deleting is refused while something names it." />`}`}</${Ask}>`;
}
