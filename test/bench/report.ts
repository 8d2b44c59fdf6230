/**
 * Measurements: how they are made of repeated rounds, shown as a table, and written to test/bench/latest.json.
 *
 * A round measures ours and its rivals one right after the other, so that a busy machine slows all of them; the ratio
 * is taken within each round, and its median, least and greatest over the rounds are reported.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { join } from 'node:path';

export interface Measurement {
  readonly name: string;
  readonly unit: string;
  /** Median over the rounds. */
  readonly ours: number;
  /** The same; null where there is no rival. */
  readonly rival: number | null;
  /** How many times better ours is, median of the rounds; null without a rival. */
  readonly ratio: number | null;
  /** Least and greatest ratio of a round; without a rival, of ours. */
  readonly min: number;
  readonly max: number;
}

export const LATEST_FILE = join(import.meta.dirname, 'latest.json');

export type Better = 'more' | 'less';

/** Ours and a rival over rounds, value by value from the same round. */
export function compared(
  name: string,
  unit: string,
  better: Better,
  ours: readonly number[],
  rival: readonly number[],
): Measurement {
  const rounds = Math.min(ours.length, rival.length);
  if (rounds === 0) throw new Error(`${name} was not measured`);
  const ratios = Array.from({ length: rounds }, (_, round) => {
    const [mine, theirs] = [ours[round]!, rival[round]!];
    return better === 'more' ? mine / theirs : theirs / mine;
  });
  return {
    name,
    unit,
    ours: rounded(median(ours)),
    rival: rounded(median(rival)),
    ratio: rounded(median(ratios)),
    min: rounded(Math.min(...ratios)),
    max: rounded(Math.max(...ratios)),
  };
}

/** A figure without a rival. */
export function alone(name: string, unit: string, values: readonly number[]): Measurement {
  if (values.length === 0) throw new Error(`${name} was not measured`);
  return {
    name,
    unit,
    ours: rounded(median(values)),
    rival: null,
    ratio: null,
    min: rounded(Math.min(...values)),
    max: rounded(Math.max(...values)),
  };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The value below which a share of the values lies (nearest rank). */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const value = sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)];
  if (value === undefined) throw new Error('no values, no percentile');
  return value;
}

/** Four significant digits: more would be noise. */
function rounded(value: number): number {
  return Number(value.toPrecision(4));
}

export interface Report {
  /** A line of progress. */
  say(line: string): void;
  add(...measurements: readonly Measurement[]): void;
  /** Something that must be known to read the figures. */
  note(...lines: readonly string[]): void;
}

export class Reporter implements Report {
  readonly #measurements: Measurement[] = [];
  readonly #notes: string[] = [];
  readonly #started = performance.now();
  readonly #loads: number[] = [];

  say(line: string): void {
    const seconds = ((performance.now() - this.#started) / 1_000).toFixed(0).padStart(4);
    this.#loads.push(loadavg()[0] ?? 0);
    process.stdout.write(`${seconds} s  ${line}\n`);
  }

  add(...measurements: readonly Measurement[]): void {
    this.#measurements.push(...measurements);
  }

  note(...lines: readonly string[]): void {
    this.#notes.push(...lines);
  }

  /** Prints the table and writes the file. */
  finish(versions: readonly string[]): void {
    writeFileSync(LATEST_FILE, `${JSON.stringify({ measurements: this.#measurements }, null, 2)}\n`);
    const load =
      this.#loads.length === 0
        ? '–'
        : `${Math.min(...this.#loads).toFixed(1)} to ${Math.max(...this.#loads).toFixed(1)}`;
    process.stdout.write(
      [
        '',
        ...tableOf(this.#measurements),
        '',
        'ratio: how many times better ours is, the median of the rounds’ own ratios; least and greatest beside it.',
        ...this.#notes.map(note => `· ${note}`),
        '',
        ...machineFacts(),
        ...versions,
        `load average during the run: ${load} (the benchmark’s own load is part of it)`,
        `written to ${LATEST_FILE}`,
        '',
      ].join('\n'),
    );
  }
}

function tableOf(measurements: readonly Measurement[]): string[] {
  const rows = measurements.map(each => [
    each.name,
    number(each.ours),
    each.rival === null ? '' : number(each.rival),
    each.unit,
    each.ratio === null ? '' : each.ratio.toFixed(2),
    `${number(each.min)} … ${number(each.max)}`,
  ]);
  const head = ['measurement', 'ours', 'rival', 'unit', 'ratio', 'least … greatest'];
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map(row => row[column]!.length)));
  const right = new Set([1, 2, 4]);
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => (right.has(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)))
      .join('  ')
      .trimEnd();
  return [line(head), widths.map(width => '─'.repeat(width)).join('  '), ...rows.map(line)];
}

function number(value: number): string {
  if (Math.abs(value) >= 10_000) return Math.round(value).toLocaleString('en-US');
  return String(value);
}

function machineFacts(): string[] {
  const [cpu] = cpus();
  const gib = (totalmem() / 2 ** 30).toFixed(1);
  return [
    `${cpus().length} × ${cpu?.model.trim() ?? 'unknown processor'}, ${gib} GiB, Linux ${release()}, Node ${process.version}`,
  ];
}

/** Resident megabytes of a process: now, and the most it has ever been. */
export function residentMegabytes(pid: number): { readonly now: number; readonly peak: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const read = (field: string): number => Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) / 1024;
  return { now: read('VmRSS'), peak: read('VmHWM') };
}

/** Seconds of processor time that a process has used, user and system. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const TICKS_PER_SECOND = 100;
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}
