/** Names are one here exactly where they are one for the head office's server. */
import t from 'tap';
import type { RowDataPacket } from 'mysql2/promise';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import { columnKey, foldedName } from '../../shared/identifiers.ts';
import { connectTo } from '../support/world/database.ts';

const connection = await connectTo(sharedServers().headOffice, { charset: 'utf8mb4' });
const database = `identifiers_${process.pid}`;
await connection.query(`CREATE DATABASE ${database}`);
await connection.query(`USE ${database}`);
t.teardown(async () => {
  await connection.query(`DROP DATABASE ${database}`);
  await connection.end();
});

await t.test('every letter is folded as the server folds it', async t => {
  for (let from = 1; from < 0x10000; from += 0x400) {
    const letters = Array.from({ length: 0x400 }, (_, index) => from + index)
      .filter(code => code < 0xd800 || (code > 0xdfff && code < 0x10000))
      .map(code => String.fromCharCode(code));
    if (letters.length === 0) continue;
    const list = letters.map(
      (letter, index) =>
        `LOWER(_utf8mb3 X'${Buffer.from(letter).toString('hex')}' COLLATE utf8mb3_tolower_ci) AS c${index}`,
    );
    const [rows] = await connection.query<RowDataPacket[]>(`SELECT ${list.join(', ')}`);
    const different = letters.filter((letter, index) => rows[0]?.[`c${index}`] !== columnKey(letter));
    t.same(different, [], `from ${from.toString(16)}`);
  }
});

await t.test('two columns are one exactly where the server takes them for one', async t => {
  const pairs = 'iİ Iİ ıI σς Σς Σσ ßẞ ée Éé Ⱥⱥ Ωω Kk ſs Ǆǆ Ⴀⴀ'.split(' ').map(pair => [pair[0]!, pair[1]!]);
  for (const [one, other] of [...pairs, ['ΑΣ', 'ας'], ['ΑΣ', 'ασ'], ['Straße', 'STRAẞE']]) {
    const create = connection.query(`CREATE TABLE x (\`${one!}\` INT, \`${other!}\` INT)`);
    const isOne = await create.then(
      () => false,
      (error: unknown) => error instanceof Error && 'errno' in error && error.errno === 1060,
    );
    t.equal(columnKey(one!) === columnKey(other!), isOne, `${one!} and ${other!}`);
    await connection.query('DROP TABLE IF EXISTS x');
  }
});

await t.test('tables are one where the server folds their names', t => {
  t.not(foldedName('Sales', false), foldedName('sales', false));
  t.equal(foldedName('Sales', true), foldedName('sales', true));
  t.end();
});
