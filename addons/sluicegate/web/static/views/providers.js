// Providers: where calls go, and the provider keys they carry. A key's value is never shown.
import { html, useState } from "../lib/ui.js";
import { api, CREATE_ONLY, useGet } from "../lib/api.js";
import { link } from "../lib/router.js";
import { count } from "../lib/format.js";
import { FormDialog, Fetched, Field, Money, Page, Problem, Section, Select, Tag, Time } from "../lib/components.js";
import { Limits } from "./limits.js";
import { TestKey } from "./test_key.js";

export default function Providers({ parts, user }) {
  const resource = useGet("/api/providers", { every: 10_000 }),
    admin = user.canEdit;
  if (parts[0]) return html`<${Detail} name=${parts[0]} resource=${resource} admin=${admin} />`;
  return html`<${Page} title="Providers" lead="Calls leave the gateway with a provider key in place of the virtual key.">
    <${Fetched} of=${resource}>${({
      providers,
    }) => html`<div class="scroll"><table class="data rows"><thead><tr><th scope="col">Provider</th><th scope="col">Protocol</th><th scope="col">Base URL</th>
      <th scope="col">Provider keys</th><th scope="col">State</th></tr></thead>
      <tbody>${providers.map(
        (
          p,
        ) => html`<tr key=${p.name}><td><a href=${link(["providers", p.name])}>${p.name}</a></td><td>${p.protocol}</td>
          <td>${p.simulate ? html`<span class="faint">simulated: nothing leaves this machine</span>` : p.base_url}</td>
        <td>${!p.keys.length && p.provider_status === "active" ? html`<span class="faint">none needed</span>` : `${p.keys.filter((k) => k.usable).length} of ${p.keys.length} usable`}</td>
          <td><${State} p=${p} /></td></tr>`,
      )}</tbody></table></div>`}</${Fetched}>
    <${UnlistedModels} /></${Page}>`;
}

const PRICED_BY = {
  family: (m) => (m.priced_as === m.family ? `the family ${m.family}` : `${m.priced_as}, the dearest of the family ${m.family}`),
  fallback: () => "the policy's fallback_price",
  none: () => html`<${Tag} kind="warn">no price: refused under a budget</${Tag}>`,
};

/** Models that agents call and no price list has: their cost is an estimate until somebody lists a price. */
function UnlistedModels() {
  const resource = useGet("/api/prices/unlisted", { every: 60_000 });
  return html`<${Section} title="Models without a listed price" note="called in the last 30 days">
    <${Fetched} of=${resource} lines=${2}>${({ models }) =>
      models.length === 0
        ? html`<p class="faint">None. Every model that was called has a listed price.</p>`
        : html`<p class="faint">What they are charged is an estimate. List their prices: import a newer table with${" "}
            <code>sluicegate prices import FILE</code>, or write them into prices.yaml beside the policy. Either is in force
            within seconds.</p>
          <div class="scroll"><table class="data rows"><thead><tr><th scope="col">Model</th><th scope="col">Priced by</th>
          <th scope="col" class="num">Calls</th><th scope="col" class="num">Charged</th></tr></thead>
          <tbody>${models.map(
            (m) => html`<tr key=${m.model}><td class="mono">${m.model}</td><td>${PRICED_BY[m.priced_by](m)}</td>
              <td class="num">${count(m.calls)}</td><td class="num"><${Money} of=${m.cost} /></td></tr>`,
          )}</tbody></table></div>`}</${Fetched}></${Section}>`;
}

const State = ({ p }) =>
  p.provider_status === "active"
    ? html`<${Tag} kind="good">${p.simulate ? "simulated" : "ready"}</${Tag}>`
    : html`<${Tag} kind=${p.keys.length ? "bad" : "dim"}>${p.keys.length ? "no usable key" : "no key: calls are refused"}</${Tag}>`;

function Detail({ name, resource, admin }) {
  const [dialog, openDialog] = useState(null);
  const limits = useGet(`/api/governance/providers/${encodeURIComponent(name)}`, { every: 10_000 });
  const shown = resource.data?.providers.find((p) => p.name === name);
  const onDone = () => {
    openDialog(null);
    resource.reload();
  };
  return html`<${Page} title=${name} back=${{ href: link(["providers"]), text: "Providers" }} actions=${admin && html`<button disabled=${!shown} onClick=${() => openDialog({ what: "settings", of: shown })}>Edit</button>
    <button class="primary" onClick=${() => openDialog({ what: "key" })}>Add key</button>`}>
    <${Fetched} of=${resource}>${() => {
      const p = shown;
      if (!p) return html`<${Problem} error=${{ message: `There is no provider named '${name}'` }} />`;
      return html`<dl class="facts"><dt>State</dt><dd><${State} p=${p} /></dd><dt>Base URL</dt>
        <dd>${p.simulate ? "simulated on this machine" : p.base_url}</dd><dt>Protocol</dt><dd>${p.protocol}</dd>${
        p.price && html`<dt>Price</dt><dd>$${p.price.input} and $${p.price.output} per million tokens of input and output</dd>`
      }${p.hosts.length > 0 && html`<dt>Other governed hosts</dt>
        <dd>${p.hosts.join(", ")}</dd>`}</dl>
        <${Section} title="Provider keys" note="calls are shared by weight">
          ${
            p.keys.length === 0
              ? html`<p class="faint">None. ${p.simulate ? "A simulated provider needs none." : p.provider_status === "active" ? "This provider needs none." : "Calls to this provider are refused until it has one."}</p>`
              : html`<div class="scroll"><table class="data rows"><thead><tr><th scope="col">Name</th><th scope="col">Value</th>
                <th scope="col" class="num">Weight</th><th scope="col">State</th><th scope="col">
                <span class="sr">Actions</span></th></tr></thead>
              <tbody>${p.keys.map(
                (k) => html`<tr key=${k.name}><td><${TestKey} provider=${name} name=${k.name} isAdmin=${admin} /></td><td class="mono">${k.value}</td><td class="num">${k.weight}</td>
                <td>${k.set_aside_until ? html`<${Tag} kind="warn">paused until</${Tag}> <${Time} at=${k.set_aside_until} />` : k.usable ? html`<${Tag} kind="good">usable</${Tag}>` : html`<${Tag} kind="bad">value not set</${Tag}>`}</td>
                <td class="row-actions">${
                  admin &&
                  html`<button class="quiet small" aria-label=${`Change ${k.name}`} onClick=${() => openDialog({ what: "key", key: k })}>Change</button>
                    <button class="quiet small" aria-label=${`Remove ${k.name}`} onClick=${() => openDialog({ what: "remove", key: k })}>Remove</button>`
                }</td></tr>`,
              )}</tbody></table></div>`
          }</${Section}>
        <${Section} title="Limits" note="for all callers">
          <${Fetched} of=${limits} lines=${2}>${(d) => html`<${Limits} of=${d.provider} />`}</${Fetched}></${Section}>`;
    }}</${Fetched}>
    ${dialog?.what === "key" && html`<${KeyDialog} provider=${name} of=${dialog.key} onClose=${() => openDialog(null)} onDone=${onDone} />`}
    ${dialog?.what === "remove" && html`<${RemoveDialog} provider=${name} of=${dialog.key} onClose=${() => openDialog(null)} onDone=${onDone} />`}
    ${dialog?.what === "settings" && html`<${SettingsDialog} p=${dialog.of} onClose=${() => openDialog(null)} onDone=${onDone} />`}</${Page}>`;
}

function KeyDialog({ provider, of, onClose, onDone }) {
  const path = `/api/providers/${encodeURIComponent(provider)}/keys`;
  const work = (v) =>
    api(
      of ? "PUT" : "POST",
      of ? `${path}/${encodeURIComponent(of.name)}` : path,
      { ...(of ? {} : { name: v.name }), ...(v.value ? { value: v.value } : {}), weight: Number(v.weight) },
      of ? {} : CREATE_ONLY,
    );
  return html`<${FormDialog} title=${of ? `Key ${of.name}` : `New key for ${provider}`} button="Save" work=${work} onClose=${onClose} onDone=${onDone} initial=${{ name: "", value: "", weight: of?.weight ?? 1 }}>
    ${({
      values,
      set,
      error,
    }) => html`<div class="fields">${!of && html`<${Field} label="Name" name="name" required value=${values.name} error=${error} onInput=${(name) => set({ name })} />`}
      <${Field} label="Weight" name="weight" type="number" min="0" step="any" value=${values.weight} error=${error} onInput=${(weight) => set({ weight })} /></div>
      <p /><${Field} label=${of ? "New value" : "Value"} name="value" type="password" required=${!of} autocomplete="off" value=${values.value} error=${error} onInput=${(value) => set({ value })} hint=${`${of ? "Leave empty to keep it. " : ""}It is stored in a file of its own that only the gateway can read. To use an environment variable or a file of the gateway's machine, edit the policy file there.`} />`}</${FormDialog}>`;
}

function RemoveDialog({ provider, of, onClose, onDone }) {
  const work = () => api("DELETE", `/api/providers/${encodeURIComponent(provider)}/keys/${encodeURIComponent(of.name)}`);
  return html`<${FormDialog} title=${`Remove ${of.name}?`} button="Remove" danger work=${work} onClose=${onClose} onDone=${onDone}>
    <p>Calls use the other keys of ${provider}; without any they are refused. A value that was entered here is deleted with the key.</p></${FormDialog}>`;
}

function SettingsDialog({ p, onClose, onDone }) {
  const work = (v) =>
    api("PUT", `/api/providers/${encodeURIComponent(p.name)}`, {
      base_url: v.base_url.trim() || null,
      simulate: v.simulate,
      ...(v.subscriptions === p.subscriptions ? {} : { subscriptions: v.subscriptions }),
    });
  return html`<${FormDialog} title=${p.name} button="Save" work=${work} onClose=${onClose} onDone=${onDone} initial=${{ base_url: p.base_url, simulate: p.simulate, subscriptions: p.subscriptions }}>
    ${({
      values,
      set,
      error,
    }) => html`<${Field} label="Base URL" name="base_url" value=${values.base_url} error=${error} onInput=${(base_url) => set({ base_url })} />
      <p /><${Field} label="Simulate" name="simulate" type="checkbox" value=${values.simulate} error=${error} onInput=${(simulate) => set({ simulate })} hint="Responses are generated on this machine: no key, no spending." />
      <p /><${Field} label="Clients' own subscriptions" name="subscriptions" error=${error} hint=${values.subscriptions === "pass" ? "A client's own login beside a virtual key goes on to the provider; its calls are counted and cost nothing here." : "Calls with a client's own login are refused."}>
        ${(id) =>
          html`<${Select} id=${id} value=${values.subscriptions} options=${[
            ["refuse", "Refuse"],
            ["pass", "Pass"],
          ]} onInput=${(subscriptions) => set({ subscriptions })} />`}</${Field}>`}</${FormDialog}>`;
}
