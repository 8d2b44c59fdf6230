/** The writer of units against a real head office: what it remembers goes with the transaction that it was true in. */
import t from 'tap';
import { QUOTAS } from '../../applier/transaction/quotas.ts';
import type { RowWriting } from '../../applier/apply/row-writer.ts';
import { TargetPool } from '../../applier/apply/connection-pool.ts';
import { SetAsideTables } from '../../applier/transaction/set-aside.ts';
import { UnitWriter } from '../../applier/transaction/write.ts';
import type { Arrival, Unit } from '../../applier/transaction/unit.ts';
import { decodeBatch } from '../../shared/batch/decoder.ts';
import type { PartMark, TableDescription } from '../../shared/batch/batch.ts';
import { SALES, upsert } from '../support/hand-made/branch.ts';
import type { MadeBatch } from '../support/hand-made/branch.ts';
import { HeadOffice } from '../support/world/head-office.ts';

const PLAIN = { inboxBelow: false, policy: null, decision: null };
const LOST = new Error('the connection was lost');

function arrivalOf({ header, body }: MadeBatch): Arrival {
  return { header, body: [body], acknowledge: () => undefined, decoded: decodeBatch(body) };
}

void t.test('after a rollback nothing counts that was remembered of the transaction', async t => {
  const office = await HeadOffice.open();
  t.teardown(() => office.close());
  await office.fleet({});
  const b = await office.branch('undone');
  await b.hello();
  const pool = new TargetPool({ connect: () => office.connect(), size: 4 });
  t.teardown(() => pool.close());
  const { rows } = office;
  let failing = false;
  const breaking: RowWriting = {
    prepare: (...args) => rows.prepare(...args),
    sweep: (...args) => rows.sweep(...args),
    clearOtherForm: (...args) => rows.clearOtherForm(...args),
    apply: async (...args) => {
      const counts = await rows.apply(...args);
      if (failing) throw LOST;
      return counts;
    },
  };
  const make = (part: PartMark): Arrival => arrivalOf(b.make([upsert([[b.batches.length, 'x']])], { part }));
  const firstParts = [1, 2, 3].map(number => make({ number, last: false }));
  const bytes = firstParts.reduce((sum, { body }) => sum + body.reduce((all, piece) => all + piece.length, 0), 0);
  const writer = new UnitWriter({
    branch: 'undone',
    pool,
    rows: breaking,
    counter: { begin: () => Promise.resolve('not asked for'), search: () => Promise.resolve('not asked for') },
    quotas: { ...QUOTAS, openPartBytes: bytes },
    asides: new SetAsideTables('undone'),
  });
  const write = async (kind: Unit['kind'], arrivals: readonly Arrival[]): Promise<void> => {
    await writer.write(await office.row('undone'), { kind, arrivals }, PLAIN);
  };
  // The transaction ends after it has counted the parts.
  await office.query("CREATE TRIGGER refusing BEFORE INSERT ON tributary_inbox FOR EACH ROW SIGNAL SQLSTATE '45000'");
  await t.rejects(write('parts', firstParts));
  await office.query('DROP TRIGGER refusing');
  await write('parts', firstParts);
  t.equal((await office.row('undone')).stream.received.seq, 3, 'their bytes are counted once');
  await write('last-part', [make({ number: 4, last: true })]);

  const wider: TableDescription = { ...SALES, columns: [...SALES.columns, { name: 'note', type: 'int' }] };
  const change = { op: 'upsert', table: 0, rows: 1, values: [[9], ['y'], [5]] } as const;
  const next = arrivalOf(b.make([change], { tables: [wider] }));
  failing = true;
  await t.rejects(write('plain', [next]), LOST);
  failing = false;
  await write('plain', [next]);
  const [claim] = await office.query(
    "SELECT CAST(definition AS CHAR) AS definition FROM tributary_table WHERE branch = 'undone'",
  );
  const definition = JSON.parse(String(claim?.['definition'])) as { readonly name: string }[];
  t.same(
    definition.map(({ name }) => name),
    ['id', 'item', 'note'],
    'the definition is recorded in the transaction that succeeds',
  );
});
