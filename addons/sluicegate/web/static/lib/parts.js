// The pieces every page is made of.
import { html, useState, useEffect, useRef, useId, useErrorBoundary } from "./ui.js";
import { money, nano, moment, fully, away, reasonWords } from "./format.js";
import { useDo } from "./api.js";

/** A page: its title is the tab's as well, actions stand at its right. */
export function Page({ title, lead, actions, back, children }) {
  useEffect(() => {
    document.title = `${title} · sluicegate`;
  }, [title]);
  return html`<div class="page">
    <header class="page-head">
      <div>
        ${back && html`<a class="back" href=${back.href}>‹ ${back.text}</a>`}
        <h1>${title}</h1>
        ${lead && html`<p class="lead">${lead}</p>`}
      </div>
      ${actions && html`<div class="actions">${actions}</div>`}
    </header>
    ${children}
  </div>`;
}

export function Section({ title, note, actions, children, class: extra = "" }) {
  const id = useId();
  return html`<section class=${"section " + extra} aria-labelledby=${id}>
    <div class="section-head">
      <h2 id=${id}>${title}</h2>${note && html`<span class="note">${note}</span>`}<span class="grow" />${actions}</div>
    ${children}
  </section>`;
}

/** What went wrong, in words, where it happened. */
export function Problem({ error, retry }) {
  if (!error) return null;
  const more = (error.problems || []).filter((p) => !error.message.includes(p.message));
  return html`<div class="problem" role="alert">
    <p>${error.message}${error.status === 403 ? " (your role may look, not change)" : ""}</p>
    ${more.length > 0 && html`<ul>${more.map((p) => html`<li>
      <code>${p.field ?? `${p.file}:${p.line} ${p.path}`}</code> ${p.message}</li>`)}</ul>`}
    ${retry && html`<button class="quiet" onClick=${retry}>Try again</button>`}
  </div>`;
}

export const Loading = ({ lines = 4 }) =>
  html`<div class="loading" role="status" aria-label="Loading">${Array.from({ length: lines }, () => html`<span class="bone" />`)}</div>`;

/** The three states of something that is fetched: being fetched, failed, there. Old data stays while a fresh look fails. */
export function Fetched({ of, children, lines }) {
  if (of.data !== undefined)
    return html`${of.error && html`<${Problem} error=${of.error} retry=${of.reload} />`}${children(of.data)}`;
  if (of.error) return html`<${Problem} error=${of.error} retry=${of.reload} />`;
  return html`<${Loading} lines=${lines} />`;
}

export function Empty({ title, children }) {
  return html`<div class="empty"><h3>${title}</h3>${children}</div>`;
}

export function Time({ at, relative, seconds = true }) {
  if (!at) return html`<span class="faint">–</span>`;
  return html`<time datetime=${at} title=${fully(at)}>${relative ? away(at) : moment(at, seconds)}</time>`;
}

/** An amount, its cents under one another in a column. */
export const Money = ({ of, decimals = 2 }) => html`<span class="money">${money(of ?? 0, decimals)}</span>`;

const OUTCOMES = {
  completed: ["good", "completed"],
  denied: ["warn", "refused"],
  failed: ["bad", "failed"],
  cancelled: ["dim", "cancelled"],
  interrupted: ["bad", "interrupted"],
};

export function Outcome({ call }) {
  if (!call.outcome) return html`<span class="tag live"><i class="pulse" />running</span>`;
  const [colour, word] = OUTCOMES[call.outcome] || ["dim", call.outcome];
  return html`<span class=${"tag " + colour}>${word}</span>${call.reason && html` <span class="faint aside">${reasonWords(call.reason)}</span>`}`;
}

export const Tag = ({ kind = "dim", children }) => html`<span class=${"tag " + kind}>${children}</span>`;

/** Used and in flight of a limit, or with `plain` a mere share. BigInt or Number; the words beside it carry the meaning. */
export function Bar({ used, reserved = 0n, limit, label, plain }) {
  const share = (n) => (Number(limit) > 0 ? Math.min(1, Number(n) / Number(limit)) : Number(n) > 0 ? 1 : 0);
  const full = share(used),
    held = Math.min(1 - full, share(reserved));
  const state = plain ? "" : full >= 1 ? "over" : full >= 0.8 ? "near" : "fine";
  return html`<span class=${"bar " + state} role="img" aria-label=${label}>
    <span class="bar-used" style=${{ width: `${full * 100}%` }} /><span class="bar-held" style=${{ width: `${held * 100}%` }} />
  </span>`;
}

export function moneyBar(row, label) {
  const [used, reserved, limit] = [row.used_usd, row.reserved_usd, row.limit_usd].map(nano);
  return html`<${Bar} used=${used} reserved=${reserved} limit=${limit}
    label=${`${label}: ${money(used)} of ${money(limit)} used, ${money(reserved)} in flight`} />`;
}

/** Lines to copy, with a button that says when it has. */
export function Copy({ text, children }) {
  const [state, set] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      set("Copied");
    } catch {
      set("Select and copy by hand");
    }
    setTimeout(() => set(""), 2000);
  };
  return html`<div class="copy"><pre tabindex="0">${children ?? text}</pre>
    <button class="quiet small" onClick=${copy}>${state || "Copy"}</button><span class="sr" role="status">${state}</span></div>`;
}

/** One of a few: links, so that each has an address, or buttons. */
export function Choice({ label, options, value, onChange, small }) {
  return html`<div class=${"choice" + (small ? " small" : "")} role="group" aria-label=${label}>
    ${options.map(([key, word]) => html`<button type="button" aria-pressed=${String(key === value)} onClick=${() => onChange(key)}>${word}</button>`)}
  </div>`;
}

/** A modal dialog; Escape and the backdrop close it, focus returns to where it was. */
export function Dialog({ title, onClose, children }) {
  const box = useRef(),
    id = useId();
  useEffect(() => {
    const before = document.activeElement,
      shown = box.current;
    if (!shown.open) shown.showModal();
    return () => {
      shown.close();
      before?.focus?.();
    };
  }, []);
  return html`<dialog ref=${box} aria-labelledby=${id}
      onCancel=${(e) => {
        e.preventDefault();
        onClose();
      }} onMouseDown=${(e) => e.target === box.current && onClose()}>
    <div class="dialog-head"><h2 id=${id}>${title}</h2>
      <button class="quiet icon" aria-label="Close" onClick=${onClose}>×</button></div>
    ${children}
  </dialog>`;
}

/** A form in a dialog: `work(values)` is what its button does; its error is shown above the button. */
export function Ask({ title, button, danger, work, onClose, onDone, children, initial = {} }) {
  const [values, set] = useState(initial);
  const doing = useDo(work);
  const submit = async (e) => {
    e.preventDefault();
    const result = await doing.run(values);
    if (result !== undefined) onDone(result);
  };
  return html`<${Dialog} title=${title} onClose=${onClose}>
    <form onSubmit=${submit}>
      ${typeof children === "function" ? children({ values, set: (more) => set((v) => ({ ...v, ...more })), error: doing.error }) : children}
      <${Problem} error=${doing.error} />
      <div class="form-foot">
        <button type="button" class="quiet" onClick=${onClose}>Cancel</button>
        <button class=${danger ? "danger" : "primary"} disabled=${doing.busy}>${doing.busy ? "Working …" : button}</button>
      </div>
    </form>
  </${Dialog}>`;
}

/** A labelled input. `error` is an ApiError: if it is about this field, it is said here. */
export function Field({ label, name, value, onInput, hint, error, type = "text", children, width, ...more }) {
  const id = useId();
  const wrong = error && error.field && (error.field === name || error.field.split(".").pop() === name) ? error.message : null;
  const control = children
    ? children(id)
    : type === "checkbox"
      ? html`<input id=${id} type="checkbox" checked=${Boolean(value)} onChange=${(e) => onInput(e.target.checked)} ...${more} />`
      : html`<input id=${id} type=${type} value=${value ?? ""} onInput=${(e) => onInput(e.target.value)} aria-invalid=${wrong ? "true" : null}
          aria-describedby=${hint || wrong ? id + "-hint" : null} autocomplete="off" spellcheck=${false} ...${more} />`;
  return html`<div class=${"field" + (type === "checkbox" ? " check" : "") + (wrong ? " wrong" : "") + (width ? " " + width : "")}>
    <label for=${id}>${label}</label>${control}
    ${(wrong || hint) && html`<span class="hint" id=${id + "-hint"}>${wrong || hint}</span>`}
  </div>`;
}

export function Select({ id, value, onInput, options, ...more }) {
  return html`<select id=${id} value=${value ?? ""} onChange=${(e) => onInput(e.target.value)} ...${more}>
    ${options.map(([key, word]) => html`<option value=${key} selected=${key === (value ?? "")}>${word}</option>`)}
  </select>`;
}

/** A page that broke says so, and the others go on working. */
export function Guard({ children, at }) {
  const [error, reset] = useErrorBoundary((e) => console.error(e));
  const was = useRef(at);
  useEffect(() => {
    if (was.current !== at && error) reset();
    was.current = at;
  }, [at]);
  if (error) {
    return html`<${Page} title="Something broke">
      <${Problem} error=${{ message: `This page could not be drawn: ${error.message}` }} retry=${reset} /></${Page}>`;
  }
  return children;
}
