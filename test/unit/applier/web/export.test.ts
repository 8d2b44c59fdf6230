import { EventEmitter, once } from 'node:events';
import { Readable } from 'node:stream';
import type { Connection } from 'mysql2/promise';
import t from 'tap';
import type { Column } from '../../../../applier/web/columns.ts';
import { openExport } from '../../../../applier/web/export.ts';
import type { ExportFile, Format } from '../../../../applier/web/export.ts';
import { ReadPool } from '../../../../applier/web/read-pool.ts';

const column = (name: string, type: string): Column => ({
  name,
  type,
  dataType: type.replace(/[( ].*/, ''),
  key: name === 'id',
});

/** A table of `rows`, and what was asked of the server. */
function office(columns: Column[], rows: Iterable<unknown> | AsyncIterable<unknown>) {
  const asked = { ahead: 0, closed: new EventEmitter() };
  const core = Object.assign(new EventEmitter(), {
    query: () => ({
      stream: ({ highWaterMark }: { highWaterMark: number }) => {
        asked.ahead = highWaterMark;
        return Readable.from(rows, { highWaterMark });
      },
    }),
  });
  const pool = new ReadPool(() =>
    Promise.resolve({
      query: () => Promise.resolve([[['1', 'server']], []]),
      destroy: () => void asked.closed.emit('closed'),
      connection: core,
    } as unknown as Connection),
  );
  const open = (format: Format, limitMs?: number): Promise<ExportFile> =>
    openExport(
      {
        database: 'hq',
        columns: () => Promise.resolve(columns),
        calendar: () => ({ zone: 'UTC', now: Date.parse('2026-12-01T07:00:00Z') }),
        pool,
      },
      { table: 'sales', branch: null, filters: [], period: null, order: null, format },
      new AbortController().signal,
      limitMs,
    );
  return { asked, open };
}

function* endless(): Generator<Buffer[]> {
  for (;;) yield [Buffer.from('7'), Buffer.from('x'.repeat(200))];
}

async function textOf(bytes: AsyncIterable<Uint8Array>): Promise<string> {
  let text = '';
  for await (const chunk of bytes) text += Buffer.from(chunk).toString();
  return text;
}

const SHORT = [column('id', 'bigint'), column('note', 'varchar(200)')];

void t.test('an export that is taken slowly ends by its limit, says so, and holds no connection', async t => {
  const { asked, open } = office(SHORT, endless());
  const closed = once(asked.closed, 'closed');
  const { bytes } = await open('csv', 20);
  await bytes[Symbol.asyncIterator]().next();
  await closed;
  const rest = await textOf(bytes);
  t.match(rest, /NOT COMPLETE: it took longer than 20 ms\. Select fewer rows\./);
});

void t.test('an export ends by its limit also while the server sends nothing', async t => {
  async function* silent(): AsyncGenerator<(Buffer | null)[]> {
    yield [Buffer.from('7'), null];
    await new Promise(() => undefined);
  }
  const { open } = office(SHORT, silent());
  t.match(await textOf((await open('csv', 20)).bytes), /7,\r\n"?NOT COMPLETE: it took/);
});

void t.test('the wider the rows, the fewer are read ahead', async t => {
  const aheadOf = async (columns: Column[]): Promise<number> => {
    const { asked, open } = office(columns, [columns.map(() => Buffer.from('7'))]);
    await textOf((await open('csv')).bytes);
    return asked.ahead;
  };
  t.equal(await aheadOf(SHORT), 500);
  const long = Array.from({ length: 32 }, (_, i) => column(`c${i}`, i % 2 === 0 ? 'longtext' : 'varbinary(8000)'));
  t.equal(await aheadOf([column('id', 'bigint'), ...long]), 15);
});
