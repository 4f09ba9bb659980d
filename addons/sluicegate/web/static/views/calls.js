// Calls: a list filtered by the address bar, with a live tail, and one call's details next to it.
import { html, useEffect, useMemo, useRef, useState } from "../lib/ui.js";
import { get, sessionPath, url, useAction, useGet } from "../lib/api.js";
import { go, link } from "../lib/router.js";
import { useLive, useTick } from "../lib/live_calls.js";
import { Empty, Fetched, Outcome, Page, Problem, Time } from "../lib/components.js";
import { CustomTimes, RANGES, TIME_PARAMETERS, chosen as chosenTime, useEpoch, useTimes } from "../lib/time_ranges.js";
import { completedShare, count, duration, exactMoney, money, moneys, reasonText, short } from "../lib/format.js";
import { CallPanel } from "./call_panel.js";
import { ClientReports } from "./client_reports.js";
import { PromptCache } from "./prompt_cache.js";

// Filters, each: query parameter, label, the facet list it is chosen from where it has one, and the column it filters.
/** @type {[string, string, string, string][]} */
const MAIN_FILTERS = [
  ["user", "User", "users", "user_id"],
  ["team", "Team", "teams", "team_id"],
  ["vk", "Virtual key", "virtual_keys", "virtual_key_id"],
  ["model", "Model", "models", "model"],
];
/** @type {[string, string, string, string][]} */
const MORE_FILTERS = [
  ["customer", "Customer", "customers", "customer_id"],
  ["project", "Project", "projects", "project_id"],
  ["provider", "Provider", "providers", "provider"],
  ["reason", "Reason", "reasons", "reason"],
];
/** @type {[string, string, string][]} */
const TEXT_FILTERS = [
  ["session", "Session", "session_id"],
  ["agent", "Sub-agent", "agent_id"],
  ["asked_model", "Asked model", "asked_model"],
  ["claimed_project", "Repository", "claimed_project"],
  ["node", "Gateway", "node"],
];
/** Filters whose value is a part of a column: `cost_center:4711`. */
const LABEL_FILTER = ["label", "Label (name:value)"];
/** @type {[string, string][]} */
const AMOUNT_FILTERS = [
  ["min_cost", "Min. cost ($)"],
  ["min_latency", "Min. latency (ms)"],
  ["min_tokens", "Min. tokens"],
];
/** @type {[string, string, string, string][]} a name, its label, and the words for true and false */
const BOOLEAN_FILTERS = [
  ["subscription", "Paid by", "the caller's subscription", "a provider key"],
  ["stream", "Streamed", "streamed", "in one piece"],
  ["estimated", "Usage", "estimated", "reported"],
];
const OUTCOMES = [
  ["completed", "completed"],
  ["denied", "refused"],
  ["failed", "failed"],
  ["cancelled", "cancelled"],
  ["interrupted", "interrupted"],
];
const FILTERS = ["outcome", ...BOOLEAN_FILTERS.map(([n]) => n), ...MAIN_FILTERS.map(([n]) => n), ...MORE_FILTERS.map(([n]) => n), ...TEXT_FILTERS.map(([n]) => n), LABEL_FILTER[0], ...AMOUNT_FILTERS.map(([n]) => n)];
const TIMES = [...RANGES, ["all", "All"], ["custom", "Custom"]];
const PAGE_SIZE = 50;

/** A filter with more names than this is typed. */
const MAX_OPTIONS = 200;

/** The parameters that an address of this page may have. */
export const PARAMETERS = [...FILTERS, ...TIME_PARAMETERS, "live", "sort_by", "order"];

/**
 * No older calls have been added to the first page.
 *
 * @type {{key: string | null, epoch: number, rows: any[], cursor: string | null, names: Record<string, any>}}
 */
const NO_OLDER_CALLS = { key: null, epoch: 0, rows: [], cursor: null, names: {} };

/** The names of two pages together, by column. */
const merged = (a, b) =>
  Object.fromEntries([...new Set([...Object.keys(a), ...Object.keys(b)])].map((column) => [column, { ...a[column], ...b[column] }]));

const totalTokens = (c) =>
  ["input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"].reduce(
    (a, n) => a + (c[n] || 0),
    0,
  );

export default function Calls({ parts, query, user }) {
  const chosen = parts[0] ?? null;
  const live = query.get("live") === "1";
  const filters = Object.fromEntries(FILTERS.map((n) => [n, query.get(n)]).filter(([, v]) => v));
  const sort = { sort_by: query.get("sort_by"), order: query.get("order") };
  const asked = Object.fromEntries(TIME_PARAMETERS.map((n) => [n, query.get(n)]));
  const state = { ...filters, ...asked, live: live ? 1 : null, ...sort };
  const set = (changes, options) => go(chosen ? ["calls", chosen] : ["calls"], { ...state, ...changes }, options);
  const key = JSON.stringify([filters, asked, sort]);
  const epoch = useEpoch();
  const [older, setOlder] = useState(NO_OLDER_CALLS);
  // Once older calls have been added the list stays as it is: a newer first page would leave a gap before them.
  const frozen = older.key === key ? older : null;
  const since = frozen ? frozen.epoch : epoch;
  const times = useTimes(query, since);
  const { range, start, end } = times;
  const page = { ...filters, ...sort, start, end, limit: PAGE_SIZE };
  const first = useGet(url("/api/logs", page), { every: live ? 0 : 15_000, keep: true });
  const rows = frozen ? frozen.rows : first.data?.logs || NO_OLDER_CALLS.rows;
  // Older pages have names of their own.
  const names = merged(first.data?.names ?? {}, frozen?.names ?? {});
  const cursor = frozen ? frozen.cursor : first.data?.pagination?.next_cursor;
  const addOlder = useAction(async () => {
    const { logs, pagination, names: more } = await get(url("/api/logs", { ...page, cursor }));
    setOlder({ key, epoch: since, rows: join(rows, logs), cursor: pagination.next_cursor, names: merged(names, more) });
  });
  const tail = useLive(live);
  useEffect(() => {
    if (!live || !tail.opened) return;
    setOlder(NO_OLDER_CALLS);
    first.reload();
  }, [live, tail.opened]);
  const shown = useMemo(
    () =>
      live
        ? join([...tail.running.values()].reverse().filter(matches(filters)), [...tail.ended.filter(matches(filters)), ...rows])
        : rows,
    [live && tail.ended[0], live && tail.running.size, rows, key],
  );
  useTick(live && tail.running.size > 0);
  const exportUrl = (format) => sessionPath(url("/api/logs/export", { ...filters, start, end, format }));
  const ownOnly = user.role === "developer";
  return html`<${Page} title=${ownOnly ? "My calls" : "Calls"} actions=${html`
      <button aria-pressed=${String(live)} class=${live ? "set-live" : ""} onClick=${() => set({ live: live ? null : 1 }, { replace: true })}>${live ? html`<i class="pulse" /> Live` : "Live tail"}</button>
      ${!first.error && html`<a class="quiet-link" href=${exportUrl("csv")} download>CSV</a>
        <a class="quiet-link" href=${exportUrl("jsonl")} download>JSON Lines</a>`}`}>
    <${Filters} ...${{ filters, times, set, ownOnly }} />
    <${Problem} error=${first.error} retry=${first.reload} />
    <div class=${"with-panel" + (chosen ? " open" : "")}>
      <div class="list-side">
        ${first.data && html`<${Summary} stats=${first.data.stats} live=${live} tail=${tail} />`}
        ${filters.session && !filters.session.includes(",") && html`<${PromptCache} session=${filters.session} /><${ClientReports} session=${filters.session} />`}
        <${Fetched} of=${first.error ? { data: first.data ?? null } : first} lines=${10}>${(data) =>
          !data
            ? null
            : shown.length === 0
              ? html`<${NoCalls} isFiltered=${Object.keys(filters).length > 0} hasCalls=${data.has_logs} live=${live} widen=${range !== "all" && (() => set(chosenTime("all", times)))} />`
              : html`<${Table} rows=${shown} names=${names} chosen=${chosen} state=${state} sort=${sort} set=${set} ownOnly=${ownOnly} />`}</${Fetched}>
        ${
          (cursor || frozen) &&
          shown.length > 0 &&
          html`<div class="more">
            ${cursor && html`<button disabled=${addOlder.busy} onClick=${() => addOlder.run()}>${addOlder.busy ? "Loading …" : "Show more"}</button>`}
            <span class="note">${count(rows.length)} of ${count(first.data?.pagination?.total_count)}</span>
            ${frozen && html`<button class="quiet small" onClick=${() => setOlder(NO_OLDER_CALLS)}>Back to the newest</button>`}</div>`
        }
        <${Problem} error=${addOlder.error} />
      </div>
      ${chosen && html`<${CallPanel} id=${chosen} known=${shown.find((c) => c.id === chosen)} close=${() => go(["calls"], state)} user=${user} onChange=${first.reload} />`}
    </div>
  </${Page}>`;
}

const costTitle = (call) =>
  !call.cost_usd
    ? ""
    : call.adjustment_usd
      ? `${exactMoney(call.effective_cost_usd)}, adjusted from ${exactMoney(call.cost_usd)}`
      : call.shadow_usd
        ? `Paid by the caller's own subscription; ${exactMoney(call.shadow_usd)} at list price`
        : exactMoney(call.cost_usd);

/** Two lists joined, each call once. */
function join(a, b) {
  const seen = new Set(a.map((c) => c.id));
  return [...a, ...b.filter((c) => !seen.has(c.id) && seen.add(c.id))];
}

/** Whether a call has one of the values of each label in a list such as `site:Berlin,site:Bonn`. */
function hasLabels(list, text) {
  const labels = JSON.parse(text || "{}"),
    wanted = list.split(",").map((part) => part.trim().split(/:(.*)/s));
  return wanted.every(([name]) => wanted.some(([n, value]) => n === name && labels[name] === value));
}

/** Whether a live call passes the filters, as far as a browser can tell. */
function matches(filters) {
  const columns = [...MAIN_FILTERS, ...MORE_FILTERS]
    .map(([n, , , c]) => [n, c])
    .concat(
      TEXT_FILTERS.map(([n, , c]) => [n, c]),
      [["outcome", "outcome"]],
    );
  const isOneOf = (list, ...values) => list.split(",").some((w) => values.includes(w.trim()));
  return (c) =>
    columns.every(
      ([n, column]) =>
        !filters[n] || (column === "model" ? isOneOf(filters[n], c.model_served ?? c.model_requested)
          : column === "asked_model" ? isOneOf(filters[n], c.asked_model ?? c.model_requested)
          : isOneOf(filters[n], c[column])),
    ) &&
    (!filters.label || hasLabels(filters.label, c.labels)) &&
    (!filters.subscription || String(c.shadow_usd !== null && c.shadow_usd !== undefined) === filters.subscription) &&
    (!filters.stream || String(Boolean(c.stream)) === filters.stream) &&
    (!filters.estimated || String(Boolean(c.estimated)) === filters.estimated) &&
    (!filters.min_cost || Number(c.cost_usd || 0) >= Number(filters.min_cost)) &&
    (!filters.min_latency || (c.latency_ms ?? 0) >= Number(filters.min_latency)) &&
    (!filters.min_tokens || totalTokens(c) >= Number(filters.min_tokens));
}

function Filters({ filters, times, set, ownOnly }) {
  const { range } = times;
  const facets = useGet(`/api/logs/filterdata?limit=${MAX_OPTIONS}`);
  const [showMore, setShowMore] = useState([...BOOLEAN_FILTERS, ...MORE_FILTERS, ...TEXT_FILTERS, LABEL_FILTER, ...AMOUNT_FILTERS].some(([n]) => filters[n]));
  const select = (/** @type {string[]} */ [name, label, list]) => {
    const listed = (facets.data?.[list] || []).map((v) =>
      typeof v === "string"
        ? [v, name === "reason" ? reasonText(v) : v]
        : [v.id, v.name && v.name !== v.id ? `${v.name} (${v.id})` : v.id],
    );
    if (listed.length >= MAX_OPTIONS)
      return html`<input key=${name} type="text" aria-label=${label} placeholder=${`${label}: id`} list=${`all-${name}`} class=${filters[name] ? "set" : ""} value=${filters[name] || ""} onChange=${(e) => set({ [name]: e.target.value.trim() || null })} />
        <datalist id=${`all-${name}`}>${listed.map(([v, w]) => html`<option value=${v}>${w}</option>`)}</datalist>`;
    const options = filters[name] && !listed.some(([v]) => v === filters[name]) ? [[filters[name], filters[name]], ...listed] : listed;
    return html`<select key=${name} aria-label=${label} class=${filters[name] ? "set" : ""} onChange=${(e) => set({ [name]: e.target.value || null })}>
      <option value="" selected=${!filters[name]}>${label}: any</option>${options.map(([v, w]) => html`<option value=${v} selected=${v === filters[name]}>${w}</option>`)}</select>`;
  };
  const labelOptions = Object.entries(facets.data?.labels || {})
    .flatMap(([name, values]) => values.map((value) => `${name}:${value}`))
    .filter((text) => !text.includes(","));
  const input = (/** @type {string[]} */ [name, label], type, /** @type {string[] | null} */ options = null) =>
    html`${options && html`<datalist id=${`all-${name}`}>${options.map((v) => html`<option value=${v} />`)}</datalist>`}<input key=${name} list=${options ? `all-${name}` : null} type=${type} min="0" step="any" aria-label=${label} placeholder=${label} class=${filters[name] ? "set" : ""} value=${filters[name] || ""} onChange=${(e) => set({ [name]: e.target.value.trim() || null })} />`;
  return html`<div class="filters" role="search" aria-label="Filters">
    <select aria-label="Time" onChange=${(e) => set(chosenTime(e.target.value, times))}>${TIMES.map(([r, w]) => html`<option value=${r} selected=${r === range}>${r === "all" ? "All time" : r === "custom" ? "Custom time" : `Last ${w.toLowerCase()}`}</option>`)}</select>
    <${CustomTimes} times=${times} set=${set} />
    <select aria-label="Outcome" class=${filters.outcome ? "set" : ""} onChange=${(e) => set({ outcome: e.target.value || null })}>
      <option value="" selected=${!filters.outcome}>Outcome: any</option>${OUTCOMES.map(([v, w]) => html`<option value=${v} selected=${v === filters.outcome}>${w}</option>`)}</select>
    ${(ownOnly ? MAIN_FILTERS.slice(3) : MAIN_FILTERS).map(select)}
    ${showMore && html`${BOOLEAN_FILTERS.map(([name, label, yes, no]) => html`<select key=${name} aria-label=${label} class=${filters[name] ? "set" : ""} onChange=${(e) => set({ [name]: e.target.value || null })}>
      <option value="" selected=${!filters[name]}>${label}: any</option>${[["true", yes], ["false", no]].map(([v, w]) => html`<option value=${v} selected=${v === filters[name]}>${w}</option>`)}</select>`)}${(ownOnly ? MORE_FILTERS.slice(3) : MORE_FILTERS).map(select)}${TEXT_FILTERS.map((f) => input(f, "text", f[0] === "claimed_project" ? facets.data?.claimed_projects : null))}${input(LABEL_FILTER, "text", labelOptions)}${AMOUNT_FILTERS.map((f) => input(f, "number"))}`}
    <button class="quiet small" aria-expanded=${String(showMore)} onClick=${() => setShowMore(!showMore)}>${showMore ? "Fewer filters" : "More filters"}</button>
    ${Object.keys(filters).length > 0 && html`<button class="quiet small" onClick=${() => set(Object.fromEntries(FILTERS.map((n) => [n, null])))}>Clear</button>`}
  </div>`;
}

/** Completed calls among those that were not refused, and how many were refused: one definition on every page. */
const completion = (stats) =>
  html`<b>${completedShare(stats)}</b> of admitted completed${stats.denied_requests > 0 && html`, <b>${count(stats.denied_requests)}</b> refused`}`;

function Summary({ stats, live, tail }) {
  if (live)
    return html`<div class="summary" role="status"><span><b>${tail.running.size}</b> running</span>
      <span>${tail.connected ? "Calls appear as they begin and end." : "Not connected; reconnecting."}</span>${tail.missed > 0 && html`<span class="warn">${count(tail.missed)} more came too fast to be shown</span>`}</div>`;
  return html`<div class="summary"><span><b>${count(stats.total_requests)}</b> calls</span><span>
    <b>${money(stats.total_cost)}</b></span>${stats.total_shadow_cost > 0 && html`<span><b>${money(stats.total_shadow_cost)}</b> by subscription</span>`}<span><b>${short(stats.total_tokens)}</b> tokens</span>
    <span>${completion(stats)}</span><span>mean latency <b>${duration(stats.average_latency)}</b></span></div>`;
}

function NoCalls({ isFiltered, hasCalls, live, widen }) {
  if (live) return html`<${Empty} title="Waiting for calls"><p>They appear here as they begin.</p></${Empty}>`;
  if (hasCalls)
    return html`<${Empty} title=${isFiltered ? "No matching calls" : "No calls in this period"}>${widen && html`<p>
      <button onClick=${widen}>Search all time</button></p>`}</${Empty}>`;
  return html`<${Empty} title="No calls yet"><p>
    <a href=${link([])}>The start page</a> shows how to make the first one.</p></${Empty}>`;
}

const SORTS = { Time: "timestamp", Tokens: "tokens", Cost: "cost", Latency: "latency" };

function SortHeader({ title, sort, set, extra = "" }) {
  const by = SORTS[title],
    isCurrent = (sort.sort_by || "timestamp") === by,
    order = sort.order || "desc";
  const resort = () => set({ sort_by: by === "timestamp" ? null : by, order: isCurrent && order === "desc" ? "asc" : null });
  return html`<th scope="col" class=${extra} aria-sort=${isCurrent ? (order === "desc" ? "descending" : "ascending") : null}>
    <button onClick=${resort}>${title}${isCurrent ? (order === "desc" ? " ↓" : " ↑") : ""}</button></th>`;
}

function Table({ rows, names, chosen, state, sort, set, ownOnly }) {
  const body = useRef();
  // Only where several gateways share a store does a call say which one it went through.
  const hasNodes = rows.some((c) => c.node);
  // Arrow keys move through the list.
  const moveFocus = (e) => {
    if (e.key !== "ArrowDown" && e.key !== "ArrowUp") return;
    const links = [...body.current.querySelectorAll("a.to-call")],
      at = links.indexOf(document.activeElement);
    if (at < 0) return;
    e.preventDefault();
    links[Math.max(0, Math.min(links.length - 1, at + (e.key === "ArrowDown" ? 1 : -1)))].focus();
  };
  return html`<div class="scroll"><table class="data rows calls">
    <thead><tr><${SortHeader} title="Time" ...${{ sort, set }} />${!ownOnly && html`<th scope="col">Caller</th>`}<th scope="col" class="wide-only">${ownOnly ? "Session" : "Team"}</th>
      <th scope="col">Model</th>${hasNodes && html`<th scope="col" class="wide-only">Gateway</th>`}<th scope="col">Outcome</th>
      <${SortHeader} title="Tokens" ...${{ sort, set }} extra="num wide-only" /><${SortHeader} title="Cost" ...${{ sort, set }} extra="num" />
        <${SortHeader} title="Latency" ...${{ sort, set }} extra="num" /></tr></thead>
    <tbody ref=${body} onKeyDown=${moveFocus}>${rows.map(
      (
        c,
      ) => html`<tr key=${c.id} class=${c.id === chosen ? "chosen" : ""} onClick=${(e) => !e.target.closest("a") && go(["calls", c.id], state)}>
      <td class="nowrap"><a class="to-call" href=${link(["calls", c.id], state)} aria-current=${c.id === chosen ? "true" : null}>
        <${Time} at=${c.started_at} /></a></td>
      ${!ownOnly && html`<td><span class="cut" title=${[c.user_id, c.virtual_key_id].filter(Boolean).join(", ")}>${names.user_id?.[c.user_id] || c.user_id || names.virtual_key_id?.[c.virtual_key_id] || c.virtual_key_id || html`<span class="faint">unknown</span>`}</span>${c.agent_id && html` <span class="faint nowrap aside" title=${c.agent_id}>sub-agent</span>`}</td>`}
      <td class="wide-only">${ownOnly ? html`<span class="mono faint">${(c.session_id || "–").slice(0, 8)}</span>` : c.team_id ? html`<span class="cut" title=${c.team_id}>${names.team_id?.[c.team_id] || c.team_id}</span>` : html`<span class="faint">–</span>`}</td>
      <td><span class="cut" title=${c.model_served || c.model_requested || c.path}>${c.model_served || c.model_requested || html`<span class="faint">${c.path}</span>`}</span></td>
      ${hasNodes && html`<td class="wide-only"><span class="cut" title=${c.node}>${c.node || html`<span class="faint">–</span>`}</span></td>`}
      <td class="nowrap"><${Outcome} call=${c} /></td>
      <td class="num wide-only">${c.outcome ? short(totalTokens(c)) : "–"}</td>
        <td class="num" title=${costTitle(c)}>${c.cost_usd !== null && c.outcome !== "denied" ? (c.shadow_usd ? html`<span class="faint">(${moneys([c.shadow_usd], 4)[0]})</span>` : moneys([c.effective_cost_usd ?? c.cost_usd], 4)[0]) : "–"}</td>
      <td class="num">${c.outcome ? duration(c.latency_ms) : duration(Math.max(0, Date.now() - Date.parse(c.started_at)))}</td>
        </tr>`,
    )}</tbody></table></div>`;
}
