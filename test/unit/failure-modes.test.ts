/** The tables of failure modes (docs/explanation) and of attacks (SECURITY.md) name tests that are there. */
import t from 'tap';
import { missingTest, numberedRows } from '../support/documents/named-tests.ts';

const FAILURE_MODES = 31;
const ATTACKS = 31;

for (const [document, count] of [
  ['docs/explanation/failure-modes.md', FAILURE_MODES],
  ['SECURITY.md', ATTACKS],
] as const) {
  const rows = numberedRows(document, 4);
  void t.test(`each row of ${document} has its number`, t => {
    t.same(
      rows.map(([number]) => Number(number)),
      Array.from({ length: count }, (_, i) => i + 1),
    );
    t.end();
  });
  for (const [number, what, , tests = ''] of rows) {
    void t.test(`${document} ${number} ${what}: its tests are there`, t => {
      t.equal(missingTest(tests), null);
      t.end();
    });
  }
}
