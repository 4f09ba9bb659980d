// Changes of the policy's text, line by line, as the API gives them: in the unified format, a text for each file.
import { html } from "./ui.js";
import { count } from "./format.js";

/** Lines of a file's changes, or of its text, that are drawn; more would take a browser seconds. */
export const MAX_LINES = 2000;

const LeftOut = ({ lines }) =>
  lines > 0 && html`<p class="note">${count(lines)} more lines are not shown here; <code>sluicegate policy diff</code> prints them.</p>`;

const CLASSES = { "+": "add", "-": "del", "@": "at" };

/** Lines of one file's changes, those of its header left out. */
const linesOf = (diff) =>
  diff
    .trimEnd()
    .split("\n")
    .filter((l) => !l.startsWith("---") && !l.startsWith("+++"));

export function Diff({ of }) {
  const files = (of.files || []).filter((f) => f.diff);
  if (!files.length) return html`<p class="faint">No differences.</p>`;
  return files.map(
    (f) =>
      html`<h3>${f.name}</h3><pre class="diff" tabindex="0">${linesOf(f.diff).map((l) => html`<span class=${CLASSES[l[0]] ?? ""}>${l || " "}</span>`)}</pre>
        <${LeftOut} lines=${f.lines_left_out} />`,
  );
}

/** The changes of every file as one patch. */
export const patchOf = (files) => files.map((f) => `--- a/${f.name}\n+++ b/${f.name}\n${f.diff}`).join("");
