import t from 'tap';
import { Expansion, FREE_RATIO, writtenBytes } from '../../../../applier/transaction/expansion.ts';
import type { BatchBody, Change } from '../../../../shared/batch/batch.ts';
import { decodeBatch } from '../../../../shared/batch/decoder.ts';
import { encodeBatch } from '../../../../shared/batch/encoder.ts';

const MIB = 1024 * 1024;
const HOUR_MS = 3_600_000;

void t.test('what becomes of the wire’s bytes is free up to a ratio, however much it is', t => {
  const account = new Expansion(MIB);
  for (let i = 0; i < 1_000; i += 1) account.charge(0, MIB, FREE_RATIO * MIB);
  t.equal(account.dueInMs(0), 0);
  t.end();
});

void t.test('an hour’s quota may be spent at once, and comes back within an hour', t => {
  const account = new Expansion(MIB);
  account.charge(0, 0, MIB);
  t.equal(account.dueInMs(0), 0);
  account.charge(0, 1_000, MIB / 2 + FREE_RATIO * 1_000);
  t.equal(account.dueInMs(0), HOUR_MS / 2);
  t.equal(account.dueInMs(HOUR_MS / 4), HOUR_MS / 4);
  t.equal(account.dueInMs(HOUR_MS / 2), 0);
  account.charge(10 * HOUR_MS, 0, 2 * MIB);
  t.equal(account.dueInMs(10 * HOUR_MS), HOUR_MS, 'rest does not add up');
  t.end();
});

void t.test('without a quota nothing is waited for', t => {
  const account = new Expansion(0);
  account.charge(0, 0, Number.MAX_SAFE_INTEGER);
  t.equal(account.dueInMs(0), 0);
  t.end();
});

void t.test('rows take more than their values, and each copy of a row is a row', t => {
  const body = (type: string, change: Partial<Change>, key?: number): BatchBody =>
    decodeBatch(
      encodeBatch({
        v: 1,
        source: { server: 's', gtidSet: '', file: 'f', offset: 1, committedAt: null },
        transactions: 1,
        part: null,
        tables: [{ schema: 's', name: 't', columns: [{ name: 'a', type, ...(key === undefined ? {} : { key }) }] }],
        changes: [{ table: 0, rows: 1, ...change } as Change],
      }),
    );
  const rows = 10_000;
  const numbers = [...Array(rows).keys()];
  t.ok(writtenBytes(body('int', { op: 'upsert', rows, values: [numbers] }, 1)) > 70 * rows);
  t.ok(writtenBytes(body('int', { op: 'delete', rows, keys: [numbers] }, 1)) < 20 * rows, 'a delete takes no room');
  t.ok(writtenBytes(body('char(255)', { op: 'upsert', rows, values: [numbers.map(String)] }, 1)) > 300 * rows);
  const copies = body('varchar(255)', { op: 'add', values: [['x'.repeat(200)]], copies: [rows] });
  t.ok(writtenBytes(copies) > 260 * rows);
  t.end();
});
