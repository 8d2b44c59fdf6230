/**
 * How long something takes is the business of the machine, which may have much else to do: no test measures it. A test
 * that waits uses `until` (test/support/until.ts), one that looks at delays or rates has a clock of its own. A heuristic.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';

const TESTS = join(import.meta.dirname, '..');

/** What a stopwatch is made of. To compare a time that the product tells with the present is none. */
const STOPWATCH =
  /performance\.(?:now|mark|measure|timerify)|hrtime|process\.uptime|monitorEventLoopDelay|Date\.now\(\)\s*(?:[-+<>]|\/ *1000 *[-+])|(?:[-+>]|<(?!=))\s*Date\.now\(\)/;

function stopwatches(text: string): string[] {
  return text.split('\n').filter(line => STOPWATCH.test(line.replace(/=>\s*Date/, 'Date')));
}

void t.test('no test measures how long something takes', t => {
  const files = readdirSync(TESTS, { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.test.ts'));
  t.ok(files.length > 100);
  for (const file of files.filter(name => !import.meta.filename.endsWith(name))) {
    t.same(stopwatches(readFileSync(join(TESTS, file), 'utf8')), [], file);
  }
  t.end();
});

void t.test('the heuristic knows a stopwatch when it sees one', t => {
  for (const line of [
    'const began = performance.now();',
    't.ok(Date.now() - began < 3_000);',
    'const end = Date.now() + 30_000;',
    'while (Date.now() < end) await look();',
    'if (end < Date.now()) throw new Error();',
    'const age = Date.now() / 1000 - seen;',
  ]) {
    t.same(stopwatches(line), [line]);
  }
  for (const line of ['now: () => Date.now(),', 't.ok(through() <= Date.now());', 'const after = Date.now();']) {
    t.same(stopwatches(line), []);
  }
  t.end();
});
