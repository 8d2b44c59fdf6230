/** Statuses that pages and `status` commands are tried with: everything in trouble, everything in order. */
import { sentenceOf } from '../../../agent/web/sentence.ts';
import type { SentenceFacts } from '../../../agent/web/sentence.ts';
import type { AgentStatus } from '../../../agent/web/status.ts';
import { fleetPart } from '../../../applier/web/fleet-page.ts';
import type { ApplierStatus, BranchDetail, BranchStatus } from '../../../applier/web/status.ts';
import { makeReport } from '../hand-made/messages.ts';

/** What a hostile branch might put into a name, a message or a row. */
export const HOSTILE = '<script>window.hacked = true</script><img src=x onerror="window.hacked = true">';

function before(now: Date, seconds: number): string {
  return new Date(now.getTime() - seconds * 1000).toISOString();
}

/** With the sentence that belongs to it. */
export function agentStatus(facts: SentenceFacts): AgentStatus {
  return { ...facts, sentence: sentenceOf(facts) };
}

/** Sales of the hours until now, by quarters of an hour. */
function salesOfDay(now: Date): (readonly [number, number])[] {
  const last = Math.floor(now.getTime() / 900_000) * 900;
  return Array.from({ length: 40 }, (_, i) => [last - (39 - i) * 900, Math.round(60 + 50 * Math.sin(i / 5))] as const);
}

/** An agent whose sales are all at the head office. */
export function currentAgent(now = new Date()): AgentStatus {
  const busy = busyAgent(now);
  const { stream, spool } = busy;
  return agentStatus({
    ...busy,
    spool: { ...spool, waitingBatches: 0, waitingBytes: 0, oldestWaitingAt: null },
    stream: { ...stream, confirmed: stream.head, received: stream.head, applied: stream.head },
    link: { ...busy.link, bytesPerSecond: 0, secondsLeft: null, unconfirmedBytes: 0, unsentBytes: 0 },
    snapshot: null,
    headOffice: busy.headOffice && { ...busy.headOffice, appliedSeq: stream.head },
  });
}

/** An agent with a backlog, a snapshot under way and an open link. */
export function busyAgent(now = new Date()): AgentStatus {
  return agentStatus({
    program: 'tributary-agent',
    version: '0.1.0',
    branch: 'paris',
    now: now.toISOString(),
    startedAt: before(now, 93_600),
    state: 'capturing',
    error: null,
    capture: {
      source: 'MySQL 9.7.4 at 127.0.0.1:3306',
      lagSeconds: 0.4,
      capturedThrough: before(now, 1),
      position: { file: 'binlog.000042', offset: 73_400_320, gtidSet: '3e11fa47-71ca-11e1-9e33-c80aa9429562:1-184467' },
      binlogSecondsLeft: 1_209_600,
      transactions: 184_467,
      serverAheadSeconds: 0,
      tables: [
        { schema: 'shop', name: 'product_sales', target: 'product_sales', rows: 1_204_311 },
        { schema: 'shop', name: 'customers', target: 'customers', rows: 5120 },
        { schema: 'crm', name: 'customers', target: 'crm_customers', rows: 87 },
      ],
    },
    spool: {
      waitingBatches: 318,
      waitingBytes: 41_680_896,
      totalBytes: 1_932_735_283,
      maxBytes: 21_474_836_480,
      oldestWaitingAt: before(now, 7_260),
      freeDiskBytes: 81_604_378_624,
      minFreeBytes: 1_073_741_824,
      collapsed: { changes: 12_345, bytes: 1_234_567 },
      secondsUntilFull: 3_110_400,
      history: {
        everySeconds: 60,
        values: Array.from({ length: 120 }, (_, i) => 41_680_896 * (0.4 + 0.6 * Math.abs(Math.sin(i / 17)))),
      },
    },
    stream: { epoch: '9f2c4e7a61b8', head: 20_418, confirmed: 20_130, received: 20_104, applied: 20_100 },
    link: {
      broker: 'hq.example.com:5671',
      up: true,
      windowOpen: true,
      windows: ['08:00-09:30', 'mon-fri 20:00-20:30'],
      timeZone: 'Europe/Paris',
      closesAt: before(now, -2400),
      opensAt: null,
      maxBytesPerSecond: 65_536,
      freshnessSeconds: 0,
      holding: false,
      unsentBytes: 41_680_896,
      traffic: { today: { sent: 1_400_000, received: 300_000 }, month: { sent: 31_000_000, received: 8_000_000 } },
      sentBytes: 912_680_550,
      bytesPerSecond: 63_000,
      secondsLeft: 661,
      unconfirmedBytes: 393_216,
      lastAnswerAt: before(now, 3),
      error: null,
    },
    snapshot: {
      startedAt: before(now, 300),
      secondsLeft: 640,
      tables: [
        { schema: 'shop', name: 'customers', state: 'done', rows: 48_112, estimatedRows: 47_900 },
        { schema: 'shop', name: 'product_sales', state: 'copying', rows: 2_210_000, estimatedRows: 6_900_000 },
        { schema: 'crm', name: 'customers', state: 'waiting', rows: 0, estimatedRows: null },
      ],
    },
    setAside: [],
    sync: null,
    headOffice: {
      heardAt: now.getTime() - 3_000,
      epoch: '9f2c4e7a61b8',
      appliedSeq: 20_100,
      aheadSeconds: 0,
      halted: null,
      said: {
        at: before(now, 3),
        completeThrough: before(now, 7_300),
        incomplete: false,
        quarantined: 0,
        setAsideTables: 0,
        differentTables: 0,
      },
    },
    committed: { everySeconds: 900, slots: salesOfDay(now) },
  });
}

/** The same agent, stopped by a fault and offline; the fault's text is hostile. */
export function stoppedAgent(now = new Date()): AgentStatus {
  const agent = busyAgent(now);
  return agentStatus({
    ...agent,
    state: 'stopped',
    error: {
      code: 'SOURCE_SETTING',
      message: `binlog_row_image is MINIMAL, so rows cannot be captured whole ${HOSTILE}`,
      hint: 'Run SET PERSIST binlog_row_image = FULL; and add binlog_row_image=FULL to my.cnf.',
      since: before(now, 600),
    },
    capture: { ...agent.capture, lagSeconds: 612, source: null },
    spool: { ...agent.spool, totalBytes: 19_900_000_000, secondsUntilFull: 7200 },
    link: { ...agent.link, up: false, windowOpen: false, closesAt: null, opensAt: before(now, -20_000) },
    snapshot: null,
  });
}

function branch(now: Date, id: string, changes: Partial<BranchStatus>): BranchStatus {
  return {
    branch: id,
    state: 'current',
    states: [changes.state ?? 'current'],
    lastSeenAt: before(now, 2),
    completeThrough: before(now, 1),
    lagSeconds: 1.2,
    allowedLagSeconds: 0,
    online: true,
    backlogBatches: 0,
    batchesPerSecond: 0.4,
    rowsPerSecond: 12.5,
    secondsLeft: null,
    expectedAt: null,
    overdueAt: null,
    receivedSeq: 20_418,
    appliedSeq: 20_418,
    rowsWritten: 1_204_311,
    halted: null,
    waiting: null,
    incompleteSince: null,
    quarantined: 0,
    verifiedAt: null,
    setAsideTables: 0,
    stoppedHistories: 0,
    differentTables: 0,
    report: makeReport({
      version: '0.1.0',
      captureLagSeconds: 0.2,
      timeZone: 'Europe/Paris',
      source: 'MySQL 9.7.4 at 127.0.0.1:3306',
    }),
    ...changes,
  };
}

/** A fleet with a branch in each state. */
export function mixedFleet(now = new Date()): ApplierStatus {
  const ordinary = branch(now, 'x', {}).report;
  return fleetOf({
    program: 'tributary-applier',
    version: '0.1.0',
    instance: 'hq-1',
    now: now.toISOString(),
    startedAt: before(now, 400_000),
    target: { name: 'database', up: true, error: null },
    broker: { name: 'broker', up: true, error: null },
    branches: [
      branch(now, 'paris', {}),
      branch(now, 'lyon', { rowsWritten: 88_120 }),
      branch(now, 'marseille', {
        state: 'behind',
        completeThrough: before(now, 5400),
        lagSeconds: 5400,
        backlogBatches: 318,
        appliedSeq: 20_100,
        report: ordinary && {
          ...ordinary,
          spoolBatches: 318,
          spoolBytes: 41_680_896,
          secondsUntilFull: 3_110_400,
          snapshot: { tablesDone: 1, tables: 3, rows: 2_258_112, secondsLeft: 640 },
          windows: ['08:00-09:30'],
        },
      }),
      branch(now, 'nantes', {
        state: 'offline',
        lastSeenAt: before(now, 50_000),
        completeThrough: before(now, 50_100),
        lagSeconds: 50_100,
        backlogBatches: 12,
        expectedAt: before(now, -20_000),
        overdueAt: before(now, -25_400),
      }),
      branch(now, 'toulouse', {
        quarantined: 1,
        state: 'halted',
        states: ['halted', 'incomplete', 'quarantined', 'behind'],
        completeThrough: before(now, 9000),
        lagSeconds: 9000,
        backlogBatches: 44,
        incompleteSince: before(now, 86_400),
        halted: {
          code: 'BATCH_REFUSED',
          seq: 20_375,
          since: before(now, 8_900),
          reason: `product_sales, key 4711: Data too long for column 'region' ${HOSTILE}`,
          hint: 'Mend the table, then `tributary-applier branch retry toulouse`; or `branch quarantine toulouse`.',
        },
      }),
      branch(now, 'rennes', {
        state: 'waiting',
        completeThrough: before(now, 1800),
        lagSeconds: 1800,
        backlogBatches: 9,
        waiting: {
          code: 'TARGET_SETTING',
          reason: `Writing to shop.stock: the server is read-only ${HOSTILE}`,
          hint: 'Run there: SET PERSIST super_read_only = OFF; after a failover, correct target.host.',
          since: before(now, 1_790),
          tries: 64,
        },
      }),
      branch(now, 'nice', {
        state: 'different',
        states: ['different'],
        verifiedAt: before(now, 3_600),
        differentTables: 1,
      }),
      branch(now, 'metz', {
        state: 'set-aside',
        states: ['set-aside', 'incomplete', 'behind'],
        setAsideTables: 1,
        incompleteSince: before(now, 7_200),
        backlogBatches: 5,
      }),
      branch(now, 'dijon', {
        state: 'quarantined',
        states: ['quarantined'],
        incompleteSince: before(now, 172_800),
        quarantined: 3,
      }),
      branch(now, 'brest', {
        state: 'overdue',
        lastSeenAt: before(now, 100_000),
        completeThrough: before(now, 100_100),
        lagSeconds: 100_100,
        backlogBatches: 3,
        expectedAt: before(now, 70_000),
        overdueAt: before(now, 64_600),
      }),
      branch(now, 'lille', {
        state: 'never-seen',
        lastSeenAt: null,
        completeThrough: null,
        lagSeconds: null,
        backlogBatches: null,
        receivedSeq: 0,
        appliedSeq: 0,
        rowsWritten: 0,
        report: null,
      }),
    ],
  });
}

function fleetOf(status: Omit<ApplierStatus, 'fleet'>): ApplierStatus {
  return { ...status, ...fleetPart(status.branches, null) };
}

/** A fleet of so many branches, most of them well, some in every kind of trouble. */
export function largeFleet(size: number, now = new Date()): ApplierStatus {
  const mixed = mixedFleet(now);
  const kinds = mixed.branches;
  const ordinary = kinds[0];
  const branches = Array.from({ length: size }, (_, i) => {
    const kind = i % 17 === 5 ? kinds[i % kinds.length] : ordinary;
    if (kind === undefined) throw new Error('there are kinds');
    return { ...kind, branch: `branch-${String(i + 1).padStart(3, '0')}`, rowsPerSecond: (i * 7) % 40 };
  });
  return fleetOf({ ...mixed, branches });
}

/** A fleet of so many branches, all of them well. */
export function wellFleet(size: number, now = new Date()): ApplierStatus {
  const branches = Array.from({ length: size }, (_, i) => branch(now, `branch-${i + 1}`, {}));
  return fleetOf({ ...mixedFleet(now), branches });
}

/** What the page of one branch is given. */
export function branchDetail(status: BranchStatus, now = new Date()): BranchDetail {
  const columns = [
    { name: 'id', type: 'bigint unsigned', key: true },
    { name: 'region', type: 'varchar(40)', key: false },
    { name: 'amount', type: 'decimal(10,2)', key: false },
    { name: 'sold', type: 'datetime(6)', key: false },
  ];
  return {
    status,
    connectedSince: before(now, 4000),
    addedAt: before(now, 8_000_000),
    epoch: '9f2c4e7a61b8',
    backlog: {
      everySeconds: 60,
      values: Array.from({ length: 150 }, (_, i) => Math.round(200 + 180 * Math.sin(i / 11))),
    },
    tables: ['customers', 'product_sales', 'stock'].map(name => ({
      name,
      sourceSchema: 'shop',
      columns,
      changedAt: before(now, 700_000),
    })),
    snapshots: [{ snapshot: 's1', whole: true, startedAt: before(now, 300), tables: 3, sweptTables: 0, sweptRows: 0 }],
    requests: [
      {
        request: 'r1',
        kind: 'snapshot',
        tables: null,
        reason: 'batch 18102 was quarantined',
        createdAt: before(now, 400),
      },
    ],
    quarantined: [
      { seq: 18_102, reason: `BATCH_REFUSED: stock, key 7: ${HOSTILE}`, quarantinedAt: before(now, 86_400) },
    ],
    stoppedHistories: [
      {
        table: 'sales',
        since: before(now, 3_600),
        code: 'TARGET_SCHEMA',
        reason: 'shop.sales: its history cannot be kept, because it has no key.',
      },
    ],
    setAside: [],
    verified: [
      {
        schema: 'shop',
        name: 'stock',
        verdict: 'different',
        reason: `among 249 rows of the branch and 250 here ${HOSTILE}`,
        verification: 'v1',
        request: 'r2',
        epoch: '9f2c4e7a61b8',
        seq: 18_090,
        buckets: 16,
        differingBuckets: 1,
        branchRows: 3_999,
        rowsHere: 4_000,
        different: true,
        repair: null,
        startedAt: before(now, 3_700),
        endedAt: before(now, 3_600),
        rows: [
          {
            row: '0011223344556677',
            kind: 'changed',
            quarantined: false,
            key: { id: 7 },
            columns: ['price'],
            here: { id: 7, price: '1.50' },
            there: { id: 7, price: '1.75' },
            copiesHere: 1,
            copiesThere: 1,
            places: [],
          },
        ],
      },
    ],
  };
}
