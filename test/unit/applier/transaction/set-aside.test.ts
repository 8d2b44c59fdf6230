/** What is passed over of a table that the head office has set aside, and what may bring it back. */
import t from 'tap';
import type { BatchBody, Change, TableDescription } from '../../../../shared/batch/batch.ts';
import type { SetAsideMark } from '../../../../applier/store/set-aside.ts';
import { SetAsideTables } from '../../../../applier/transaction/set-aside.ts';
import { tableKey } from '../../../../shared/table-name.ts';

const COLUMNS = [{ name: 'id', type: 'int', key: 1 }];
const table = (name: string): TableDescription => ({ schema: 'shop', name, columns: COLUMNS });
const TABLES = [table('odd'), table('sale')];
const ODD = { schema: 'shop', name: 'odd' };

function body(...changes: Change[]): BatchBody {
  const source = { server: '', gtidSet: '', file: '', offset: 0, committedAt: null };
  return { v: 1, source, transactions: 1, part: null, tables: TABLES, changes };
}

const upsert = (index: number): Change => ({ op: 'upsert', table: index, rows: 1, values: [[1]] });
const START: Change = { op: 'snapshot-start', snapshot: 's', tables: [0, 1], whole: true, requests: [] };

function marked(mark: Partial<SetAsideMark>): SetAsideMark {
  const none = { since: '', through: null, code: null, reason: null, description: null };
  return { ...ODD, ...none, by: 'head-office', state: 'aside', ...mark };
}

function tables(mark: Partial<SetAsideMark>): SetAsideTables {
  const found = new SetAsideTables('paris');
  found.take([marked(mark)], 7);
  return found;
}

/** The changes that are left, by table. */
function left(bodies: readonly BatchBody[]): string[][] {
  return bodies.map(({ tables: of, changes }) =>
    changes.flatMap(change => {
      if ('tables' in change) return change.tables.map(index => `${change.op} ${of[index]!.name}`);
      return 'table' in change ? [`${change.op} ${tableKey(of[change.table]!).includes('odd') ? 'odd' : 'sale'}`] : [];
    }),
  );
}

void t.test('rows of the table are passed over, those of others are not', t => {
  const asides = tables({});
  const { bodies, emptied } = asides.passOver([body(upsert(0), upsert(1)), body(upsert(0))]);
  t.same(left(bodies), [['upsert sale'], []]);
  t.same(emptied, []);
  t.end();
});

void t.test('rows that the branch itself does not send are not looked for, and a return lets rows through', t => {
  for (const mark of [{ by: 'branch' }, { state: 'returning' }] as const) {
    const { bodies } = tables(mark).passOver([body(upsert(0), upsert(1))]);
    t.same(left(bodies), [['upsert odd', 'upsert sale']]);
  }
  t.end();
});

void t.test('from a truncate on, nothing of the table is missing', t => {
  const asides = tables({});
  const { bodies, emptied } = asides.passOver([body(upsert(0)), body({ op: 'truncate', table: 0 }), body(upsert(0))]);
  t.same(left(bodies), [[], ['truncate odd'], ['upsert odd']]);
  t.same(emptied, [ODD]);
  t.end();
});

void t.test('a snapshot is tried once: with the batch that was refused, all of the table is passed over', t => {
  const asides = tables({});
  t.same(left(asides.passOver([body(START)]).bodies), [['snapshot-start odd', 'snapshot-start sale']]);
  asides.noteRefused(ODD, 7);
  const again = (seq: number): string[][] => {
    asides.take([marked({})], seq);
    return left(asides.passOver([body(START)]).bodies);
  };
  t.same(again(7), [['snapshot-start sale']]);
  t.ok(asides.isRefusedNow(ODD));
  t.same(again(8), [['snapshot-start odd', 'snapshot-start sale']], 'the next one is tried');
  t.end();
});
