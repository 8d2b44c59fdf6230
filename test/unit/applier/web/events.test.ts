import { existsSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { EVENT_KINDS } from '../../../../applier/store/event-kinds.ts';
import { eventsStatement } from '../../../../applier/store/events.ts';
import { libraryFiles } from '../../../../shared/process/page-libraries.ts';
import { eventQuery } from '../../../../applier/web/events.ts';
import { ROOT } from '../../../../shared/root.ts';

const query = (text: string) => eventQuery(new URLSearchParams(text));

void t.test('a query for events is read, and a wrong one refused', t => {
  t.same(query(''), { branch: null, kinds: null, sinceMs: null, before: null, limit: 100 });
  t.same(query('branch=paris&kind=halted,retried&since=2026-12-01T00:00:00Z&before=7&limit=5'), {
    branch: 'paris',
    kinds: ['halted', 'retried'],
    sinceMs: Date.parse('2026-12-01T00:00:00Z'),
    before: 7,
    limit: 5,
  });
  t.equal(query('limit=100000').limit, 100, 'a page has its size');
  for (const wrong of ['kind=nothing', 'since=yesterday', 'before=-1', 'limit=x', 'before=1 OR 1=1']) {
    t.throws(() => query(wrong), { code: 'BAD_REQUEST' }, wrong);
  }
  t.end();
});

void t.test('what a person types reaches the statement only as a value', t => {
  const sql = eventsStatement({ branch: `' OR 1=1 -- `, kinds: [], sinceMs: 0, before: 5, limit: 3 });
  t.match(sql, `branch = ''' OR 1=1 -- ' AND kind IN (NULL) AND at >= '1970-01-01 00:00:00.000' AND id < 5`);
  t.end();
});

void t.test('every page of the runbook that an event leads to is there, and every file of a library', t => {
  for (const [kind, { runbook }] of Object.entries(EVENT_KINDS)) {
    if (runbook !== null) t.ok(existsSync(join(ROOT, 'deploy/runbook', `${runbook}.md`)), kind);
  }
  for (const file of libraryFiles()) t.ok(existsSync(file), file);
  t.end();
});
