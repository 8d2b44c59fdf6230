/**
 * For each error code, the tests that provoke it with real parts and carry out its hint. test/unit/error-tests.test.ts
 * holds that none is missing. A new code brings its row, and its test.
 */
import type { ErrorCode } from '../../../shared/errors.ts';

/** A file and a title in it; or the folder of a case. */
type NamedTest = readonly [file: string, title: string] | readonly [folder: string];

export interface ErrorTests {
  readonly provokedBy: string;
  /** What the hint says, as the test does it. */
  readonly curedBy: string;
  readonly tests: readonly NamedTest[];
}

const BRANCH = 'test/integration/hints-branch.test.ts';
const HEAD_OFFICE = 'test/integration/hints-head-office.test.ts';
const BAD_INPUT = 'test/integration/bad-input.test.ts';
const BOUNDS = 'test/integration/bounds.test.ts';
const LINK = 'test/integration/link-told.test.ts';
const MAJORITY = 'test/integration/no-majority.test.ts';
const TROUBLE = 'test/integration/head-office-trouble.test.ts';
const TWINS = 'test/integration/twins.test.ts';

export const ERROR_TESTS: Readonly<Record<ErrorCode, ErrorTests>> = {
  CONFIG_INVALID: {
    provokedBy: 'fields of agent.yaml with wrong values',
    curedBy: 'the fields listed are corrected',
    tests: [[BRANCH, 'CONFIG_INVALID: the fields listed are corrected']],
  },
  CONFIG_UNREADABLE: {
    provokedBy: 'no agent.yaml',
    curedBy: 'the file is put where it belongs',
    tests: [[BRANCH, 'CONFIG_UNREADABLE: the file is put where it belongs']],
  },
  DAEMON_UNREACHABLE: {
    provokedBy: '`tributary-agent sync` without a running agent',
    curedBy: 'the agent is started',
    tests: [[BRANCH, 'DAEMON_UNREACHABLE: the daemon is started']],
  },
  ALREADY_RUNNING: {
    provokedBy: 'a second `tributary-agent run`',
    curedBy: 'the first process is stopped',
    tests: [[BRANCH, 'ALREADY_RUNNING: the other process is stopped']],
  },
  PAGE_UNAVAILABLE: {
    provokedBy: 'another program that listens at http.listen',
    curedBy: 'the port is freed',
    tests: [[BAD_INPUT, 'a page whose port is taken does not stop the daemons, and comes when the port is free']],
  },
  BROKER_BLOCKED: {
    provokedBy: 'a memory alarm at RabbitMQ',
    curedBy: 'the alarm ends',
    tests: [[LINK, 'BROKER_BLOCKED: the alarm ends, and the link carries again']],
  },
  BROKER_UNCONFIRMED: {
    provokedBy: 'two of a cluster’s three nodes that die',
    curedBy: 'the nodes are started',
    tests: [[MAJORITY, 'BROKER_UNCONFIRMED: the nodes are started, and everything moves again']],
  },
  HEAD_OFFICE_SILENT: {
    provokedBy: 'an applier that was stopped',
    curedBy: 'the applier is started',
    tests: [[LINK, 'HEAD_OFFICE_SILENT: the applier is started, and answers']],
  },
  SOURCE_UNREACHABLE: {
    provokedBy: 'a wrong source.port',
    curedBy: 'source.port is corrected',
    tests: [[BRANCH, 'SOURCE_UNREACHABLE: source.port is corrected']],
  },
  SOURCE_ACCESS_DENIED: {
    provokedBy: 'a wrong password, then a user without rights',
    curedBy: 'the password is corrected; the statements that `check` prints are run',
    tests: [[BAD_INPUT, 'a user that is not let in, or lacks rights, is told; once granted, capture begins']],
  },
  SOURCE_SETTING: {
    provokedBy: 'a server with wrong binlog settings',
    curedBy: 'the lines for my.cnf and the statements that `check` prints',
    tests: [
      [BAD_INPUT, 'settings that make capture impossible are told with what mends them; mended, capture begins'],
      ['test/cases/statement-format'],
    ],
  },
  SOURCE_TABLE: {
    provokedBy: 'two tables under one name at the head office',
    curedBy: 'one of them is excluded',
    tests: [[BRANCH, 'SOURCE_TABLE: a table whose name at the head office is taken is excluded']],
  },
  SOURCE_POSITION_LOST: {
    provokedBy: 'a binlog that is reset',
    curedBy: 'nothing: a new epoch begins',
    tests: [['test/integration/reset.test.ts', 'a binlog that is reset while it is read is a lost position, at once']],
  },
  STREAM_ENDED: {
    provokedBy: 'a connection to the branch database that is reset',
    curedBy: 'nothing: capture resumes',
    tests: [[BRANCH, 'STREAM_ENDED: nothing is to be done']],
  },
  EVENT_UNSUPPORTED: {
    provokedBy: 'a compressed transaction that is larger than what is unpacked',
    curedBy: 'compression is switched off, and the files are moved out of spool.directory',
    tests: [[BRANCH, 'EVENT_UNSUPPORTED: compression is switched off, and a new epoch passes the event']],
  },
  EVENT_MALFORMED: {
    provokedBy: 'a damaged byte in a binlog file',
    curedBy: 'the disk is repaired: the file is whole again',
    tests: [
      [
        'test/integration/lasting-faults.test.ts',
        'an event that is damaged in the binlog is told without a pause, until the binlog is whole again',
      ],
    ],
  },
  VALUE_UNSUPPORTED: {
    provokedBy: 'a JSON value of a type that JSON does not have; text that has no meaning in its character set',
    curedBy: 'the value is changed, then `tributary-agent snapshot`',
    tests: [['test/cases/undecodable-json'], ['test/cases/undecodable']],
  },
  SPOOL_CORRUPT: {
    provokedBy: 'a flipped bit in spool.db',
    curedBy: 'the process is started again, and begins a new epoch by itself',
    tests: [[BOUNDS, 'a flipped bit in the spool is found; the next life begins with a snapshot, and no row is wrong']],
  },
  SPOOL_FORMAT: {
    provokedBy: 'the spool of another branch',
    curedBy: 'spool.directory is corrected',
    tests: [[BRANCH, 'SPOOL_FORMAT: spool.directory is corrected']],
  },
  SPOOL_FULL: {
    provokedBy: 'more rows than spool.maxBytes without a link, and a full disk',
    curedBy: 'the link is restored; the disk gets room',
    tests: [
      [BOUNDS, 'a full spool: capture stops reading and says so, and goes on by itself'],
      [BOUNDS, 'a full disk under the spool: nothing is lost, and it goes on when there is room'],
      ['test/integration/capture-faults.test.ts', 'an append that fails voids the connection, not the rows'],
    ],
  },
  SPOOL_IO: {
    provokedBy: 'a disk that refuses writes',
    curedBy: 'the disk is repaired, and the process is started again',
    tests: [
      [
        'test/integration/disk-faults.test.ts',
        'a disk that refuses writes ends the process, with the cure; nothing is lost',
      ],
    ],
  },
  BROKER_UNREACHABLE: {
    provokedBy: 'a wrong port in broker.url',
    curedBy: 'broker.url is corrected',
    tests: [[BRANCH, 'BROKER_UNREACHABLE: broker.url is corrected']],
  },
  BROKER_REFUSED: {
    provokedBy: 'a password that was rotated',
    curedBy: '`tributary-agent enroll FILE` with the new file',
    tests: [
      [BAD_INPUT, 'a broker that does not answer, or refuses, is told; capture goes on, and enrolling again mends it'],
    ],
  },
  BROKER_REJECTED: {
    provokedBy: 'a queue that is full while the applier is stopped',
    curedBy: 'the applier is started',
    tests: [[BRANCH, 'BROKER_REJECTED: the applier is started']],
  },
  BROKER_SETUP: {
    provokedBy: 'a policy that drops batches',
    curedBy: 'the policy that `check` names is removed',
    tests: [
      [
        'test/integration/healing.test.ts',
        '`check` finds a policy that drops batches or limits deliveries, and names it',
      ],
    ],
  },
  BATCH_INVALID: {
    provokedBy: 'a batch that cannot be unpacked',
    curedBy: '`tributary-applier branch quarantine`',
    tests: [[HEAD_OFFICE, "['BATCH_INVALID', Buffer.from('hello')]"]],
  },
  BATCH_REFUSED: {
    provokedBy: 'a CHECK constraint at the head office',
    curedBy: 'the constraint is dropped, then `tributary-applier branch retry`; or `branch quarantine`',
    tests: [
      [HEAD_OFFICE, 'BATCH_REFUSED, BRANCH_HALTED: the table is corrected, and the branch retries'],
      [
        'test/integration/bad-batches.test.ts',
        'quarantine leaves out the refused row alone; its good version and a snapshot make it complete',
      ],
    ],
  },
  BATCH_TOO_LARGE: {
    provokedBy: 'a small batch that unpacks to 300 MiB',
    curedBy: '`tributary-applier branch quarantine`',
    tests: [[HEAD_OFFICE, "['BATCH_TOO_LARGE', zstdCompressSync("]],
  },
  BATCH_VERSION: {
    provokedBy: 'a batch of version 2',
    curedBy: 'no applier knows that version yet: `branch retry` halts again, and `branch quarantine` passes it over',
    tests: [[HEAD_OFFICE, 'BATCH_VERSION: a retry without an upgrade halts again; the batch can be passed over']],
  },
  QUARANTINE_FULL: {
    provokedBy: 'more refused rows than are kept',
    curedBy: '`tributary-applier branch quarantine --whole`',
    tests: [
      [
        'test/integration/quarantine.test.ts',
        'more refused rows than the limit: the branch stays halted and says so; --whole gets past',
      ],
    ],
  },
  MESSAGE_INVALID: {
    provokedBy: 'a hello that lacks its fields',
    curedBy: 'the branch sends a hello of the right form',
    tests: [[HEAD_OFFICE, 'MESSAGE_INVALID: a hello that has another form is followed by one that has the right one']],
  },
  IDENTITY_SHARED: {
    provokedBy: 'a spool that is copied to a second machine',
    curedBy: 'one agent is stopped, and the other is enrolled again',
    tests: [[TWINS, 'a spool copied to a second machine: both say so; exactly one halts, the other is right']],
  },
  EPOCH_SUPERSEDED: {
    provokedBy: 'an enrolment file that is used on a second machine',
    curedBy: '`tributary-agent enroll FILE` on the right machine, and the other one is stopped',
    tests: [[TWINS, 'an enrolment file used twice: the newer machine takes over; `enroll` on the older takes it back']],
  },
  BRANCH_UNKNOWN: {
    provokedBy: '`tributary-applier branch show` of a branch that was not added',
    curedBy: '`tributary-applier branch add`',
    tests: [[HEAD_OFFICE, 'BRANCH_UNKNOWN: the branch is added']],
  },
  BRANCH_HALTED: {
    provokedBy: '`tributary-applier branch verify` of a halted branch',
    curedBy: 'the table is corrected, then `branch retry`; or `branch quarantine`',
    tests: [
      [HEAD_OFFICE, 'BATCH_REFUSED, BRANCH_HALTED: the table is corrected, and the branch retries'],
      [HEAD_OFFICE, 'BRANCH_HALTED: the branch goes on without the batch, and a snapshot makes up for it'],
    ],
  },
  BRANCH_THROTTLED: {
    provokedBy: 'batches that unpack to more than quotas.unpackedPerHour',
    curedBy: 'a larger quotas.unpackedPerHour',
    tests: [['test/integration/told-waiting.test.ts', 'a larger quota lets the branch go on']],
  },
  SYNC_STALLED: {
    provokedBy: '`tributary-agent sync --wait` without a link',
    curedBy: 'the link is restored',
    tests: [[BRANCH, 'SYNC_STALLED: the link is restored']],
  },
  TARGET_UNREACHABLE: {
    provokedBy: 'a wrong target.port',
    curedBy: 'target.port is corrected',
    tests: [[HEAD_OFFICE, 'TARGET_UNREACHABLE: target.port is corrected']],
  },
  TARGET_BUSY: {
    provokedBy: 'a transaction of somebody else that holds a row',
    curedBy: 'that transaction ends',
    tests: [[HEAD_OFFICE, 'TARGET_BUSY: the transaction that holds a row ends']],
  },
  TARGET_FAILED: {
    provokedBy: 'a trigger at the head office that fails',
    curedBy: 'the statement that the hint describes',
    tests: [[TROUBLE, 'a trigger that writes to a table with a column that needs a value']],
  },
  TARGET_ACCESS_DENIED: {
    provokedBy: 'a database user without rights',
    curedBy: 'what `tributary-applier check --grants` prints',
    tests: [[HEAD_OFFICE, 'TARGET_ACCESS_DENIED: what `check --grants` prints is run at the database']],
  },
  TARGET_SETTING: {
    provokedBy: 'a binlog cache that is too small; a server that became read-only',
    curedBy: 'the statement in the hint',
    tests: [
      [TROUBLE, 'a cache of the binlog that is too small for a transaction'],
      [TROUBLE, 'a server that became read-only'],
    ],
  },
  TARGET_SCHEMA: {
    provokedBy: 'a change that rebuilds a large table; column types that do not go together',
    curedBy: '`tributary-applier schema approve`; what the hint says, then `tributary-applier branch retry`',
    tests: [
      ['test/integration/grants.test.ts', 'a large table is rebuilt once that is approved'],
      ['test/cases/incompatible'],
    ],
  },
  INTERNAL: {
    provokedBy: 'code that throws where it must not',
    curedBy: 'nothing that a person could do: what fails ends with its reason, and can be begun again',
    tests: [
      [
        'test/integration/amqp.test.ts',
        'a consumer whose queue is deleted, or whose handler throws, is closed with the reason',
      ],
    ],
  },
};
