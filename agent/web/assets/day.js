/**
 * The chart of the day: rows that the branch changed in each hour, and which of them are at the head office. The hours are
 * those of the reader's time zone.
 */
import { byId, fill, h, setText } from '/assets/elements.js';
import { count, plural } from '/assets/numbers.js';
import { patch } from '/assets/patch.js';
import { clock } from '/assets/times.js';
import uPlot from '/assets/uPlot.esm.js';

/** @import { AgentStatus } from '../status.ts' */

/** @typedef {{ at: number, there: number, here: number }} Hour */

const HEIGHT = 180;
const HOUR = 3_600;

const place = byId('day');
place.role = 'img';
/** @type {uPlot | null} */
let plot = null;
let drawn = '';
/** @type {Hour[]} */
let shown = [];

/**
 * The hours of the day so far, by its changes.
 * @param {AgentStatus} status
 * @param {Date} now by the server's clock
 * @returns {Hour[]}
 */
export function hoursOf({ committed, sentence, spool }, now) {
  const midnight = new Date(now).setHours(0, 0, 0, 0) / 1000;
  const time = sentence.says.flatMap(part => (typeof part === 'string' ? [] : [Date.parse(part.time) / 1000]))[0] ?? 0;
  /** @type {Hour[]} */
  const hours = [];
  for (let at = midnight; at <= now.getTime() / 1000; at += HOUR) hours.push({ at, there: 0, here: 0 });
  for (const [from, rows] of committed.slots) {
    const hour = hours[Math.floor((from - midnight) / HOUR)];
    if (from < midnight || hour === undefined) continue;
    // Of the quarter of an hour in which the time lies, nobody knows which rows are later: as long as some wait, none counts.
    const isThere = time > 0 && (from + committed.everySeconds <= time || (from < time && spool.waitingBatches === 0));
    if (isThere) hour.there += rows;
    else hour.here += rows;
  }
  return hours;
}

/**
 * @param {AgentStatus} status
 * @param {Date} now by the server's clock
 */
export function showDay(status, now) {
  const hours = hoursOf(status, now);
  const there = hours.reduce((sum, hour) => sum + hour.there, 0);
  const here = hours.reduce((sum, hour) => sum + hour.here, 0);
  const total = there + here;
  const what =
    total === 0
      ? 'no changes yet'
      : `${plural(total, 'row', 'rows')} entered, changed or deleted; ${here === 0 ? 'all' : count(there)} at the head office`;
  setText('day-note', what);
  byId('day-values').hidden = total === 0;
  byId('day-legend').hidden = total === 0;
  place.hidden = total === 0;
  if (total === 0) return;
  place.ariaLabel = `Changes by hour. ${what}. The table below has all values.`;
  patch(
    byId('day-rows'),
    hours.filter(hour => hour.there + hour.here > 0),
    ({ at }) => String(at),
    hour => {
      const name = h('th', '', `from ${clock(new Date(hour.at * 1000).toISOString())}`);
      name.scope = 'row';
      return h('tr', '', [name, h('td', 'right', count(hour.there)), h('td', 'right', count(hour.here))]);
    },
  );
  const wanted = JSON.stringify(hours);
  if (wanted === drawn) return;
  const isNew = plot === null || shown.length !== hours.length;
  drawn = wanted;
  shown = hours;
  if (isNew) draw(hours);
  else plot?.setData(dataOf(hours));
}

/**
 * The bar of an hour is all of it; what is at the head office is drawn over it.
 * @param {Hour[]} hours
 * @returns {uPlot.AlignedData}
 */
function dataOf(hours) {
  return [hours.map(({ at }) => at), hours.map(hour => hour.there + hour.here), hours.map(hour => hour.there)];
}

/** @param {string} name of a colour of the page */
function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** @param {Hour[]} hours */
function draw(hours) {
  plot?.destroy();
  const midnight = hours[0]?.at ?? 0;
  const look = {
    stroke: colour('--muted'),
    font: '12px system-ui, sans-serif',
    grid: { stroke: colour('--line'), width: 1 },
    ticks: { stroke: colour('--line'), width: 1, size: 4 },
  };
  const paths = uPlot.paths.bars?.({ size: [0.8, 60], align: 1 });
  const bars = (/** @type {string} */ name) => ({
    fill: colour(name),
    width: 0,
    points: { show: false },
    ...(paths === undefined ? {} : { paths }),
  });
  plot = new uPlot(
    {
      width: Math.max(200, Math.floor(place.clientWidth)),
      height: HEIGHT,
      padding: [8, 12, 0, 0],
      legend: { show: false },
      cursor: { show: false },
      scales: {
        x: { time: true, range: () => [midnight, midnight + 24 * HOUR] },
        y: { range: (_, __, max) => [0, Math.max(1, max * 1.08)] },
      },
      axes: [
        {
          ...look,
          space: 50,
          size: 30,
          // The end of the day has no room, and no need, for its name.
          values: (_, marks) =>
            marks.map(mark => (mark >= midnight + 24 * HOUR ? '' : clock(new Date(mark * 1000).toISOString()))),
        },
        {
          ...look,
          space: 28,
          size: 56,
          values: (_, marks) => marks.map(mark => (Number.isInteger(mark) ? count(mark) : '')),
        },
      ],
      series: [{}, bars('--line-strong'), bars('--accent')],
    },
    dataOf(hours),
    fillPlace(),
  );
}

function fillPlace() {
  fill(place);
  return place;
}

new ResizeObserver(() => {
  const width = Math.floor(place.clientWidth);
  if (width > 0 && plot !== null && plot.width !== width) plot.setSize({ width, height: HEIGHT });
}).observe(place);

matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
  if (shown.length > 0) draw(shown);
});
