import t from 'tap';
import type { Test } from 'tap';
import type { Column } from '../../../../applier/web/columns.ts';
import { groupsOf, groupsStatement, MAX_GROUPS } from '../../../../applier/web/group-query.ts';
import type { GroupsQuery } from '../../../../applier/web/group-query.ts';
import { leadCondition } from '../../../../applier/web/key-search.ts';
import { conditionOf, keyCondition } from '../../../../applier/web/selection.ts';
import type { Selection } from '../../../../applier/web/selection.ts';
import { HttpError } from '../../../../shared/process/http.ts';

const column = (name: string, type: string, key = false): Column => ({
  name,
  type,
  dataType: type.replace(/[( ].*/, ''),
  key,
});
const COLUMNS = [
  column('_branch', 'varchar(63)', true),
  column('id', 'bigint unsigned', true),
  column('sold_at', 'datetime'),
  column('day', 'date'),
  column('amount', 'decimal(10,2)'),
  column('ratio', 'float'),
  column('doc', 'json'),
  column('we`ird', 'varchar(10)'),
  column('_changed_at', 'datetime(6)'),
];
const CALENDAR = { zone: 'Europe/Paris', now: Date.parse('2026-12-01T07:00:00Z') };
const ALL: Selection = { table: 'sales', branch: null, filters: [], period: null };

const sqlOf = (query: Partial<GroupsQuery>): string =>
  groupsStatement('hq', COLUMNS, { ...ALL, by: null, measure: { kind: 'rows', column: '' }, ...query }, CALENDAR).sql;

function refused(t: Test, work: () => unknown, why: string): void {
  try {
    work();
    t.fail(why);
  } catch (error) {
    t.ok(error instanceof HttpError && error.status === 400, why);
  }
}

void t.test('a group’s key and measure are columns that information_schema has named, in quotes', t => {
  t.match(
    sqlOf({ by: { column: '_branch', unit: 'value' }, measure: { kind: 'sum', column: 'amount' } }),
    'SELECT t.`_branch` AS g, t.`amount` AS v FROM `hq`.`sales` AS t',
  );
  t.match(sqlOf({ by: { column: 'we`ird', unit: 'value' } }), 't.`we``ird` AS g');
  t.match(
    sqlOf({ by: { column: 'id', unit: 'value' } }),
    /^SELECT \/\*\+ MAX_EXECUTION_TIME\(10000\) \*\//,
    'every statement has a limit',
  );
  refused(t, () => sqlOf({ by: { column: 'nothing', unit: 'value' } }), 'an unknown column');
  refused(t, () => sqlOf({ by: { column: 'ratio', unit: 'value' } }), 'of a FLOAT none are equal for sure');
  refused(t, () => sqlOf({ by: { column: 'doc', unit: 'value' } }), 'JSON');
  refused(t, () => sqlOf({ by: { column: 'amount', unit: 'day' } }), 'it has no days');
  refused(t, () => sqlOf({ measure: { kind: 'sum', column: 'sold_at' } }), 'no sum of times');
  refused(t, () => sqlOf({ measure: { kind: 'sum', column: 'amount) FROM x -- ' } }), 'no SQL');
  t.end();
});

void t.test('days of UTC columns are those of the zone, with the changes of its clock in the statement', t => {
  const day = sqlOf({ by: { column: '_changed_at', unit: 'day' } });
  t.match(
    day,
    "WHEN t.`_changed_at` >= '2026-10-25 01:00:00' THEN 3600 WHEN t.`_changed_at` >= '2026-03-29 01:00:00' THEN 7200",
  );
  const { sql: ahead } = groupsStatement(
    'hq',
    [column('due_at', 'timestamp')],
    { ...ALL, by: { column: 'due_at', unit: 'day' }, measure: { kind: 'rows', column: '' } },
    { ...CALENDAR, zone: 'Europe/Berlin' },
  );
  t.match(ahead, "WHEN t.`due_at` >= '2027-03-28 01:00:00' THEN 7200", 'also of times in the future');
  t.match(ahead, "CASE WHEN t.`due_at` >= '2037-10-25 01:00:00' THEN 3600");
  const short = sqlOf({
    by: { column: '_changed_at', unit: 'day' },
    period: { column: '_changed_at', preset: 'yesterday' },
  });
  t.match(
    short,
    'DATE_FORMAT((t.`_changed_at` + INTERVAL 3600 SECOND)',
    'within a period without a change one offset is enough',
  );
  t.match(
    sqlOf({ by: { column: 'sold_at', unit: 'day' } }),
    "DATE_FORMAT(t.`sold_at`, '%Y-%m-%d')",
    'no zone is made up',
  );
  t.end();
});

void t.test('a period is translated where the column is in UTC, and compared as it stands where it has no zone', t => {
  const period = (name: string): string =>
    conditionOf(COLUMNS, { ...ALL, period: { column: name, preset: 'yesterday' } }, CALENDAR).sql;
  t.equal(
    period('_changed_at'),
    "t.`_changed_at` >= '2026-11-29 23:00:00' AND t.`_changed_at` < '2026-11-30 23:00:00'",
  );
  t.equal(period('sold_at'), "t.`sold_at` >= '2026-11-30 00:00:00' AND t.`sold_at` < '2026-12-01 00:00:00'");
  t.equal(period('day'), "t.`day` >= '2026-11-30' AND t.`day` < '2026-12-01'");
  t.equal(
    conditionOf(COLUMNS, { ...ALL, period: { column: 'sold_at', preset: 'today' } }, CALENDAR).period?.zone,
    null,
  );
  refused(t, () => period('amount'), 'it has no days');
  t.end();
});

void t.test('the total is told from the group of NULL, and more groups than are listed are said', t => {
  const query: GroupsQuery = {
    ...ALL,
    by: { column: 'id', unit: 'value' },
    measure: { kind: 'sum', column: 'amount' },
  };
  const statement = groupsStatement('hq', COLUMNS, query, CALENDAR);
  const groups = groupsOf(query, statement, [
    [null, '1', '5', '7.50'],
    [null, '0', '2', null],
    ['17', '0', '3', '7.50'],
  ]);
  t.same(groups.total, { key: null, rows: 5, value: '7.50' });
  t.same(groups.groups, [
    { key: null, rows: 2, value: null },
    { key: '17', rows: 3, value: '7.50' },
  ]);
  t.equal(groups.more, false);
  const many = Array.from({ length: MAX_GROUPS + 1 }, (_, i) => [String(i), '0', '1', '1']);
  t.equal(groupsOf(query, statement, many).more, true);
  t.same(groupsOf(query, statement, []).total, { key: null, rows: 0, value: null });
  t.end();
});

void t.test('a row with a long binary key can be asked for', t => {
  const key = `0x${'ab'.repeat(3_000)}`;
  t.equal(keyCondition([column('id', 'varbinary(3000)', true)], [key]), `t.\`id\` = X'${key.slice(2)}'`);
  const filter = { column: 'id', operator: '=', value: key } as const;
  refused(
    t,
    () => conditionOf([column('id', 'varbinary(3000)')], { ...ALL, filters: [filter] }, CALENDAR),
    'no person types that',
  );
  t.end();
});

void t.test('a branch is not chosen in vain', t => {
  refused(t, () => conditionOf([column('id', 'int')], { ...ALL, branch: 'paris' }, CALENDAR), 'there are no branches');
  t.end();
});

void t.test('a key reaches a statement only as literals of its columns', t => {
  t.equal(keyCondition(COLUMNS, ["par'is", '17']), "t.`_branch` = 'par''is' AND t.`id` = 17");
  refused(t, () => keyCondition(COLUMNS, ['paris', '17 OR 1=1']), 'no SQL');
  refused(t, () => keyCondition(COLUMNS, ['paris']), 'too few');
  const table = { name: 'sales', columns: COLUMNS, lead: 'id' };
  t.equal(leadCondition(table, '17'), 't.`id` = 17');
  t.equal(leadCondition(table, 'A-17'), null, 'a number cannot be that');
  t.equal(leadCondition({ ...table, lead: null }, '17'), null, 'a table without a key');
  t.end();
});
