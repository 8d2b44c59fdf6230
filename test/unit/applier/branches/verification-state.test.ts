/** What somebody who waits for a verification is told. */
import t from 'tap';
import { answering, requireAtWork, stageOf } from '../../../../applier/branches/verification-state.ts';
import type { AskedVerification, VerificationState } from '../../../../applier/branches/verification-state.ts';
import type { VerifiedTable, VerifyVerdict } from '../../../../applier/store/verifications.ts';
import type { BranchRow } from '../../../../applier/store/branch-row.ts';
import type { AgentReport, Hello } from '../../../../shared/protocol.ts';
import { makeHello, makeReport } from '../../../support/hand-made/messages.ts';

const NOW = Date.parse('2026-11-26T10:00:00Z');
const ago = (seconds: number): string => new Date(NOW - seconds * 1_000).toISOString();
const DIGEST = 'a'.repeat(64);
const ASKED: AskedVerification = { branch: 'paris', request: 'mine', tables: null, at: ago(60) };

const ROW: BranchRow = {
  branch: 'paris',
  stream: {
    epoch: 'e2',
    superseded: ['e1'],
    instance: 'i',
    received: { seq: 7, digest: DIGEST },
    applied: { seq: 7, digest: DIGEST },
  },
  batchNumber: 7,
  state: 'active',
  halt: null,
  position: null,
  capturedThrough: null,
  incompleteSince: null,
  incompleteBatch: 0,
  incompleteUntil: 'snapshot',
  quarantined: 0,
  verifiedAt: null,
  differentTables: 0,
  setAsideTables: 0,
  stoppedHistories: 0,
  createdAt: ago(9_999),
};

function hello(report: Partial<AgentReport>, rest: Partial<Hello> = {}): Hello {
  return makeHello({
    epoch: 'e2',
    head: { seq: 7, digest: DIGEST },
    confirmed: 7,
    sentAt: ago(1),
    report: makeReport({ version: '1', capabilities: ['verify'], captureLagSeconds: 0, ...report }),
    ...rest,
  });
}

function contact(said: Hello, seconds: number): VerificationState['contact'] {
  const completeness = { through: null, pending: [] };
  return { branch: 'paris', lastSeen: ago(seconds), connectedSince: null, hello: said, completeness };
}

const ONLINE: VerificationState = { row: ROW, contact: contact(hello({}), 2), isOpen: true, before: null, tables: [] };

function table(name: string, verdict: VerifyVerdict, more: Partial<VerifiedTable> = {}): VerifiedTable {
  return {
    schema: 'shop',
    name,
    verdict,
    reason: null,
    verification: 'v',
    request: 'mine',
    epoch: 'e2',
    seq: 7,
    buckets: 1,
    differingBuckets: null,
    branchRows: null,
    rowsHere: null,
    different: false,
    repair: null,
    startedAt: ago(30),
    endedAt: null,
    rows: [],
    ...more,
  };
}

void t.test('what a request waits for that the branch has not begun', t => {
  const said = (state: Partial<VerificationState>): string => stageOf(ASKED, { ...ONLINE, ...state }, NOW).text;
  t.match(said({}), /paris is online, and gets the request/);
  t.match(said({ contact: null }), /paris was never seen/);
  t.equal(
    said({ contact: contact(hello({ windows: ['20:00-21:00'] }), 600) }),
    'paris is offline, last seen at 2026-11-26T09:50:00Z; its link opens at 2026-11-26T20:00:00Z',
  );
  t.equal(said({ contact: contact(hello({}), 60) }), 'paris is offline, last seen at 2026-11-26T09:59:00Z');
  t.match(said({ contact: contact(hello({}), 3 * 86_400) }), /paris is overdue, last seen at 2026-11-23T10:00:00Z: /);
  t.match(said({ contact: contact(hello({}, { epoch: 'e1' }), 600) }), /superseded and does nothing: .*agent status/);
  t.match(said({ before: 'other' }), /verification other comes first/);
  t.match(
    said({ contact: contact(hello({ state: 'stopped', error: 'E: why — cure' }), 1) }),
    /does not capture .*: E: why/,
  );
  t.match(said({ contact: contact(hello({ state: 'full' }), 1) }), /does not capture now \(full\)/);
  t.match(said({ contact: contact(hello({ capabilities: [] }), 1) }), /the agent at paris \(1\) cannot compare tables/);
  const snapshot = { tablesDone: 2, tables: 9, rows: 5, secondsLeft: 90 };
  t.match(
    said({ contact: contact(hello({ snapshot }), 1) }),
    /snapshot of paris comes first: 2 of 9 tables done, 1 min 30 s left/,
  );
  t.match(said({ contact: contact(hello({}, { head: { seq: 507, digest: DIGEST } }), 1) }), /500 batches of paris/);
  t.end();
});

void t.test('how far it is, and what it waits for then', t => {
  const tables = [table('a', 'equal'), table('b', 'counting'), table('c', 'counting', { startedAt: ago(20) })];
  const at = stageOf(ASKED, { ...ONLINE, tables }, NOW);
  t.equal(at.text, '1 of 3 tables compared; being compared for 30 s: shop.b, shop.c');
  t.equal(stageOf(ASKED, { ...ONLINE, tables }, NOW + 1_000).key, at.key, 'time alone is no news');
  const offline = stageOf(ASKED, { ...ONLINE, tables, contact: contact(hello({}), 60) }, NOW);
  t.match(offline.text, /^1 of 3 tables compared; .*paris is offline/);
  t.not(offline.key, at.key);
  const answered = stageOf(ASKED, { ...ONLINE, tables, isOpen: false, contact: contact(hello({}), 60) }, NOW);
  t.notMatch(answered.text, /offline/, 'what is counted here needs no branch');
  t.end();
});

void t.test('a branch that was removed or stands still keeps nobody waiting', t => {
  requireAtWork(ROW);
  t.throws(() => requireAtWork({ ...ROW, state: 'removed' }), { code: 'BRANCH_UNKNOWN', message: /was removed/ });
  const halt = { code: 'BATCH_REFUSED', reason: 'too long — mend it', seq: 8, digest: DIGEST, since: ago(5) };
  t.throws(() => requireAtWork({ ...ROW, state: 'halted', halt }), {
    code: 'BRANCH_HALTED',
    message: 'Branch paris is halted at batch 8 since 2026-11-26T09:59:55Z. BATCH_REFUSED: too long — mend it',
    hint: /branch retry/,
  });
  t.end();
});

void t.test('a request is answered by its own comparisons, and once over by later ones of the same tables', t => {
  const own = table('a', 'equal');
  const later = table('b', 'counting', { request: 'other', startedAt: ago(10) });
  const older = table('c', 'different', { request: 'old', startedAt: ago(600) });
  const all = [own, later, older];
  t.strictSame(answering(ASKED, false, all), [own]);
  t.strictSame(answering(ASKED, true, all), [own, later]);
  const ofA = { ...ASKED, tables: [{ schema: 'shop', name: 'a' }] };
  t.strictSame(answering(ofA, true, all), [own]);
  t.end();
});
