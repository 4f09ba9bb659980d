// Charts over time, drawn by uPlot; each can also be read as a table.
import { html, useState, useEffect, useRef, useMemo } from "./ui.js";
import uPlot from "../vendor/uplot.js";
import { bucketLabel, fullTime } from "./format.js";

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export const PALETTE = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6"];

/**
 * A chart. `buckets` are ISO times, `series` are `{name, values, colour}` with colour a CSS variable; `kind` is `bars`
 * (stacked) or `lines`; `format` formats a value, `cell` one in the table, `tick(value, step)` one on the axis; `total` is what
 * the legend shows for a series when the pointer is elsewhere.
 */
export function Chart({
  title,
  note,
  buckets,
  seconds,
  series,
  kind = "bars",
  format,
  cell,
  tick,
  total,
  height = 168,
  actions,
}) {
  const [showTable, setShowTable] = useState(false);
  const [index, setIndex] = useState(null);
  const empty = series.every((s) => s.values.every((v) => !v));
  const sum = total || ((s) => format(s.values.reduce((a, v) => a + (v || 0), 0)));
  return html`<figure class="chart">
    <figcaption>
      <h3>${title}</h3>${note && html`<span class="note">${note}</span>`}<span class="grow" />${actions}
      <button class="quiet small" aria-pressed=${String(showTable)} onClick=${() => setShowTable(!showTable)}>${showTable ? "Chart" : "Table"}</button>
    </figcaption>
    ${
      showTable
        ? html`<${AsTable} ...${{ title, buckets, seconds, series, cell }} />`
        : html`<${Plot} ...${{ title, buckets, seconds, series, kind, tick, height, empty }} onPoint=${setIndex} />
        <ul class="legend">
          ${series.map(
            (s) => html`<li key=${s.name}><i style=${{ background: `var(${s.colour})` }} class=${kind === "lines" ? "line" : ""} />
            <span class="legend-name">${s.name}</span> <b>${index === null ? sum(s) : format(s.values[index] || 0)}</b></li>`,
          )}
          <li class="legend-at">${index === null ? "" : bucketLabel(buckets[index], seconds)}</li>
        </ul>`
    }
  </figure>`;
}

function AsTable({ title, buckets, seconds, series, cell }) {
  const rows = buckets.map((b, i) => i).reverse();
  return html`<div class="scroll chart-table" tabindex="0" role="region" aria-label=${title}><table class="data">
    <thead><tr><th scope="col">Time</th>${series.map((s) => html`<th scope="col" class="num">${s.name}</th>`)}</tr></thead>
    <tbody>${rows.map(
      (i) => html`<tr key=${i}><th scope="row" title=${fullTime(buckets[i])}>${bucketLabel(buckets[i], seconds)}</th>
      ${series.map((s) => html`<td class="num">${s.values[i] === null ? "–" : cell(s.values[i] || 0)}</td>`)}</tr>`,
    )}</tbody>
  </table></div>`;
}

function Plot({ title, buckets, seconds, series, kind, tick, height, empty, onPoint }) {
  const box = useRef(),
    plot = useRef(null);
  const [theme, setTheme] = useState(document.documentElement.dataset.theme);
  useEffect(() => {
    const changed = () => setTheme(document.documentElement.dataset.theme);
    addEventListener("themechange", changed);
    return () => removeEventListener("themechange", changed);
  }, []);
  const data = useMemo(() => {
    const x = buckets.map((b) => Date.parse(b) / 1000);
    if (kind === "lines") return [x, ...series.map((s) => s.values)];
    // Stacked: each series is drawn from zero to the sum up to it, tallest first, so that the lower ones cover the rest.
    const sums = [],
      running = new Array(x.length).fill(0);
    for (const s of series) {
      s.values.forEach((v, i) => {
        running[i] += v || 0;
      });
      sums.push([...running]);
    }
    return [x, ...sums.reverse()];
  }, [buckets, series, kind]);
  const shape = `${kind}|${series.map((s) => s.name + s.colour).join("|")}|${theme}|${seconds}`;

  useEffect(() => {
    const parent = box.current;
    if (!parent) return undefined;
    const drawOrder = kind === "bars" ? [...series].reverse() : series;
    const axis = {
      stroke: css("--text-2"),
      font: `11px ${css("--font")}`,
      grid: { stroke: css("--line"), width: 1 },
      ticks: { show: false },
    };
    const width = () => Math.max(200, parent.clientWidth);
    const options = {
      width: width(),
      height,
      padding: [8, 18, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: kind === "lines", size: 6 } },
      scales: {
        x: { time: true, range: (u, low, high) => (kind === "bars" ? [low - seconds / 2, high + seconds / 2] : [low, high]) },
        y: { range: (u, low, high) => [0, high > 0 ? high * 1.08 : 1] },
      },
      axes: [
        { ...axis, grid: { show: false }, space: 64, size: 26, values: (u, ticks) => timeTicks(ticks, seconds) },
        {
          ...axis,
          size: 54,
          space: 32,
          values: (u, ticks) => (empty ? ticks.map(() => "") : ticks.map((t) => tick(t, ticks[1] - ticks[0]))),
        },
      ],
      series: [
        {},
        ...drawOrder.map((s) => ({
          label: s.name,
          stroke: css(s.colour),
          width: kind === "lines" ? 1.75 : 0,
          fill: kind === "bars" ? css(s.colour) : undefined,
          paths: kind === "bars" ? uPlot.paths.bars({ size: [0.72, 28], gap: 1 }) : uPlot.paths.linear(),
          points: { show: kind === "lines", size: 3.5, fill: css(s.colour), width: 0 },
          spanGaps: false,
        })),
      ],
      hooks: { setCursor: [(u) => onPoint(u.cursor.idx ?? null)] },
    };
    plot.current = new uPlot(options, data, parent);
    const observer = new ResizeObserver(() => plot.current?.setSize({ width: width(), height }));
    observer.observe(parent);
    return () => {
      observer.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [shape, height, empty]);
  useEffect(() => {
    plot.current?.setData(data);
  }, [data]);
  return html`<div class="plot" role="img" aria-label=${`${title} chart; the table has the figures`} ref=${box}>${empty && html`<span class="plot-empty">No data in this period</span>`}</div>`;
}

const hourFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const dayFormat = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

function timeTicks(ticks, seconds) {
  let previous = "";
  return ticks.map((t) => {
    const at = new Date(t * 1000),
      midnight = at.getHours() === 0 && at.getMinutes() === 0;
    const text = midnight || seconds >= 86_400 ? dayFormat.format(at) : hourFormat.format(at);
    const shown = text === previous ? "" : text;
    previous = text;
    return shown;
  });
}
