/** Which branches belong to a head office, where several share them. */
import t from 'tap';
import { ALL_BRANCHES, BRANCH_PATTERN, isAssigned } from '../../../../applier/branches/assignment.ts';
import { assignmentFindings } from '../../../../applier/check.ts';

await t.test('a pattern matches whole ids', t => {
  for (const [pattern, branch, matches] of [
    ['south-*', 'south-paris', true],
    ['south-*', 'south-', true],
    ['south-*', 'deep-south-paris', false],
    ['*-paris', 'south-paris', true],
    ['*-paris', 'south-paris-2', false],
    ['s*-p*', 'south-paris', true],
    ['*o*t*-*', 'south-paris', true],
    ['so*outh', 'south', false],
    ['*t*o*', 'south', false],
    ['paris', 'paris', true],
    ['paris', 'paris-2', false],
  ] as const) {
    t.equal(isAssigned(branch, [pattern]), matches, `${pattern} ${branch}`);
  }
  t.ok(isAssigned('any', ALL_BRANCHES));
  t.ok(isAssigned('lyon', ['paris', 'lyon']));
  t.end();
});

await t.test('what is no part of an id is no pattern', t => {
  for (const bad of ['', 'South-*', 'south.*', 'south-?', '-south', 'a'.repeat(64), '(a+)+']) {
    t.notMatch(bad, BRANCH_PATTERN, bad);
  }
  for (const good of ['*', '*-paris', 'south-*', 'paris']) t.match(good, BRANCH_PATTERN);
  t.end();
});

await t.test('`check` names the branches that should be elsewhere', t => {
  t.same(assignmentFindings(['*'], ['paris']), []);
  t.same(assignmentFindings(['south-*'], []), []);
  const many = Array.from({ length: 25 }, (_, n) => `north-${n}`);
  t.match(assignmentFindings(['south-*'], ['south-paris', ...many]), [
    {
      level: 'warning',
      subject: 'branches',
      message: /^north-0, .*north-19 and 5 more: here, but not among south-\*$/,
    },
  ]);
  t.end();
});
