// Budgets: the tree of who may spend what, with usage and forecast.
import { html, useMemo, useState } from "../lib/ui.js";
import { useGet } from "../lib/api.js";
import { link } from "../lib/router.js";
import { Bar, Empty, Fetched, Page, Section, Time, moneyBar } from "../lib/components.js";
import { KINDS, listPath, nameOf } from "../lib/entities.js";
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

export default function Budgets({ user }) {
  const usage = useGet("/api/usage", { every: 5000 });
  const lists = ["customers", "teams", "projects", "users", "keys"].map(
    (k) => /** @type {const} */ ([k, useGet(listPath(k), { every: 30_000 })]),
  );
  const failed = [usage, ...lists.map(([, l]) => l)].find((l) => l.error && !l.data);
  const isLoaded = usage.data && lists.every(([, l]) => l.data);
  const tree = useMemo(
    () =>
      isLoaded &&
      buildTree(
        lists.map(([k, l]) => [k, l.data[KINDS[k].list]]),
        usage.data.usage,
      ),
    [usage.data, ...lists.map(([, l]) => l.data)],
  );
  const reload = () => [usage, ...lists.map(([, l]) => l)].forEach((l) => l.reload());
  return html`<${Page} title="Budgets" lead="Every budget that applies to a call is checked before the call and charged after it. The first exhausted one refuses the call.">
    <${Fetched} of=${failed || { data: tree || undefined }} lines=${8}>${() => html`<${Tree} tree=${tree} usage=${usage.data.usage} reload=${reload} canEdit=${user.canEdit} />`}</${Fetched}>
  </${Page}>`;
}

/** The tree of customer, team, user or project, key, and key's provider. Each node has the rows of its limits. */
function buildTree(lists, rows) {
  const nodes = new Map();
  const find = (kind, id) => nodes.get(`${kind}/${id}`);
  for (const [kind, entities] of lists) {
    for (const e of entities)
      nodes.set(`${KINDS[kind].entity}/${e.id}`, {
        kind: KINDS[kind].entity,
        id: e.id,
        name: nameOf(e),
        entity: e,
        rows: [],
        children: [],
      });
  }
  const roots = [],
    others = [];
  const attach = (node, ...parents) => (parents.find(Boolean)?.children || roots).push(node);
  for (const [kind, entities] of lists) {
    for (const e of entities) {
      const node = find(KINDS[kind].entity, e.id);
      if (kind === "keys")
        attach(
          node,
          e.user_id && find("user", e.user_id),
          e.project_id && find("project", e.project_id),
          e.team_id && find("team", e.team_id),
          e.customer_id && find("customer", e.customer_id),
        );
      else attach(node, e.team_id && find("team", e.team_id), e.customer_id && find("customer", e.customer_id));
    }
  }
  for (const row of rows) {
    if (row.unit !== "usd") continue;
    const node = find(row.kind, row.id);
    if (node) node.rows.push(row);
    else if (row.kind === "provider_config") {
      const [key, provider] = row.id.split(/:(?=[^:]*$)/),
        parent = find("virtual_key", key);
      parent?.children.push({ kind: row.kind, id: row.id, name: provider, rows: [row], children: [] });
    } else {
      const existing = others.find((n) => n.kind === row.kind && n.id === row.id);
      if (existing) existing.rows.push(row);
      else others.push({ kind: row.kind, id: row.id, name: row.name || row.id, rows: [row], children: [] });
    }
  }
  return { roots, others, size: nodes.size };
}

function Tree({ tree, usage, reload, canEdit }) {
  const [closed, setClosed] = useState(() => new Set());
  const [opened, setOpened] = useState(() => new Set());
  const [edited, edit] = useState(null);
  const large = tree.size > 80;
  const isOpen = (n, depth) => (large && depth > 0 ? opened.has(n.kind + n.id) : !closed.has(n.kind + n.id));
  // A large tree begins closed below its roots, so the nodes that were opened are kept; else those that were closed.
  const toggle = (n, depth) => {
    const [current, setCurrent] = large && depth > 0 ? [opened, setOpened] : [closed, setClosed],
      next = new Set(current),
      name = n.kind + n.id;
    if (!next.delete(name)) next.add(name);
    setCurrent(next);
  };
  /** @type {[any, number][]} visible nodes and their depths */
  const lines = [];
  const walk = (nodes, depth) => {
    for (const n of nodes) {
      lines.push([n, depth]);
      if (n.children.length && isOpen(n, depth)) walk(n.children, depth + 1);
    }
  };
  walk(tree.roots, 0);
  const rates = usage.filter((r) => r.unit !== "usd");
  if (!tree.roots.length && !tree.others.length) {
    return html`<${Empty} title="No budgets yet">
      <p>Create a <a href=${link(["customers", "new"])}>customer</a> or a <a href=${link(["teams", "new"])}>team</a> with a budget, then <a href=${link(["keys", "new"])}>keys</a> that belong to it.</p></${Empty}>`;
  }
  return html`<div class="scroll"><table class="data tree rows">
      <thead><tr><th scope="col">Scope</th><th scope="col"><span class="sr">Share used</span></th>
        <th scope="col" class="num">Used</th><th scope="col" class="num">In flight</th><th scope="col" class="num">Limit</th>
        <th scope="col">Window</th><th scope="col">Forecast</th><th scope="col"><span class="sr">Actions</span></th></tr></thead>
      <tbody>${lines.map(([n, depth]) => html`<${Node} key=${n.kind + n.id} ...${{ n, depth, canEdit, edit }} open=${isOpen(n, depth)} toggle=${() => toggle(n, depth)} />`)}</tbody>
    </table></div>
    ${
      tree.others.length > 0 &&
      html`<${Section} title="Providers and models" note="for all callers"><div class="scroll"><table class="data tree rows">
        <tbody>
      ${tree.others.map((n) => html`<${Node} key=${n.kind + n.id} ...${{ n, depth: 0, canEdit, edit }} open=${true} />`)}</tbody>
        </table></div></${Section}>`
    }
    ${rates.length > 0 && html`<${Rates} rows=${rates} />`}
    ${
      edited &&
      html`<${BudgetDialog} kind=${PAGES[edited.node.kind]} id=${edited.node.id} name=${edited.node.name} window=${edited.row ? (edited.row.window ?? "never") : null} onClose=${() => edit(null)} onDone=${() => {
        edit(null);
        reload();
      }} />`
    }`;
}

function Node({ n, depth, open, toggle, canEdit, edit }) {
  const name = html`<span class="name"><span class=${`indent indent-${Math.min(depth, 5)}`} />
    ${n.children.length && toggle ? html`<button class="toggle" aria-expanded=${String(open)} aria-label=${`Members of ${n.name}`} onClick=${toggle}>${open ? "▾" : "▸"}</button>` : html`<span class="leaf" />`}
    <span>${PAGES[n.kind] ? html`<a href=${link([PAGES[n.kind], n.id])}>${n.name}</a>` : n.name} <span class="faint">${(SCOPE_NAMES[n.kind] || n.kind).toLowerCase()}</span></span></span>`;
  const rows = n.rows.length ? n.rows : [null];
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

function Rates({ rows }) {
  const units = { requests: "calls", tokens: "tokens", concurrent: "calls at once" };
  return html`<${Section} title="Rate limits"><div class="scroll"><table class="data rows"><thead><tr><th scope="col">Scope</th>
    <th scope="col">Unit</th><th scope="col"><span class="sr">Share used</span></th><th scope="col" class="num">Used</th>
    <th scope="col" class="num">In flight</th><th scope="col" class="num">Limit</th><th scope="col">Window</th></tr></thead>
    <tbody>${rows.map(
      (
        r,
      ) => html`<tr key=${r.kind + r.id + r.unit}>
        <td>${PAGES[r.kind] ? html`<a href=${link([PAGES[r.kind], r.id])}>${r.name || r.id}</a>` : r.id} <span class="faint">${(SCOPE_NAMES[r.kind] || r.kind).toLowerCase()}</span></td>
      <td>${units[r.unit]}</td><td class="bar-cell rate">
        <${Bar} used=${r.unit === "concurrent" ? r.reserved : r.used} reserved=${r.unit === "concurrent" ? 0 : r.reserved} limit=${r.limit} label=${`${r.used} of ${r.limit}`} /></td>
      <td class="num">${r.unit === "concurrent" ? "–" : short(r.used)}</td>
        <td class="num faint">${r.reserved ? short(r.reserved) : "–"}</td><td class="num">${count(r.limit)}</td>
      <td class="nowrap"><span class="faint">${r.window ? `per ${period(r.window)}` : "at any moment"}${r.resets_at ? ", resets " : ""}</span>${r.resets_at && html`<${Time} at=${r.resets_at} relative />`}</td></tr>`,
    )}</tbody></table></div></${Section}>`;
}
