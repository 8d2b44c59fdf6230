import t from 'tap';
import { zstdCompressSync } from 'node:zlib';
import { EVENT } from '../../../../agent/binlog/events.ts';
import type { RawEvent } from '../../../../agent/binlog/events.ts';
import { GroupReader } from '../../../../agent/binlog/group-reader.ts';
import { BinlogRestart } from '../../../../agent/binlog-restart.ts';
import { RolledBackRows } from '../../../../agent/binlog/rolled-back-rows.ts';
import type { TributaryError } from '../../../../shared/errors.ts';
import { EventMaker } from '../../../support/hand-made/binlog-bytes.ts';
import { RecordingSink } from '../../../support/hand-made/binlog-recorder.ts';

const GTID = '3e11fa47-71ca-11e1-9e33-c80aa9429562';

function read(make: (maker: EventMaker) => RawEvent[], schema = 'shop') {
  const maker = new EventMaker();
  const sink = new RecordingSink(schema);
  const reader = new GroupReader(sink);
  for (const event of [maker.rotate('binlog.000007', 4), ...make(maker)]) reader.handle(event);
  return { sink, reader, maker };
}

/** The code and hint of what reading these events throws. */
function failure(make: (maker: EventMaker) => RawEvent[], schema = 'shop'): { code: string; hint: string } {
  try {
    read(make, schema);
  } catch (error) {
    return error as TributaryError;
  }
  return { code: 'nothing was thrown', hint: '' };
}

const insert = (m: EventMaker) => [
  m.tableMap(1, 't'),
  m.rows(EVENT.writeRows, 1, [
    [1, 'a'],
    [2, null],
  ]),
];

void t.test('a transaction is one group with its place, time, rows and end', t => {
  const { sink } = read(m => [m.gtid(5), m.query('BEGIN'), ...insert(m), m.xid()]);
  const [group] = sink.groups;
  t.equal(sink.groups.length, 1);
  t.same(group?.start, {
    gtid: `${GTID}:5`,
    file: 'binlog.000007',
    startOffset: 4,
    committedAt: '2023-11-14T22:13:20.123456Z',
    originallyAt: '2023-11-14T22:13:20.123456Z',
    timestamp: 1_700_000_000,
  });
  t.match(group?.end, { gtid: `${GTID}:5`, file: 'binlog.000007', fingerprint: /^[0-9a-f]{8}$/ });
  t.same(
    group?.changes.map(({ op, after }) => [op, after]),
    [
      [
        'insert',
        [
          [1, 'a'],
          [2, null],
        ],
      ],
    ],
  );
  t.same(group?.changes[0]?.definition?.columns, [
    { name: 'id', type: 'int', key: 1, nullable: false, invisible: false },
    { name: 'name', type: 'varchar(10)', nullable: true, invisible: false },
  ]);
  t.end();
});

void t.test('the same group has the same fingerprint wherever it lies, another one a different one', t => {
  const make = (id: number) => (m: EventMaker) => [
    m.gtid(5),
    m.query('BEGIN'),
    m.tableMap(1, 't'),
    m.rows(EVENT.writeRows, 1, [[id, 'a']]),
    m.xid(),
  ];
  const first = read(make(1)).sink.groups[0]?.end.fingerprint;
  const elsewhere = read(m => [m.gtid(4), m.query('DROP TABLE x'), ...make(1)(m)]).sink.groups[1]?.end.fingerprint;
  t.equal(elsewhere, first);
  t.not(read(make(2)).sink.groups[0]?.end.fingerprint, first);
  t.end();
});

void t.test('updates hand over both images, deletes the before image', t => {
  const { sink } = read(m => [
    m.gtid(1),
    m.query('BEGIN'),
    m.tableMap(1, 't'),
    m.rows(EVENT.updateRows, 1, [
      [1, 'a'],
      [1, 'b'],
      [2, 'x'],
      [3, 'x'],
    ]),
    m.tableMap(1, 't'),
    m.rows(EVENT.deleteRows, 1, [[9, 'z']]),
    m.xid(),
  ]);
  t.same(
    sink.groups[0]?.changes.map(({ op, before, after }) => [op, before, after]),
    [
      [
        'update',
        [
          [1, 'a'],
          [2, 'x'],
        ],
        [
          [1, 'b'],
          [3, 'x'],
        ],
      ],
      ['delete', [[9, 'z']], []],
    ],
  );
  t.end();
});

void t.test('a statement without BEGIN is a group of its own', t => {
  const { sink } = read(m => [m.gtid(1), m.query('TRUNCATE `t`'), m.gtid(2), m.query('ALTER TABLE t ADD x INT')]);
  t.same(
    sink.groups.map(({ changes }) => changes[0]?.op),
    ['truncate', 'ddl'],
  );
  t.equal(sink.groups[1]?.start.startOffset, sink.groups[0]?.end.endOffset);
  t.end();
});

void t.test('CREATE TABLE … SELECT is one group: the definition, then its rows', t => {
  const { sink } = read(m => [
    m.gtid(1),
    m.query('BEGIN'),
    m.query('CREATE TABLE `t` (`id` int) START TRANSACTION'),
    ...insert(m),
    m.xid(),
  ]);
  t.same(
    sink.groups.map(({ changes }) => changes.map(({ op }) => op)),
    [['ddl', 'insert']],
  );
  t.end();
});

void t.test('rows of tables that nobody wants are not even looked at', t => {
  const { sink } = read(
    m => [
      m.gtid(1),
      m.query('BEGIN'),
      m.tableMap(1, 't', { names: false, collation: 1 }),
      m.rows(EVENT.writeRows, 1, [[1, 'a']], 0b01),
      m.xid(),
    ],
    'other',
  );
  t.equal(sink.groups[0]?.changes.length, 0);
  t.end();
});

void t.test('rows without their TableMap are an error, also when an earlier statement had one', t => {
  t.equal(failure(m => [m.gtid(1), m.query('BEGIN'), m.rows(EVENT.writeRows, 1, [[1, 'a']])]).code, 'EVENT_MALFORMED');
  const again = failure(m => [m.gtid(1), m.query('BEGIN'), ...insert(m), m.rows(EVENT.writeRows, 1, [[1, 'a']])]);
  t.equal(again.code, 'EVENT_MALFORMED');
  t.end();
});

void t.test('settings that lose information are named with the statement that mends them', t => {
  const inGroup = (...events: ((m: EventMaker) => RawEvent)[]) =>
    failure(m => [m.gtid(1), m.query('BEGIN'), ...events.map(event => event(m))]);
  const minimal = inGroup(
    m => m.tableMap(1, 't'),
    m => m.rows(EVENT.writeRows, 1, [[1, 'a']], 0b01),
  );
  t.equal(minimal.code, 'SOURCE_SETTING');
  t.match(minimal.hint, /binlog_row_image = 'FULL'/);
  const statement = inGroup(m => m.query('INSERT INTO t VALUES (1)'));
  t.equal(statement.code, 'SOURCE_SETTING');
  t.match(statement.hint, /binlog_format = 'ROW'/);
  t.equal(inGroup(m => m.tableMap(1, 't', { collation: 1 })).code, 'VALUE_UNSUPPORTED');
  const text = inGroup(
    m => m.tableMap(1, 't'),
    m => {
      const event = m.rows(EVENT.writeRows, 1, [[1, 'aaa']]);
      event.body.write('\xff', event.body.length - 1, 'latin1');
      return event;
    },
  );
  t.equal(text.code, 'VALUE_UNSUPPORTED');
  t.end();
});

void t.test(
  'rows that were undone are passed by when the group is read again, whichever savepoint they go back to',
  t => {
    const undone = new RolledBackRows();
    const look = (make: (m: EventMaker) => RawEvent[]): RecordingSink => {
      for (let looks = 0; looks < 4; looks += 1) {
        const sink = new RecordingSink('shop');
        const reader = new GroupReader(sink, null, undefined, undone);
        const maker = new EventMaker();
        try {
          for (const event of [maker.rotate('binlog.000001', 4), ...make(maker)]) reader.handle(event);
          return sink;
        } catch (error) {
          if (!(error instanceof BinlogRestart)) throw error;
        }
      }
      throw new Error('looked again too often');
    };
    const rows = (sink: RecordingSink) => sink.groups.map(group => group.changes.length);
    const begin = (m: EventMaker, gtid: number) => [m.gtid(gtid), m.query('BEGIN')];
    t.same(rows(look(m => [...begin(m, 1), ...insert(m), m.query('ROLLBACK')])), [0]);
    const nested = look(m => [
      ...begin(m, 2),
      ...insert(m),
      m.query('SAVEPOINT `A`'),
      ...insert(m),
      m.query('SAVEPOINT b'),
      ...insert(m),
      m.query('ROLLBACK TO b'),
      ...insert(m),
      m.query('ROLLBACK TO SAVEPOINT a'),
      ...insert(m),
      m.xid(),
      ...begin(m, 3),
      ...insert(m),
      m.xid(),
    ]);
    t.same(rows(nested), [2, 1]);
    const twice = look(m => [
      ...begin(m, 4),
      ...insert(m),
      m.query('SAVEPOINT a'),
      ...insert(m),
      m.query('SAVEPOINT /* again */ A'),
      ...insert(m),
      ...insert(m),
      m.query('ROLLBACK TO a'),
      m.xid(),
    ]);
    t.same(rows(twice), [2], 'a savepoint that is set again begins anew');
    t.end();
  },
);

void t.test('what could undo rows that were handed over is an error', t => {
  const ended = (m: EventMaker, ...events: RawEvent[]) => [m.gtid(1), m.query('BEGIN'), ...insert(m), ...events];
  t.equal(failure(m => ended(m, m.query('ROLLBACK TO nowhere'))).code, 'EVENT_MALFORMED');
  t.equal(failure(m => ended(m, m.xaPrepare(false))).code, 'EVENT_UNSUPPORTED');
  t.equal(
    read(m => [m.gtid(1), m.query('BEGIN'), ...insert(m), m.query('SAVEPOINT a'), m.query('ROLLBACK TO a'), m.xid()])
      .sink.groups.length,
    1,
  );
  t.end();
});

void t.test('an XA transaction tells its name at every step, and whether its rows count yet', t => {
  const name = "X'61',X'62',7";
  const prepared = (m: EventMaker, onePhase: boolean) => [
    m.gtid(1),
    m.query(`XA START ${name}`),
    ...insert(m),
    m.query(`XA END ${name}`),
    m.xaPrepare(onePhase),
  ];
  const steps = (make: (m: EventMaker) => RawEvent[]) => read(make).sink.xaSteps.map(step => `${step.do} ${step.xid}`);
  t.same(
    steps(m => [...prepared(m, false), m.gtid(2), m.query(`XA COMMIT ${name}`)]),
    ['start 61,62,7', 'prepare 61,62,7', 'commit 61,62,7'],
  );
  t.same(
    steps(m => [...prepared(m, false), m.gtid(2), m.query("XA ROLLBACK 'a', 'b', 7")]),
    ['start 61,62,7', 'prepare 61,62,7', 'rollback 61,62,7'],
  );
  t.same(
    steps(m => prepared(m, true)),
    ['start 61,62,7', 'one-phase 61,62,7'],
  );
  t.equal(failure(m => [m.gtid(1), m.query(`XA START ${name}`), ...insert(m), m.xid()]).code, 'EVENT_UNSUPPORTED');
  t.end();
});

void t.test('an unknown event type stops capture unless the server calls it ignorable', t => {
  t.equal(failure(m => [m.event(99, Buffer.alloc(4))]).code, 'EVENT_UNSUPPORTED');
  t.equal(read(m => [m.event(99, Buffer.alloc(4), 0x80)]).sink.groups.length, 0);
  t.equal(failure(m => [m.event(EVENT.incident, Buffer.alloc(4))]).code, 'SOURCE_POSITION_LOST');
  t.end();
});

void t.test('an event that ends within a row or goes on behind the last one is malformed', t => {
  for (const cut of [1, 3]) {
    const short = failure(m => {
      const event = m.rows(EVENT.writeRows, 1, [[1, 'abc']]);
      return [m.gtid(1), m.query('BEGIN'), m.tableMap(1, 't'), { ...event, body: event.body.subarray(0, -cut) }];
    });
    t.equal(short.code, 'EVENT_MALFORMED');
  }
  const unfinished = failure(m => [m.gtid(1), m.query('BEGIN'), m.gtid(2)]);
  t.equal(unfinished.code, 'EVENT_MALFORMED');
  t.end();
});

void t.test('rows that cannot be read name the cure, and are passed by once their table is to be copied', t => {
  const maker = new EventMaker();
  const sink = new RecordingSink('shop');
  const broken = (m: EventMaker): RawEvent[] => {
    const event = m.rows(EVENT.writeRows, 1, [[1, 'abc']]);
    return [m.gtid(1), m.query('BEGIN'), m.tableMap(1, 't'), { ...event, body: event.body.subarray(0, -1) }];
  };
  t.match(failure(broken).hint, /tributary-agent snapshot shop\.t/);
  sink.copying = true;
  const reader = new GroupReader(sink);
  const events = [...broken(maker), maker.xid(), maker.gtid(2), maker.query('BEGIN'), ...insert(maker), maker.xid()];
  for (const event of [maker.rotate('binlog.000007', 4), ...events]) reader.handle(event);
  t.same(
    sink.groups.map(group => group.changes.length),
    [0, 1],
  );
  t.end();
});

void t.test('a compressed transaction gives the same rows', t => {
  const inner = new EventMaker();
  const packed = [inner.query('BEGIN'), ...insert(inner), inner.xid()].map(({ type, flags, body }) => {
    const header = Buffer.alloc(19);
    header.writeUInt8(type, 4);
    header.writeUInt32LE(19 + body.length, 9);
    header.writeUInt16LE(flags, 17);
    return Buffer.concat([header, body]);
  });
  const plain = Buffer.concat(packed);
  const payload = zstdCompressSync(plain);
  const length = (n: number) => Buffer.from([252, n & 255, n >> 8]);
  const body = Buffer.concat([
    Buffer.from([2, 1, 0, 3, 3]),
    length(plain.length),
    Buffer.from([1, 3]),
    length(payload.length),
    Buffer.from([0]),
    payload,
  ]);
  const { sink, maker } = read(m => [m.gtid(1), m.event(EVENT.transactionPayload, body)]);
  t.same(sink.groups[0]?.changes[0]?.after, [
    [1, 'a'],
    [2, null],
  ]);
  t.equal(sink.groups[0]?.end.endOffset, maker.offset);
  t.end();
});

void t.test('offsets go on beyond 4 GiB, where headers begin again at 0', t => {
  const sink = new RecordingSink('shop');
  const maker = new EventMaker();
  const reader = new GroupReader(sink);
  reader.handle(maker.rotate('binlog.000001', 2 ** 32 - 40));
  for (const event of [maker.gtid(1), maker.query('DROP TABLE x')]) {
    reader.handle({ ...event, nextPosition: event.nextPosition % 2 ** 32 });
  }
  t.equal(sink.groups[0]?.start.startOffset, 2 ** 32 - 40);
  t.equal(sink.groups[0]?.end.endOffset, maker.offset);
  t.end();
});

void t.test('each event moves the reader to the next state', t => {
  const maker = new EventMaker();
  const reader = new GroupReader(new RecordingSink('shop'));
  const after = (event: RawEvent): string => {
    reader.handle(event);
    return reader.state;
  };
  t.equal(reader.state, 'outside');
  t.equal(after(maker.rotate('binlog.000007', 4)), 'outside');
  t.equal(after(maker.gtid(1)), 'opened');
  t.equal(after(maker.query('BEGIN')), 'inside');
  for (const event of insert(maker)) t.equal(after(event), 'inside');
  t.equal(after(maker.xid()), 'outside');
  t.equal(after(maker.gtid(2)), 'opened');
  t.equal(after(maker.query('DROP TABLE x')), 'outside', 'a statement that stands alone is the whole group');
  t.equal(after(maker.query('BEGIN')), 'inside', 'of a server that logs no GTID event');
  t.equal(after(maker.query('COMMIT')), 'outside');
  t.throws(() => reader.handle(maker.xid()), { code: 'EVENT_MALFORMED' });
  t.equal(reader.state, 'failed');
  t.throws(() => reader.handle(maker.gtid(3)), { code: 'INTERNAL' });
  t.end();
});

void t.test('a reader that has failed takes no more events', t => {
  const reader = new GroupReader(new RecordingSink('shop'));
  const maker = new EventMaker();
  t.throws(() => reader.handle(maker.event(99, Buffer.alloc(0))), { code: 'EVENT_UNSUPPORTED' });
  t.throws(() => reader.handle(maker.gtid(1)), { code: 'INTERNAL' });
  t.end();
});
