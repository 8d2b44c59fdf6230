import t from 'tap';
import type { Test } from 'tap';
import { HttpError } from '../../../../shared/process/http.ts';
import type { Column } from '../../../../applier/web/columns.ts';
import type { Filter } from '../../../../applier/web/selection.ts';
import { newestFirst, pageStatement } from '../../../../applier/web/table-query.ts';
import type { OrderedQuery } from '../../../../applier/web/table-query.ts';

const column = (name: string, type: string, key = false): Column => ({
  name,
  type,
  dataType: type.replace(/[( ].*/, ''),
  key,
});

const COLUMNS = [
  column('_branch', 'varchar(63)', true),
  column('id', 'bigint unsigned', true),
  column('region', 'varchar(40)'),
  column('ratio', 'float'),
  column('raw', 'varbinary(20)'),
  column('doc', 'json'),
];

const BY_KEY = { sort: null, descending: false };
const ALL: OrderedQuery = { table: 'sales', branch: null, filters: [], period: null, order: BY_KEY, from: null };
const CALENDAR = { zone: 'UTC', now: 0 };

const whereOf = (query: Partial<OrderedQuery>): string =>
  / WHERE (.*) ORDER BY/.exec(pageStatement('hq', COLUMNS, { ...ALL, ...query }, CALENDAR).sql)?.[1] ?? '';
const orderOf = (query: Partial<OrderedQuery>): string =>
  / ORDER BY (.*) LIMIT/.exec(pageStatement('hq', COLUMNS, { ...ALL, ...query }, CALENDAR).sql)?.[1] ?? '';
const filtered = (filter: Filter): string => whereOf({ filters: [filter] });

void t.test('the order ends with the key, all in one direction', t => {
  t.equal(orderOf({}), 't.`_branch`, t.`id`');
  t.equal(orderOf({ order: { sort: 'id', descending: true } }), 't.`id` DESC, t.`_branch` DESC');
  t.equal(orderOf({ order: { sort: 'region', descending: false } }), 'LEFT(t.`region`, 100), t.`_branch`, t.`id`');
  t.equal(orderOf({ branch: 'paris' }), 't.`id`', 'of one branch the index is read in order');
  t.end();
});

void t.test('without an order the newest rows come first, where that can be sorted in time', t => {
  const timed = [...COLUMNS, column('_changed_at', 'datetime(6)')];
  t.same(newestFirst(timed, 1_000), { sort: '_changed_at', descending: true });
  t.same(newestFirst(timed, 10_000_000), { sort: null, descending: true }, 'there is no index on the time');
  t.same(newestFirst(COLUMNS, 1_000), { sort: null, descending: true });
  t.end();
});

void t.test('a page continues from a row, bounded by the first term of the key', t => {
  t.equal(
    whereOf({ from: { side: 'after', cursor: ['paris', '50'] } }),
    "t.`_branch` >= 'paris' AND ((t.`_branch` > 'paris') OR (t.`_branch` = 'paris' AND t.`id` > 50))",
  );
  t.equal(
    whereOf({ branch: 'paris', from: { side: 'after', cursor: ['50'] } }),
    "t.`_branch` = 'paris' AND t.`id` >= 50 AND ((t.`id` > 50))",
  );
  const before = pageStatement(
    'hq',
    COLUMNS,
    { ...ALL, branch: 'p', from: { side: 'before', cursor: ['50'] } },
    CALENDAR,
  );
  t.match(before.sql, 't.`id` < 50');
  t.match(before.sql, 'ORDER BY t.`id` DESC');
  t.equal(before.reversed, true);
  t.end();
});

void t.test('NULL comes first, and a page may begin at it', t => {
  const key = { branch: 'p', order: { sort: 'ratio', descending: false } } as const;
  const ratio = '(t.`ratio` + 0e0)';
  t.match(
    whereOf({ ...key, from: { side: 'after', cursor: [null, '5'] } }),
    `(${ratio} IS NOT NULL) OR (${ratio} IS NULL AND t.\`id\` > 5)`,
  );
  t.match(
    whereOf({ ...key, from: { side: 'before', cursor: ['1.5', '5'] } }),
    `(${ratio} < 1.5e0 OR ${ratio} IS NULL)`,
  );
  t.match(whereOf({ ...key, from: { side: 'before', cursor: [null, '5'] } }), '(FALSE)');
  t.end();
});

void t.test('filters compare with literals of the column’s kind', t => {
  t.equal(filtered({ column: 'id', operator: '>=', value: '18446744073709551615' }), 't.`id` >= 18446744073709551615');
  t.equal(
    filtered({ column: 'region', operator: '=', value: "O'Brien\\" }),
    "t.`region` = _utf8mb4 X'4f27427269656e5c'",
  );
  t.equal(filtered({ column: 'ratio', operator: '=', value: '0.1' }), 't.`ratio` = CAST(0.1e0 AS FLOAT)');
  t.equal(filtered({ column: 'raw', operator: '=', value: '0x00ff' }), "t.`raw` = X'00ff'");
  t.equal(filtered({ column: 'region', operator: 'null', value: '' }), 't.`region` IS NULL');
  t.match(filtered({ column: 'region', operator: 'contains', value: '50%_' }), "LIKE _utf8mb4 X'2535305c255c5f25'");
  t.end();
});

function refused(t: Test, work: () => unknown, why = 'refused'): void {
  try {
    work();
    t.fail(why);
  } catch (error) {
    t.ok(error instanceof HttpError && error.status === 400, why);
  }
}

void t.test('what does not fit is refused, not passed to the server', t => {
  const wrong: Filter[] = [
    { column: 'id', operator: '=', value: '1 OR 1=1' },
    { column: 'nothing', operator: '=', value: '1' },
    { column: 'raw', operator: '=', value: 'abc' },
    { column: 'raw', operator: 'contains', value: 'a' },
    { column: 'doc', operator: '=', value: '{}' },
  ];
  for (const filter of wrong) refused(t, () => filtered(filter), JSON.stringify(filter));
  refused(t, () => orderOf({ order: { sort: 'doc', descending: false } }), 'JSON has no order that a cursor can say');
  refused(t, () => whereOf({ from: { side: 'after', cursor: ['1'] } }), 'a place of another order');
  refused(t, () => whereOf({ from: { side: 'after', cursor: ['paris', '1; DROP'] } }));
  t.end();
});
