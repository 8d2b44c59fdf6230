import type { Connection } from 'mysql2/promise';
import t from 'tap';
import { askForReturns } from '../../../../applier/store/set-aside.ts';
import { MAX_REQUEST_TABLES } from '../../../../applier/store/snapshots.ts';
import { tableKey } from '../../../../shared/table-name.ts';

const table = (name: string) => ({ schema: 'shop', name });

/** What is asked for of these tables, while requests for the others are open. */
async function asked(wanted: readonly string[], open: readonly string[]): Promise<unknown[]> {
  const requests: unknown[] = [];
  const execute = (sql: string, values: readonly unknown[]): Promise<unknown> => {
    const tables = values[3];
    if (sql.startsWith('INSERT')) requests.push(typeof tables === 'string' ? (JSON.parse(tables) as unknown) : null);
    const request = (name: string, at: number): object => ({
      request: `r${at}`,
      kind: 'snapshot',
      tables: [tableKey(table(name))],
      completes: 0,
      reason: '',
      created_at: '',
    });
    return Promise.resolve([sql.startsWith('SELECT') ? open.map(request) : {}]);
  };
  await askForReturns({ execute } as unknown as Connection, 'paris', wanted.map(table), 'why');
  return requests;
}

await t.test('tables that no open request has are asked for together', async t => {
  const keys = (...names: string[]): string[] => names.map(name => tableKey(table(name)));
  t.strictSame(await asked(['a', 'b', 'c'], ['b', 'x']), [keys('a', 'c')]);
  t.strictSame(await asked(['a'], ['a']), []);
  const many = Array.from({ length: MAX_REQUEST_TABLES + 1 }, (_, at) => `t${at}`);
  t.strictSame(
    await asked(many, []),
    [keys(...many.slice(0, -1)), keys(...many.slice(-1))],
    'not for everything, because there are many',
  );
});
