/**
 * Lines for systemd's journal: each begins with its priority (sd-daemon(3)), such as `<4>`, which journald takes off and
 * stores, so that `journalctl -p warning` finds the line.
 */
import { fstatSync } from 'node:fs';

/** Priorities of syslog(3) for pino's levels. */
const PRIORITIES: ReadonlyMap<string, number> = new Map([
  ['trace', 7],
  ['debug', 7],
  ['info', 6],
  ['warn', 4],
  ['error', 3],
  ['fatal', 2],
]);
export const ERROR_PRIORITY = '<3>';

/** The prefix for a line of pino's, which begins with its level: `{"level":"warn",…`. */
export function priorityOf(line: string): string {
  return `<${PRIORITIES.get(/^\{"level":"(\w+)"/.exec(line)?.[1] ?? '') ?? 6}>`;
}

/** Whether this descriptor is systemd's journal: systemd names the device and inode of its socket, as in `9:61223`. */
export function isJournal(descriptor: 1 | 2, environment: NodeJS.ProcessEnv = process.env): boolean {
  const journal = environment['JOURNAL_STREAM'];
  if (journal === undefined) return false;
  const { dev, ino } = fstatSync(descriptor);
  return journal === `${dev}:${ino}`;
}
