// The dialog that switches or changes a feature: what it will do, how it is set, and the lines of the policy that change.
import { html, useEffect, useState } from "../lib/ui.js";
import { api } from "../lib/api.js";
import { CopyButton, FormDialog, Problem } from "../lib/components.js";
import { Diff, patchOf } from "../lib/diff.js";

/** How long after the last keystroke the lines are asked for. */
const CHECK_DELAY_MS = 350;

const PATH = "/api/features";

/** What an operation is called in the dialog's title and on its button. */
const WORDS = { enable: ["Enable", "Enable"], change: ["Change", "Save"], disable: ["Disable", "Disable"] };

const send = (body, revision, query = "") => api("PUT", PATH + query, body, { "if-match": `"${revision}"` });

/**
 * A dialog about one feature. What is saved is what was shown, of the revision it was shown for.
 *
 * @param {{feature: any, operation: "enable" | "change" | "disable", features: any, isReadOnly: boolean, onClose: () => void, onDone: () => void, onStale: () => void}} properties
 *   `features` is the API's latest answer; `onStale` fetches a newer one
 */
export function FeatureDialog({ feature, operation, features, isReadOnly, onClose, onDone, onStale }) {
  const [seen] = useState(features);
  /** The lines for a body and a revision, or why there are none. */
  const [shown, show] = useState(/** @type {any} */ (null));
  const bodyOf = (values) => feature.body(values, seen, operation);
  const keyOf = (values) => JSON.stringify([bodyOf(values), features.on_disk]);
  const [verb, button] = WORDS[operation];
  const work = async (values) => {
    try {
      return await send(bodyOf(values), features.on_disk);
    } catch (e) {
      if (e.status === 412) onStale();
      throw e;
    }
  };
  return html`<${FormDialog} wide title=${`${verb} ${feature.name}`} button=${isReadOnly ? null : button} danger=${operation === "disable"} isConfirmation=${operation === "disable" || isReadOnly}
      isIncomplete=${(values) => shown?.key !== keyOf(values) || !shown.files?.length} work=${work} onClose=${onClose} onDone=${onDone} initial=${feature.values(seen)}>
    ${({ values, set, error }) => html`<p>${operation === "disable" ? feature.ends(seen) : feature.does(seen)}</p>
      ${operation !== "disable" && feature.fields?.({ values, set, error: error ?? shown?.error })}
      <${Lines} body=${bodyOf(values)} id=${keyOf(values)} revision=${features.on_disk} shown=${shown} onShown=${show} onStale=${onStale} isReadOnly=${isReadOnly} />`}
  </${FormDialog}>`;
}

/** The lines of the policy that a body changes, asked for a moment after the last keystroke; only the latest answer counts. */
function Lines({ body, id, revision, shown, onShown, onStale, isReadOnly }) {
  useEffect(() => {
    let isCurrent = true;
    const ask = async () => {
      try {
        const { data } = await send(body, revision, "?dry_run=true");
        if (isCurrent) onShown({ key: id, files: data.files, warnings: data.warnings });
      } catch (error) {
        if (!isCurrent) return;
        if (error.status === 412) onStale();
        onShown({ key: id, error });
      }
    };
    const timer = setTimeout(ask, shown ? CHECK_DELAY_MS : 0);
    return () => {
      isCurrent = false;
      clearTimeout(timer);
    };
  }, [id]);
  const files = shown?.files;
  return html`<section class="yaml-lines" aria-label="Lines of the policy" aria-busy=${String(shown?.key !== id)}>
    <h3>${isReadOnly ? "The lines to commit to the policy's repository" : "What this changes in the policy"}</h3>
    <${Problem} error=${shown?.error} />
    ${files && (files.length ? html`<${Diff} of=${shown} />` : html`<p class="faint">Nothing: the policy says so already.</p>`)}
    ${isReadOnly && files?.length > 0 && html`<${CopyButton} text=${patchOf(files)} label="Copy as a patch" />`}
    ${!shown && html`<p class="faint">Asking the gateway …</p>`}</section>`;
}
