/**
 * One figure over time as a chart by uPlot, with axes, units, and the values under the pointer. The colours follow the
 * page's. Charts of one view share their time axis and their pointer.
 */
import { h } from '/assets/elements.js';
import { LANGUAGE } from '/assets/language.js';
import uPlot from '/assets/uPlot.esm.js';

const HEIGHT = 190;
/** Pixels between two marks of an axis, at least. */
const MARKS = { time: 70, figure: 24 };
const SYNC = 'tributary-time';

/**
 * A line of a chart.
 * @typedef {{ label: string, colour: '--accent' | '--warn' | '--muted', fill: boolean,
 *   values: readonly (number | null)[], style?: 'line' | 'bars' }} Line
 */

/**
 * What a chart shows.
 * @typedef {{ title: string, note: string, style: 'line' | 'bars', lines: readonly Line[],
 *   format: (value: number) => string, steps?: readonly number[], most?: number, below?: string }} Figure
 */

/**
 * `label` and `text` name a point in the legend, if not by the moment at which it ends.
 * @typedef {{ at: readonly number[], from: number, to: number, label?: string, text?: (at: number) => string }} TimeAxis
 */

const clock = new Intl.DateTimeFormat(LANGUAGE, { hour: '2-digit', minute: '2-digit' });
const day = new Intl.DateTimeFormat(LANGUAGE, { day: 'numeric', month: 'short' });
const moment = new Intl.DateTimeFormat(LANGUAGE, {
  weekday: 'short',
  day: 'numeric',
  month: 'short',
  hour: '2-digit',
  minute: '2-digit',
});

/** @param {number} seconds since 1970 */
export function momentText(seconds) {
  return moment.format(new Date(seconds * 1000));
}

/** @param {string} name of a colour of the page */
function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** @param {string} hex #rrggbb */
function faint(hex) {
  return `${hex}26`;
}

export class Chart {
  /** @type {HTMLElement} */
  element;
  #place = h('div', 'chart-place');
  #title = h('h2');
  #note = h('span', 'muted small');
  /** @type {uPlot | null} */
  #plot = null;
  /** @type {(() => void) | null} */
  #draw = null;
  #shape = '';
  /** @type {TimeAxis} */
  #axis = { at: [], from: 0, to: 1 };
  #observer = new ResizeObserver(() => this.#fit());

  constructor() {
    this.#place.role = 'img';
    this.element = h('section', 'card chart', [h('div', 'section-head', [this.#title, this.#note]), this.#place]);
    this.#observer.observe(this.#place);
  }

  /**
   * @param {Figure} figure
   * @param {TimeAxis} axis
   */
  show(figure, axis) {
    this.#title.textContent = figure.title;
    this.#note.textContent = figure.note;
    this.#place.ariaLabel = summaryOf(figure);
    this.#axis = axis;
    const data = /** @type {uPlot.AlignedData} */ ([axis.at, ...figure.lines.map(({ values }) => values)]);
    this.#draw = () => this.#make(figure, axis, data);
    const shape = JSON.stringify([
      figure.title,
      axis.label,
      figure.lines.map(({ label }) => label),
      axis.to - axis.from,
    ]);
    if (this.#plot === null || this.#shape !== shape) {
      this.#shape = shape;
      this.#draw();
      return;
    }
    this.#plot.setData(data);
  }

  /** The colours of the page have changed. */
  redraw() {
    this.#draw?.();
  }

  close() {
    this.#observer.disconnect();
    this.#plot?.destroy();
    this.#plot = null;
  }

  #fit() {
    const width = Math.floor(this.#place.clientWidth);
    if (width > 0 && this.#plot !== null && this.#plot.width !== width) this.#plot.setSize({ width, height: HEIGHT });
  }

  /**
   * @param {Figure} figure
   * @param {TimeAxis} axis
   * @param {uPlot.AlignedData} data
   */
  #make(figure, axis, data) {
    this.#plot?.destroy();
    const { format, style, steps: marks, most } = figure;
    const axisLook = {
      stroke: colour('--muted'),
      font: '12px system-ui, sans-serif',
      grid: { stroke: colour('--line'), width: 1 },
      ticks: { stroke: colour('--line'), width: 1, size: 4 },
    };
    const bars = uPlot.paths.bars?.({ size: [0.8, 40], align: -1 });
    // Beside bars a line goes over the width of each.
    const steps = style === 'bars' ? uPlot.paths.stepped?.({ align: -1 }) : undefined;
    this.#plot = new uPlot(
      {
        width: Math.max(200, Math.floor(this.#place.clientWidth)),
        height: HEIGHT,
        // The last mark's text is half beyond the axis.
        padding: [8, 20, 0, 0],
        cursor: { sync: { key: SYNC }, drag: { x: false, y: false }, points: { size: 7 } },
        scales: {
          x: { time: true, range: () => [this.#axis.from, this.#axis.to] },
          y: { range: (_, __, max) => [0, most ?? Math.max(1, max * 1.08)] },
        },
        axes: [
          {
            ...axisLook,
            space: MARKS.time,
            size: 32,
            values: (_, marks, __, ___, step) => marks.map(mark => timeText(mark, step)),
          },
          {
            ...axisLook,
            space: MARKS.figure,
            size: 66,
            values: (_, marks) => marks.map(format),
            ...(marks === undefined ? {} : { incrs: [...marks] }),
          },
        ],
        series: [
          {
            label: axis.label ?? 'Until',
            value: (/** @type {uPlot} */ _, /** @type {number | null} */ at) =>
              at === null ? '–' : (axis.text ?? momentText)(at),
          },
          ...figure.lines.map(line => {
            const stroke = colour(line.colour);
            const isBars = (line.style ?? style) === 'bars';
            return {
              label: line.label,
              stroke,
              width: 1.6,
              ...(line.fill ? { fill: faint(stroke) } : {}),
              ...(isBars && bars !== undefined ? { paths: bars, fill: stroke, width: 0 } : {}),
              ...(!isBars && steps !== undefined ? { paths: steps, width: 2 } : {}),
              points: { show: !isBars && axis.at.length < 3 },
              value: (/** @type {uPlot} */ _, /** @type {number | null} */ value) =>
                value === null ? '–' : format(value),
            };
          }),
        ],
      },
      data,
      this.#place,
    );
  }
}

/**
 * @param {number} seconds since 1970
 * @param {number} step seconds between two marks
 */
function timeText(seconds, step) {
  const date = new Date(seconds * 1000);
  const isMidnight = date.getHours() === 0 && date.getMinutes() === 0;
  return step >= 86_400 || isMidnight ? day.format(date) : clock.format(date);
}

/**
 * What a chart shows, for those who do not see it.
 * @param {Figure} figure
 */
function summaryOf({ title, lines, format, below = ' The table below has all values.' }) {
  const said = lines.map(({ label, values }) => {
    const known = values.filter(value => value !== null);
    const last = known.at(-1);
    if (last === undefined) return `${label}: not known`;
    return `${label}: at most ${format(Math.max(...known))}, at least ${format(Math.min(...known))}, last ${format(last)}`;
  });
  return `${title}. ${said.join('. ')}.${below}`;
}
