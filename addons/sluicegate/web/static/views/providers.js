// Providers: where calls go, and the keys they go out with. A key's value is never shown.
import { html, useState } from "../lib/ui.js";
import { api, useGet } from "../lib/api.js";
import { link } from "../lib/route.js";
import { Ask, Fetched, Field, Page, Problem, Section, Tag, Time } from "../lib/parts.js";
import { Limits } from "./limits.js";

export default function Providers({ parts, who }) {
  const found = useGet("/api/providers", { every: 10_000 }),
    admin = who.role === "admin";
  if (parts[0]) return html`<${One} name=${parts[0]} found=${found} admin=${admin} />`;
  return html`<${Page} title="Providers" lead="Calls leave the gateway with one of these keys in place of the virtual key.">
    <${Fetched} of=${found}>${({
      providers,
    }) => html`<div class="scroll"><table class="data rows"><thead><tr><th scope="col">Provider</th><th scope="col">Calls go to</th>
      <th scope="col">Keys</th><th scope="col">State</th></tr></thead>
      <tbody>${providers.map(
        (
          p,
        ) => html`<tr key=${p.name}><td><a href=${link(["providers", p.name])}>${p.name}</a></td>
          <td>${p.simulate ? html`<span class="faint">simulated: nothing leaves this machine</span>` : p.base_url}</td>
        <td>${p.simulate && !p.keys.length ? html`<span class="faint">none needed</span>` : `${p.keys.filter((k) => k.usable).length} of ${p.keys.length} usable`}</td>
          <td><${State} p=${p} /></td></tr>`,
      )}</tbody></table></div>`}</${Fetched}></${Page}>`;
}

const State = ({ p }) =>
  p.provider_status === "active"
    ? html`<${Tag} kind="good">${p.simulate ? "simulated" : "ready"}</${Tag}>`
    : html`<${Tag} kind=${p.keys.length ? "bad" : "dim"}>${p.keys.length ? "no usable key" : "no key: calls to it are refused"}</${Tag}>`;

function One({ name, found, admin }) {
  const [asking, ask] = useState(null);
  const limits = useGet(`/api/governance/providers/${encodeURIComponent(name)}`, { every: 10_000 });
  const done = () => {
    ask(null);
    found.reload();
  };
  return html`<${Page} title=${name} back=${{ href: link(["providers"]), text: "Providers" }} actions=${admin && html`<button onClick=${() => ask({ what: "settings" })}>Edit</button>
    <button class="primary" onClick=${() => ask({ what: "key" })}>Add a key</button>`}>
    <${Fetched} of=${found}>${({ providers }) => {
      const p = providers.find((x) => x.name === name);
      if (!p) return html`<${Problem} error=${{ message: `There is no provider '${name}'` }} />`;
      return html`<dl class="facts"><dt>State</dt><dd><${State} p=${p} /></dd><dt>Calls go to</dt>
        <dd>${p.simulate ? "a simulated provider on this machine" : p.base_url}</dd>${p.hosts.length > 0 && html`<dt>Also governed</dt>
        <dd>${p.hosts.join(", ")}</dd>`}</dl>
        <${Section} title="Keys" note="share of calls by weight">
          ${
            p.keys.length === 0
              ? html`<p class="faint">None. ${p.simulate ? "A simulated provider needs none." : "Calls to this provider are refused until it has one."}</p>`
              : html`<div class="scroll"><table class="data rows"><thead><tr><th scope="col">Name</th><th scope="col">From</th>
                <th scope="col" class="num">Weight</th><th scope="col">State</th><th scope="col">
                <span class="sr">Change</span></th></tr></thead>
              <tbody>${p.keys.map(
                (k) => html`<tr key=${k.name}><td>${k.name}</td><td class="mono">${k.value}</td><td class="num">${k.weight}</td>
                <td>${k.set_aside_until ? html`<${Tag} kind="warn">set aside until</${Tag}> <${Time} at=${k.set_aside_until} />` : k.usable ? html`<${Tag} kind="good">usable</${Tag}>` : html`<${Tag} kind="bad">its value is not set</${Tag}>`}</td>
                <td class="row-actions">${
                  admin &&
                  html`<button class="quiet small" aria-label=${`Change ${k.name}`} onClick=${() => ask({ what: "key", key: k })}>Change</button>
                    <button class="quiet small" aria-label=${`Remove ${k.name}`} onClick=${() => ask({ what: "remove", key: k })}>Remove</button>`
                }</td></tr>`,
              )}</tbody></table></div>`
          }</${Section}>
        <${Section} title="Limits" note="whoever calls it">
          <${Fetched} of=${limits} lines=${2}>${(d) => html`<${Limits} of=${d.provider} />`}</${Fetched}></${Section}>
        ${asking?.what === "key" && html`<${Key} provider=${name} of=${asking.key} onClose=${() => ask(null)} onDone=${done} />`}
        ${asking?.what === "remove" && html`<${Remove} provider=${name} of=${asking.key} onClose=${() => ask(null)} onDone=${done} />`}
        ${asking?.what === "settings" && html`<${Settings} p=${p} onClose=${() => ask(null)} onDone=${done} />`}`;
    }}</${Fetched}></${Page}>`;
}

function Key({ provider, of, onClose, onDone }) {
  const path = `/api/providers/${encodeURIComponent(provider)}/keys`;
  const work = (v) =>
    api(of ? "PUT" : "POST", of ? `${path}/${encodeURIComponent(of.name)}` : path, {
      ...(of ? {} : { name: v.name }),
      ...(v.value ? { value: v.value } : {}),
      weight: Number(v.weight),
    });
  return html`<${Ask} title=${of ? `Key ${of.name}` : `A key for ${provider}`} button="Save" work=${work} onClose=${onClose} onDone=${onDone} initial=${{ name: "", value: "", weight: of?.weight ?? 1 }}>
    ${({
      values,
      set,
      error,
    }) => html`<div class="fields">${!of && html`<${Field} label="Name" name="name" required value=${values.name} error=${error} onInput=${(name) => set({ name })} />`}
      <${Field} label="Weight" name="weight" type="number" min="0" step="any" value=${values.weight} error=${error} onInput=${(weight) => set({ weight })} /></div>
      <p /><${Field} label=${of ? "A new value" : "Value"} name="value" type="password" required=${!of} autocomplete="off" value=${values.value} error=${error} onInput=${(value) => set({ value })} hint=${`${of ? "Empty: it stays. " : ""}env.NAME for a variable of the gateway's; the key itself is kept in a file of its own, readable by the gateway alone.`} />`}</${Ask}>`;
}

function Remove({ provider, of, onClose, onDone }) {
  const work = () => api("DELETE", `/api/providers/${encodeURIComponent(provider)}/keys/${encodeURIComponent(of.name)}`);
  return html`<${Ask} title=${`Remove ${of.name}?`} button="Remove" danger work=${work} onClose=${onClose} onDone=${onDone}>
    <p>Calls go out with the other keys of ${provider}; where there is none they are refused. A value that was entered here is deleted with it.</p></${Ask}>`;
}

function Settings({ p, onClose, onDone }) {
  const work = (v) =>
    api("PUT", `/api/providers/${encodeURIComponent(p.name)}`, { base_url: v.base_url.trim() || null, simulate: v.simulate });
  return html`<${Ask} title=${p.name} button="Save" work=${work} onClose=${onClose} onDone=${onDone} initial=${{ base_url: p.base_url, simulate: p.simulate }}>
    ${({
      values,
      set,
      error,
    }) => html`<${Field} label="Calls go to" name="base_url" value=${values.base_url} error=${error} onInput=${(base_url) => set({ base_url })} />
      <p /><${Field} label="Simulate it" name="simulate" type="checkbox" value=${values.simulate} error=${error} onInput=${(simulate) => set({ simulate })} hint="Answers are made up on this machine: no key, no spending." />`}</${Ask}>`;
}
