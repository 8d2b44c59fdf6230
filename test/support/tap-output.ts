/**
 * Reads what tap has written: counts the tests, and tells of a file what matters.
 *
 * A file is a subtest of the run, indented by nothing and reported after its tests, which are indented by four. A test
 * is what a file reports at that level, with all that it asserts inside. A file that fails without a failing test (it
 * crashed, or ran out of time) counts as one failed test, so that no failure goes uncounted.
 */

export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export const NO_TESTS: Counts = { passed: 0, failed: 0, skipped: 0 };

const RESULT = /^( {4})?(not )?ok\b(.*)$/;
const DIRECTIVE = /# (?:SKIP|TODO)\b/i;

export function countTests(tap: string): Counts {
  let { passed, failed, skipped } = NO_TESTS;
  let failedInFile = 0;
  for (const line of tap.split('\n')) {
    const match = RESULT.exec(line);
    if (match === null) continue;
    const [, indent, not, rest = ''] = match;
    const isFile = indent === undefined;
    if (isFile) {
      if (not !== undefined && failedInFile === 0) failed += 1;
      failedInFile = 0;
    } else if (DIRECTIVE.test(rest)) {
      skipped += 1;
    } else if (not === undefined) {
      passed += 1;
    } else {
      failed += 1;
      failedInFile += 1;
    }
  }
  return { passed, failed, skipped };
}

export function addCounts(a: Counts, b: Counts): Counts {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: a.skipped + b.skipped };
}

/** Lines that say nothing once a file has ended: passed assertions, headings, plans. */
const NOISE = /^\s*(?:$|ok \d|# Subtest:|1\.\.\d+|# time=)/;

/**
 * What there is to say of a file, given all lines since the one before it; null while it goes on. A file that failed
 * is told with everything but what passed.
 */
export function describeFile(lines: readonly string[]): string | null {
  const last = lines.at(-1) ?? '';
  const end = /^(not )?ok \d+ - (.*?)(?: # (.*))?$/.exec(last);
  if (end === null) return null;
  const [, not, file = '', rest = ''] = end;
  if (not === undefined) return `passed ${file} ${rest}`.trimEnd();
  return [...lines.filter(line => !NOISE.test(line) && line !== last), `FAILED ${file} ${rest}`].join('\n');
}
