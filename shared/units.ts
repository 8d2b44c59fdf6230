/**
 * Amounts as people write and read them: `20GiB`, `48h`, `1.5 MiB`, `250 ms`. Parsing gives bytes and milliseconds,
 * rounded to the nearest whole number, and refuses amounts beyond 2^53 − 1. Everything that people read is formatted here.
 */

const BYTE_UNITS: ReadonlyMap<string, number> = new Map([
  ['b', 1],
  ['kb', 1e3],
  ['mb', 1e6],
  ['gb', 1e9],
  ['tb', 1e12],
  ['kib', 2 ** 10],
  ['mib', 2 ** 20],
  ['gib', 2 ** 30],
  ['tib', 2 ** 40],
]);

const TIME_UNITS: ReadonlyMap<string, number> = new Map([
  ['ms', 1],
  ['s', 1000],
  ['m', 60_000],
  ['min', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
]);

export const BYTES_RULE = 'must be an amount such as 512KiB, 128MB or 20GiB';
export const DURATION_RULE = 'must be a time such as 500ms, 30s, 10m, 48h or 7d';

function parseAmount(text: string, units: ReadonlyMap<string, number>): number | null {
  const match = /^(\d{1,15}(?:\.\d{1,6})?)\s*([a-z]+)$/i.exec(text.trim());
  const factor = units.get(match?.[2]?.toLowerCase() ?? '');
  if (match?.[1] === undefined || factor === undefined) return null;
  const amount = Math.round(Number(match[1]) * factor);
  return Number.isSafeInteger(amount) ? amount : null;
}

/** `20GiB` → bytes; null if the text is not an amount of bytes. A number without a unit is bytes. */
export function parseBytes(text: string): number | null {
  return /^\d{1,15}$/.test(text.trim()) ? Number(text) : parseAmount(text, BYTE_UNITS);
}

/** `48h` → milliseconds; null if the text is not a time. Only 0 may have no unit. */
export function parseDurationMs(text: string): number | null {
  return text.trim() === '0' ? 0 : parseAmount(text, TIME_UNITS);
}

function trim(amount: number): string {
  return amount >= 100 || Number.isInteger(amount) ? amount.toFixed(0) : amount.toFixed(1);
}

/** Bytes for people: `20 GiB`, `1.5 MiB`, `17 B`. */
export function formatBytes(bytes: number): string {
  let amount = bytes;
  for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
    if (Math.abs(amount) < 1024) return `${trim(amount)} ${unit}`;
    amount /= 1024;
  }
  return `${trim(amount)} TiB`;
}

/** Milliseconds for people, in the largest units that are not 0: `2 d 4 h`, `35 s`, `250 ms`. */
export function formatDuration(ms: number, units = 2): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = Math.floor(ms / 1000);
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'min'],
    [seconds % 60, 's'],
  ];
  const first = parts.findIndex(([amount]) => amount > 0);
  return parts
    .slice(first, first + units)
    .filter(([amount]) => amount > 0)
    .map(([amount, unit]) => `${amount} ${unit}`)
    .join(' ');
}

/** A time in the past for people: `3 min ago`, `just now`, `never`. @param now milliseconds since 1970 */
export function formatAgo(time: string | null, now: number): string {
  if (time === null) return 'never';
  const ms = now - Date.parse(time);
  return ms < 1000 ? 'just now' : `${formatDuration(ms, 1)} ago`;
}

/** A number of things: `1 table`, `2 tables`, `3 batches`. */
export function counted(amount: number, one: string, many = `${one}s`): string {
  return `${amount} ${amount === 1 ? one : many}`;
}
