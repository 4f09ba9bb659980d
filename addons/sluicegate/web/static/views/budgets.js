// Budgets: who may spend what, as the tree it is, with what is used and where it is going.
import { html, useMemo, useState } from "../lib/ui.js";
import { api, useGet } from "../lib/api.js";
import { link } from "../lib/route.js";
import { Ask, Bar, Choice, Dialog, Empty, Fetched, Field, Page, Section, Time, moneyBar } from "../lib/parts.js";
import { KINDS, base, change, nameOf, writtenBudget } from "../lib/entities.js";
import { BudgetFields, budgetSent, budgetValues } from "./limits.js";
import { KIND_WORDS, away, count, money, nano, period, short } from "../lib/format.js";

const PLACES = {
  customer: "customers",
  team: "teams",
  user: "users",
  project: "projects",
  virtual_key: "keys",
  model: "models",
  provider: "providers",
};

export default function Budgets({ who, query }) {
  const usage = useGet("/api/usage", { every: 5000 });
  const lists = ["customers", "teams", "projects", "users", "keys"].map((k) => [k, useGet(base(k), { every: 30_000 })]);
  const failed = [usage, ...lists.map(([, l]) => l)].find((l) => l.error && !l.data);
  const there = usage.data && lists.every(([, l]) => l.data);
  const tree = useMemo(
    () =>
      there &&
      plant(
        lists.map(([k, l]) => [k, l.data[KINDS[k].list]]),
        usage.data.usage,
      ),
    [usage.data, ...lists.map(([, l]) => l.data)],
  );
  const reload = () => [usage, ...lists.map(([, l]) => l)].forEach((l) => l.reload());
  return html`<${Page} title="Budgets" lead="All budgets that apply to a call are checked before it and charged after it. The first one exhausted refuses it.">
    <${Fetched} of=${failed || { data: tree || undefined }} lines=${8}>${() => html`<${Tree} tree=${tree} usage=${usage.data.usage} reload=${reload} may=${who.role === "admin"} query=${query} />`}</${Fetched}>
  </${Page}>`;
}

/** The tree: customer, team, user or project, key, provider of a key. Each node has the rows of its limits. */
function plant(lists, rows) {
  const nodes = new Map();
  const at = (kind, id) => nodes.get(`${kind}/${id}`);
  for (const [kind, entities] of lists) {
    for (const e of entities)
      nodes.set(`${KINDS[kind].one}/${e.id}`, {
        kind: KINDS[kind].one,
        id: e.id,
        name: nameOf(e),
        entity: e,
        rows: [],
        children: [],
      });
  }
  const roots = [],
    others = [];
  const under = (node, ...parents) => (parents.find(Boolean)?.children || roots).push(node);
  for (const [kind, entities] of lists) {
    for (const e of entities) {
      const node = at(KINDS[kind].one, e.id);
      if (kind === "keys")
        under(
          node,
          e.user_id && at("user", e.user_id),
          e.project_id && at("project", e.project_id),
          e.team_id && at("team", e.team_id),
          e.customer_id && at("customer", e.customer_id),
        );
      else under(node, e.team_id && at("team", e.team_id), e.customer_id && at("customer", e.customer_id));
    }
  }
  for (const row of rows) {
    if (row.unit !== "usd") continue;
    const node = at(row.kind, row.id);
    if (node) node.rows.push(row);
    else if (row.kind === "provider_config") {
      const [key, provider] = row.id.split(/:(?=[^:]*$)/),
        parent = at("virtual_key", key);
      parent?.children.push({ kind: row.kind, id: row.id, name: provider, rows: [row], children: [] });
    } else {
      const known = others.find((n) => n.kind === row.kind && n.id === row.id);
      if (known) known.rows.push(row);
      else others.push({ kind: row.kind, id: row.id, name: row.name || row.id, rows: [row], children: [] });
    }
  }
  return { roots, others, size: nodes.size };
}

function Tree({ tree, usage, reload, may, query }) {
  const [shut, setShut] = useState(() => new Set());
  const [opened, setOpened] = useState(() => new Set());
  const [changing, change] = useState(null);
  const wanted = query.get("q") || "";
  const large = tree.size > 80;
  const isOpen = (n, depth) => (large && depth > 0 ? opened.has(n.kind + n.id) : !shut.has(n.kind + n.id));
  const turn = (n, depth) => {
    const [set, put] = large && depth > 0 ? [opened, setOpened] : [shut, setShut],
      next = new Set(set),
      name = n.kind + n.id;
    if (!next.delete(name)) next.add(name);
    put(next);
  };
  const lines = [];
  const walk = (nodes, depth) => {
    for (const n of nodes) {
      lines.push([n, depth]);
      if (n.children.length && (isOpen(n, depth) || wanted)) walk(n.children, depth + 1);
    }
  };
  walk(tree.roots, 0);
  const rates = usage.filter((r) => r.unit !== "usd");
  if (!tree.roots.length && !tree.others.length) {
    return html`<${Empty} title="Nobody is here yet">
      <p>Make a <a href=${link(["customers", "new"])}>customer</a> or a <a href=${link(["teams", "new"])}>team</a> and give it a budget, then <a href=${link(["keys", "new"])}>keys</a> that belong to it.</p></${Empty}>`;
  }
  return html`<div class="scroll"><table class="data tree rows">
      <thead><tr><th scope="col">Who</th><th scope="col"><span class="sr">Share used</span></th>
        <th scope="col" class="num">Used</th><th scope="col" class="num">In flight</th><th scope="col" class="num">Limit</th>
        <th scope="col">Window</th><th scope="col">Forecast</th><th scope="col"><span class="sr">Change</span></th></tr></thead>
      <tbody>${lines.map(([n, depth]) => html`<${Node} key=${n.kind + n.id} ...${{ n, depth, may, change }} open=${isOpen(n, depth)} turn=${() => turn(n, depth)} />`)}</tbody>
    </table></div>
    ${
      tree.others.length > 0 &&
      html`<${Section} title="Providers and models" note="whoever calls them"><div class="scroll"><table class="data tree rows">
        <tbody>
      ${tree.others.map((n) => html`<${Node} key=${n.kind + n.id} ...${{ n, depth: 0, may, change }} open=${true} />`)}</tbody>
        </table></div></${Section}>`
    }
    ${rates.length > 0 && html`<${Rates} rows=${rates} />`}
    ${
      changing &&
      html`<${Change} ...${changing} onClose=${() => change(null)} onDone=${() => {
        change(null);
        reload();
      }} />`
    }`;
}

function Node({ n, depth, open, turn, may, change }) {
  const name = html`<span class="name"><span class=${`indent indent-${Math.min(depth, 5)}`} />
    ${n.children.length && turn ? html`<button class="twist" aria-expanded=${String(open)} aria-label=${`${n.name}: what is under it`} onClick=${turn}>${open ? "▾" : "▸"}</button>` : html`<span class="leaf" />`}
    <span>${PLACES[n.kind] ? html`<a href=${link([PLACES[n.kind], n.id])}>${n.name}</a>` : n.name} <span class="faint">${(KIND_WORDS[n.kind] || n.kind).toLowerCase()}</span></span></span>`;
  const rows = n.rows.length ? n.rows : [null];
  return rows.map(
    (r, i) => html`<tr key=${i}>
    <td>${i === 0 ? name : ""}</td>
    ${
      r
        ? html`<td class="bar-cell">${moneyBar(r, n.name)}</td><td class="num">${money(r.used_usd)}</td>
          <td class="num faint">${nano(r.reserved_usd) ? money(r.reserved_usd) : "–"}</td><td class="num">${money(r.limit_usd)}</td>
      <td><span class="faint nowrap">${r.window ? "per " : ""}${period(r.window)}${r.enforcement === "hard" ? ", hard" : ""}${r.resets_at ? "," : ""}</span> ${r.resets_at && html`<span class="nowrap"><span class="faint">resets </span><${Time} at=${r.resets_at} relative /></span>`}</td>
      <td class="nowrap"><${Forecast} row=${r} /></td>`
        : html`<td colspan="6" class="faint">no budget of its own</td>`
    }
    <td class="row-actions">${may && PLACES[n.kind] && html`<button class="quiet small" aria-label=${`${r ? "Change" : "Set"} the budget of ${n.name}`} onClick=${() => change({ node: n, row: r })}>${r ? "Change" : "Set"}</button>`}</td>
  </tr>`,
  );
}

function Forecast({ row }) {
  if (!row.forecast_usd) return html`<span class="faint">–</span>`;
  const over = nano(row.forecast_usd) > nano(row.limit_usd);
  if (nano(row.used_usd) >= nano(row.limit_usd)) return html`<span class="bad">used up</span>`;
  return over
    ? html`<span class="warn">${money(row.forecast_usd)}${row.exhausted_at && html`<br />used up ${away(row.exhausted_at)}`}</span>`
    : html`<span class="faint">${money(row.forecast_usd)}</span>`;
}

function Rates({ rows }) {
  const words = { requests: "calls", tokens: "tokens", concurrent: "calls at once" };
  return html`<${Section} title="Rate limits"><div class="scroll"><table class="data rows"><thead><tr><th scope="col">Who</th>
    <th scope="col">What</th><th scope="col"><span class="sr">Share used</span></th><th scope="col" class="num">Used</th>
    <th scope="col" class="num">In flight</th><th scope="col" class="num">Limit</th><th scope="col">Window</th></tr></thead>
    <tbody>${rows.map(
      (
        r,
      ) => html`<tr key=${r.kind + r.id + r.unit}>
        <td>${PLACES[r.kind] ? html`<a href=${link([PLACES[r.kind], r.id])}>${r.name || r.id}</a>` : r.id} <span class="faint">${(KIND_WORDS[r.kind] || r.kind).toLowerCase()}</span></td>
      <td>${words[r.unit]}</td><td class="bar-cell rate">
        <${Bar} used=${r.unit === "concurrent" ? r.reserved : r.used} reserved=${r.unit === "concurrent" ? 0 : r.reserved} limit=${r.limit} label=${`${r.used} of ${r.limit}`} /></td>
      <td class="num">${r.unit === "concurrent" ? "–" : short(r.used)}</td>
        <td class="num faint">${r.reserved ? short(r.reserved) : "–"}</td><td class="num">${count(r.limit)}</td>
      <td class="nowrap"><span class="faint">${r.window ? `per ${period(r.window)}` : "at any moment"}${r.resets_at ? ", resets " : ""}</span>${r.resets_at && html`<${Time} at=${r.resets_at} relative />`}</td></tr>`,
    )}</tbody></table></div></${Section}>`;
}

const WAYS = [
  ["top-up", "Top up"],
  ["edit", "Edit"],
  ["reset", "Reset usage"],
];

/** Top up, edit or reset one budget where it stands, as it is now. */
function Change({ node, row, onClose, onDone }) {
  const kind = PLACES[node.kind],
    path = `${kind === "providers" ? "/api/governance/providers" : base(kind)}/${encodeURIComponent(node.id)}`;
  const found = useGet(path, { anew: true });
  const title = `${node.name}: budget`;
  if (!found.data)
    return html`<${Dialog} title=${title} onClose=${onClose}><${Fetched} of=${found} lines=${3} /></${Dialog}>`;
  return html`<${Changing} ...${{ title, path, row, onClose, onDone }} name=${node.name} entity=${Object.values(found.data)[0]} />`;
}

function Changing({ title, path, name, row, entity, onClose, onDone }) {
  const [way, setWay] = useState(row ? "top-up" : "edit");
  const window = row?.window ?? "never";
  const budgets = [entity.budget, ...(entity.budgets || [])].filter(Boolean),
    isIt = (b) => (b.reset_duration ?? "never") === window,
    several = budgets.length > 1;
  const work = async (v) => {
    if (way === "top-up")
      return api("POST", `${path}/top-up`, { amount: Number(v.amount), ...(several ? { reset_duration: window } : {}) });
    if (way === "reset") return api("POST", `${path}/reset-usage`, { budget: true, rate_limit: false });
    const sent = budgetSent(v);
    if (!entity.budgets?.some(isIt)) return change(path, entity, { budget: sent });
    const left = entity.budgets.map((b) => (isIt(b) ? sent : writtenBudget(b))).filter(Boolean);
    return change(path, entity, { budgets: left.length ? left : null });
  };
  const initial = { ...budgetValues(row && budgets.find(isIt)), amount: "" };
  return html`<${Ask} title=${title} button=${way === "top-up" ? "Top up" : way === "reset" ? "Count from zero" : "Save"} danger=${way === "reset"} work=${work} onClose=${onClose} onDone=${onDone} initial=${initial}>
    ${({ values, set, error }) => html`
      ${row && html`<div class="filters"><${Choice} label="What to do" options=${WAYS} value=${way} onChange=${setWay} /></div>`}
      ${
        way === "top-up" &&
        html`<p>${money(row.used_usd)} of ${money(row.limit_usd)} is used in this window.</p>
        <${Field} label="Dollars to add to the limit" name="amount" type="number" min="0" step="any" required value=${values.amount} error=${error} onInput=${(amount) => set({ amount })}
          hint=${values.amount > 0 ? `The limit will be ${money(nano(row.limit_usd) + nano(Number(values.amount)))}` : "It stays that high in later windows as well"} />`
      }
      ${way === "edit" && html`<${BudgetFields} ...${{ values, set, error }} optional=${Boolean(row)} />`}
      ${way === "reset" && html`<p>What ${name} has used in this window, ${money(row.used_usd)}, will be counted from zero again${several ? ", in each of its budgets" : ""}. Records of calls stay as they are.</p>`}`}
  </${Ask}>`;
}
