/** What can be done about a branch from its page: buttons, the questions behind them, and the POSTs. */
import { banner, button, h } from '/assets/elements.js';
import { statePills, troublesOf } from '/assets/fleet.js';
import { count, plural, tableText } from '/assets/numbers.js';
import { act, confirmAction, messageOf, notice } from '/assets/server.js';
import { ago } from '/assets/times.js';

/** @import { BranchDetail, BranchStatus } from '../status.ts' */

/**
 * @param {string} branch
 * @param {'retry' | 'quarantine' | 'approve' | 'snapshot' | 'verify' | 'repair'} action
 * @param {object} [body]
 */
async function run(branch, action, body) {
  try {
    const answer = await act('applier', `/api/branches/${encodeURIComponent(branch)}/${action}`, 'operate', body);
    if (answer === null) return;
    notice('good', /** @type {{ said: string }} */ (answer).said);
    document.dispatchEvent(new Event('tributary:changed'));
  } catch (error) {
    notice('bad', messageOf(error));
  }
}

/**
 * Name and state of the branch, and what can always be done.
 * @param {BranchDetail} detail
 */
export function head({ status }) {
  const { branch } = status;
  const compare = button('Compare', 'compare', '', () => run(branch, 'verify'));
  compare.title =
    'Proves that the head office holds exactly the rows of the branch, or says in which tables it does not';
  const snapshot = button('Copy all tables again', 'snapshot', '', async () => {
    const sure = await confirmAction(
      `Copy all tables of ${branch} again?`,
      ['The branch reads all its rows again and sends them, while changes go on. Its link carries all of its tables.'],
      'Copy again',
    );
    if (sure) await run(branch, 'snapshot');
  });
  const states = h('div', 'states', statePills(status));
  return h('div', 'branch-head', [h('h2', 'branch-title', branch), states, h('span', 'spacer'), compare, snapshot]);
}

/**
 * What is wrong with the branch, with what can be done about it.
 * @param {BranchDetail} detail
 */
export function troubles(detail) {
  return h(
    'div',
    'troubles',
    troublesOf(detail.status).map(({ kind, title, text, hint }) =>
      banner(kind, title, text, hint, actionsFor(title, detail)),
    ),
  );
}

/**
 * What a person can do about a problem, if that is decided on this page.
 * @param {string} title
 * @param {BranchDetail} detail
 */
function actionsFor(title, detail) {
  const { status } = detail;
  if (status.halted !== null && title === status.halted.code) return haltActions(status.branch, status.halted);
  return title === 'Different' ? differenceActions(detail) : null;
}

/**
 * Repair sends the rows that differ, or copies the table; only another comparison shows whether that has ended the
 * difference.
 * @param {BranchDetail} detail
 */
function differenceActions({ status: { branch }, verified: compared, requests }) {
  const different = compared.filter(each => each.different);
  const open = different.some(({ repair }) => requests.some(({ request }) => request === repair));
  const repaired = !open && different.length > 0 && different.every(({ repair }) => repair !== null);
  const repair = button('Repair', 'repair', repaired ? '' : 'primary', async () => {
    const sure = await confirmAction(
      `Repair ${plural(different.length, 'table', 'tables')} of ${branch}?`,
      [
        `${branch} sends the rows that differ, or the whole table where they are not known, while changes go on: ${different.map(tableText).join(', ')}.`,
        'What the head office had is kept in tributary_repair.',
        'If the head office holds a table that the branch does not have, the branch copies all of its tables.',
      ],
      'Repair',
    );
    if (sure) await run(branch, 'repair');
  });
  repair.disabled = open;
  const compare = button('Compare again', 'compare-again', repaired ? 'primary' : '', () => run(branch, 'verify'));
  const note = open
    ? 'The repair is under way, or waits for the branch to come online.'
    : repaired
      ? 'The repair has ended.'
      : null;
  return h('div', 'actions', [repair, compare, note === null ? null : h('span', 'muted small', note)]);
}

/**
 * @param {string} branch
 * @param {NonNullable<BranchStatus['halted']>} halted
 */
function haltActions(branch, halted) {
  const retry = button('Retry', 'retry', 'primary', () => run(branch, 'retry'));
  const approve = button('Allow the change', 'approve', '', async () => {
    const sure = await confirmAction(
      'Allow the change?',
      [
        halted.reason,
        'The head office may create, change and rebuild tables for it. Large tables take time, and other branches that write to them wait.',
      ],
      'Allow',
    );
    if (sure) await run(branch, 'approve');
  });
  const leave = button('Skip what is refused', 'quarantine', '', async () => {
    const sure = await confirmAction(
      `Skip what the head office refuses of batch ${count(halted.seq)}?`,
      [
        `The refused rows go into quarantine. The head office applies the rest of the batch, and ${branch} goes on. If nobody can read the batch, all of it is skipped and kept.`,
        `${branch} is incomplete until a snapshot has copied what is missing. The head office asks for it at once.`,
      ],
      'Skip',
    );
    if (sure) await run(branch, 'quarantine', { seq: halted.seq });
  });
  const since = h('span', 'muted small', [`batch ${count(halted.seq)}, halted `, ago(halted.since)]);
  return h('div', 'actions', [retry, halted.code === 'TARGET_SCHEMA' ? approve : null, leave, since]);
}
