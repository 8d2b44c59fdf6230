/** Rows that the head office asks for, read beside the stream, with a source that is scripted to the moment. */
import { pino } from 'pino';
import t from 'tap';
import { createTableFilter } from '../../../../agent/source/table-filter.ts';
import { SourceConnection } from '../../../../agent/source/connection.ts';
import { ServerCharsets } from '../../../../agent/values/server-charsets.ts';
import type { CaptureSink } from '../../../../agent/stream/sink.ts';
import { VerifyRequests } from '../../../../agent/verify/requests.ts';
import { Verifier } from '../../../../agent/verify/verifier.ts';
import type { RowsMark, Value } from '../../../../shared/batch/batch.ts';
import { parseColumnType } from '../../../../shared/batch/column-type.ts';
import { decodeBatch } from '../../../../shared/batch/decoder.ts';
import { rowName } from '../../../../shared/batch/row-sums.ts';
import type { RequestKind } from '../../../../shared/protocol.ts';
import { FILE, IDENTITY, SALE, START, UUID, beginGroup, newSink } from '../../../support/hand-made/sink.ts';
import { openSpool, temporaryDirectory } from '../../../support/hand-made/spool-tools.ts';
import { until } from '../../../support/until.ts';

interface Script {
  readonly kind?: RequestKind;
  /** The rows of the view. */
  readonly view: readonly (readonly [id: number, v: number | null])[];
  /** What the stream brings while the view is read; `times` counts how often it is read. */
  readonly meanwhile?: (sink: CaptureSink, times: number) => void;
  /** The table has no key. */
  readonly keyless?: boolean;
}

const TYPES = ['int', 'int'].map(parseColumnType);

function nameOf(identity: readonly Value[], keyless = false): string {
  return rowName({ types: TYPES, key: keyless ? [] : [0] }, identity);
}

/** Asks for the rows, and returns the mark that answers. */
async function ask(names: readonly string[], script: Script): Promise<readonly RowsMark[]> {
  const spool = openSpool(temporaryDirectory());
  spool.newEpoch(null, START);
  const sink = newSink(spool, START);
  const requests = new VerifyRequests();
  const rows = Buffer.from(names.join(''), 'hex').toString('base64');
  const tables = [{ schema: 'shop', name: 'sale' }];
  requests.serve([{ id: 'asked', kind: script.kind ?? 'repair', tables, rows }]);
  let times = 0;
  const cellsOf = (keyless: boolean): Buffer[][] =>
    script.view.map(([id, v]) => (keyless ? [id, v] : [id, v, id]).map(cell => Buffer.from(String(cell))));
  const source = Object.assign(Object.create(SourceConnection.prototype) as SourceConnection, {
    identity: () => Promise.resolve(IDENTITY),
    execute: () => Promise.resolve(),
    rows: (sql: string) => {
      const of = { ts: 'shop', tn: 'sale' };
      if (sql.includes('STATISTICS'))
        return Promise.resolve(script.keyless ? [] : [{ ...of, name: 'id', idx: 'PRIMARY' }]);
      if (!sql.includes('COLUMNS')) {
        return Promise.resolve([{ ...of, estimate: '3', type: 'BASE TABLE', engine: 'innodb' }]);
      }
      return Promise.resolve(['id', 'v'].map(name => ({ ...of, name, base: 'int', full: 'int' })));
    },
    cells: () => {
      script.meanwhile?.(sink, (times += 1));
      return Promise.resolve(cellsOf(false));
    },
    // eslint-disable-next-line @typescript-eslint/require-await
    stream: async function* () {
      script.meanwhile?.(sink, (times += 1));
      yield* cellsOf(true);
    },
    waitUntilVisible: () => Promise.resolve(),
    binlogEnd: () => Promise.resolve({ file: FILE, offset: 1_000, gtidSet: '' }),
    destroy: () => undefined,
  });
  const stop = new AbortController();
  const verifier = new Verifier({
    connect: () => Promise.resolve(source),
    identity: IDENTITY,
    tableFilter: createTableFilter({ include: ['*.*'], exclude: [], map: {} }),
    charsets: ServerCharsets.builtIn(false),
    spool,
    sink,
    logger: pino({ level: 'silent' }),
    requests,
    firstRetryMs: 1,
  });
  const running = verifier.run(stop.signal);
  const marks = (): RowsMark[] => {
    const found: RowsMark[] = [];
    for (let seq = 1; seq <= spool.stream().head.seq; seq += 1) {
      found.push(...decodeBatch(spool.read(seq)!.body).changes.filter(change => change.op === 'verify-rows'));
    }
    return found;
  };
  await until('the answer', () => {
    sink.heartbeat({ file: FILE, offset: 1_000 });
    return marks().some(({ last }) => last);
  });
  stop.abort();
  await running;
  const found = marks();
  spool.close();
  return found;
}

let groups = 0;

function commit(sink: CaptureSink, work: () => void, end = 900): void {
  groups += 1;
  beginGroup(sink, groups, end - 100);
  work();
  sink.end({ gtid: `${UUID}:${groups}`, file: FILE, endOffset: end, fingerprint: '00000000' });
}

const absentOf = (names: readonly string[]): string => Buffer.from(names.join(''), 'hex').toString('base64');

void t.test('rows that are there are sent, and those that are not are named', async t => {
  const view = [
    [1, 100],
    [2, 200],
    [4, 400],
  ] as const;
  const names = [1, 2, 3].map(id => nameOf([id]));
  const [mark] = await ask(names, { view });
  t.match(mark, {
    request: 'asked',
    rows: 2,
    values: [
      [1, 2],
      [100, 200],
    ],
    copies: [],
    absent: absentOf([nameOf([3])]),
  });
});

void t.test('a row that the stream brings while it is read is neither sent nor said to be absent', async t => {
  const view = [
    [1, 100],
    [2, 200],
  ] as const;
  const names = [1, 2, 3, 4].map(id => nameOf([id]));
  const meanwhile = (sink: CaptureSink): void =>
    commit(sink, () => {
      sink.table(SALE)?.update(1, [[1], [100]], [[1], [150]]);
      sink.table(SALE)?.insert(1, [[3], [300]]);
    });
  const [mark] = await ask(names, { view, meanwhile });
  t.match(mark, { rows: 1, values: [[2], [200]], absent: absentOf([nameOf([4])]) });
});

void t.test('a table that is emptied while it is read is read again', async t => {
  const view = [[1, 100]] as const;
  let reads = 0;
  const meanwhile = (sink: CaptureSink, times: number): void => {
    reads = times;
    if (times === 1) commit(sink, () => sink.truncate('shop', 'sale'));
  };
  const [mark] = await ask([nameOf([1])], { view, meanwhile });
  t.equal(reads, 2);
  t.match(mark, { rows: 1 });
});

void t.test('without a key, rows are counted, and those that change meanwhile are left out', async t => {
  const view = [
    [1, 100],
    [2, 200],
    [1, 100],
  ] as const;
  const names = [
    [1, 100],
    [2, 200],
    [9, 9],
  ].map(row => nameOf(row, true));
  const [mark] = await ask(names, { view, keyless: true });
  t.match(mark, { rows: 2, copies: [2, 1], absent: absentOf([nameOf([9, 9], true)]) });
  const keyless = {
    ...SALE,
    columns: SALE.columns.map(({ name, type, nullable, invisible }) => ({ name, type, nullable, invisible })),
  };
  const meanwhile = (sink: CaptureSink): void =>
    commit(sink, () =>
      sink.table(keyless)?.insert(2, [
        [1, 9],
        [100, 9],
      ]),
    );
  const [changed] = await ask(names, { view, keyless: true, meanwhile });
  t.match(changed, { rows: 1, values: [[2], [200]], copies: [1], absent: '' });
});
