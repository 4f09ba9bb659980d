// The dialog that tops up, raises, edits or resets one budget.
import { html, useRef, useState } from "../lib/ui.js";
import { api, useGet } from "../lib/api.js";
import { Choice, Dialog, Fetched, Field, FormDialog, Select, Time } from "../lib/components.js";
import { alone, editableBudget, listPath, saveChange } from "../lib/entities.js";
import { BudgetFields, budgetBody, budgetValues, runningRaises, timeZone } from "./limits.js";
import { fullTime, money, moneys, nano, perPeriod } from "../lib/format.js";

const OPERATIONS = [
  ["top-up", "Top up"],
  ["raise", "Raise"],
  ["edit", "Edit"],
  ["reset", "Reset usage"],
];

const BUTTONS = { "top-up": "Top up", raise: "Raise", edit: "Save", reset: "Reset usage" };

/**
 * A dialog about a budget as it is at that moment.
 *
 * @param {{kind: string, id: string, name: string, window: string | null, operation?: string, onClose: () => void, onDone: () => void}} properties
 *   `kind` is the name of the entity's page; `window` says which of its budgets, null for one it does not have yet
 */
export function BudgetDialog({ kind, id, name, window, operation, onClose, onDone }) {
  const path = `${kind === "providers" ? "/api/governance/providers" : listPath(kind)}/${encodeURIComponent(id)}`;
  const resource = useGet(alone(path), { uncached: true });
  const seen = useRef(/** @type {any} */ (null));
  const title = `${name}: budget`;
  if (!resource.data) return html`<${Dialog} title=${title} onClose=${onClose}><${Fetched} of=${resource} lines=${3} /></${Dialog}>`;
  seen.current ??= Object.values(resource.data)[0];
  return html`<${BudgetForm} ...${{ title, path, kind, name, window, onClose, onDone }} first=${operation} entity=${seen.current} />`;
}

const windowOf = (b) => b.reset_duration ?? "never";

function BudgetForm({ title, path, kind, name, window, first, entity, onClose, onDone }) {
  const budgets = [entity.budget, ...(entity.budgets || [])].filter(Boolean);
  const [operation, setOperation] = useState(window === null ? "edit" : (first ?? "top-up"));
  const work = async (v) => {
    const which = budgets.length > 1 ? { reset_duration: v.window } : {};
    if (operation === "top-up") return api("POST", `${path}/top-up`, { amount: Number(v.amount), ...which });
    if (operation === "raise")
      return api("POST", `${path}/raise`, { amount: Number(v.amount), until: new Date(v.until).toISOString(), ...which });
    if (operation === "reset") return api("POST", `${path}/reset-usage`, { budget: true, rate_limit: false });
    const of = budgets.find((b) => windowOf(b) === window);
    // Its raises go on: they are not part of the form.
    const body = budgetBody(v) && { ...budgetBody(v), ...(of?.raises?.length ? { raises: of.raises } : {}) };
    if (!entity.budgets?.includes(of)) return saveChange(path, entity, { budget: body });
    const budgetsLeft = entity.budgets.map((b) => (b === of ? body : editableBudget(b))).filter(Boolean);
    return saveChange(path, entity, { budgets: budgetsLeft.length ? budgetsLeft : null });
  };
  const initial = { ...budgetValues(budgets.find((b) => windowOf(b) === window)), amount: "", until: "", window: window ?? "never" };
  // What a provider or a model has is not a person's to be raised for a time.
  const operations = kind === "providers" ? OPERATIONS.filter(([o]) => o !== "raise") : OPERATIONS;
  return html`<${FormDialog} title=${title} button=${BUTTONS[operation]} danger=${operation === "reset"} work=${work} onClose=${onClose} onDone=${onDone} initial=${initial}>
    ${({ values, set, error }) => {
      const of = budgets.find((b) => windowOf(b) === values.window);
      return html`${window !== null && html`<div class="filters"><${Choice} label="Operation" options=${operations} value=${operation} onChange=${setOperation} /></div>`}
        ${(operation === "top-up" || operation === "raise") && html`<${Amounts} ...${{ operation, of, budgets, values, set, error }} />`}
        ${operation === "edit" && html`<${BudgetFields} ...${{ values, set, error }} optional=${window !== null} />`}
        ${operation === "reset" && of && html`<p>What ${name} has used in this window, ${money(of.current_usage)}, is reset to zero${budgets.length > 1 ? ", in each of its budgets" : ""}. Call records stay as they are.</p>`}`;
    }}
  </${FormDialog}>`;
}

/** A moment in words, null for one that is not filled in. */
const momentOf = (local) => (local ? fullTime(new Date(local).toISOString()) : null);

function Amounts({ operation, of, budgets, values, set, error }) {
  if (!of) return html`<p>This budget is gone by now; close the dialog and look again.</p>`;
  const isRaise = operation === "raise",
    raises = runningRaises(of),
    sum = values.amount > 0 && money(nano(of.limit_in_force) + nano(Number(values.amount)));
  return html`${
    budgets.length > 1 &&
    html`<${Field} label="Budget" name="reset_duration" error=${error}>${(id) => html`<${Select} id=${id} value=${values.window} options=${budgets.map((b) => [windowOf(b), `${money(b.max_limit)} ${perPeriod(b.reset_duration)}`])} onInput=${(window) => set({ window })} />`}</${Field}><p />`
  }
    <p>${moneys([of.current_usage, of.limit_in_force]).join(" of ")} is used in this window.</p>
    ${raises.length > 0 && html`<p>Raised already: ${raises.map((r, i) => html`${i > 0 && "; "}${money(r.amount)} until ${r.until === "never" ? "it is taken back" : html`<${Time} at=${r.until} seconds=${false} />`}`)}.</p>`}
    <div class="fields"><${Field} label=${isRaise ? "Dollars more" : "Dollars to add to the limit"} name="amount" type="number" min="0" step="any" required value=${values.amount} error=${error} onInput=${(amount) => set({ amount })}
      hint=${sum ? `The limit will be ${sum}${isRaise ? " until then" : ""}` : isRaise ? "The limit itself stays as it is" : "For good: later windows keep it. “Raise” ends by itself"} />
    ${isRaise && html`<${Field} label="Until" name="until" type="datetime-local" required value=${values.until} error=${error} onInput=${(until) => set({ until })} hint=${momentOf(values.until) ?? `In the time zone ${timeZone()}; then it is as before`} />`}</div>`;
}
