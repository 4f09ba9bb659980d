// The editor of the policy's YAML.
import { html, useMemo, useRef } from "../lib/ui.js";

const LINE_HEIGHT_PX = 20,
  MAX_COLOURED_LINES = 4000;

/** A text editor with line numbers, problems marked at their lines, and colours for keys, strings and comments. */
export function Editor({ text, onInput, problems, goToLine, readOnly, label }) {
  const area = useRef(),
    gutter = useRef(),
    colours = useRef();
  const lines = useMemo(() => text.split("\n"), [text]);
  const isPlain = lines.length > MAX_COLOURED_LINES;
  const messages = new Map(problems.filter((p) => p.line).map((p) => [p.line, p.message]));
  const onScroll = () => {
    gutter.current.scrollTop = area.current.scrollTop;
    if (colours.current) Object.assign(colours.current, { scrollTop: area.current.scrollTop, scrollLeft: area.current.scrollLeft });
  };
  goToLine.current = (line) => {
    const start = lines.slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
    area.current.focus();
    area.current.setSelectionRange(start, start + (lines[line - 1] || "").length);
    area.current.scrollTop = Math.max(0, (line - 6) * LINE_HEIGHT_PX);
    onScroll();
  };
  // Tab leaves the editor, as in any form; Enter keeps the indentation.
  const onKeyDown = (e) => {
    if (e.key !== "Enter" || e.isComposing || e.shiftKey || e.metaKey || e.ctrlKey) return;
    const { selectionStart: at, value } = area.current;
    const line = value.slice(value.lastIndexOf("\n", at - 1) + 1, at),
      indent = /^ */.exec(line)?.[0];
    if (!indent) return;
    e.preventDefault();
    area.current.setRangeText("\n" + indent, at, area.current.selectionEnd, "end");
    onInput(area.current.value);
  };
  const colouredLines = useMemo(() => (isPlain ? null : lines.map(colourLine)), [lines]);
  return html`<div class="editor">
    <div class="gutter" ref=${gutter} aria-hidden="true">${lines.map((_, i) => html`<span key=${i} class=${messages.has(i + 1) ? "wrong" : ""} title=${messages.get(i + 1)}>${i + 1}</span>`)}</div>
    <div class="paper">${colouredLines && html`<pre ref=${colours} aria-hidden="true">${colouredLines.map((parts, i) => html`<span class=${messages.has(i + 1) ? "y-wrong" : ""}>${parts}</span>`)}</pre>`}
      <textarea ref=${area} class=${isPlain ? "plain" : ""} aria-label=${label} aria-invalid=${messages.size ? "true" : null} spellcheck=${false} autocapitalize="off" readonly=${readOnly} wrap="off" value=${text}
        onInput=${(e) => onInput(e.target.value)} onScroll=${onScroll} onKeyDown=${onKeyDown} /></div>
  </div>`;
}

const TOKEN = /(#.*$)|("(?:[^"\\]|\\.)*"|'(?:[^']|'')*')|([A-Za-z_][\w.-]*)(?=:(?:\s|$))/g;

function colourLine(line) {
  const parts = [];
  let last = 0;
  for (const match of line.matchAll(TOKEN)) {
    // A # inside a word does not begin a comment.
    if (match[1] && match.index > 0 && !/\s/.test(line[match.index - 1])) continue;
    parts.push(
      line.slice(last, match.index),
      html`<span class=${match[1] ? "y-comment" : match[2] ? "y-text" : "y-key"}>${match[0]}</span>`,
    );
    last = match.index + match[0].length;
  }
  parts.push(line.slice(last));
  return parts;
}
