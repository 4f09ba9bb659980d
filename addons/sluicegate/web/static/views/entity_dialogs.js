// The dialogs of an entity's page: rotate a key, delete it, erase a user.
import { html, useEffect, useState } from "../lib/ui.js";
import { api, url, useAction } from "../lib/api.js";
import { go } from "../lib/router.js";
import { forgetPageUnsaved } from "../lib/unsaved.js";
import { Dialog, Field, FormDialog, Loading, Problem, Select } from "../lib/components.js";
import { entityPath, nameOf, newKeyValues } from "../lib/entities.js";

const GRACE_PERIODS = [
  ["", "Stops working at once"],
  ["15m", "Works for another 15 minutes"],
  ["1h", "Works for another hour"],
  ["1d", "Works for another day"],
  ["1w", "Works for another week"],
];

export function RotateDialog({ id, onClose, onDone }) {
  const work = async (v) => {
    const { virtual_key: key } = (await api("POST", `${entityPath("keys", id)}/rotate`, v.grace ? { grace: v.grace } : {})).data;
    newKeyValues.set(id, key.value);
    return key;
  };
  return html`<${FormDialog} title=${`Rotate ${id}`} button="Rotate key" isConfirmation work=${work} onClose=${onClose} onDone=${onDone} initial=${{ grace: "1h" }}>
    ${({
      values,
      set,
      error,
    }) => html`<p>The key keeps its usage and limits. Its value is replaced by a new one, which is shown once.</p>
      <${Field} label="Old value" name="grace" error=${error}>${(i) => html`<${Select} id=${i} value=${values.grace} options=${GRACE_PERIODS} onInput=${(grace) => set({ grace })} />`}</${Field}>`}</${FormDialog}>`;
}

const KEYS_OF_DELETED = [
  ["with_keys", "Are deleted too"],
  ["keep_keys", "Work on, without a user"],
];

export function DeleteDialog({ kind, e, onClose }) {
  const canDetach = ["customers", "teams", "projects"].includes(kind);
  const query = (v) => (kind === "users" ? { [v.keys]: "true" } : canDetach && v.detach ? { detach: "true" } : {});
  const work = (v) => api("DELETE", url(entityPath(kind, e.id), query(v)));
  return html`<${FormDialog} title=${`Delete ${nameOf(e)}?`} button="Delete" danger isConfirmation work=${work} onClose=${onClose} onDone=${() => {
    forgetPageUnsaved();
    go([kind]);
  }} initial=${{ detach: false, keys: "with_keys" }}>
    ${({
      values,
      set,
      error,
    }) => html`<p>${kind === "keys" ? "Calls with it are refused from now on." : "Its limits are deleted with it."} Call records stay.</p>
      ${kind === "users" && html`<${Field} label="The user's keys" name="keys" error=${error}>${(i) => html`<${Select} id=${i} value=${values.keys} options=${KEYS_OF_DELETED} onInput=${(keys) => set({ keys })} />`}</${Field}>`}
      ${canDetach && html`<${Field} label="Detach the keys and others that belong to it" name="detach" type="checkbox" value=${values.detach} error=${error} onInput=${(detach) => set({ detach })} hint="Otherwise it cannot be deleted while anything parents to it." />`}`}</${FormDialog}>`;
}

/** Erase a user's personal data: what that would do is shown first, and the id is typed. */
export function EraseDialog({ id, onClose }) {
  const path = `${entityPath("users", id)}/erase`;
  const [plan, setPlan] = useState(/** @type {any} */ (null)),
    [done, setDone] = useState(/** @type {any} */ (null));
  const planning = useAction(async () => (await api("POST", `${path}?dry_run=true`)).data);
  useEffect(() => {
    planning.run().then((found) => found && setPlan(found));
  }, []);
  const title = `Erase ${id}?`;
  if (done) {
    const leave = () => {
      forgetPageUnsaved();
      go(["users"]);
    };
    return html`<${Dialog} title="Erased" onClose=${leave}><p>${done.message}.</p>
      <div class="form-foot"><button class="primary" onClick=${leave}>Close</button></div></${Dialog}>`;
  }
  if (!plan)
    return html`<${Dialog} title=${title} onClose=${onClose}>${planning.error ? html`<${Problem} error=${planning.error} />` : html`<${Loading} lines=${3} />`}</${Dialog}>`;
  return html`<${FormDialog} title=${title} button="Erase for good" danger isConfirmation isIncomplete=${(v) => v.typed !== id} work=${() => api("POST", path)} onClose=${onClose} onDone=${({ data }) => setDone(data)} initial=${{ typed: "" }}>
    ${({ values, set, error }) => html`<p>${plan.message}.</p>
      ${plan.deleted.length > 0 && html`<p>Deleted from the policy too: ${plan.deleted.join(", ")}.</p>`}
      <p>Name, keys and texts go from policy, records, journals, audit trail and old policies; a pseudonym stands in their place, and every sum stays. It cannot be undone.</p>
      <${Field} label="Type the user's id to confirm" name="typed" value=${values.typed} error=${error} hint=${id} onInput=${(typed) => set({ typed })} />`}</${FormDialog}>`;
}
