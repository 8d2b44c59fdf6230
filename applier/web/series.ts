/** Figures over time for the charts of the page, from the samples in the database. Reads through the page's browser. */
import { HttpError } from '../../shared/process/http.ts';
import { FLEET, sampleOf, samplesStatement, SPANS } from '../store/samples.ts';
import type { Sample } from '../store/samples.ts';
import type { TableBrowser } from './data.ts';

/** What a person can look back on. */
export const RANGES = {
  '24h': { seconds: 86_400, span: SPANS[0].seconds },
  '7d': { seconds: 7 * 86_400, span: SPANS[1].seconds },
  '30d': { seconds: 30 * 86_400, span: SPANS[2].seconds },
} as const;
export type Range = keyof typeof RANGES;

/** Lists of equal length, the oldest first; null: not known, and a line is broken there. */
export interface Series {
  /** null: the whole fleet. */
  readonly branch: string | null;
  readonly range: Range;
  /** Seconds that a point stands for. */
  readonly span: number;
  /** Seconds since 1970 at which the range begins and ends. */
  readonly from: number;
  readonly to: number;
  /** The end of each point's span, seconds since 1970. */
  readonly at: readonly number[];
  /** The largest lag within the span, in seconds; of the fleet that of the worst branch. */
  readonly lag: readonly (number | null)[];
  /** Of the fleet: half of the branches lag less; null for a branch. */
  readonly medianLag: readonly (number | null)[] | null;
  /** The most batches that were not applied within the span. */
  readonly backlog: readonly (number | null)[];
  /** Part of the span that the branch was online, or the average of all branches: 0 to 1. */
  readonly online: readonly (number | null)[];
  /** Rows written and deleted within the span. */
  readonly rows: readonly (number | null)[];
  /** Compressed bytes received within the span. */
  readonly bytes: readonly (number | null)[];
}

/** @param branch null: the whole fleet. @throws HttpError 400 for an unknown range */
export async function readSeries(
  tables: TableBrowser,
  branch: string | null,
  range: string,
  nowMs: number,
): Promise<Series> {
  if (!isRange(range)) throw new HttpError(400, 'BAD_REQUEST', `The range must be ${Object.keys(RANGES).join(', ')}.`);
  const { seconds, span } = RANGES[range];
  const to = Math.floor(nowMs / 1_000);
  const from = to - seconds;
  // One more, from which the first difference is taken.
  const cells = await tables.read(samplesStatement(branch ?? FLEET, span, from - span));
  return seriesOf(cells.map(sampleOf), { branch, range, span, from, to });
}

function isRange(text: string): text is Range {
  return Object.hasOwn(RANGES, text);
}

type Frame = Pick<Series, 'branch' | 'range' | 'span' | 'from' | 'to'>;

interface Point {
  readonly at: number;
  readonly lag: number | null;
  readonly medianLag: number | null;
  readonly backlog: number | null;
  readonly online: number | null;
  readonly rows: number | null;
  readonly bytes: number | null;
}

/** Differences of neighbouring samples. Pure. @param samples the oldest first */
export function seriesOf(samples: readonly (Sample & { readonly at: number })[], frame: Frame): Series {
  const points: Point[] = [];
  for (const [index, sample] of samples.entries()) {
    const before = samples[index - 1];
    if (sample.at <= frame.from) continue;
    const isAfterGap = before !== undefined && sample.at - before.at > frame.span;
    // Nothing was sampled for a while: the line is broken, and what was counted meanwhile shows where it ends.
    if (isAfterGap && before.at + frame.span > frame.from) points.push(unknownAt(before.at + frame.span));
    points.push(pointOf(sample, before));
  }
  const of = <Key extends keyof Point>(key: Key): Point[Key][] => points.map(point => point[key]);
  return {
    ...frame,
    at: of('at'),
    lag: of('lag'),
    medianLag: frame.branch === null ? of('medianLag') : null,
    backlog: of('backlog'),
    online: of('online'),
    rows: of('rows'),
    bytes: of('bytes'),
  };
}

function unknownAt(at: number): Point {
  return { at, lag: null, medianLag: null, backlog: null, online: null, rows: null, bytes: null };
}

function pointOf(
  sample: Sample & { readonly at: number },
  before: (Sample & { readonly at: number }) | undefined,
): Point {
  const { at, lag, medianLag, backlog, branches } = sample;
  if (before === undefined) return { ...unknownAt(at), lag, medianLag, backlog };
  const elapsedMs = (at - before.at) * 1_000;
  const share = branches === 0 ? null : (sample.onlineMs - before.onlineMs) / (elapsedMs * branches);
  return {
    at,
    lag,
    medianLag,
    backlog,
    // The counter moves with each hello, and so may be ahead by the time between two of them.
    online: share === null ? null : Math.round(Math.min(1, Math.max(0, share)) * 1_000) / 1_000,
    rows: Math.max(0, sample.rows - before.rows),
    bytes: Math.max(0, sample.bytes - before.bytes),
  };
}
