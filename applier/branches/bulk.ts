/**
 * One action for several branches: first a list of what would be done and what would be refused, then what a person has
 * confirmed of it.
 *
 * Invariants: a line of the list is made by doing the action and undoing it, under the lock on the branch's row, so the
 * checks are the same. What was confirmed is kept only if it is still what the line said. A branch takes part alone: what
 * one refuses stops no other. All of it ends within WITHIN_MS; what was not reached says so.
 */
import { asTributaryError } from '../../shared/errors.ts';
import { tableText, tableTexts } from '../../shared/table-name.ts';
import { counted } from '../../shared/units.ts';
import type { BranchAdmin, Repair, Retry } from './branch-admin.ts';

export const BULK_ACTIONS = ['verify', 'repair', 'snapshot', 'retry'] as const;
export type BulkAction = (typeof BULK_ACTIONS)[number];

/** Branches at a time: one waits for its lock while another is looked at. */
const AT_A_TIME = 2;
/** With the wait for a lock (10 s) below the time that an answer may take. */
const WITHIN_MS = 8_000;

export interface BulkLine {
  readonly branch: string;
  /** What would be done, or was; null: it is refused. */
  readonly does: string | null;
  /** Why it is not done, and what to do about it; null: it can be done, or was. */
  readonly refused: { readonly reason: string; readonly hint: string } | null;
}

/** What a person has confirmed: `does` as the list said it. */
export interface ConfirmedLine {
  readonly branch: string;
  readonly does: string;
}

export type BulkAdmin = Pick<BranchAdmin, 'judged'>;

/** What the action would do. Changes nothing. */
export function listBulk(admin: BulkAdmin, action: BulkAction, branches: readonly string[]): Promise<BulkLine[]> {
  return forEach(branches, same, async branch => line(branch, await perform(admin, action, branch, () => false)));
}

/** Does what was confirmed. */
export function doBulk(admin: BulkAdmin, action: BulkAction, confirmed: readonly ConfirmedLine[]): Promise<BulkLine[]> {
  return forEach(confirmed, branchOf, async ({ branch, does }) => {
    const now = await perform(admin, action, branch, text => text === does);
    if (now === does || now === null) return line(branch, now);
    return refused(branch, `It has changed since the list was made: now it ${now}.`, 'Make the list again.');
  });
}

const same = (branch: string): string => branch;
const branchOf = ({ branch }: ConfirmedLine): string => branch;

/** What each action returns, by which its text is told. */
type Done = Retry | Repair | { readonly request: string; readonly tables: unknown } | string;

/** @param keeps whether what has this text is kept @returns the text */
async function perform(
  admin: BulkAdmin,
  action: BulkAction,
  branch: string,
  keeps: (text: string | null) => boolean,
): Promise<string | null> {
  return textOf(
    await actionOf(
      admin.judged(done => keeps(textOf(done as Done))),
      action,
      branch,
    ),
  );
}

function actionOf(admin: BranchAdmin, action: BulkAction, branch: string): Promise<Done> {
  switch (action) {
    case 'verify':
      return admin.verify(branch, []);
    case 'repair':
      return admin.repair(branch);
    case 'snapshot':
      return admin.snapshot(branch, 'requested on the page');
    case 'retry':
      return admin.retry(branch);
  }
}

/** What was done, after the branch's name; null: there was nothing to do. */
function textOf(done: Done): string | null {
  if (typeof done === 'string') return 'copies all its tables again';
  if ('batch' in done) return `tries batch ${done.batch} again`;
  if ('whole' in done) return repairText(done);
  if ('request' in done) return 'compares all its tables with the head office';
  return `sends ${tableTexts(done.tables)} again, set aside until then`;
}

/** What a repair sends, after the branch's name; null: nothing, or it is requested already. */
export function repairText({ rows, copied, whole }: Repair): string | null {
  const sends = rows.filter(each => each.rows > 0).map(each => `${counted(each.rows, 'row')} of ${tableText(each)}`);
  const copies = copied.map(each => `all of ${tableText(each)}`);
  if (sends.length + copies.length === 0) return null;
  return whole ? 'sends all its tables' : `sends ${[...sends, ...copies].join(', ')}`;
}

function line(branch: string, does: string | null): BulkLine {
  if (does !== null) return { branch, does, refused: null };
  return refused(
    branch,
    'No table was different when it was last compared, or the repair is requested already.',
    'Compare first.',
  );
}

function refused(branch: string, reason: string, hint: string): BulkLine {
  return { branch, does: null, refused: { reason, hint } };
}

/** In the given order. */
async function forEach<T>(
  items: readonly T[],
  nameOf: (item: T) => string,
  work: (item: T) => Promise<BulkLine>,
): Promise<BulkLine[]> {
  const endsAt = performance.now() + WITHIN_MS;
  const lines: BulkLine[] = [];
  const left = items.entries();
  const lane = async (): Promise<void> => {
    for (const [place, item] of left) {
      const branch = nameOf(item);
      if (performance.now() > endsAt) {
        lines[place] = refused(branch, 'There was no time left for it.', 'Make the list again, with fewer branches.');
        continue;
      }
      try {
        lines[place] = await work(item);
      } catch (error) {
        const { message, hint } = asTributaryError(error);
        lines[place] = refused(branch, message, hint);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, lane));
  return lines;
}
