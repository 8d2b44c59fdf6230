/** ARCHITECTURE.md's table of failure modes names tests that are there. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import t from 'tap';

const ROOT = resolve(import.meta.dirname, '../..');
const MODES = 25;
/** A path, and a title in it unless it is the folder of a case. */
const NAMED_TEST = /`(test\/[^`]+)`(?: “([^”]+)”)?/g;

const architecture = readFileSync(resolve(ROOT, 'ARCHITECTURE.md'), 'utf8');
const rows = architecture
  .split('\n')
  .map(line => /^\| (\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$/.exec(line))
  .filter(match => match !== null);

void t.test('each failure mode has a row', t => {
  t.same(
    rows.map(([, number]) => Number(number)),
    Array.from({ length: MODES }, (_, i) => i + 1),
  );
  t.end();
});

for (const [, number, mode, , tests = ''] of rows) {
  void t.test(`${number} ${mode}: its tests are there`, t => {
    const named = [...tests.matchAll(NAMED_TEST)];
    t.ok(named.length > 0, 'there is one');
    for (const [, path = '', title] of named) {
      const file = resolve(ROOT, path);
      if (!t.ok(existsSync(file), path)) continue;
      if (statSync(file).isDirectory()) continue;
      t.ok(title !== undefined && readFileSync(file, 'utf8').includes(title), `${path}: ${title}`);
    }
    t.end();
  });
}
