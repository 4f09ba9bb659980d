// Routes: which targets calls go to, how each of them does, and how one call would be routed.
import { html, useState } from "../lib/ui.js";
import { url, useGet } from "../lib/api.js";
import { count, duration, percent } from "../lib/format.js";
import { Empty, Fetched, Field, Page, Pager, SearchField, Section, Tag, Time } from "../lib/components.js";

export default function Routes() {
  const routes = useGet("/api/routes", { every: 10_000 }),
    targets = useGet("/api/routes/targets", { every: 3000 });
  return html`<${Page} title="Routes" lead="Which provider and model answer a call, and what is tried where one fails.">
    <${Section} title="Targets" note="by the last attempts; a minute ago counts half">
      <${Fetched} of=${targets} lines=${3}>${(d) => html`<${Targets} of=${d.targets} />`}</${Fetched}></${Section}>
    <${Section} title="Routes" note="the first one whose conditions hold is taken">
      <${Fetched} of=${routes} lines=${3}>${(d) => html`<${RouteTable} of=${d.routes} targets=${targets.data?.targets ?? []} />`}</${Fetched}></${Section}>
    <${ConfigTable} />
    <${Explain} /></${Page}>`;
}

const BREAKERS = { closed: ["good", "closed"], open: ["bad", "open"], half_open: ["warn", "half open"] };

const Breaker = ({ of }) => {
  const [kind, text] = BREAKERS[of.breaker];
  return html`<${Tag} kind=${kind}>${text}</${Tag}>${of.breaker === "open" && html` <span class="faint">tried again <${Time} at=${of.probe_at} relative /></span>`}`;
};

const known = (value, show) => (value === null || value === undefined ? html`<span class="faint">–</span>` : show(value));

function Targets({ of }) {
  if (of.length === 0)
    return html`<${Empty} title="No targets"><p>The policy names none, and no call had a choice since the gateway started.</p></${Empty}>`;
  return html`<div class="scroll" tabindex="0" role="group" aria-label="Targets"><table class="data rows targets"><thead><tr><th scope="col">Target</th><th scope="col">Breaker</th>
    <th scope="col" class="num">Errors</th><th scope="col" class="num">First byte</th><th scope="col" class="num">Headroom</th>
    <th scope="col">Keys</th><th scope="col" class="num">Virtual keys</th></tr></thead>
    <tbody>${of.map(
      (t) => html`<tr key=${`${t.provider}/${t.model}`}><td class="mono">${t.provider}/${t.model}</td><td><${Breaker} of=${t} /></td>
        <td class="num">${known(t.error_rate, percent)}</td><td class="num">${known(t.latency_ms, duration)}</td>
        <td class="num">${known(t.headroom, percent)}</td>
        <td>${t.key_names.join(", ") || (t.is_simulated ? html`<span class="faint">simulated</span>` : html`<${Tag} kind="bad">none usable</${Tag}>`)}</td>
        <td class="num">${count(t.virtual_keys)}</td></tr>`,
    )}</tbody></table></div>`;
}

const conditions = (when) =>
  Object.entries(when)
    .filter(([name]) => name !== "timezone" || when.hours)
    .map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`)
    .join(", ") || "every call";

function RouteTable({ of, targets }) {
  if (of.length === 0)
    return html`<p class="faint">The policy has none: a call goes where its model's name or its virtual key's providers send it.</p>`;
  return html`<div class="scroll" tabindex="0" role="group" aria-label="Routes"><table class="data rows"><thead><tr><th scope="col">Route</th><th scope="col">When</th>
    <th scope="col">Target</th><th scope="col" class="num">Weight</th><th scope="col" class="num">By health</th>
    <th scope="col" class="num">Share</th></tr></thead>
    <tbody>${of.flatMap((route) =>
      route.targets.map((t, i) => {
        const state = targets.find((x) => x.provider === t.provider && x.model === t.model)?.routes.find((w) => w.route === route.name);
        return html`<tr key=${`${route.name} ${i}`}><td>${i ? "" : route.name}</td><td>${i ? "" : conditions(route.when)}</td>
          <td class="mono">${t.provider}/${t.model ?? html`<span class="faint">the one asked for</span>`}</td><td class="num">${t.weight}</td>
          <td class="num">${known(state?.effective_weight, (w) => w.toFixed(2))}</td><td class="num">${known(state?.share, percent)}</td></tr>`;
      }),
    )}</tbody></table></div>`;
}

/** Keys on a page of those that have several providers. */
const PAGE_SIZE = 100;

/** The split of each virtual key that has several providers; the gateway searches and pages them. */
function ConfigTable() {
  const [search, setSearch] = useState(""),
    [offset, setOffset] = useState(0);
  const resource = useGet(url("/api/routes/provider-configs", { search, offset: offset || null, limit: PAGE_SIZE }), { every: 5000, keep: true });
  const { provider_configs: rows = [], count: shown = 0, total_count: total = 0 } = resource.data ?? {};
  if (!resource.error && total === 0 && !search) return null;
  return html`<${Section} title="Virtual keys with several providers" note="their provider_configs">
    ${(total > 8 || search) && html`<div class="filters"><${SearchField} label="Search virtual keys" value=${search} onSearch=${(text) => {
      setSearch(text);
      setOffset(0);
    }} /></div>`}
    <${Fetched} of=${resource} lines=${3}>${() => html`<div class="scroll" tabindex="0" role="group" aria-label="Virtual keys with several providers">
    <table class="data rows"><thead><tr><th scope="col">Virtual key</th><th scope="col">Target</th><th scope="col" class="num">Weight</th>
    <th scope="col" class="num">By health</th><th scope="col" class="num">Share</th></tr></thead>
    <tbody>${rows.map(
      (w, i) => html`<tr key=${`${w.virtual_key} ${w.provider}/${w.model}`}><td>${rows[i - 1]?.virtual_key === w.virtual_key ? "" : w.virtual_key}</td>
        <td class="mono">${w.provider}/${w.model}</td><td class="num">${w.weight}</td><td class="num">${w.effective_weight.toFixed(2)}</td>
        <td class="num">${percent(w.share)}</td></tr>`,
    )}</tbody></table></div>
    <${Pager} ...${{ offset, shown, total }} size=${PAGE_SIZE} onOffset=${setOffset} />`}</${Fetched}></${Section}>`;
}

/** How a call would be routed, asked as the call itself would be. */
function Explain() {
  const [asked, setAsked] = useState(null);
  const [values, setValues] = useState({ key: "", model: "", class: "" });
  const resource = useGet(asked);
  const submit = (e) => {
    e.preventDefault();
    setAsked(url("/api/routes/explain", Object.fromEntries(Object.entries(values).filter(([, v]) => v))));
  };
  const field = (name, label, more = {}) =>
    html`<${Field} label=${label} name=${name} value=${values[name]} error=${resource.error} onInput=${(v) => setValues({ ...values, [name]: v })} ...${more} />`;
  return html`<${Section} title="Where would a call go?" note="nothing is sent">
    <form onSubmit=${submit}><div class="fields">${field("key", "Virtual key", { required: true })}${field("model", "Model", { required: true })}
      ${field("class", "Class", { placeholder: "such as subagent" })}</div>
      <div class="form-foot start"><button class="primary">Explain</button></div></form>
    ${asked && html`<${Fetched} of=${resource} lines=${2}>${(d) => html`<${Explanation} of=${d} />`}</${Fetched}>`}</${Section}>`;
}

const DECIDED_BY = {
  name: () => "the model's name says its provider",
  route: (d) => `route ${d.route}`,
  provider_configs: () => "the virtual key's providers",
  request: () => "as it asks, straight to its provider",
};

const Explanation = ({ of: d }) => html`<p>Decided by: ${DECIDED_BY[d.decided_by](d)}.
    ${d.attempts > 1 && ` At most ${d.attempts} attempts.`} ${d.refusal && html`<b class="warn">Refused</b>: ${d.refusal}.`}</p>
  <div class="scroll" tabindex="0" role="group" aria-label="Explanation"><table class="data rows explained"><thead><tr><th scope="col" class="num">Tried</th><th scope="col">Target</th>
    <th scope="col" class="num">Share</th><th scope="col" class="num">Weight</th><th scope="col" class="num">By health</th>
    <th scope="col">Breaker</th><th scope="col">Why not</th></tr></thead>
    <tbody>${d.targets.map(
      (t) => html`<tr key=${`${t.provider}/${t.model}`}><td class="num">${t.position ?? "never"}</td><td class="mono">${t.provider}/${t.model}</td>
        <td class="num">${percent(t.share)}</td><td class="num">${t.weight}</td><td class="num">${t.effective_weight.toFixed(2)}</td>
        <td><${Breaker} of=${t} /></td><td>${t.excluded ?? ""}</td></tr>`,
    )}</tbody></table></div>`;
