// The components that every page is made of.
import { html, useState, useEffect, useLayoutEffect, useRef, useId, useErrorBoundary } from "./ui.js";
import { count, moneys, nano, moment, fullTime, relativeTime, reasonText } from "./format.js";
import { useAction } from "./api.js";
import { useUnsaved } from "./unsaved.js";

/** A page: its title is the tab's too; actions are on the right. */
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

/** An error, shown where it happened. */
export function Problem({ error, retry }) {
  if (!error) return null;
  const details = (error.problems || []).filter((p) => !error.message.includes(p.message));
  return html`<div class="problem" role="alert">
    <p>${error.message}${error.status === 403 ? " (your role is read-only)" : ""}</p>
    ${details.length > 0 && html`<ul>${details.map((p) => html`<li>
      <code>${p.field ?? `${p.file}:${p.line} ${p.path}`}</code> ${p.message}</li>`)}</ul>`}
    ${retry && html`<button class="quiet" onClick=${retry}>Try again</button>`}
  </div>`;
}

export const Loading = ({ lines = 4 }) =>
  html`<div class="loading" role="status" aria-label="Loading">${Array.from({ length: lines }, () => html`<span class="bone" />`)}</div>`;

/** The three states of fetched data: loading, failed, present. Old data stays on screen if a later request fails. */
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
  return html`<time datetime=${at} title=${fullTime(at)}>${relative ? relativeTime(at) : moment(at, seconds)}</time>`;
}

/** An amount whose cents line up in a column. */
export const Money = ({ of, decimals = 2 }) => html`<span class="money">${moneys([of ?? 0], decimals)[0]}</span>`;

const OUTCOMES = {
  completed: ["good", "completed"],
  denied: ["warn", "refused"],
  failed: ["bad", "failed"],
  cancelled: ["dim", "cancelled"],
  interrupted: ["bad", "interrupted"],
};

export function Outcome({ call }) {
  if (!call.outcome) return html`<span class="tag live"><i class="pulse" />running</span>`;
  const [colour, text] = OUTCOMES[call.outcome] || ["dim", call.outcome];
  return html`<span class=${"tag " + colour}>${text}</span>${call.reason && html` <span class="faint aside">${reasonText(call.reason)}</span>`}`;
}

export const Tag = ({ kind = "dim", children }) => html`<span class=${"tag " + kind}>${children}</span>`;

/** The used and in-flight parts of a limit, or with `plain` just a share. BigInt or Number; the text next to it says the same. */
export function Bar({ used, reserved = 0n, limit, label, plain }) {
  const share = (n) => (Number(limit) > 0 ? Math.min(1, Number(n) / Number(limit)) : Number(n) > 0 ? 1 : 0);
  const usedShare = share(used),
    reservedShare = Math.min(1 - usedShare, share(reserved));
  const state = plain ? "" : usedShare >= 1 ? "over" : usedShare >= 0.8 ? "near" : "fine";
  return html`<span class=${"bar " + state} role="img" aria-label=${label}>
    <span class="bar-used" style=${{ width: `${usedShare * 100}%` }} /><span class="bar-reserved" style=${{ width: `${reservedShare * 100}%` }} />
  </span>`;
}

export function moneyBar(row, label) {
  const [used, reserved, limit] = [row.used_usd, row.reserved_usd, row.limit_usd].map(nano);
  const [usedText, reservedText, limitText] = moneys([used, reserved, limit]);
  return html`<${Bar} used=${used} reserved=${reserved} limit=${limit}
    label=${`${label}: ${usedText} of ${limitText} used, ${reservedText} in flight`} />`;
}

/**
 * Lines to copy, with a button that confirms it.
 *
 * @param {{text: string, children?: any, onCopied?: () => void}} properties
 */
export function Copy({ text, children, onCopied }) {
  return html`<div class="copy" onCopy=${onCopied}><pre tabindex="0">${children ?? text}</pre>
    <${CopyButton} text=${text} onCopied=${onCopied} /></div>`;
}

/**
 * A button that copies a text and says so.
 *
 * @param {{text: string, label?: string, onCopied?: () => void}} properties
 */
export function CopyButton({ text, label = "Copy", onCopied }) {
  const [state, set] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      set("Copied");
      onCopied?.();
    } catch {
      set("Select the text and copy it");
    }
    setTimeout(() => set(""), 2000);
  };
  return html`<button type="button" class="quiet small" onClick=${copy}>${state || label}</button><span class="sr" role="status">${state}</span>`;
}

/** One of a few options, as buttons. */
export function Choice({ label, options, value, onChange, small }) {
  return html`<div class=${"choice" + (small ? " small" : "")} role="group" aria-label=${label}>
    ${options.map(([key, text]) => html`<button type="button" aria-pressed=${String(key === value)} onClick=${() => onChange(key)}>${text}</button>`)}
  </div>`;
}

/** A modal dialog; Escape and the backdrop close it unless `onClose` decides otherwise, focus returns to where it was. */
export function Dialog({ title, wide = false, onClose, children }) {
  const dialog = useRef(),
    id = useId();
  // Before anything is painted: where one dialog takes another's place, no key goes to the page behind them.
  useLayoutEffect(() => {
    const focused = /** @type {HTMLElement | null} */ (document.activeElement),
      opened = dialog.current;
    if (!opened.open) opened.showModal();
    return () => {
      opened.close();
      focused?.focus?.();
    };
  }, []);
  return html`<dialog ref=${dialog} class=${wide ? "wide" : ""} aria-labelledby=${id}
      onCancel=${(e) => {
        e.preventDefault();
        onClose();
      }} onKeyDown=${(e) => {
        // A browser closes a dialog at a second Escape whatever the page says to that.
        if (e.key !== "Escape") return;
        e.preventDefault();
        e.stopPropagation();
        onClose();
      }} onMouseDown=${(e) => e.target === dialog.current && onClose()}>
    <div class="dialog-head"><h2 id=${id}>${title}</h2>
      <button class="quiet icon" aria-label="Close" onClick=${onClose}>×</button></div>
    ${children}
  </dialog>`;
}

/**
 * A form in a dialog: its button runs `work(values)`, whose error is shown above the button; without a button it only shows
 * what a change would do. Closing it asks first once something was typed, unless it only asks for a confirmation.
 */
export function FormDialog({ title, wide = false, button, danger, isConfirmation, isIncomplete, work, onClose, onDone, children, initial = {} }) {
  const [values, setValues] = useState(initial),
    begun = useRef(JSON.stringify(initial));
  const unsaved = useUnsaved(!isConfirmation && JSON.stringify(values) !== begun.current);
  const close = () => unsaved.mayLose() && onClose();
  const action = useAction(work);
  const submit = async (e) => {
    e.preventDefault();
    if (!button) return;
    const result = await action.run(values);
    if (result === undefined) return;
    unsaved.saved();
    onDone(result);
  };
  return html`<${Dialog} title=${title} wide=${wide} onClose=${close}>
    <form onSubmit=${submit}>
      ${typeof children === "function" ? children({ values, set: (changes) => setValues((v) => ({ ...v, ...changes })), error: action.error }) : children}
      <${Problem} error=${action.error} />
      <div class="form-foot">
        <button type="button" class="quiet" onClick=${close}>${button ? "Cancel" : "Close"}</button>
        ${button && html`<button class=${danger ? "danger" : "primary"} disabled=${action.busy || isIncomplete?.(values)}>${action.busy ? "Working …" : button}</button>`}
      </div>
    </form>
  </${Dialog}>`;
}

/** A labelled input. `error` is an ApiError; it is shown here if it is about this field. */
export function Field({ label, name, value, onInput, hint, error, type = "text", children, width, ...attributes }) {
  const id = useId();
  const problem = error && error.field && (error.field === name || error.field.split(".").pop() === name) ? error.message : null;
  const control = children
    ? children(id)
    : type === "checkbox"
      ? html`<input id=${id} type="checkbox" checked=${Boolean(value)} onChange=${(e) => onInput(e.target.checked)} ...${attributes} />`
      : html`<input id=${id} type=${type} value=${value ?? ""} onInput=${(e) => onInput(e.target.value)} aria-invalid=${problem ? "true" : null}
          aria-describedby=${hint || problem ? id + "-hint" : null} autocomplete="off" spellcheck=${false} ...${attributes} />`;
  return html`<div class=${"field" + (type === "checkbox" ? " check" : "") + (problem ? " wrong" : "") + (width ? " " + width : "")}>
    <label for=${id}>${label}</label>${control}
    ${(problem || hint) && html`<span class="hint" id=${id + "-hint"}>${problem || hint}</span>`}
  </div>`;
}

export function Select({ id, value, onInput, options, ...attributes }) {
  return html`<select id=${id} value=${value ?? ""} onChange=${(e) => onInput(e.target.value)} ...${attributes}>
    ${options.map(([key, text]) => html`<option value=${key} selected=${key === (value ?? "")}>${text}</option>`)}
  </select>`;
}

/** What is typed to search a list; `onSearch` gets it once nothing was typed for a moment. */
export function SearchField({ value, onSearch, label = "Search" }) {
  const timer = useRef(/** @type {any} */ (null));
  // What is being typed, until it is searched for: a response that comes meanwhile must not put the older text back.
  const [typed, setTyped] = useState(/** @type {string | null} */ (null));
  const type = (e) => {
    const text = e.target.value;
    setTyped(text);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      setTyped(null);
      onSearch(text);
    }, SEARCH_PAUSE_MS);
  };
  useEffect(() => () => clearTimeout(timer.current), []);
  return html`<input type="search" aria-label=${label} placeholder="Search" value=${typed ?? value} onInput=${type} />`;
}

const SEARCH_PAUSE_MS = 250;

/**
 * The buttons between the pages of a list that the gateway pages; nothing where all of it is on one.
 *
 * @param {{offset: number, shown: number, total: number, size: number, onOffset: (offset: number) => void}} properties
 */
export function Pager({ offset, shown, total, size, onOffset }) {
  if (total <= size && offset === 0) return null;
  return html`<div class="more">
    <button disabled=${offset === 0} onClick=${() => onOffset(Math.max(0, offset - size))}>Previous</button>
    <button disabled=${offset + size >= total} onClick=${() => onOffset(offset + size)}>Next</button>
    <span class="note">${count(shown ? offset + 1 : 0)} to ${count(offset + shown)} of ${count(total)}</span></div>`;
}

/** Shows the error of a page that failed, so that the others go on working. */
export function ErrorBoundary({ children, at }) {
  const [error, reset] = useErrorBoundary((e) => console.error(e));
  const previous = useRef(at);
  useEffect(() => {
    if (previous.current !== at && error) reset();
    previous.current = at;
  }, [at]);
  if (error) {
    return html`<${Page} title="This page failed">
      <${Problem} error=${{ message: `This page could not be shown: ${error.message}` }} retry=${reset} /></${Page}>`;
  }
  return children;
}
