// Policy: the YAML as it is, checked as one types; what it was before; and what an edit would have meant for past calls.
import { html, useEffect, useMemo, useRef, useState } from "../lib/ui.js";
import { api, get, url, useDo, useGet } from "../lib/api.js";
import { go, link } from "../lib/route.js";
import { Choice, Empty, Fetched, Loading, Page, Problem, Time } from "../lib/parts.js";
import { count, money, reasonWords } from "../lib/format.js";

/** Edits not yet saved, kept while other pages are looked at: {revision, etag, files}. */
let draft = null;

addEventListener("beforeunload", (e) => {
  if (draft) e.preventDefault();
});

const TABS = [
  ["", "Edit"],
  ["dry-run", "Dry run"],
  ["history", "History"],
];

export default function Policy({ parts, query, who }) {
  const tab = parts[0] || "";
  return html`<${Page} title="Policy" lead="Who may spend what, and which models they may use. Edits here and in the file are the same; both are in force within a second.">
    <nav class="tabs" aria-label="Policy">${TABS.map(([t, word]) => html`<a key=${t} href=${link(["policy", t].filter(Boolean))} aria-current=${t === tab ? "page" : null}>${word}</a>`)}</nav>
    ${tab === "" && html`<${Edit} who=${who} />`}
    ${tab === "dry-run" && html`<${DryRun} query=${query} may=${who.role === "admin"} />`}
    ${tab === "history" && (parts[1] ? html`<${Revision} key=${parts[1]} revision=${parts[1]} query=${query} who=${who} />` : html`<${History} query=${query} />`)}
    ${!TABS.some(([t]) => t === tab) && html`<p>There is no such page.</p>`}
  </${Page}>`;
}

/** The policy on the gateway, and the draft over it if there is one. */
function useDraft() {
  const [state, set] = useState({ now: null, error: null });
  const load = async () => {
    try {
      const { data, etag } = await api("GET", "/api/policy");
      set({ now: { ...data, etag }, error: null });
      if (draft && same(draft.files, data.files)) draft = null;
    } catch (error) {
      set((s) => ({ ...s, error }));
    }
  };
  useEffect(() => {
    load();
  }, []);
  return { ...state, load };
}

const same = (a, b) => JSON.stringify(a.map((f) => [f.name, f.text])) === JSON.stringify(b.map((f) => [f.name, f.text]));

function Edit({ who }) {
  const { now, error, load } = useDraft();
  const [, redraw] = useState(0);
  const [at, setAt] = useState(0);
  const [verdict, setVerdict] = useState(null);
  const [went, setWent] = useState(null);
  const paper = useRef();
  const files = draft?.files || now?.files;
  const edited = Boolean(draft);
  const readOnly = who.role !== "admin" || (now && !now.writable);

  // Checked a moment after the last key, and only the newest answer counts.
  const text = files && JSON.stringify(files);
  useEffect(() => {
    if (!files || !edited) {
      setVerdict(null);
      return undefined;
    }
    let current = true;
    const timer = setTimeout(async () => {
      try {
        const { data } = await api("POST", "/api/policy/validate", { files });
        if (current) setVerdict(data);
      } catch (e) {
        if (current)
          setVerdict({ ok: false, problems: [{ file: null, line: null, path: e.field, message: e.message }], warnings: [] });
      }
    }, 350);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [text, edited]);

  const saving = useDo(async () => api("PUT", "/api/policy", { files: draft.files }, { "if-match": draft.etag }));
  if (error && !now) return html`<${Problem} error=${error} retry=${load} />`;
  if (!now) return html`<${Loading} lines=${10} />`;
  const file = files[Math.min(at, files.length - 1)];
  const write = (value) => {
    if (!draft) draft = { etag: now.etag, revision: now.revision, files: now.files };
    draft = { ...draft, files: draft.files.map((f) => (f.name === file.name ? { ...f, text: value } : f)) };
    if (same(draft.files, now.files)) draft = null;
    setWent(null);
    redraw((n) => n + 1);
  };
  const save = async () => {
    const answer = await saving.run();
    if (!answer) return;
    draft = null;
    setWent(answer.data?.revision || "saved");
    await load();
  };
  const discard = () => {
    draft = null;
    saving.clear();
    load();
    redraw((n) => n + 1);
  };
  const problems = verdict?.problems || (now.error && !edited ? [now.error] : []);
  const here = problems.filter((p) => !p.file || p.file === file.name || p.file.endsWith("/" + file.name));
  const jump = (p) => {
    const to = files.findIndex((f) => p.file && (p.file === f.name || p.file.endsWith("/" + f.name)));
    if (to >= 0 && to !== at) setAt(to);
    setTimeout(() => paper.current?.(p.line), 30);
  };
  const stale = edited && draft.revision !== now.revision;
  return html`
    ${files.length > 1 && html`<div class="filters">
      <${Choice} label="File" options=${files.map((f, i) => [i, f.name])} value=${at} onChange=${setAt} /></div>`}
    ${now.error && !edited && html`<div class="notice warn">The file on disk cannot be used; the policy before it stays in force.</div>`}
    ${stale && html`<div class="notice warn">The policy has been changed meanwhile. Saving will be refused: <button class="quiet small" onClick=${discard}>take what is there now</button></div>`}
    ${readOnly && html`<p class="note">${who.role === "admin" ? "The gateway may not write this file: edit it where it lies." : "Your role may look, not change."}</p>`}
    ${file.text.includes("<secret ") && html`<p class="note">Secrets stand as <code>${"<secret …>"}</code> here; each is put back when you save.</p>`}
    <${Editor} key=${file.name} text=${file.text} onInput=${write} problems=${here} jump=${paper} readOnly=${readOnly} label=${`Policy ${file.name}`} />
    <div class="editor-foot">
      <div class="verdict" role="status">${
        verdict === null
          ? html`<span class="faint">Revision <a class="mono" href=${link(["policy", "history", now.revision])}>${now.revision}</a>, since <${Time} at=${now.loaded_at} /></span>`
          : verdict.ok
            ? html`<span class="tag good">can be used</span>`
            : html`<span class="tag bad">${problems.length} ${problems.length === 1 ? "problem" : "problems"}</span>`
      }
        ${went && html` <span class="tag good">saved and in force</span>`}</div>
      <span class="grow" />
      ${edited && html`<button class="quiet" onClick=${discard}>Discard</button>
        <a class="quiet-link" href=${link(["policy", "dry-run"])}>Dry run</a>`}
      <button class="primary" disabled=${!edited || readOnly || saving.busy || (verdict && !verdict.ok)} onClick=${save}>${saving.busy ? "Saving …" : "Save"}</button>
    </div>
    <${Problem} error=${saving.error} />
    ${
      problems.length > 0 &&
      html`<ul class="problems" aria-label="Problems">${problems.slice(0, 50).map(
        (
          p,
          i,
        ) => html`<li key=${i}>${p.line ? html`<button class="quiet small" onClick=${() => jump(p)}>${files.length > 1 && p.file ? `${p.file.split("/").pop()}:` : "Line "}${p.line}</button>` : ""}
      <span>${p.path && html`<code>${p.path}</code> `}${p.message}</span></li>`,
      )}</ul>`
    }
    ${verdict?.ok && verdict.warnings?.length > 0 && html`<ul class="problems" aria-label="Warnings">${verdict.warnings.slice(0, 20).map((w) => html`<li class="faint">${w}</li>`)}</ul>`}`;
}

const LINE = 20,
  MOST_LINES = 4000;

/** A text with line numbers, problems at their lines, and colours for keys, texts and comments. */
function Editor({ text, onInput, problems, jump, readOnly, label }) {
  const area = useRef(),
    gutter = useRef(),
    colours = useRef();
  const lines = useMemo(() => text.split("\n"), [text]);
  const plain = lines.length > MOST_LINES;
  const wrong = new Map(problems.filter((p) => p.line).map((p) => [p.line, p.message]));
  const scrolled = () => {
    gutter.current.scrollTop = area.current.scrollTop;
    if (colours.current) Object.assign(colours.current, { scrollTop: area.current.scrollTop, scrollLeft: area.current.scrollLeft });
  };
  jump.current = (line) => {
    const start = lines.slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
    area.current.focus();
    area.current.setSelectionRange(start, start + (lines[line - 1] || "").length);
    area.current.scrollTop = Math.max(0, (line - 6) * LINE);
    scrolled();
  };
  // Tab leaves the editor, as everywhere; Enter keeps the indentation.
  const key = (e) => {
    if (e.key !== "Enter" || e.isComposing || e.shiftKey || e.metaKey || e.ctrlKey) return;
    const { selectionStart: at, value } = area.current;
    const line = value.slice(value.lastIndexOf("\n", at - 1) + 1, at),
      indent = /^ */.exec(line)[0];
    if (!indent) return;
    e.preventDefault();
    area.current.setRangeText("\n" + indent, at, area.current.selectionEnd, "end");
    onInput(area.current.value);
  };
  const shown = useMemo(() => (plain ? null : lines.map(coloured)), [lines]);
  return html`<div class="editor">
    <div class="gutter" ref=${gutter} aria-hidden="true">${lines.map((_, i) => html`<span key=${i} class=${wrong.has(i + 1) ? "wrong" : ""} title=${wrong.get(i + 1)}>${i + 1}</span>`)}</div>
    <div class="paper">${shown && html`<pre ref=${colours} aria-hidden="true">${shown.map((parts, i) => html`<span class=${wrong.has(i + 1) ? "y-wrong" : ""}>${parts}</span>`)}</pre>`}
      <textarea ref=${area} class=${plain ? "plain" : ""} aria-label=${label} aria-invalid=${wrong.size ? "true" : null} spellcheck=${false} autocapitalize="off" readonly=${readOnly} wrap="off" value=${text}
        onInput=${(e) => onInput(e.target.value)} onScroll=${scrolled} onKeyDown=${key} /></div>
  </div>`;
}

const TOKEN = /(#.*$)|("(?:[^"\\]|\\.)*"|'(?:[^']|'')*')|([A-Za-z_][\w.-]*)(?=:(?:\s|$))/g;

function coloured(line) {
  const parts = [];
  let last = 0;
  for (const found of line.matchAll(TOKEN)) {
    // A # inside a word is no comment.
    if (found[1] && found.index > 0 && !/\s/.test(line[found.index - 1])) continue;
    parts.push(
      line.slice(last, found.index),
      html`<span class=${found[1] ? "y-comment" : found[2] ? "y-text" : "y-key"}>${found[0]}</span>`,
    );
    last = found.index + found[0].length;
  }
  parts.push(line.slice(last));
  return parts;
}

// -- dry run -------------------------------------------------------------------------------------------------------------

const DAYS = [
  [1, "Last day"],
  [7, "Last week"],
  [14, "Last 2 weeks"],
  [31, "Last month"],
];

function DryRun({ query, may }) {
  const days = Number(query.get("days")) || 7;
  const doing = useDo(async () => (await api("POST", "/api/policy/rehearse", { files: draft ? draft.files : null, days })).data);
  const [found, set] = useState(null);
  const run = async () => {
    set(null);
    const answer = await doing.run();
    if (answer) set(answer);
  };
  return html`<p class="lead">The calls of the last days are judged again, in their order, ${draft ? "by your edited policy" : "by the policy in force"}: who would have been refused, and what it would have cost. Nothing is written.</p>
    <div class="filters spaced">
      <${Choice} label="Days" options=${DAYS} value=${days} onChange=${(d) => go(["policy", "dry-run"], { days: d === 7 ? null : d }, { replace: true })} />
      <button class="primary" disabled=${doing.busy || !may} onClick=${run}>${doing.busy ? "Running …" : "Run"}</button>
      ${!may && html`<span class="note">Running one needs the role admin.</span>`}
      ${may && !draft && html`<span class="note">
        <a href=${link(["policy"])}>Edit the policy</a> first to try something else.</span>`}</div>
    ${doing.busy && html`<progress aria-label="Judging calls" />`}
    <${Problem} error=${doing.error} retry=${run} />
    ${found && html`<${Outcome} found=${found} />`}`;
}

function Outcome({ found }) {
  return html`<dl class="stats minor section">
      <div class="stat"><dt>Calls judged</dt><dd>${count(found.calls)}</dd></div><div class="stat"><dt>Admitted</dt>
        <dd>${count(found.admitted)}</dd></div>
      <div class="stat"><dt>Newly refused</dt>
        <dd class=${found.newly_refused ? "warn" : ""}>${count(found.newly_refused)}</dd></div><div class="stat">
        <dt>Newly admitted</dt><dd>${count(found.newly_admitted)}</dd></div>
      <div class="stat"><dt>Would have cost</dt><dd>${money(found.cost_usd)}</dd></div><div class="stat"><dt>Did cost</dt>
        <dd>${money(found.recorded_cost_usd)}</dd></div></dl>
    ${
      found.refused.length === 0
        ? html`<p class="section">Nobody would have been refused.</p>`
        : html`<div class="scroll section"><table class="data rows"><thead><tr><th scope="col">Key</th><th scope="col">Reason</th>
          <th scope="col">By</th><th scope="col" class="num">Calls</th><th scope="col" class="num">Their cost</th>
          <th scope="col">First</th><th scope="col">Last</th></tr></thead>
      <tbody>${found.refused.slice(0, 200).map((r, i) => html`<tr key=${i}><td>
        <a href=${link(["keys", r.virtual_key_id])}>${r.virtual_key_id}</a></td><td>${reasonWords(r.reason)}</td>
        <td>${r.scope.replace("/", " ").replace("virtual_key", "key")}</td><td class="num">${count(r.calls)}</td>
        <td class="num">${money(r.cost_usd)}</td><td class="nowrap"><${Time} at=${r.first_at} /></td><td class="nowrap">
        <${Time} at=${r.last_at} /></td></tr>`)}</tbody></table></div>`
    }
    <p class="note section">${found.seconds !== undefined && `Took ${Number(found.seconds).toFixed(1)} s. `}A call refused at the time is taken to cost what its model's calls cost on average.</p>`;
}

// -- history ---------------------------------------------------------------------------------------------------------------

function History() {
  const first = useGet("/api/policy/revisions?limit=50", { every: 10_000 });
  const [more, setMore] = useState([]),
    [over, setOver] = useState(false);
  const older = useDo(async () => {
    const page = await get(url("/api/policy/revisions", { limit: 50, before: [...first.data.revisions, ...more].at(-1).id }));
    setMore([...more, ...page.revisions]);
    setOver(page.next_before === null);
  });
  return html`<${Fetched} of=${first}>${({ revisions }) => {
    const all = [...revisions, ...more];
    if (!all.length)
      return html`<${Empty} title="No history yet">
        <p>Every policy that was in force is kept here from now on, without its secrets.</p></${Empty}>`;
    return html`<div class="scroll"><table class="data rows"><thead><tr><th scope="col">Since</th><th scope="col">Revision</th>
      <th scope="col">Who</th><th scope="col">What</th></tr></thead>
      <tbody>${all.map((r, i) => html`<tr key=${r.revision + i}><td class="nowrap"><${Time} at=${r.at} /></td><td class="mono">
        <a href=${link(["policy", "history", r.revision])}>${r.revision}</a>${i === 0 ? html` <span class="tag good">in force</span>` : ""}</td>
        <td>${r.who || html`<span class="faint">the file</span>`}</td>
        <td>${r.summary || r.action}</td></tr>`)}</tbody></table></div>
      ${first.data.next_before !== null && !over && html`<div class="more">
        <button disabled=${older.busy} onClick=${() => older.run()}>Older</button></div>`}<${Problem} error=${older.error} />`;
  }}</${Fetched}>`;
}

function Revision({ revision, query, who }) {
  const path = `/api/policy/revisions/${encodeURIComponent(revision)}`,
    against = query.get("against") || "";
  const now = useGet("/api/policy"),
    list = useGet("/api/policy/revisions?limit=100");
  const whole = useGet(path),
    diff = useGet(url(`${path}/diff`, { against }));
  const [view, setView] = useState("diff");
  const restoring = useDo(() => api("POST", `${path}/restore`, undefined, { "if-match": `"${now.data.on_disk}"` }));
  const [sure, setSure] = useState(false);
  const inForce = now.data?.revision === revision;
  const restore = async () => {
    if (await restoring.run()) {
      draft = null;
      go(["policy", "history"]);
    } else {
      // Perhaps it is another one that is in force by now, which has to be seen before it is replaced.
      setSure(false);
      now.reload();
    }
  };
  const others = (list.data?.revisions || []).filter((r) => r.revision !== revision);
  return html`<p><a class="back" href=${link(["policy", "history"])}>‹ History</a></p>
    <div class="filters">
      <h2 class="mono">${revision}</h2>${inForce && html`<span class="tag good">in force</span>`}<span class="grow" />
      <${Choice} label="Show" options=${[
        ["diff", "Difference"],
        ["whole", "Whole"],
      ]} value=${view} onChange=${setView} small />
      ${view === "diff" && html`<label>to <select onChange=${(e) => go(["policy", "history", revision], { against: e.target.value || null }, { replace: true })}>
        <option value="" selected=${!against}>the one before</option>${others.map((r) => html`<option value=${r.revision} selected=${r.revision === against}>${r.revision}${r.revision === now.data?.revision ? " (in force)" : ""}</option>`)}</select></label>`}
      ${who.role === "admin" && !inForce && now.data && (sure ? html`<button class="danger" disabled=${restoring.busy} onClick=${restore}>Put it in force</button>
        <button class="quiet" onClick=${() => setSure(false)}>No</button>` : html`<button onClick=${() => setSure(true)}>Restore</button>`)}</div>
    <${Problem} error=${restoring.error} />
    ${view === "diff" ? html`<${Fetched} of=${diff}>${(d) => html`<${Diff} of=${d} />`}</${Fetched}>` : html`<${Fetched} of=${whole}>${({ files }) => files.map((f) => html`<h3>${f.name}</h3>
      <pre class="diff" tabindex="0">${f.text.split("\n").map((l) => html`<span>${l || " "}</span>`)}</pre>`)}</${Fetched}>`}`;
}

function Diff({ of }) {
  const files = of.files || [];
  const texts = files.map((f) => [f.name, f.diff ?? f.text ?? ""]).filter(([, t]) => t);
  if (!texts.length) return html`<p class="faint">No difference.</p>`;
  return texts.map(
    ([name, text]) =>
      html`<h3>${name}</h3><pre class="diff" tabindex="0">${text
        .split("\n")
        .filter((l) => !l.startsWith("---") && !l.startsWith("+++"))
        .map(
          (l) =>
            html`<span class=${l[0] === "+" ? "add" : l[0] === "-" ? "del" : l.startsWith("@@") ? "at" : ""}>${l || " "}</span>`,
        )}</pre>`,
  );
}
