/** From the rows of transactions to the versions of a history, by way of the bytes of batches. */
import fc from 'fast-check';
import t from 'tap';
import { Batcher } from '../../../../agent/stream/batcher.ts';
import { bodyOf } from '../../../../agent/stream/change-buffer.ts';
import { HistoryNames } from '../../../../applier/apply/history-table.ts';
import { mergeBodies } from '../../../../applier/apply/merge.ts';
import { comparedTables, versionSteps } from '../../../../applier/apply/version-steps.ts';
import type { Chain } from '../../../../applier/apply/version-steps.ts';
import type { BatchBody, SourceMark, TableDescription } from '../../../../shared/batch/batch.ts';
import { decodeBatch } from '../../../../shared/batch/decoder.ts';
import { encodeBatch } from '../../../../shared/batch/encoder.ts';
import { timesOf, toDateTimeText, toMicroseconds } from '../../../../shared/batch/versions.ts';

const SALES: TableDescription = {
  schema: 'shop',
  name: 'sales',
  columns: [
    { name: 'region', type: 'varchar(10)', key: 2 },
    { name: 'id', type: 'int', key: 1 },
    { name: 'amount', type: 'int' },
  ],
};
const OTHER: TableDescription = { ...SALES, name: 'other' };
const SOURCE: SourceMark = { server: 's', gtidSet: '', file: 'binlog.1', offset: 4, committedAt: null };
const NAMES = new HistoryNames(['Sales']);

type Operation =
  | { readonly op: 'put'; readonly id: number; readonly region: string; readonly amount: number }
  | { readonly op: 'delete'; readonly id: number; readonly region: string }
  | { readonly op: 'move'; readonly id: number; readonly region: string; readonly to: number; readonly amount: number };

const id = fc.integer({ min: 1, max: 4 });
const region = fc.constantFrom('a', 'a ', 'é');
const amount = fc.integer({ min: 0, max: 99 });
const operation: fc.Arbitrary<Operation> = fc.oneof(
  fc.record({ op: fc.constant('put' as const), id, region, amount }),
  fc.record({ op: fc.constant('delete' as const), id, region }),
  fc.record({ op: fc.constant('move' as const), id, region, to: id, amount }),
);

function feed(batcher: Batcher, table: TableDescription, o: Operation): void {
  const buffer = batcher.table(table);
  const before = [[o.region], [o.id], [0]];
  if (o.op === 'put') buffer.insert(1, [[o.region], [o.id], [o.amount]]);
  else if (o.op === 'delete') buffer.delete(1, before);
  else buffer.update(1, before, [[o.region], [o.to], [o.amount]]);
  batcher.touched(buffer);
}

/** The bodies that the head office would read. */
function bodiesOf(
  transactions: readonly (readonly Operation[])[],
  limits: { bytes: number; rows: number },
): BatchBody[] {
  const bodies: BatchBody[] = [];
  const append = (draft: Parameters<typeof bodyOf>[0]): void => {
    bodies.push(decodeBatch(encodeBatch(bodyOf(draft, SOURCE))));
  };
  const batcher = new Batcher({ target: limits, output: { append }, now: () => 0 });
  batcher.keepHistory(new Set(['sales']));
  for (const [index, transaction] of transactions.entries()) {
    batcher.begin(1_000_000 + index);
    for (const o of transaction) {
      feed(batcher, OTHER, o);
      feed(batcher, SALES, o);
    }
    batcher.end();
  }
  batcher.flush();
  return bodies;
}

function shown(chain: Chain): string[] {
  return chain.map(({ deleted, source, row, committedAt }) => {
    const at = (column: number): string => String(source[column]?.[row]);
    const key = deleted ? `${at(0)}/${at(1)}` : `${at(1)}/${at(0)}`;
    return `${key} ${deleted ? 'deleted' : at(2)} at ${committedAt.slice(-6)}`;
  });
}

/** The same from the operations alone: the last state of each key that a transaction has touched. */
function expected(transactions: readonly (readonly Operation[])[]): string[] {
  return transactions.flatMap((transaction, index) => {
    const touched = new Map<string, string>();
    for (const o of transaction) {
      const old = `${o.id}/${o.region}`;
      if (o.op === 'put') touched.set(old, String(o.amount));
      else if (o.op === 'delete') touched.set(old, 'deleted');
      else {
        if (o.to !== o.id) touched.set(old, 'deleted');
        touched.set(`${o.to}/${o.region}`, String(o.amount));
      }
    }
    return [...touched].map(([key, state]) => `${key} ${state} at ${String(index).padStart(6, '0')}`);
  });
}

void t.test('each transaction makes one version of each row that it touches, however batches are cut', t => {
  fc.assert(
    fc.property(
      fc.array(fc.array(operation, { minLength: 1, maxLength: 6 }), { maxLength: 12 }),
      fc.integer({ min: 1, max: 40 }),
      (transactions, rows) => {
        const bodies = bodiesOf(transactions, { bytes: 1e6, rows });
        // Parts of a transaction are written one after the other; a key in two of them has one version in the end.
        const last = new Map<string, string>();
        for (const body of bodies) {
          for (const step of versionSteps([body], NAMES)) {
            if (step.do !== 'versions') throw new Error(`a step ${step.do}`);
            for (const line of step.chains.flatMap(shown)) {
              const [, key, state, time] = /^(.*) (\S+) at (\d+)$/.exec(line)!;
              last.set(`${key} at ${time}`, state!);
            }
          }
        }
        const found = [...last].map(([name, state]) => name.replace(' at ', ` ${state} at `));
        return found.sort().join('\n') === expected(transactions).sort().join('\n');
      },
    ),
    { numRuns: 500 },
  );
  t.end();
});

void t.test('what is written to the tables does not depend on a history', t => {
  fc.assert(
    fc.property(fc.array(fc.array(operation, { minLength: 1, maxLength: 6 }), { maxLength: 12 }), transactions => {
      const bodies = bodiesOf(transactions, { bytes: 1e6, rows: 25 });
      const runs = mergeBodies(bodies).map(({ table, deletes, upserts }) => ({ table: table.name, deletes, upserts }));
      const of = (name: string): unknown =>
        runs.filter(({ table }) => table === name).map(run => ({ ...run, table: '' }));
      return JSON.stringify(of('sales')) === JSON.stringify(of('other'));
    }),
    { numRuns: 300 },
  );
  t.end();
});

void t.test('rows without versions are compared, and such batches are not merged with others', t => {
  const [timed] = bodiesOf([[{ op: 'put', id: 1, region: 'a', amount: 1 }]], { bytes: 1e6, rows: 10 });
  const { versions, replaced, ...seen } = timed!;
  t.ok(versions !== undefined && replaced !== undefined);
  t.same(
    versionSteps([seen], NAMES).map(step => step.do),
    ['compare'],
  );
  t.equal(comparedTables(timed!, NAMES), '');
  t.not(comparedTables(seen, NAMES), '');
  t.same(versionSteps([seen], new HistoryNames(['else'])), [], 'nor is anything of a table without a history');
  t.end();
});

void t.test('a batch whose versions do not fit its rows is refused', t => {
  const [body] = bodiesOf([[{ op: 'put', id: 1, region: 'a', amount: 1 }], [{ op: 'delete', id: 1, region: 'a' }]], {
    bytes: 1e6,
    rows: 10,
  });
  const [sales] = body!.versions!;
  const refused = (change: object): void => {
    t.throws(
      () => decodeBatch(encodeBatch({ ...body!, ...change })),
      { code: 'BATCH_INVALID' },
      JSON.stringify(change),
    );
  };
  t.equal(sales!.commits.length, 2);
  for (const field of ['upserts', 'deletes', 'replacedUpserts', 'replacedDeletes'] as const) {
    refused({ versions: [{ ...sales!, [field]: [7, 7] }] });
    refused({ versions: [{ ...sales!, [field]: [] }] });
  }
  refused({ versions: [sales, sales] });
  refused({ versions: [] });
  refused({ versions: [{ ...sales!, commits: [-1, 1] }] });
  refused({ versions: [{ ...sales!, commits: [Number.MAX_SAFE_INTEGER, 1] }] });
  refused({ replaced: [...body!.replaced!, { op: 'truncate', table: 0 }] });
  refused({ replaced: undefined });
  t.end();
});

void t.test('times are carried to the microsecond', t => {
  const iso = '2026-12-01T02:03:04.000567Z';
  t.equal(toDateTimeText(toMicroseconds(iso)), '2026-12-01 02:03:04.000567');
  t.equal(toDateTimeText(toMicroseconds('1970-01-01T00:00:00Z')), '1970-01-01 00:00:00.000000');
  t.same(timesOf([5, 2, -3]), [5, 7, 4]);
  t.end();
});
