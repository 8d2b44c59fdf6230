/**
 * All text that may reach a terminal passes through here. Names and messages from databases, branches and brokers may
 * contain control characters, which a terminal obeys, and marks that change the order in which text is shown. They become
 * \uXXXX, which JSON reads as the same character.
 */

/** Control characters (C0, DEL, C1), line separators and bidirectional marks and overrides. */
const OBEYED = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu;

function shownAs(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

/** Lines for a terminal: of the control characters only line feeds and tabs stay. */
export function terminalText(lines: string): string {
  return lines.replace(OBEYED, found => (found === '\n' || found === '\t' ? found : shownAs(found)));
}

/** The same data with each text on one line, for callers that print one line per item. */
export function oneLined<T>(data: T): T {
  // The result has the shape of the input: only texts differ.
  return mapped(data) as T;
}

function mapped(value: unknown): unknown {
  if (typeof value === 'string') return value.replace(OBEYED, shownAs);
  if (Array.isArray(value)) return value.map(mapped);
  if (typeof value !== 'object' || value === null || Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key.replace(OBEYED, shownAs), mapped(each)]));
}
