import { setTimeout as pause } from 'node:timers/promises';
import type { Connection } from 'mysql2/promise';
import t from 'tap';
import { MAX_EXPORTS, ReadPool } from '../../../../applier/web/read-pool.ts';
import { until } from '../../../support/until.ts';

/** A server that takes so long to let somebody in, and answers every statement with one row. */
function server(openMs = 0) {
  const open = new Set<Connection>();
  const connect = async (): Promise<Connection> => {
    await pause(openMs);
    const connection = {
      query: () => Promise.resolve([[['1', 'server']], []]),
      destroy: () => void open.delete(connection),
      end: () => Promise.resolve(void open.delete(connection)),
    } as unknown as Connection;
    open.add(connection);
    return connection;
  };
  return { connect, open };
}

void t.test('an export whose caller goes while its connection is opened gives its place back', async t => {
  const { connect, open } = server(20);
  const pool = new ReadPool(connect);
  for (let i = 0; i < MAX_EXPORTS; i += 1) {
    const aborter = new AbortController();
    setTimeout(() => aborter.abort(), 1);
    await t.rejects(pool.session(aborter.signal), { code: 'CANCELLED' });
  }
  t.equal(open.size, 0, 'and no connection is left');
  await t.rejects(pool.session(AbortSignal.abort()), { code: 'CANCELLED' }, 'one that has gone already opens none');
  const session = await pool.session(new AbortController().signal);
  session.close();
  t.equal(open.size, 0);
});

void t.test('a pool that is closed while an export opens its connection keeps none', async t => {
  const { connect, open } = server(5);
  const pool = new ReadPool(connect);
  const opening = pool.session(new AbortController().signal);
  await pool.close();
  await t.rejects(opening, { code: 'CLOSING' });
  t.equal(open.size, 0);
});

void t.test(
  'long questions leave a place to others, and one whose caller goes while it waits asks nothing',
  async t => {
    const asked: string[] = [];
    const ends: (() => void)[] = [];
    const connect = (): Promise<Connection> =>
      Promise.resolve({
        query: ({ sql = '' }: { sql?: string }) => {
          if (!sql.startsWith('question')) return Promise.resolve([[['1', 'server']], []]);
          asked.push(sql);
          return new Promise(resolve => ends.push(() => resolve([[], []])));
        },
        destroy: () => undefined,
        end: () => Promise.resolve(),
      } as unknown as Connection);
    const pool = new ReadPool(connect);
    const aborter = new AbortController();
    const long = [1, 2, 3].map(i => pool.read(`question long ${i}`, { limitMs: 10_000, signal: aborter.signal }));
    const short = pool.read('question short');
    await until('three questions', () => asked.length === 3);
    t.same(asked, ['question long 1', 'question long 2', 'question short']);
    aborter.abort();
    for (const end of ends.splice(0)) end();
    await short;
    const [, , third] = await Promise.allSettled(long);
    t.match(third, { status: 'rejected', reason: { code: 'CANCELLED' } });
    t.equal(asked.length, 3);
  },
);
