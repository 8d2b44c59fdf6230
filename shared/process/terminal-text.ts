/**
 * The one door for text that may reach a terminal: names and messages that come from databases, branches and brokers may
 * hold control characters, which a terminal obeys, and marks that show text in another order than it has. They are shown
 * as \uXXXX, which inside JSON is the very character again.
 */

/** Control characters (C0, DEL, C1), line separators and bidirectional marks and overrides. */
const OBEYED = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu;

function shownAs(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

/** Lines for a terminal: only line feeds and tabs are kept. */
export function terminalText(lines: string): string {
  return lines.replace(OBEYED, found => (found === '\n' || found === '\t' ? found : shownAs(found)));
}

/** The same data with every text in it on one line, for whoever makes lines of it. */
export function oneLined<T>(data: T): T {
  // What comes out has the shape of what went in: only texts differ.
  return mapped(data) as T;
}

function mapped(value: unknown): unknown {
  if (typeof value === 'string') return value.replace(OBEYED, shownAs);
  if (Array.isArray(value)) return value.map(mapped);
  if (typeof value !== 'object' || value === null || Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key.replace(OBEYED, shownAs), mapped(each)]));
}
