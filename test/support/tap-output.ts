/**
 * Reads what tap has written: counts the tests, tells of a file what matters, and sums up what failed.
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

/** One failed assertion. */
interface Failure {
  /** The file, the tests around it from the outside in, and what the assertion says. */
  readonly title: string;
  /** What tap tells of it, as YAML. */
  readonly diagnosis: string[];
}

const INDENT = 4;
const TITLE_LENGTH = 400;
const DIFF_LINES = 8;

/** The innermost failures: a test that failed because of one inside it is not told again. */
function failuresIn(tap: string): Failure[] {
  const failures: Failure[] = [];
  /** The tests around the present line, from the outside in. */
  const open: { readonly title: string; readonly failuresBefore: number }[] = [];
  /** Takes the lines of a diagnosis, up to its end. */
  let diagnosis: { readonly end: string; readonly lines: string[] } | null = null;
  for (const line of tap.split('\n')) {
    const indent = line.length - line.trimStart().length;
    const text = line.trim();
    if (diagnosis !== null) {
      if (line === diagnosis.end) diagnosis = null;
      else diagnosis.lines.push(line);
    } else if (text === '---') {
      diagnosis = { end: `${' '.repeat(indent)}...`, lines: failures.at(-1)?.diagnosis ?? [] };
    } else if (text.startsWith('# Subtest: ')) {
      open.length = Math.min(open.length, indent / INDENT);
      open.push({ title: text.slice('# Subtest: '.length), failuresBefore: failures.length });
    } else if (text.startsWith('not ok ') && !DIRECTIVE.test(text)) {
      const ended = open[indent / INDENT];
      open.length = Math.min(open.length, indent / INDENT);
      if (ended !== undefined && failures.length > ended.failuresBefore) continue;
      const said = text.replace(/^not ok \d+(?: - )?/, '').replace(/ # time=\S*$/, '');
      const title = [...open.map(test => test.title), said].join(' › ');
      failures.push({ title: title.slice(0, TITLE_LENGTH), diagnosis: [] });
    }
  }
  return failures;
}

/** Where a failure stands, and the beginning of what differs. */
function detailsOf({ diagnosis }: Failure): string[] {
  const text = diagnosis.join('\n');
  const place = /^ *fileName: (.*)\n *lineNumber: (\d+)$/m.exec(text);
  const diff = /^( *)diff: \|\n((?:\1 +.*(?:\n|$))*)/m.exec(text)?.[2] ?? '';
  const changes = diff.split('\n').filter(line => !/^ *(?:$|--- |\+\+\+ |@@ )/.test(line));
  return [...(place === null ? [] : [`at ${place[1] ?? ''}:${place[2] ?? ''}`]), ...changes.slice(0, DIFF_LINES)];
}

/** The failures of a run in at most so many lines: a line for each, and details where there is room. */
export function summarizeFailures(tap: string, mostLines: number): string[] {
  const failures = failuresIn(tap);
  const whole = failures.flatMap(failure => [
    `✗ ${failure.title}`,
    ...detailsOf(failure).map(detail => `    ${detail.trim()}`),
  ]);
  if (whole.length <= mostLines) return whole;
  const titles = failures.map(({ title }) => `✗ ${title}`);
  if (titles.length <= mostLines) return titles;
  return [...titles.slice(0, mostLines - 1), `… and ${titles.length - mostLines + 1} more`];
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
