import t from 'tap';
import { countTests, describeFile, summarizeFailures } from '../support/tap-output.ts';

const FILE_WITH_TESTS = `# Subtest: test/unit/a.test.ts
    # Subtest: good
        ok 1 - one
        ok 2 - two
        1..2
    ok 1 - good # time=7.15ms

    ok 2 - later # SKIP no server
    # Subtest: bad
        not ok 1 - no
          ---
          source: |
            ok ok
          ...
        1..1
    not ok 3 - bad # time=15ms
      ---
      at: here
      ...
    1..3
not ok 1 - test/unit/a.test.ts # time=29ms
`;

void t.test('tests are counted, whatever they assert inside', t => {
  t.same(countTests(FILE_WITH_TESTS), { passed: 1, failed: 1, skipped: 1 });
  t.end();
});

void t.test('a file that fails without a failing test counts as one failure', t => {
  const crashed = `# Subtest: test/unit/b.test.ts
    ok 1 - good
    1..1
not ok 2 - test/unit/b.test.ts # time=3ms
`;
  t.same(countTests(crashed), { passed: 1, failed: 1, skipped: 0 });
  t.same(countTests(FILE_WITH_TESTS + crashed), { passed: 2, failed: 2, skipped: 1 });
  t.end();
});

void t.test('nothing written is nothing passed', t => {
  t.same(countTests(''), { passed: 0, failed: 0, skipped: 0 });
  t.end();
});

void t.test('a file is told of once it has ended, a failed one with what failed', t => {
  const lines = FILE_WITH_TESTS.trimEnd().split('\n');
  t.equal(describeFile(lines.slice(0, -1)), null);
  const told = describeFile(lines) ?? '';
  t.match(told, /not ok 3 - bad/);
  t.match(told, /FAILED test\/unit\/a\.test\.ts time=29ms$/);
  t.notMatch(told, /ok 1 - one/);
  t.equal(describeFile(['ok 4 - test/unit/c.test.ts # time=3ms']), 'passed test/unit/c.test.ts time=3ms');
  t.end();
});

/** Of a test with a failed assertion in a test inside it, one that threw, and a file that ran out of time. */
const FAILURES = `# Subtest: test/unit/a.test.ts
    # Subtest: outer
        # Subtest: inner
            ok 1 - right
            not ok 2 - one is two
              ---
              at:
                fileName: test/unit/a.test.ts
                lineNumber: 12
              source: |
                not ok 7 - this is text
              diff: |
                --- expected
                +++ actual
                @@ -1,1 +1,1 @@
                -2
                +1
              ...

            1..2
        not ok 1 - inner # time=106.208ms
          ---
          at:
            fileName: test/unit/a.test.ts
            lineNumber: 11
          ...

        1..1
    not ok 1 - outer # time=173.6ms
    # Subtest: throws
        not ok 1 - waited in vain for x
          ---
          at:
            fileName: test/support/until.ts
            lineNumber: 25
          ...

        1..1
    not ok 2 - throws # time=50.7ms
    not ok 3 - later # TODO not yet
    1..3
not ok 1 - test/unit/a.test.ts # time=270.6ms
not ok 2 - test/unit/b.test.ts # time=1800000ms
`;

void t.test('the summary names each failed assertion with its tests, its place and what differs', t => {
  t.same(summarizeFailures(FAILURES, 40), [
    '✗ test/unit/a.test.ts › outer › inner › one is two',
    '    at test/unit/a.test.ts:12',
    '    -2',
    '    +1',
    '✗ test/unit/a.test.ts › throws › waited in vain for x',
    '    at test/support/until.ts:25',
    '✗ test/unit/b.test.ts',
  ]);
  t.end();
});

void t.test('the summary keeps to its lines: first the details go, then the last failures', t => {
  const titles = summarizeFailures(FAILURES, 40).filter(line => line.startsWith('✗'));
  t.same(summarizeFailures(FAILURES, 6), titles);
  t.same(summarizeFailures(FAILURES, 2), [titles[0], '… and 2 more']);
  t.same(summarizeFailures(FILE_WITH_TESTS, 1), ['✗ test/unit/a.test.ts › bad › no']);
  t.end();
});
