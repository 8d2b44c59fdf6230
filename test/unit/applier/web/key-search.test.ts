import t from 'tap';
import type { Column } from '../../../../applier/web/columns.ts';
import { searchKey } from '../../../../applier/web/key-search.ts';
import type { KeyedTable } from '../../../../applier/web/key-search.ts';
import { tooSlow } from '../../../../applier/web/read-pool.ts';
import type { Cells } from '../../../../applier/web/read-pool.ts';
import { HttpError } from '../../../../shared/process/http.ts';

const column = (name: string, dataType: string): Column => ({ name, type: dataType, dataType, key: true });
const table = (name: string, dataType = 'varchar'): KeyedTable => ({
  name,
  columns: [column('_branch', 'varchar'), column('id', dataType)],
  lead: 'id',
});

/** What is found, by an answer or a refusal for each table. */
function office(answers: Record<string, Cells[] | Error>) {
  const asked: string[] = [];
  const read = (sql: string): Promise<Cells[]> => {
    asked.push(sql);
    const name = /`hq`\.`(\w+)`/.exec(sql)?.[1];
    const answer = name === undefined ? [["a'b"], ['c']] : (answers[name] ?? []);
    return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
  };
  const search = (tables: KeyedTable[], signal = new AbortController().signal) =>
    searchKey({ read }, tables, { database: 'hq', value: '17', branch: null, signal });
  return { search, asked };
}

void t.test('a key is looked for in every branch, by literals', async t => {
  const { search, asked } = office({ sales: [['c', '17']] });
  t.same(await search([table('sales', 'int'), table('json', 'json')]), {
    found: [{ table: 'sales', columns: ['_branch', 'id'], key: ['c', '17'] }],
    searched: 1,
    left: 0,
  });
  t.match(asked.at(-1), "t.`_branch` IN ('a''b', 'c') AND t.`id` = 17");
});

void t.test('a table that refuses the text, or takes too long, does not end the search of the others', async t => {
  const { search } = office({
    days: new HttpError(400, 'BAD_REQUEST', 'Incorrect DATE value'),
    slow: tooSlow(3_000),
    sales: [['c', '17']],
  });
  const { found, searched, left } = await search([table('days', 'date'), table('slow'), table('sales')]);
  t.same([found.length, searched, left], [1, 2, 1]);
  const gone = office({ sales: new HttpError(503, 'CANCELLED', 'withdrawn') });
  await t.rejects(gone.search([table('sales')]), { code: 'CANCELLED' });
});

void t.test('nothing more is asked once the person has gone, and all that is left is counted', async t => {
  const { search, asked } = office({});
  t.match(await search([table('sales'), table('shifts')], AbortSignal.abort()), { searched: 0, left: 2 });
  t.equal(asked.length, 1, 'for the branches');
});
