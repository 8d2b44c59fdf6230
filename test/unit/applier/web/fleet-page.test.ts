/** Which part of the fleet a page gets, and what it is told of the rest. */
import t from 'tap';
import { BRANCH_STATES } from '../../../../applier/branches/branch-state.ts';
import { fleetPart, readFleetQuery } from '../../../../applier/web/fleet-page.ts';
import type { FleetPart } from '../../../../applier/web/fleet-page.ts';
import { largeFleet, mixedFleet } from '../../../support/world/page-fixtures.ts';

const { branches: large } = largeFleet(1_000);
const part = (query: string, all = large): FleetPart => fleetPart(all, readFleetQuery(new URLSearchParams(query)));
const ids = (query: string, all = large): string[] => part(query, all).branches.map(({ branch }) => branch);

void t.test('a thousand branches come a hundred at a time, each once, trouble first', t => {
  const first = part('');
  t.match(first.fleet, { branches: 1_000, fitting: 1_000, page: 1, pages: 10 });
  t.equal(first.branches.length, 100);
  t.equal(first.branches[0]?.state, 'halted');
  t.equal(new Set(Array.from({ length: 10 }, (_, n) => ids(`page=${n + 1}`)).flat()).size, 1_000);
  t.equal(part('page=99').fleet.page, 10, 'beyond the end is the last page');
  t.ok(JSON.stringify(first).length < 150_000, `${JSON.stringify(first).length} bytes`);
  t.end();
});

void t.test('sums are of all branches, whatever is shown', t => {
  const of = ({ branches, troubled, states, spoolBytes }: FleetPart['fleet']): unknown =>
    JSON.stringify([branches, troubled, states, spoolBytes]);
  t.equal(of(part('search=nowhere').fleet), of(part('').fleet));
  const { fleet } = part('', mixedFleet().branches);
  t.equal(fleet.troubled, 6);
  for (const state of BRANCH_STATES) t.ok(fleet.states[state] >= 1, state);
  t.end();
});

void t.test('branches are found by a part of their id, by state and by trouble, and sorted by a column', t => {
  t.same(ids('search=BRANCH-99&sort=branch').slice(0, 2), ['branch-990', 'branch-991']);
  t.ok(part('state=offline').branches.every(({ states }) => states.includes('offline')));
  t.equal(part('state=trouble').fleet.fitting, part('').fleet.troubled);
  const rates = part('sort=-rate').branches.map(({ rowsPerSecond }) => rowsPerSecond);
  t.same(
    rates,
    rates.toSorted((a, b) => b - a),
  );
  const seen = part('sort=-seen', mixedFleet().branches).branches.map(({ lastSeenAt }) => lastSeenAt);
  t.equal(seen.at(-1), null, 'what is not known comes last either way');
  t.equal(part('sort=seen', mixedFleet().branches).branches.at(-1)?.lastSeenAt, null);
  t.end();
});

void t.test('what is not understood is refused', t => {
  for (const query of ['state=fine', 'sort=colour', 'page=0', 'page=1.5', 'page=x', `search=${'x'.repeat(65)}`]) {
    t.throws(() => part(query), { code: 'BAD_REQUEST' }, query);
  }
  t.same(readFleetQuery(new URLSearchParams('state=&search=')), {
    state: null,
    search: '',
    sort: 'state',
    descending: false,
    page: 1,
  });
  t.end();
});
