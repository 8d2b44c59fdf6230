import t from 'tap';
import { queryText } from '../../../../agent/binlog/query-text.ts';
import { ServerCharsets } from '../../../../agent/values/server-charsets.ts';

const LATIN1 = 8;
const UTF8 = 45;
const GBK = 28;

/** Status variables as servers write them: flags2, sql_mode, catalog, charset, and one that is not needed. */
function status(sqlMode: number, collation: number): Buffer {
  const mode = Buffer.alloc(8);
  mode.writeUInt32LE(sqlMode);
  const charset = Buffer.alloc(6);
  charset.writeUInt16LE(collation);
  const parts = [[0, 0, 0, 0, 0], [1], [...mode], [6, 3], [...Buffer.from('std')], [4], [...charset], [5, 1, 65]];
  return Buffer.from(parts.flat());
}

async function charsets(): Promise<ServerCharsets> {
  const known = await ServerCharsets.read(
    {
      rows: sql =>
        Promise.resolve(sql.includes('MAXLEN') ? [{ name: 'gbk', bytes: '2' }] : [{ id: '28', name: 'gbk' }]),
    },
    false,
  );
  await known.load(
    {
      rows: sql => {
        const codes = sql.includes('h3')
          ? [
              { code: String(0x8140), bytes: '8140', text: 'E4B882' },
              { code: String(0x815c), bytes: '815C', text: 'E4B893' },
            ]
          : Array.from({ length: 128 }, (_, i) => ({
              code: String(i),
              bytes: '',
              text: i.toString(16).padStart(2, '0'),
            }));
        return Promise.resolve(codes);
      },
    },
    ['gbk'],
  );
  return known;
}

void t.test('a statement is read in the character set of the client that sent it', async t => {
  const known = await charsets();
  const read = (bytes: Buffer, collation: number) =>
    queryText({ schema: '', sql: bytes, status: status(0, collation) }, known).text;
  t.equal(read(Buffer.from('TRUNCATE `\xe9`', 'latin1'), LATIN1), 'TRUNCATE `é`');
  t.equal(read(Buffer.from('TRUNCATE `é`'), UTF8), 'TRUNCATE `é`');
  t.equal(read(Buffer.from('TRUNCATE `\x81\x5c`', 'latin1'), GBK), 'TRUNCATE `专`', 'no backslash, half a character');
  t.equal(read(Buffer.from("COMMENT '\xff\x81\x40'", 'latin1'), GBK), "COMMENT '\ufffd丂'", 'bytes that are no text');
});

void t.test('a set whose table is not there yet is asked for', async t => {
  const known = await ServerCharsets.read(
    {
      rows: sql =>
        Promise.resolve(sql.includes('MAXLEN') ? [{ name: 'gbk', bytes: '2' }] : [{ id: '28', name: 'gbk' }]),
    },
    false,
  );
  const sql = Buffer.from('TRUNCATE `\x81\x40`', 'latin1');
  t.throws(() => queryText({ schema: '', sql, status: status(0, GBK) }, known), /gbk/);
  t.equal(queryText({ schema: '', sql: Buffer.from('BEGIN'), status: status(0, GBK) }, known).text, 'BEGIN');
});

void t.test('sql_mode says how quotes are to be read', t => {
  const charsets = ServerCharsets.builtIn(false);
  const quoting = (sqlMode: number) =>
    queryText({ schema: '', sql: Buffer.from("COMMENT 'a\\'"), status: status(sqlMode, UTF8) }, charsets).dialect;
  t.same(quoting(0), { backslash: true, ansi: false, nbspIsBlank: false });
  t.same(quoting(4), { backslash: true, ansi: true, nbspIsBlank: false });
  t.same(quoting(0x10_0000), { backslash: false, ansi: false, nbspIsBlank: false });
  t.end();
});
