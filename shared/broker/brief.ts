/**
 * Brief hellos and answers: most of what a hello says is what the last one said. A brief message names the one that it
 * builds on (`since`) and has only what has changed; the receiver completes it. Both sides send one only if the other has
 * said that it knows this (KNOWS_BRIEF), and only on top of a message that the other has for certain. Pure.
 */
import { isDeepStrictEqual } from 'node:util';

type Fields = Readonly<Record<string, unknown>>;

/** A message that was not completed yet. */
export interface BriefMessage {
  /** The nonce of the hello that it builds on, or to which the answer was that it builds on. */
  readonly since: string;
  readonly changes: Fields;
}

/** Of these a part may be said. */
const IN_PARTS = 'report';
/** When a hello was made is of no use to anybody but its reader, and changes each time. */
const NEVER = 'sentAt';

/**
 * What has changed. @param always what is said in any case
 * @returns null: a brief message cannot say it, because something is gone
 */
export function briefOf(base: object, next: object, since: string, always: Fields): object | null {
  const changes = changesOf(base as Fields, next as Fields);
  return changes === null ? null : { ...always, since, ...changes };
}

/** The message that a brief one stands for. It must still be validated. */
export function completed(base: object, { changes }: BriefMessage): Fields {
  return merged(base as Fields, changes);
}

/** null: it is no brief message. */
export function asBrief(value: unknown): BriefMessage | null {
  if (!isFields(value)) return null;
  const { since, ...changes } = value;
  return typeof since === 'string' ? { since, changes } : null;
}

function changesOf(base: Fields, next: Fields): Fields | null {
  const said = (key: string): boolean => next[key] !== undefined;
  if (Object.keys(base).some(key => base[key] !== undefined && !said(key))) return null;
  const changes: Record<string, unknown> = {};
  for (const key of Object.keys(next)) {
    const [before, now] = [base[key], next[key]];
    if (key === NEVER || !said(key) || isDeepStrictEqual(before, now)) continue;
    if (key === IN_PARTS && isFields(before) && isFields(now)) {
      const parts = changesOf(before, now);
      if (parts === null) return null;
      changes[key] = parts;
    } else changes[key] = now;
  }
  return changes;
}

function merged(base: Fields, changes: Fields): Fields {
  const changed = Object.entries(changes).map(([key, value]): [string, unknown] => {
    const before = base[key];
    return [key, key === IN_PARTS && isFields(before) && isFields(value) ? merged(before, value) : value];
  });
  // No assignment: a hostile key must not reach a prototype.
  return Object.fromEntries([...Object.entries(base), ...changed]);
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
