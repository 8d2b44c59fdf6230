/** Tests that documents name: a path, and a title in it unless it is the folder of a case. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';

const ROOT = resolve(import.meta.dirname, '../../..');
const NAMED_TEST = /`(test\/[^`]+)`(?: “([^”]+)”)?/g;

/** Rows of a Markdown table that begin with a number: their cells. */
export function numberedRows(document: string, cells: number): string[][] {
  const row = new RegExp(`^\\| (\\d+) ${'\\| ([^|]+) '.repeat(cells - 1)}\\|$`);
  return readFileSync(resolve(ROOT, document), 'utf8')
    .split('\n')
    .flatMap(line => {
      const match = row.exec(line);
      return match === null ? [] : [match.slice(1)];
    });
}

/** What is wrong with the tests that a text names; null: they are all there, and there is one. */
export function missingTest(text: string): string | null {
  const named = [...text.matchAll(NAMED_TEST)];
  if (named.length === 0) return 'no test is named';
  for (const [, path = '', title] of named) {
    const file = resolve(ROOT, path);
    if (!existsSync(file)) return `${path} is not there`;
    if (statSync(file).isDirectory()) continue;
    if (title === undefined || !readFileSync(file, 'utf8').includes(title)) return `${path} has no ${String(title)}`;
  }
  return null;
}
