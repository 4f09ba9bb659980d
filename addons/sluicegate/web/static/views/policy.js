// Policy: the YAML in an editor that checks as you type, earlier revisions, and a dry run of an edit on past calls.
import { html, useEffect, useRef, useState } from "../lib/ui.js";
import { api, get, url, useAction, useGet } from "../lib/api.js";
import { go, link } from "../lib/router.js";
import { Choice, Empty, Fetched, Loading, Page, Problem, Time } from "../lib/components.js";
import { Diff, MAX_LINES } from "../lib/diff.js";
import { count, money, moneys, reasonText } from "../lib/format.js";
import { mayLose, setUnsaved } from "../lib/unsaved.js";
import { Editor } from "./policy_editor.js";

/**
 * Edits not yet saved, kept while other pages are open.
 *
 * @type {{revision: string, etag: string, files: {name: string, text: string}[]} | null}
 */
let draft = null;

/** What the draft is held by, for questions about losing it. */
const HOLDER = "policy";

function setDraft(edited) {
  draft = edited;
  const question = "The policy has edits that are not saved. Leave them, and lose them?";
  setUnsaved(HOLDER, edited && question, { outlivesPage: true });
}

/** How long after the last keystroke an edit is checked. */
const CHECK_DELAY_MS = 350;

const TABS = [
  ["", "Edit"],
  ["dry-run", "Dry run"],
  ["history", "History"],
];

export const PARAMETERS = ["days", "against"];

export default function Policy({ parts, query, user }) {
  const tab = parts[0] || "";
  return html`<${Page} title="Policy" lead="Who may spend what, and which models they may use. Edits here and edits to the file are equivalent; both take effect within a second.">
    <nav class="tabs" aria-label="Policy">${TABS.map(([t, title]) => html`<a key=${t} href=${link(["policy", t].filter(Boolean))} aria-current=${t === tab ? "page" : null}>${title}</a>`)}</nav>
    ${tab === "" && html`<${EditorOrSize} user=${user} />`}
    ${tab === "dry-run" && html`<${DryRun} query=${query} canRun=${user.role === "admin"} />`}
    ${tab === "history" && (parts[1] ? html`<${Revision} key=${parts[1]} revision=${parts[1]} query=${query} user=${user} />` : html`<${History} query=${query} />`)}
    ${!TABS.some(([t]) => t === tab) && html`<p>There is no page with that name.</p>`}
  </${Page}>`;
}

/** The policy as the gateway has it; a draft that no longer differs from it is dropped. */
function usePolicy() {
  const [state, setState] = useState(/** @type {{policy: any, error: any}} */ ({ policy: null, error: null }));
  const load = async () => {
    try {
      const { data, etag } = await api("GET", "/api/policy");
      setState({ policy: { ...data, etag }, error: null });
      if (draft && isSame(draft.files, data.files)) setDraft(null);
    } catch (error) {
      setState((s) => ({ ...s, error }));
    }
  };
  useEffect(() => {
    load();
  }, []);
  return { ...state, load };
}

/** A policy longer than this is fetched only when asked for: that of ten thousand keys is megabytes, and takes seconds to show. */
const LARGE_BYTES = 300_000;

/** The editor, which waits to be asked where the policy is large. */
function EditorOrSize({ user }) {
  const outline = useGet(OUTLINE);
  const [isWanted, setWanted] = useState(draft !== null);
  return html`<${Fetched} of=${outline} lines=${10}>${({ files }) => {
    const size = files.reduce((sum, f) => sum + f.size_bytes, 0);
    if (isWanted || size <= LARGE_BYTES) return html`<${Edit} user=${user} />`;
    return html`<${Empty} title=${`The policy is ${(size / 1e6).toFixed(1)} MB long`}>
      <p>Keys, users and teams are edited more easily on their own pages, where they are searched.</p>
      <p><button onClick=${() => setWanted(true)}>Open the whole text</button></p></${Empty}>`;
  }}</${Fetched}>`;
}

/** What is known of the policy without its text. */
const OUTLINE = "/api/policy?texts=false";

const isSame = (a, b) => JSON.stringify(a.map((f) => [f.name, f.text])) === JSON.stringify(b.map((f) => [f.name, f.text]));

function Edit({ user }) {
  const { policy, error, load } = usePolicy();
  const [, redraw] = useState(0);
  const [fileIndex, setFileIndex] = useState(0);
  const [verdict, setVerdict] = useState(null);
  const [isSaved, setSaved] = useState(false);
  const goToLine = useRef();
  const files = draft?.files || policy?.files;
  const isEdited = Boolean(draft);
  const readOnly = !user.canEdit || (policy && !policy.writable);

  // Check a moment after the last keystroke; only the latest result counts.
  const text = files && JSON.stringify(files);
  useEffect(() => {
    if (!files || !isEdited) {
      setVerdict(null);
      return undefined;
    }
    let isCurrent = true;
    const timer = setTimeout(async () => {
      try {
        const { data } = await api("POST", "/api/policy/validate", { files });
        if (isCurrent) setVerdict(data);
      } catch (e) {
        if (isCurrent)
          setVerdict({ ok: false, problems: [{ file: null, line: null, path: e.field, message: e.message }], warnings: [] });
      }
    }, CHECK_DELAY_MS);
    return () => {
      isCurrent = false;
      clearTimeout(timer);
    };
  }, [text, isEdited]);

  const saving = useAction(async () => draft && api("PUT", "/api/policy", { files: draft.files }, { "if-match": draft.etag }));
  if (error && !policy) return html`<${Problem} error=${error} retry=${load} />`;
  if (!policy) return html`<${Loading} lines=${10} />`;
  const file = files[Math.min(fileIndex, files.length - 1)];
  const write = (value) => {
    const base = draft ?? { etag: policy.etag, revision: policy.revision, files: policy.files };
    const edited = { ...base, files: base.files.map((f) => (f.name === file.name ? { ...f, text: value } : f)) };
    setDraft(isSame(edited.files, policy.files) ? null : edited);
    setSaved(false);
    redraw((n) => n + 1);
  };
  const save = async () => {
    const sent = draft,
      result = await saving.run();
    if (!result) return;
    // What was typed while it was being saved is the next edit.
    if (draft === sent) setDraft(null);
    else if (draft) setDraft({ ...draft, etag: result.etag, revision: result.data.revision });
    setSaved(!draft);
    await load();
  };
  const discard = () => {
    setDraft(null);
    saving.clear();
    load();
    redraw((n) => n + 1);
  };
  const problems = verdict?.problems || (policy.error && !isEdited ? [policy.error] : []);
  const problemsHere = problems.filter((p) => !p.file || p.file === file.name || p.file.endsWith("/" + file.name));
  const showProblem = (p) => {
    const to = files.findIndex((f) => p.file && (p.file === f.name || p.file.endsWith("/" + f.name)));
    if (to >= 0 && to !== fileIndex) setFileIndex(to);
    setTimeout(() => goToLine.current?.(p.line), 30);
  };
  const isStale = draft !== null && draft.revision !== policy.revision;
  return html`
    ${files.length > 1 && html`<div class="filters">
      <${Choice} label="File" options=${files.map((f, i) => [i, f.name])} value=${fileIndex} onChange=${setFileIndex} /></div>`}
    ${policy.error && !isEdited && html`<div class="notice warn">The file on disk is invalid; the previous revision stays in force.</div>`}
    ${isStale && html`<div class="notice warn">The policy has changed since you began editing, so saving will be refused. <button class="quiet small" onClick=${discard}>Discard and reload</button></div>`}
    ${readOnly && html`<p class="note">${user.read_only ?? (user.role === "admin" ? "The gateway cannot write this file; edit it on the gateway's machine." : "Your role is read-only.")}</p>`}
    ${file.text.includes("<secret ") && html`<p class="note">Secrets are shown as <code>${"<secret …>"}</code> and are kept when you save.</p>`}
    <${Editor} key=${file.name} text=${file.text} onInput=${write} problems=${problemsHere} goToLine=${goToLine} readOnly=${readOnly} label=${`Policy ${file.name}`} />
    <div class="editor-foot">
      <div class="verdict" role="status">${
        verdict === null
          ? html`<span class="faint">Revision <a class="mono" href=${link(["policy", "history", policy.revision])}>${policy.revision}</a>, since <${Time} at=${policy.loaded_at} /></span>`
          : verdict.ok
            ? html`<span class="tag good">policy is valid</span>`
            : html`<span class="tag bad">${problems.length} ${problems.length === 1 ? "problem" : "problems"}</span>`
      }
        ${isSaved && html` <span class="tag good">saved and in force</span>`}</div>
      <span class="grow" />
      ${isEdited && html`<button class="quiet" onClick=${discard}>Discard</button>
        <a class="quiet-link" href=${link(["policy", "dry-run"])}>Dry run</a>`}
      <button class="primary" disabled=${!isEdited || readOnly || saving.busy || (verdict && !verdict.ok)} onClick=${save}>${saving.busy ? "Saving …" : "Save"}</button>
    </div>
    <${Problem} error=${saving.error} />
    ${
      problems.length > 0 &&
      html`<ul class="problems" aria-label="Problems">${problems.slice(0, 50).map(
        (
          p,
          i,
        ) => html`<li key=${i}>${p.line ? html`<button class="quiet small" onClick=${() => showProblem(p)}>${files.length > 1 && p.file ? `${p.file.split("/").pop()}:` : "Line "}${p.line}</button>` : ""}
      <span>${p.path && html`<code>${p.path}</code> `}${p.message}</span></li>`,
      )}</ul>`
    }
    ${verdict?.ok && verdict.warnings?.length > 0 && html`<ul class="problems" aria-label="Warnings">${verdict.warnings.slice(0, 20).map((w) => html`<li class="faint">${w}</li>`)}</ul>`}`;
}

// -- dry run -------------------------------------------------------------------------------------------------------------

const DAYS = [
  [1, "Last day"],
  [7, "Last week"],
  [14, "Last 2 weeks"],
  [31, "Last month"],
];

function DryRun({ query, canRun }) {
  const days = Number(query.get("days")) || 7;
  const action = useAction(async () => (await api("POST", "/api/policy/rehearse", { files: draft ? draft.files : null, days })).data);
  const [report, setReport] = useState(null);
  const run = async () => {
    setReport(null);
    const result = await action.run();
    if (result) setReport(result);
  };
  return html`<p class="lead">Judges the calls of the last days again, in order, ${draft ? "by your edited policy" : "by the policy in force"}: which would have been refused, and what they would have cost in total. Nothing is written.</p>
    <div class="filters spaced">
      <${Choice} label="Days" options=${DAYS} value=${days} onChange=${(d) => go(["policy", "dry-run"], { days: d === 7 ? null : d }, { replace: true })} />
      <button class="primary" disabled=${action.busy || !canRun} onClick=${run}>${action.busy ? "Running …" : "Run"}</button>
      ${!canRun && html`<span class="note">Only admins can run one.</span>`}
      ${canRun && !draft && html`<span class="note">
        <a href=${link(["policy"])}>Edit the policy</a> first to try a change.</span>`}</div>
    ${action.busy && html`<progress aria-label="Judging calls" />`}
    <${Problem} error=${action.error} retry=${run} />
    ${report && html`<${Report} report=${report} />`}`;
}

function Report({ report }) {
  const [cost, recorded] = moneys([report.cost_usd, report.recorded_cost_usd]);
  return html`<dl class="stats minor section">
      <div class="stat"><dt>Calls judged</dt><dd>${count(report.calls)}</dd></div><div class="stat"><dt>Admitted</dt>
        <dd>${count(report.admitted)}</dd></div>
      <div class="stat"><dt>Newly refused</dt>
        <dd class=${report.newly_refused ? "warn" : ""}>${count(report.newly_refused)}</dd></div><div class="stat">
        <dt>Newly admitted</dt><dd>${count(report.newly_admitted)}</dd></div>
      <div class="stat"><dt>Would have cost</dt><dd>${cost}</dd></div><div class="stat"><dt>Did cost</dt>
        <dd>${recorded}</dd></div></dl>
    ${
      report.refused.length === 0
        ? html`<p class="section">No call would have been refused.</p>`
        : html`<div class="scroll section"><table class="data rows"><thead><tr><th scope="col">Virtual key</th><th scope="col">Reason</th>
          <th scope="col">Limit</th><th scope="col" class="num">Calls</th><th scope="col" class="num">Cost</th>
          <th scope="col">First</th><th scope="col">Last</th></tr></thead>
      <tbody>${report.refused.slice(0, 200).map((r, i) => html`<tr key=${i}><td>
        <a href=${link(["keys", r.virtual_key_id])}>${r.virtual_key_id}</a></td><td>${reasonText(r.reason)}</td>
        <td>${r.scope.replace("/", " ").replace("_", " ")}</td><td class="num">${count(r.calls)}</td>
        <td class="num">${money(r.cost_usd)}</td><td class="nowrap"><${Time} at=${r.first_at} /></td><td class="nowrap">
        <${Time} at=${r.last_at} /></td></tr>`)}</tbody></table></div>`
    }
    ${report.deleted_before && html`<p class="note section">Calls from before <${Time} at=${report.deleted_before} /> were deleted for their age: neither budgets nor sums here have them.</p>`}
    <p class="note section">${report.seconds !== undefined && `Took ${Number(report.seconds).toFixed(1)} s. `}A call that was refused at the time is assumed to cost its model's average.</p>`;
}

// -- history ---------------------------------------------------------------------------------------------------------------

function History() {
  const first = useGet("/api/policy/revisions?limit=50", { every: 10_000 });
  const [more, setMore] = useState(/** @type {any[]} */ ([])),
    [isComplete, setComplete] = useState(false);
  const older = useAction(async () => {
    const page = await get(url("/api/policy/revisions", { limit: 50, before: [...first.data.revisions, ...more].at(-1).id }));
    setMore([...more, ...page.revisions]);
    setComplete(page.next_before === null);
  });
  return html`<${Fetched} of=${first}>${({ revisions }) => {
    const all = [...revisions, ...more];
    if (!all.length)
      return html`<${Empty} title="No history yet">
        <p>Every revision is kept here once it takes effect, without its secrets.</p></${Empty}>`;
    const hasNodes = all.some((r) => r.node);
    return html`<div class="scroll"><table class="data rows"><thead><tr><th scope="col">Since</th><th scope="col">Revision</th>
      <th scope="col">Changed by</th>${hasNodes && html`<th scope="col">Gateway</th>`}<th scope="col">Change</th></tr></thead>
      <tbody>${all.map((r, i) => html`<tr key=${r.revision + i}><td class="nowrap"><${Time} at=${r.at} /></td><td class="mono">
        <a href=${link(["policy", "history", r.revision])}>${r.revision}</a>${i === 0 ? html` <span class="tag good">in force</span>` : ""}</td>
        <td>${r.who || html`<span class="faint">file edit</span>`}</td>${hasNodes && html`<td>${r.node}</td>`}
        <td>${r.summary || r.action}</td></tr>`)}</tbody></table></div>
      ${first.data.next_before !== null && !isComplete && html`<div class="more">
        <button disabled=${older.busy} onClick=${() => older.run()}>Show older</button></div>`}<${Problem} error=${older.error} />`;
  }}</${Fetched}>`;
}

function Revision({ revision, query, user }) {
  const path = `/api/policy/revisions/${encodeURIComponent(revision)}`,
    against = query.get("against") || "";
  const current = useGet(OUTLINE),
    list = useGet("/api/policy/revisions?limit=100");
  const [view, setView] = useState("diff");
  const text = useGet(view === "text" ? path : null),
    diff = useGet(url(`${path}/diff`, { against, limit: MAX_LINES }));
  const isInForce = current.data?.revision === revision;
  /** What a restore would do, as the gateway says it; null until it is asked for. */
  const [plan, setPlan] = useState(/** @type {any} */ (null));
  const [alsoReEnable, setAlsoReEnable] = useState(/** @type {string[]} */ ([]));
  const sendRestore = (ids, dryRun) =>
    api(
      "POST",
      `${path}/restore${dryRun ? "?dry_run=true" : ""}`,
      { also_re_enable: ids },
      { "if-match": `"${(dryRun ? current.data : plan).on_disk}"` },
    );
  const planning = useAction(async (ids) => {
    const on_disk = current.data.on_disk;
    setAlsoReEnable(ids);
    try {
      setPlan({ ...(await sendRestore(ids, true)).data, on_disk });
    } catch (error) {
      // Such as a deleted key, whose secret is kept nowhere: its box must not stay ticked.
      setAlsoReEnable(alsoReEnable);
      throw error;
    }
  });
  const restoring = useAction(() => sendRestore(alsoReEnable, false));
  const restore = async () => {
    if (!mayLose(HOLDER)) return;
    if (await restoring.run()) {
      setDraft(null);
      go(["policy", "history"]);
    } else {
      // Another revision may be in force by now, which must be seen before it is replaced.
      await current.reload();
      setPlan(null);
    }
  };
  const others = (list.data?.revisions || []).filter((r) => r.revision !== revision);
  return html`<p><a class="back" href=${link(["policy", "history"])}>‹ History</a></p>
    <div class="filters">
      <h2 class="mono">${revision}</h2>${isInForce && html`<span class="tag good">in force</span>`}<span class="grow" />
      <${Choice} label="Show" options=${[
        ["diff", "Changes"],
        ["text", "Full text"],
      ]} value=${view} onChange=${setView} small />
      ${view === "diff" && html`<label>since <select onChange=${(e) => go(["policy", "history", revision], { against: e.target.value || null }, { replace: true })}>
        <option value="" selected=${!against}>the previous one</option>${others.map((r) => html`<option value=${r.revision} selected=${r.revision === against}>${r.revision}${r.revision === current.data?.revision ? " (in force)" : ""}</option>`)}</select></label>`}
      ${user.canEdit && !isInForce && current.data && !plan && html`<button disabled=${planning.busy} onClick=${() => planning.run([])}>Restore</button>`}</div>
    <${Problem} error=${restoring.error || planning.error} />
    ${
      plan &&
      html`<${RestorePlan} plan=${plan} ids=${alsoReEnable} busy=${planning.busy || restoring.busy} onChange=${(ids) => planning.run(ids)}
        onRestore=${restore} onCancel=${() => {
          setPlan(null);
          setAlsoReEnable([]);
        }} />`
    }
    ${view === "diff" ? html`<${Fetched} of=${diff}>${(d) => html`<${Diff} of=${d} />`}</${Fetched}>` : html`<${Fetched} of=${text}>${({ files }) => files.map((f) => html`<h3>${f.name}</h3>
      <pre class="diff" tabindex="0">${f.text.length > LARGE_BYTES ? f.text : f.text.split("\n").map((l) => html`<span>${l || " "}</span>`)}</pre>`)}</${Fetched}>`}`;
}

/** What a restore does, in words; revocations since are undone only where they are ticked. */
function RestorePlan({ plan, ids, busy, onChange, onRestore, onCancel }) {
  const given = plan.effects.filter((e) => ids.includes(e.id) && (e.kind === "virtual_key" || e.kind === "operator"));
  const others = plan.effects.filter((e) => !given.includes(e));
  const names = [...new Set([...plan.kept, ...given].map((e) => e.id))].sort();
  return html`<section class="restore" aria-label="What restoring does">
    <h3>Restoring this revision</h3>
    ${others.length ? html`<ul>${others.map((e) => html`<li key=${e.text} class=${e.loosens ? "loosens" : ""}>${e.loosens && html`<span class="tag warn">loosens</span> `}${e.text}</li>`)}</ul>` : html`<p class="faint">${given.length ? "Nothing else changes." : "Nothing changes."}</p>`}
    ${
      names.length > 0 &&
      html`<fieldset><legend>Revoked since, and kept so unless ticked</legend>${names.map(
        (
          id,
        ) => html`<label class="revocation" key=${id}><input type="checkbox" checked=${ids.includes(id)} disabled=${busy} onChange=${(e) => onChange(e.target.checked ? [...ids, id] : ids.filter((x) => x !== id))} />
        <span>${[...plan.kept, ...given]
          .filter((e) => e.id === id)
          .map((e) => e.text)
          .join("; ")}</span></label>`,
      )}</fieldset>`
    }
    <div class="form-foot"><button class="danger" disabled=${busy} onClick=${onRestore}>Restore this revision</button>
      <button class="quiet" onClick=${onCancel}>Cancel</button></div></section>`;
}
