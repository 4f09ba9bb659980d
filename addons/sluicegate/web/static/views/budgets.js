// Budgets: the tree of who may spend what, with usage and forecast.
import { html, useEffect, useState } from "../lib/ui.js";
import { url, useGet } from "../lib/api.js";
import { link } from "../lib/router.js";
import { Bar, Empty, Fetched, Page, Pager, SearchField, Section, Time, moneyBar } from "../lib/components.js";
import { BudgetDialog } from "./budget_dialog.js";
import { SCOPE_NAMES, relativeTime, count, money, moneys, nano, perPeriod, period, short } from "../lib/format.js";

const PAGES = {
  customer: "customers",
  team: "teams",
  user: "users",
  project: "projects",
  virtual_key: "keys",
  model: "models",
  provider: "providers",
};

/** Entities of one level of the tree, and limits of a table, on a page. */
const PAGE_SIZE = 100;
const REFRESH_MS = 5000;

export default function Budgets({ user }) {
  const [search, setSearch] = useState(""),
    [offset, setOffset] = useState(0);
  const tree = useGet(url("/api/usage/tree", { search, offset: offset || null, limit: PAGE_SIZE }), { every: REFRESH_MS, keep: true });
  const [edited, edit] = useState(/** @type {any} */ (null));
  // Counted up after a change, so that what is open is fetched again.
  const [version, setVersion] = useState(0);
  return html`<${Page} title="Budgets" lead="Every budget that applies to a call is checked before the call and charged after it. The first exhausted one refuses the call.">
    <${Fetched} of=${tree} lines=${8}>${(d) => html`
      ${(d.size > 8 || search) && html`<div class="filters"><${SearchField} value=${search} onSearch=${(text) => {
        setSearch(text);
        setOffset(0);
      }} /></div>`}
      <${Tree} ...${{ d, offset, setOffset, search, version, edit }} canEdit=${user.canEdit} />`}</${Fetched}>
    <${Others} ...${{ version, edit }} canEdit=${user.canEdit} />
    <${Rates} />
    ${
      edited &&
      html`<${BudgetDialog} kind=${PAGES[edited.node.kind]} id=${edited.node.id} name=${edited.node.name} window=${edited.row ? (edited.row.window ?? "never") : null} onClose=${() => edit(null)} onDone=${() => {
        edit(null);
        tree.reload();
        setVersion(version + 1);
      }} />`
    }</${Page}>`;
}

function Tree({ d, offset, setOffset, search, version, canEdit, edit }) {
  if (d.size === 0)
    return html`<${Empty} title="No budgets yet">
      <p>Create a <a href=${link(["customers", "new"])}>customer</a> or a <a href=${link(["teams", "new"])}>team</a> with a budget, then <a href=${link(["keys", "new"])}>keys</a> that belong to it.</p></${Empty}>`;
  if (d.nodes.length === 0) return html`<p class="faint">Nobody matches “${search}”.</p>`;
  return html`<div class="scroll"><table class="data tree rows">
      <thead><tr><th scope="col">Scope</th><th scope="col"><span class="sr">Share used</span></th>
        <th scope="col" class="num">Used</th><th scope="col" class="num">In flight</th><th scope="col" class="num">Limit</th>
        <th scope="col">Window</th><th scope="col">Forecast</th><th scope="col"><span class="sr">Actions</span></th></tr></thead>
      <tbody>${d.nodes.map((n) => html`<${Branch} key=${n.kind + n.id} ...${{ n, version, canEdit, edit }} depth=${0} begins=${!search} />`)}</tbody>
    </table></div>
    <${Pager} offset=${offset} shown=${d.nodes.length} total=${d.total_count} size=${PAGE_SIZE} onOffset=${setOffset} />`;
}

/** An entity and what stands below it, which is fetched when it is opened unless it came with it. */
function Branch({ n, depth, begins, version, canEdit, edit }) {
  const [isOpen, setOpen] = useState(begins);
  return html`<${Node} ...${{ n, depth, canEdit, edit }} open=${isOpen} toggle=${() => setOpen(!isOpen)} />
    ${isOpen && n.members > 0 && (n.nodes ? n.nodes.map((child) => html`<${Branch} key=${child.kind + child.id} n=${child} depth=${depth + 1} begins=${true} ...${{ version, canEdit, edit }} />`) : html`<${Below} ...${{ n, depth, version, canEdit, edit }} />`)}`;
}

/** A page of what stands below an entity. */
function Below({ n, depth, version, canEdit, edit }) {
  const [offset, setOffset] = useState(0);
  const page = useGet(url("/api/usage/tree", { parent_kind: n.kind, parent_id: n.id, offset: offset || null, limit: PAGE_SIZE }), { every: REFRESH_MS, keep: true });
  useReload(page, version);
  if (!page.data) return html`<tr><td colspan="8"><${Fetched} of=${page} lines=${2} /></td></tr>`;
  const { nodes, total_count: total } = page.data;
  return html`${nodes.map((child) => html`<${Branch} key=${child.kind + child.id} n=${child} depth=${depth + 1} begins=${false} ...${{ version, canEdit, edit }} />`)}
    ${(total > PAGE_SIZE || offset > 0) && html`<tr><td colspan="8"><${Pager} ...${{ offset, total }} shown=${nodes.length} size=${PAGE_SIZE} onOffset=${setOffset} /></td></tr>`}`;
}

/** Fetch again what a change may have changed. */
function useReload(resource, version) {
  useEffect(() => {
    if (version) resource.reload();
  }, [version]);
}

/** The budgets of providers and models, which are those of all callers. */
function Others({ version, canEdit, edit }) {
  const [offset, setOffset] = useState(0);
  const page = useGet(url("/api/usage", { unit: "usd", kind: "provider,model", offset: offset || null, limit: PAGE_SIZE }), { every: REFRESH_MS, keep: true });
  useReload(page, version);
  const rows = page.data?.usage ?? [],
    nodes = new Map();
  for (const row of rows) {
    const name = row.kind + row.id;
    if (!nodes.has(name)) nodes.set(name, { kind: row.kind, id: row.id, name: row.name || row.id, budgets: [], members: 0 });
    nodes.get(name).budgets.push(row);
  }
  if (!rows.length && !offset && !page.error) return null;
  return html`<${Section} title="Providers and models" note="for all callers"><${Fetched} of=${page}>${() => html`<div class="scroll"><table class="data tree rows">
    <tbody>${[...nodes.values()].map((n) => html`<${Node} key=${n.kind + n.id} ...${{ n, depth: 0, canEdit, edit }} open=${true} />`)}</tbody></table></div>
    <${Pager} offset=${offset} shown=${rows.length} total=${page.data.total_count} size=${PAGE_SIZE} onOffset=${setOffset} />`}</${Fetched}></${Section}>`;
}

function Node({ n, depth, open, toggle, canEdit, edit }) {
  const name = html`<span class="name"><span class=${`indent indent-${Math.min(depth, 5)}`} />
    ${n.members > 0 && toggle ? html`<button class="toggle" aria-expanded=${String(open)} aria-label=${`Members of ${n.name}`} onClick=${toggle}>${open ? "▾" : "▸"}</button>` : html`<span class="leaf" />`}
    <span>${PAGES[n.kind] ? html`<a href=${link([PAGES[n.kind], n.id])}>${n.name}</a>` : n.name} <span class="faint">${(SCOPE_NAMES[n.kind] || n.kind).toLowerCase()}</span></span></span>`;
  const rows = n.budgets.length ? n.budgets : [null];
  const amounts = rows.map((r) => (r ? moneys([r.used_usd, r.reserved_usd, r.limit_usd]) : []));
  return rows.map(
    (r, i) => html`<tr key=${i}>
    <td>${i === 0 ? name : ""}</td>
    ${
      r
        ? html`<td class="bar-cell">${moneyBar(r, n.name)}</td><td class="num">${amounts[i][0]}</td>
          <td class="num faint">${nano(r.reserved_usd) ? amounts[i][1] : "–"}</td><td class="num">${amounts[i][2]}</td>
      <td><span class="faint nowrap">${perPeriod(r.window)}${r.enforcement === "hard" ? ", hard" : ""}${r.resets_at ? "," : ""}</span> ${r.resets_at && html`<span class="nowrap"><span class="faint">resets </span><${Time} at=${r.resets_at} relative /></span>`}</td>
      <td class="nowrap"><${Forecast} row=${r} /></td>`
        : html`<td colspan="6" class="faint">no budget of its own</td>`
    }
    <td class="row-actions">${canEdit && PAGES[n.kind] && html`<button class="quiet small" aria-label=${`${r ? "Change" : "Set"} the budget of ${n.name}`} onClick=${() => edit({ node: n, row: r })}>${r ? "Change" : "Set"}</button>`}</td>
  </tr>`,
  );
}

function Forecast({ row }) {
  if (!row.forecast_usd) return html`<span class="faint">–</span>`;
  const over = nano(row.forecast_usd) > nano(row.limit_usd);
  if (nano(row.used_usd) >= nano(row.limit_usd)) return html`<span class="bad">used up</span>`;
  return over
    ? html`<span class="warn">${money(row.forecast_usd)}${row.exhausted_at && html`<br />used up ${relativeTime(row.exhausted_at)}`}</span>`
    : html`<span class="faint">${money(row.forecast_usd)}</span>`;
}

const UNITS = { requests: "calls", tokens: "tokens", concurrent: "calls at once" };

/** The rate limits of everybody, which the gateway searches and pages. */
function Rates() {
  const [search, setSearch] = useState(""),
    [offset, setOffset] = useState(0);
  const page = useGet(url("/api/usage", { unit: "rate", search, offset: offset || null, limit: PAGE_SIZE }), { every: REFRESH_MS, keep: true });
  const { usage: rows = [], total_count: total = 0 } = page.data ?? {};
  if (!total && !search && !page.error) return null;
  return html`<${Section} title="Rate limits">
    ${(total > 8 || search) && html`<div class="filters"><${SearchField} label="Search rate limits" value=${search} onSearch=${(text) => {
      setSearch(text);
      setOffset(0);
    }} /></div>`}
    <${Fetched} of=${page}>${() => html`<div class="scroll"><table class="data rows"><thead><tr><th scope="col">Scope</th>
    <th scope="col">Unit</th><th scope="col"><span class="sr">Share used</span></th><th scope="col" class="num">Used</th>
    <th scope="col" class="num">In flight</th><th scope="col" class="num">Limit</th><th scope="col">Window</th></tr></thead>
    <tbody>${rows.map(
      (r) => html`<tr key=${r.kind + r.id + r.unit}>
        <td>${PAGES[r.kind] ? html`<a href=${link([PAGES[r.kind], r.id])}>${r.name || r.id}</a>` : r.id} <span class="faint">${(SCOPE_NAMES[r.kind] || r.kind).toLowerCase()}</span></td>
      <td>${UNITS[r.unit]}</td><td class="bar-cell rate">
        <${Bar} used=${r.unit === "concurrent" ? r.reserved : r.used} reserved=${r.unit === "concurrent" ? 0 : r.reserved} limit=${r.limit} label=${`${r.used} of ${r.limit}`} /></td>
      <td class="num">${r.unit === "concurrent" ? "–" : short(r.used)}</td>
        <td class="num faint">${r.reserved ? short(r.reserved) : "–"}</td><td class="num">${count(r.limit)}</td>
      <td class="nowrap"><span class="faint">${r.window ? `per ${period(r.window)}` : "at any moment"}${r.resets_at ? ", resets " : ""}</span>${r.resets_at && html`<${Time} at=${r.resets_at} relative />`}</td></tr>`,
    )}</tbody></table></div>
    <${Pager} ...${{ offset, total }} shown=${rows.length} size=${PAGE_SIZE} onOffset=${setOffset} />`}</${Fetched}></${Section}>`;
}
