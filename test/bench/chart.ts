/**
 * Draws docs/images/bench.svg from the last run of `make bench`: `node test/bench/chart.ts`.
 *
 * One panel a question, one bar a contender, with its figure beside it. All bars of a panel come from the same run.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../../shared/root.ts';
import { LATEST_FILE } from './report.ts';
import type { Measurement } from './report.ts';

interface Panel {
  readonly title: string;
  readonly unit: string;
  /** The measurement, without the rival that ends its name. */
  readonly measurement: string;
  readonly ours: string;
  /** The rivals' names in the file, and as they are shown. */
  readonly rivals: Readonly<Record<string, string>>;
}

const PANELS: readonly Panel[] = [
  {
    title: 'Bytes on the wire for a sale, after a day offline',
    unit: 'bytes (less is better)',
    measurement: 'wire/sales',
    ours: 'Tributary',
    rivals: { 'mysql-zstd': 'MySQL replication, zstd', 'raw-binlog': 'MySQL replication', 'maxwell-json': 'Maxwell' },
  },
  {
    title: 'Catching up, one sale a transaction',
    unit: 'rows a second',
    measurement: 'catch-up/1-row',
    ours: 'Tributary',
    rivals: { 'native-best': 'MySQL replication, best', 'native-default': 'MySQL replication, default' },
  },
  {
    title: 'Catching up, 10 rows a transaction',
    unit: 'rows a second',
    measurement: 'catch-up/10-row',
    ours: 'Tributary',
    rivals: { 'native-best': 'MySQL replication, best', 'native-default': 'MySQL replication, default' },
  },
  {
    title: 'Catching up, 1,000 rows a transaction',
    unit: 'rows a second',
    measurement: 'catch-up/1000-row',
    ours: 'Tributary',
    rivals: { 'native-best': 'MySQL replication, best', 'native-default': 'MySQL replication, default' },
  },
  {
    title: 'Reading the binlog, 10 rows a transaction',
    unit: 'rows a second',
    measurement: 'capture/10-row',
    ours: 'Tributary, into its spool',
    rivals: { zongji: 'zongji, rows thrown away' },
  },
];

const WIDTH = 760;
const LABELS = 220;
const BAR = 18;
const GAP = 6;
const FIGURES = 90;
const OURS = '#1f6feb';
const RIVAL = '#9aa4b2';

function drawPanel(panel: Panel, measurements: readonly Measurement[], top: number): { svg: string; height: number } {
  const found = Object.entries(panel.rivals).map(([name, shown]) => {
    const measurement = measurements.find(each => each.name === `${panel.measurement}/${name}`);
    const rival = measurement?.rival ?? null;
    if (measurement === undefined || rival === null)
      throw new Error(`${panel.measurement}/${name} is not in the last run`);
    return { shown, value: rival, ours: measurement.ours };
  });
  const bars = [{ shown: panel.ours, value: found[0]?.ours ?? 0, colour: OURS }].concat(
    found.map(({ shown, value }) => ({ shown, value, colour: RIVAL })),
  );
  const most = Math.max(...bars.map(({ value }) => value));
  const lines = bars.map(({ shown, value, colour }, index) => {
    const y = top + 24 + index * (BAR + GAP);
    const length = Math.max(1, ((WIDTH - LABELS - FIGURES) * value) / most);
    const figure = Number(value.toPrecision(3)).toLocaleString('en-US');
    return [
      `<text x="${LABELS - 8}" y="${y + 13}" text-anchor="end">${shown}</text>`,
      `<rect x="${LABELS}" y="${y}" width="${length.toFixed(1)}" height="${BAR}" fill="${colour}"/>`,
      `<text x="${(LABELS + length + 6).toFixed(1)}" y="${y + 13}">${figure}</text>`,
    ].join('');
  });
  const title = `<text x="0" y="${top + 14}"><tspan font-weight="bold">${panel.title}</tspan>, ${panel.unit}</text>`;
  return { svg: [title, ...lines].join('\n'), height: 24 + bars.length * (BAR + GAP) + 16 };
}

/** The chart of these measurements. @throws if one of them is missing */
export function drawChart(measurements: readonly Measurement[]): string {
  let top = 8;
  const parts: string[] = [];
  for (const panel of PANELS) {
    const { svg, height } = drawPanel(panel, measurements, top);
    parts.push(svg);
    top += height;
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="-12 0 ${WIDTH + 24} ${top}" width="${WIDTH + 24}" height="${top}" ` +
      'font-family="system-ui, sans-serif" font-size="13" fill="#1f2328">',
    `<rect x="-12" width="${WIDTH + 24}" height="${top}" fill="#ffffff"/>`,
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}

if (import.meta.main) {
  const { measurements } = JSON.parse(readFileSync(LATEST_FILE, 'utf8')) as { measurements: Measurement[] };
  const file = join(ROOT, 'docs/images/bench.svg');
  writeFileSync(file, drawChart(measurements));
  console.log(file);
}
