/**
 * A list of branches to add, as CSV: one id a line, or in a column with the head `branch` among others. Pure. All faults
 * are reported at once with their lines, and nothing is done while there is one.
 */
import { BRANCH_ID } from '../../shared/branch-id.ts';
import { TributaryError } from '../../shared/errors.ts';

const MAX_BRANCHES = 10_000;
const MAX_FAULTS_SHOWN = 50;

/** The ids of the list. @param name of the list, for messages. @throws CONFIG_INVALID with every fault as `line N: …` */
export function readBranchList(text: string, name: string): string[] {
  const lines = text.replace(/^\uFEFF/, '').split(/\r?\n/);
  const head = cellsOf(lines.find(line => line.trim() !== '') ?? '').map(cell => cell.toLowerCase());
  const named = head.indexOf('branch');
  const column = Math.max(0, named);
  const faults: string[] = [];
  const seen = new Map<string, number>();
  let headPassed = named < 0;
  lines.forEach((line, i) => {
    if (line.trim() === '' || line.trimStart().startsWith('#')) return;
    if (!headPassed) {
      headPassed = true;
      return;
    }
    const id = cellsOf(line)[column] ?? '';
    const first = seen.get(id);
    if (!BRANCH_ID.test(id)) faults.push(`line ${i + 1}: ${JSON.stringify(id)} must match [a-z0-9][a-z0-9-]{0,62}`);
    else if (first !== undefined) faults.push(`line ${i + 1}: ${id} is in line ${first} already`);
    else seen.set(id, i + 1);
  });
  if (faults.length === 0 && seen.size === 0) faults.push('it names no branch');
  if (seen.size > MAX_BRANCHES) faults.push(`at most ${MAX_BRANCHES} branches at a time`);
  if (faults.length === 0) return [...seen.keys()];
  const more = faults.length > MAX_FAULTS_SHOWN ? `\n  and ${faults.length - MAX_FAULTS_SHOWN} more` : '';
  throw new TributaryError(
    'CONFIG_INVALID',
    `Nothing was added, because of faults in ${name}:\n  ${faults.slice(0, MAX_FAULTS_SHOWN).join('\n  ')}${more}`,
    { hint: 'Correct the lines, then repeat the command.' },
  );
}

/** The cells of one line, with quotes as in RFC 4180, except that a cell holds no line break: no id does. */
function cellsOf(line: string): string[] {
  const separator = line.includes(';') && !line.includes(',') ? ';' : ',';
  return [...`${line}${separator}`.matchAll(separator === ';' ? CELLS_SEMICOLON : CELLS_COMMA)].map(
    ([, quoted, bare]) => (quoted === undefined ? (bare ?? '') : quoted.replaceAll('""', '"')).trim(),
  );
}

const CELLS_COMMA = /\s*(?:"((?:[^"]|"")*)"|([^,]*))\s*,/g;
const CELLS_SEMICOLON = /\s*(?:"((?:[^"]|"")*)"|([^;]*))\s*;/g;
