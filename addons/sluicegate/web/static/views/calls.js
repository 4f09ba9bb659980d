// Calls: every one there is, filtered by the address bar, with a live tail and one call's whole story beside the list.
import { html, useEffect, useMemo, useRef, useState } from "../lib/ui.js";
import { get, placed, url, useDo, useGet } from "../lib/api.js";
import { go, link } from "../lib/route.js";
import { useLive, useTick } from "../lib/live.js";
import { Empty, Fetched, Outcome, Page, Problem, Time } from "../lib/parts.js";
import { RANGES, startOf, useEpoch } from "../lib/ranges.js";
import { count, duration, exactMoney, money, reasonWords, short } from "../lib/format.js";
import { CallPanel } from "./call.js";

const LISTS = [
  ["user", "User", "users", "user_id"],
  ["team", "Team", "teams", "team_id"],
  ["vk", "Key", "virtual_keys", "virtual_key_id"],
  ["model", "Model", "models", "model"],
];
const MORE = [
  ["customer", "Customer", "customers", "customer_id"],
  ["project", "Project", "projects", "project_id"],
  ["provider", "Provider", "providers", "provider"],
  ["reason", "Reason", "reasons", "reason"],
];
const FREE = [
  ["session", "Session", "session_id"],
  ["agent", "Sub-agent", "agent_id"],
];
const AMOUNTS = [
  ["min_cost", "Cost from $"],
  ["min_latency", "Latency from ms"],
  ["min_tokens", "Tokens from"],
];
const OUTCOMES = [
  ["completed", "completed"],
  ["denied", "refused"],
  ["failed", "failed"],
  ["cancelled", "cancelled"],
  ["interrupted", "interrupted"],
];
const FILTERS = ["outcome", ...LISTS.map(([n]) => n), ...MORE.map(([n]) => n), ...FREE.map(([n]) => n), ...AMOUNTS.map(([n]) => n)];
const TIMES = [...RANGES, ["all", "All"]];
const PAGE = 50;

/** No older calls have been added to the first page's. */
const NONE = { key: null, epoch: 0, rows: [], cursor: null };

const total = (c) =>
  ["input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"].reduce(
    (a, n) => a + (c[n] || 0),
    0,
  );

export default function Calls({ parts, query, who }) {
  const chosen = parts[0] ?? null;
  const live = query.get("live") === "1";
  const range = TIMES.some(([r]) => r === query.get("range")) ? query.get("range") : "24h";
  const asked = Object.fromEntries(FILTERS.map((n) => [n, query.get(n)]).filter(([, v]) => v));
  const sort = { sort_by: query.get("sort_by"), order: query.get("order") };
  const state = { ...asked, range: range === "24h" ? null : range, live: live ? 1 : null, ...sort };
  const set = (more, options) => go(chosen ? ["calls", chosen] : ["calls"], { ...state, ...more }, options);
  const key = JSON.stringify([asked, range, sort]);
  const epoch = useEpoch();
  const [older, setOlder] = useState(NONE);
  // Once older calls have been added the list stands still: it would tear where a newer first page ends.
  const still = older.key === key ? older : null;
  const since = still ? still.epoch : epoch;
  const start = useMemo(() => (range === "all" ? null : startOf(range)), [key, since]);
  const page = { ...asked, ...sort, start, limit: PAGE };
  const first = useGet(url("/api/logs", page), { every: live ? 0 : 15_000, keep: true });
  const rows = still ? still.rows : first.data?.logs || NONE.rows;
  const cursor = still ? still.cursor : first.data?.pagination?.next_cursor;
  const adding = useDo(async () => {
    const { logs, pagination } = await get(url("/api/logs", { ...page, cursor }));
    setOlder({ key, epoch: since, rows: join(rows, logs), cursor: pagination.next_cursor });
  });
  const tail = useLive(live);
  useEffect(() => {
    if (!live || !tail.opened) return;
    setOlder(NONE);
    first.reload();
  }, [live, tail.opened]);
  const shown = useMemo(
    () =>
      live
        ? join([...tail.running.values()].reverse().filter(matches(asked)), [...tail.ended.filter(matches(asked)), ...rows])
        : rows,
    [live && tail.ended[0], live && tail.running.size, rows, key],
  );
  useTick(live && tail.running.size > 0);
  const exported = (format) => placed(url("/api/logs/export", { ...asked, start, format }));
  const mine = who.role === "developer";
  return html`<${Page} title=${mine ? "My calls" : "Calls"} actions=${html`
      <button aria-pressed=${String(live)} class=${live ? "set-live" : ""} onClick=${() => set({ live: live ? null : 1 }, { replace: true })}>${live ? html`<i class="pulse" /> Live` : "Live tail"}</button>
      ${!first.error && html`<a class="quiet-link" href=${exported("csv")} download>CSV</a>
        <a class="quiet-link" href=${exported("jsonl")} download>JSON lines</a>`}`}>
    <${Filters} ...${{ asked, range, set, mine }} />
    <${Problem} error=${first.error} retry=${first.reload} />
    <div class=${"with-panel" + (chosen ? " open" : "")}>
      <div class="list-side">
        ${first.data && html`<${Summary} stats=${first.data.stats} live=${live} tail=${tail} />`}
        <${Fetched} of=${first.error ? { data: first.data ?? null } : first} lines=${10}>${(data) =>
          !data
            ? null
            : shown.length === 0
              ? html`<${Nothing} filtered=${Object.keys(asked).length > 0} has=${data.has_logs} live=${live} widen=${range !== "all" && (() => set({ range: "all" }))} />`
              : html`<${Table} rows=${shown} chosen=${chosen} state=${state} sort=${sort} set=${set} mine=${mine} />`}</${Fetched}>
        ${
          (cursor || still) &&
          shown.length > 0 &&
          html`<div class="more">
            ${cursor && html`<button disabled=${adding.busy} onClick=${() => adding.run()}>${adding.busy ? "Fetching …" : "Show more"}</button>`}
            <span class="note">${count(rows.length)} of ${count(first.data?.pagination?.total_count)}</span>
            ${still && html`<button class="quiet small" onClick=${() => setOlder(NONE)}>Back to the newest</button>`}</div>`
        }
        <${Problem} error=${adding.error} />
      </div>
      ${chosen && html`<${CallPanel} id=${chosen} known=${shown.find((c) => c.id === chosen)} close=${() => go(["calls"], state)} who=${who} />`}
    </div>
  </${Page}>`;
}

/** Two lists one after the other, each call once. */
function join(a, b) {
  const seen = new Set(a.map((c) => c.id));
  return [...a, ...b.filter((c) => !seen.has(c.id) && seen.add(c.id))];
}

/** Whether a live call is one of those asked for, as far as one can tell on this side. */
function matches(asked) {
  const columns = [...LISTS, ...MORE]
    .map(([n, , , c]) => [n, c])
    .concat(
      FREE.map(([n, , c]) => [n, c]),
      [["outcome", "outcome"]],
    );
  const isOneOf = (wanted, ...values) => wanted.split(",").some((w) => values.includes(w.trim()));
  return (c) =>
    columns.every(
      ([n, column]) =>
        !asked[n] || (column === "model" ? isOneOf(asked[n], c.model_served ?? c.model_requested) : isOneOf(asked[n], c[column])),
    ) &&
    (!asked.min_cost || Number(c.cost_usd || 0) >= Number(asked.min_cost)) &&
    (!asked.min_latency || (c.latency_ms ?? 0) >= Number(asked.min_latency)) &&
    (!asked.min_tokens || total(c) >= Number(asked.min_tokens));
}

function Filters({ asked, range, set, mine }) {
  const facets = useGet("/api/logs/filterdata");
  const [more, setMore] = useState([...MORE, ...FREE, ...AMOUNTS].some(([n]) => asked[n]));
  const select = ([name, word, list]) => {
    const found = (facets.data?.[list] || []).map((v) =>
      typeof v === "string"
        ? [v, name === "reason" ? reasonWords(v) : v]
        : [v.id, v.name && v.name !== v.id ? `${v.name} (${v.id})` : v.id],
    );
    const options = asked[name] && !found.some(([v]) => v === asked[name]) ? [[asked[name], asked[name]], ...found] : found;
    return html`<select key=${name} aria-label=${word} class=${asked[name] ? "set" : ""} onChange=${(e) => set({ [name]: e.target.value || null })}>
      <option value="" selected=${!asked[name]}>${word}: any</option>${options.map(([v, w]) => html`<option value=${v} selected=${v === asked[name]}>${w}</option>`)}</select>`;
  };
  const input = ([name, word], type) =>
    html`<input key=${name} type=${type} min="0" step="any" aria-label=${word} placeholder=${word} class=${asked[name] ? "set" : ""} value=${asked[name] || ""} onChange=${(e) => set({ [name]: e.target.value.trim() || null })} />`;
  return html`<div class="filters" role="search" aria-label="Filters">
    <select aria-label="Time" onChange=${(e) => set({ range: e.target.value })}>${TIMES.map(([r, w]) => html`<option value=${r} selected=${r === range}>${r === "all" ? "All time" : `Last ${w.toLowerCase()}`}</option>`)}</select>
    <select aria-label="Outcome" class=${asked.outcome ? "set" : ""} onChange=${(e) => set({ outcome: e.target.value || null })}>
      <option value="" selected=${!asked.outcome}>Outcome: any</option>${OUTCOMES.map(([v, w]) => html`<option value=${v} selected=${v === asked.outcome}>${w}</option>`)}</select>
    ${(mine ? LISTS.slice(3) : LISTS).map(select)}
    ${more && html`${(mine ? MORE.slice(3) : MORE).map(select)}${FREE.map((f) => input(f, "text"))}${AMOUNTS.map((f) => input(f, "number"))}`}
    <button class="quiet small" aria-expanded=${String(more)} onClick=${() => setMore(!more)}>${more ? "Fewer filters" : "More filters"}</button>
    ${Object.keys(asked).length > 0 && html`<button class="quiet small" onClick=${() => set(Object.fromEntries(FILTERS.map((n) => [n, null])))}>Clear</button>`}
  </div>`;
}

function Summary({ stats, live, tail }) {
  if (live)
    return html`<div class="summary" role="status"><span><b>${tail.running.size}</b> running</span>
      <span>${tail.up ? "Calls appear as they begin and end." : "Not connected; trying again."}</span>${tail.missed > 0 && html`<span class="warn">${count(tail.missed)} were too fast to be shown</span>`}</div>`;
  return html`<div class="summary"><span><b>${count(stats.total_requests)}</b> calls</span><span>
    <b>${money(stats.total_cost)}</b></span><span><b>${short(stats.total_tokens)}</b> tokens</span>
    <span><b>${stats.success_rate} %</b> completed</span><span>mean latency <b>${duration(stats.average_latency)}</b></span></div>`;
}

function Nothing({ filtered, has, live, widen }) {
  if (live) return html`<${Empty} title="Waiting for calls"><p>They appear here as they begin.</p></${Empty}>`;
  if (has)
    return html`<${Empty} title=${filtered ? "No call matches" : "No calls in this time"}>${widen && html`<p>
      <button onClick=${widen}>Look in all time</button></p>`}</${Empty}>`;
  return html`<${Empty} title="No call has come through yet"><p>
    <a href=${link([])}>The first page</a> has the lines that bring the first one.</p></${Empty}>`;
}

const SORTS = { Time: "timestamp", Tokens: "tokens", Cost: "cost", Latency: "latency" };

function Head({ word, sort, set, extra = "" }) {
  const by = SORTS[word],
    current = (sort.sort_by || "timestamp") === by,
    order = sort.order || "desc";
  const turn = () => set({ sort_by: by === "timestamp" ? null : by, order: current && order === "desc" ? "asc" : null });
  return html`<th scope="col" class=${extra} aria-sort=${current ? (order === "desc" ? "descending" : "ascending") : null}>
    <button onClick=${turn}>${word}${current ? (order === "desc" ? " ↓" : " ↑") : ""}</button></th>`;
}

function Table({ rows, chosen, state, sort, set, mine }) {
  const body = useRef();
  // Arrow keys move through the list, as one reads it.
  const move = (e) => {
    if (e.key !== "ArrowDown" && e.key !== "ArrowUp") return;
    const links = [...body.current.querySelectorAll("a.to-call")],
      at = links.indexOf(document.activeElement);
    if (at < 0) return;
    e.preventDefault();
    links[Math.max(0, Math.min(links.length - 1, at + (e.key === "ArrowDown" ? 1 : -1)))].focus();
  };
  return html`<div class="scroll"><table class="data rows calls">
    <thead><tr><${Head} word="Time" ...${{ sort, set }} />${!mine && html`<th scope="col">Who</th>`}<th scope="col" class="wide-only">${mine ? "Session" : "Team"}</th>
      <th scope="col">Model</th><th scope="col">Outcome</th>
      <${Head} word="Tokens" ...${{ sort, set }} extra="num wide-only" /><${Head} word="Cost" ...${{ sort, set }} extra="num" />
        <${Head} word="Latency" ...${{ sort, set }} extra="num" /></tr></thead>
    <tbody ref=${body} onKeyDown=${move}>${rows.map(
      (
        c,
      ) => html`<tr key=${c.id} class=${c.id === chosen ? "chosen" : ""} onClick=${(e) => !e.target.closest("a") && go(["calls", c.id], state)}>
      <td class="nowrap"><a class="to-call" href=${link(["calls", c.id], state)} aria-current=${c.id === chosen ? "true" : null}>
        <${Time} at=${c.started_at} /></a></td>
      ${!mine && html`<td><span class="cut" title=${c.virtual_key_id || ""}>${c.user_id || c.virtual_key_id || html`<span class="faint">unknown</span>`}</span>${c.agent_id && html` <span class="faint nowrap aside" title=${c.agent_id}>sub-agent</span>`}</td>`}
      <td class="wide-only">${mine ? html`<span class="mono faint">${(c.session_id || "–").slice(0, 8)}</span>` : c.team_id || html`<span class="faint">–</span>`}</td>
      <td><span class="cut" title=${c.model_served || c.model_requested || c.path}>${c.model_served || c.model_requested || html`<span class="faint">${c.path}</span>`}</span></td>
      <td class="nowrap"><${Outcome} call=${c} /></td>
      <td class="num wide-only">${c.outcome ? short(total(c)) : "–"}</td>
        <td class="num" title=${c.cost_usd ? exactMoney(c.cost_usd) : ""}>${c.cost_usd !== null && c.outcome !== "denied" ? money(c.cost_usd, 4) : "–"}</td>
      <td class="num">${c.outcome ? duration(c.latency_ms) : duration(Math.max(0, Date.now() - Date.parse(c.started_at)))}</td>
        </tr>`,
    )}</tbody></table></div>`;
}
