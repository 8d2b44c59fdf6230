/** Which branches belong to this head office, where several share them: those whose ids match its patterns. Pure. */

/** An id, with `*` for any characters. */
export const BRANCH_PATTERN = /^[a-z0-9*][a-z0-9*-]{0,62}$/;

/** Every branch. */
export const ALL_BRANCHES: readonly string[] = ['*'];

/** Whether one of the patterns matches the id. */
export function isAssigned(branch: string, patterns: readonly string[]): boolean {
  return patterns.some(pattern => matches(branch, pattern));
}

function matches(branch: string, pattern: string): boolean {
  const [first = '', ...parts] = pattern.split('*');
  const last = parts.pop();
  if (last === undefined) return branch === pattern;
  if (!branch.startsWith(first) || !branch.endsWith(last)) return false;
  let at = first.length;
  for (const part of parts) {
    const found = branch.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return at <= branch.length - last.length;
}
