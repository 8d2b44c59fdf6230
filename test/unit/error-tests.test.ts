/** Each error code has tests that provoke it and carry out its hint. */
import { readFileSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t from 'tap';
import { ERRORS } from '../../shared/errors.ts';
import { ERROR_TESTS } from '../support/documents/error-tests.ts';

const ROOT = resolve(import.meta.dirname, '../..');

/** What a test file, or a case, is made of. */
function textOf(path: string): string {
  const file = join(ROOT, path);
  return readFileSync(statSync(file).isDirectory() ? join(file, 'expect.yaml') : file, 'utf8');
}

void t.test('each error code has a row, and no row is left over', t => {
  t.same(Object.keys(ERROR_TESTS).sort(), Object.keys(ERRORS).sort());
  t.end();
});

for (const [code, { provokedBy, curedBy, tests }] of Object.entries(ERROR_TESTS)) {
  void t.test(`${code}: its tests are there, and name the code`, t => {
    t.ok(provokedBy.length > 0 && curedBy.length > 0);
    for (const [path, title = ''] of tests) t.ok(textOf(path).includes(title), `${path} “${title}”`);
    t.ok(
      tests.some(([path]) => textOf(path).includes(code)),
      'one of them names it',
    );
    t.end();
  });
}
