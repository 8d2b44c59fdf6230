/**
 * Random tables and random transactions on them, all from one sequence of numbers: the same seed, the same statements.
 * A fifth of the tables has no key, others lose or get one: rows may be there any number of times.
 *
 * Statements may fail (a duplicate key, a value that a type does not take): the server's own row events say what came of
 * them, and only that is compared.
 */
import type { Flavor } from '../../../deploy/rig/database-options.ts';
import { quote } from '../../../deploy/rig/oracle/canonical-column.ts';

export type Random = () => number;

interface ColumnKind {
  readonly type: string;
  /** A random value as SQL. */
  readonly value: (random: Random) => string;
  /** Can be part of a primary key. */
  readonly key?: true;
  readonly only?: Flavor;
}

export function below(random: Random, n: number): number {
  return Math.floor(random() * n);
}

function pick<T>(random: Random, from: readonly T[]): T {
  return from[below(random, from.length)]!;
}

const ALPHABET = [
  'a',
  'A',
  'b',
  'B',
  'ä',
  'Ä',
  'ß',
  'é',
  ' ',
  '  ',
  '0',
  '9',
  "''",
  '"',
  '\\\\',
  '\\n',
  '\\t',
  '\\0',
  '%',
  '日',
  'ж',
  '😀',
];
const LATIN = ['a', 'A', 'b', 'ä', 'ž', 'Ž', ' ', "''", 'ł'];

const text =
  (letters: readonly string[], most: number) =>
  (random: Random): string =>
    `'${Array.from({ length: below(random, most + 1) }, () => pick(random, letters)).join('')}'`;
const hex =
  (most: number) =>
  (random: Random): string =>
    `X'${Array.from({ length: below(random, most + 1) }, () => pick(random, ['00', '20', 'ff', '5c', '27', '41', '0a'])).join('')}'`;
/** Small numbers often, so that keys meet; the edges of the type now and then. */
const integer =
  (low: bigint, high: bigint) =>
  (random: Random): string => {
    if (random() < 0.7) return String(below(random, 12));
    return String(
      pick(
        random,
        [low, low + 1n, high, high - 1n, (low + high) / 2n, 2n ** 53n + 1n].filter(n => n >= low && n <= high),
      ),
    );
  };
const real = (random: Random): string =>
  pick(random, ['0', '-0e0', '0.1', '1.5', '-3e-5', '1e10', '16777217', '3.4e38', '1.2e-38', '1e-45', '0.30000001']);
const pad = (n: number, width = 2): string => String(n).padStart(width, '0');
const date = (random: Random): string =>
  pick(random, [
    '0000-00-00',
    '2024-02-29',
    '9999-12-31',
    '2024-00-00',
    `20${pad(below(random, 30))}-${pad(1 + below(random, 12))}-${pad(1 + below(random, 28))}`,
  ]);
const clock = (random: Random): string =>
  `${pad(below(random, 24))}:${pad(below(random, 60))}:${pad(below(random, 60))}.${pad(below(random, 1_000_000), 6)}`;
const time = (random: Random): string =>
  `'${random() < 0.3 ? '-' : ''}${pad(below(random, 839), 3)}:${pad(below(random, 60))}:${pad(below(random, 60))}.${pad(below(random, 1_000_000), 6)}'`;
const json = (random: Random, depth = 0): string => {
  const kind = below(random, depth > 2 ? 6 : 8);
  if (kind === 6) return `[${Array.from({ length: below(random, 4) }, () => json(random, depth + 1)).join(',')}]`;
  if (kind === 7)
    return `{${Array.from({ length: below(random, 4) }, (_, i) => `"${pick(random, ['', 'a', 'é', '__proto__', 'k'])}${i}":${json(random, depth + 1)}`).join(',')}}`;
  return pick(random, [
    'null',
    'true',
    'false',
    '18446744073709551615',
    '-9223372036854775808',
    '0.1',
    '1.0',
    '1e300',
    '-2.5e-7',
    '"Zoë 😀"',
    '""',
    '12',
  ]);
};

const KINDS: readonly ColumnKind[] = [
  { type: 'TINYINT', value: integer(-128n, 127n), key: true },
  { type: 'SMALLINT UNSIGNED', value: integer(0n, 65535n), key: true },
  { type: 'MEDIUMINT', value: integer(-8388608n, 8388607n), key: true },
  { type: 'INT', value: integer(-2147483648n, 2147483647n), key: true },
  { type: 'BIGINT', value: integer(-(2n ** 63n), 2n ** 63n - 1n), key: true },
  { type: 'BIGINT UNSIGNED', value: integer(0n, 2n ** 64n - 1n), key: true },
  { type: 'DECIMAL(12,4)', value: r => `${r() < 0.4 ? '-' : ''}${below(r, 20)}.${below(r, 9999)}`, key: true },
  {
    type: 'DECIMAL(65,30)',
    value: r => `${r() < 0.4 ? '-' : ''}${'7'.repeat(1 + below(r, 35))}.${'3'.repeat(1 + below(r, 30))}`,
    key: true,
  },
  { type: 'FLOAT', value: real, key: true },
  { type: 'DOUBLE', value: real, key: true },
  { type: 'BIT(1)', value: r => String(below(r, 2)) },
  { type: 'BIT(12)', value: r => String(below(r, 4096)), key: true },
  { type: 'BIT(64)', value: integer(0n, 2n ** 64n - 1n), key: true },
  { type: 'YEAR', value: r => pick(r, ['0', '1901', '2024', '2155']), key: true },
  { type: 'DATE', value: r => `'${date(r)}'`, key: true },
  { type: 'TIME(2)', value: time, key: true },
  { type: 'TIME(6)', value: time },
  { type: 'DATETIME(3)', value: r => `'${date(r)} ${clock(r)}'`, key: true },
  { type: 'DATETIME(6)', value: r => `'${date(r)} ${clock(r)}'` },
  { type: 'TIMESTAMP(6) NULL', value: r => `'20${pad(1 + below(r, 36))}-06-15 ${clock(r)}'` },
  { type: 'CHAR(8)', value: text(ALPHABET, 8), key: true },
  { type: 'VARCHAR(20)', value: text(ALPHABET, 20), key: true },
  { type: 'VARCHAR(20) COLLATE utf8mb4_bin', value: text(ALPHABET, 20), key: true },
  { type: 'VARCHAR(12) CHARACTER SET latin2', value: text(LATIN, 12), key: true },
  { type: 'VARCHAR(12) CHARACTER SET sjis', value: text(['a', 'A', '表', 'あ', 'ｱ', ' '], 12), key: true },
  { type: 'TEXT', value: text(ALPHABET, 200) },
  { type: 'MEDIUMTEXT CHARACTER SET cp1251', value: text(['ж', 'Ж', 'a'], 100) },
  { type: 'BINARY(4)', value: hex(4), key: true },
  { type: 'VARBINARY(8)', value: hex(8), key: true },
  { type: 'BLOB', value: hex(200) },
  { type: "ENUM('z','a,b','c''d')", value: r => pick(r, ["'z'", "'a,b'", "'c''d'", '0']), key: true },
  // In a key its two empty texts would be one: capture stops at such a row.
  { type: "ENUM('z','')", value: r => pick(r, ['0', '1', '2']) },
  { type: "SET('x','y','z')", value: r => String(below(r, 8)), key: true },
  { type: 'JSON', value: r => `'${json(r).replaceAll("'", "''")}'` },
  {
    type: 'GEOMETRY',
    value: r => `ST_GeomFromText('POINT(${below(r, 9)} ${below(r, 9)})', ${pick(r, ['0', '4326'])})`,
  },
  {
    type: 'UUID',
    value: r => `'123e4567-e89b-${below(r, 9)}2d3-${pick(r, ['a', '8', '4'])}456-42665544000${below(r, 9)}'`,
    key: true,
    only: 'mariadb',
  },
  {
    type: 'INET6',
    value: r => pick(r, ["'::1'", "'::ffff:1.2.3.4'", "'2001:db8::5'", "'::'"]),
    key: true,
    only: 'mariadb',
  },
  { type: 'INET4', value: r => `'10.0.0.${below(r, 255)}'`, key: true, only: 'mariadb' },
];

interface Column {
  readonly name: string;
  readonly kind: ColumnKind;
}

const KEYLESS = 0.2;

/** What tells rows apart: columns whose values are random; nothing; a number that the server gives. */
type Identity = 'key' | 'none' | 'number';

export class RandomTable {
  readonly name: string;
  readonly #random: Random;
  #identity: Identity;
  /** Those of the key, and those that rows are looked for by. */
  readonly #keys: readonly Column[];
  #values: Column[];
  readonly #kinds: readonly ColumnKind[];

  constructor(random: Random, name: string, flavor: Flavor) {
    this.name = name;
    this.#random = random;
    this.#identity = random() < KEYLESS ? 'none' : 'key';
    this.#kinds = KINDS.filter(({ only }) => only === undefined || only === flavor);
    const keyable = this.#kinds.filter(({ key }) => key === true);
    this.#keys = Array.from({ length: 1 + below(random, 3) }, (_, i) => ({
      name: `k${i}`,
      kind: pick(random, keyable),
    }));
    this.#values = Array.from({ length: below(random, 8) }, (_, i) => ({
      name: `v ${i}`,
      kind: pick(random, this.#kinds),
    }));
  }

  get create(): string {
    // Columns of the key stand among the others, and in another order than in the key.
    const columns = [...this.#values, ...this.#keys.toReversed()].map(
      ({ name, kind }) => `${quote(name)} ${kind.type}`,
    );
    if (this.#identity === 'key') columns.push(`PRIMARY KEY (${this.#keys.map(({ name }) => quote(name)).join(', ')})`);
    return `CREATE TABLE ${this.name} (${columns.join(', ')}) CHARACTER SET utf8mb4`;
  }

  /** Statements of one transaction, or one that is none. */
  transaction(other: RandomTable): string[] {
    const random = this.#random;
    if (random() < 0.02) return [`TRUNCATE TABLE ${this.name}`];
    if (random() < 0.03) return [this.#alter()];
    const body = Array.from({ length: 1 + below(random, 5) }, () => this.#statement(other));
    if (random() < 0.2)
      body.splice(
        below(random, body.length),
        0,
        'SAVEPOINT here',
        this.#statement(other),
        'ROLLBACK TO SAVEPOINT here',
      );
    return ['BEGIN', ...body, random() < 0.1 ? 'ROLLBACK' : 'COMMIT'];
  }

  #alter(): string {
    const random = this.#random;
    if (this.#identity !== 'number' && random() < 0.2) {
      const keyed = this.#identity === 'key';
      this.#identity = keyed ? 'none' : 'number';
      return `ALTER TABLE ${this.name} ${keyed ? 'DROP PRIMARY KEY' : 'ADD COLUMN n INT AUTO_INCREMENT PRIMARY KEY'}`;
    }
    const last = this.#values.at(-1);
    if (last !== undefined && random() < 0.3) {
      this.#values = this.#values.slice(0, -1);
      return `ALTER TABLE ${this.name} DROP COLUMN ${quote(last.name)}`;
    }
    const kind = pick(random, this.#kinds);
    const column = { name: `w ${below(random, 1_000_000)}`, kind };
    this.#values = [...this.#values, column];
    return `ALTER TABLE ${this.name} ADD COLUMN ${quote(column.name)} ${kind.type}`;
  }

  /** A list of rows to insert. @returns columns and rows as SQL */
  insert(rows: number): string {
    const columns = [...this.#keys, ...this.#values];
    const names = columns.map(({ name }) => quote(name)).join(', ');
    const values = Array.from({ length: rows }, () => `(${columns.map(column => this.#value(column)).join(', ')})`);
    return `INTO ${this.name} (${names}) VALUES ${values.join(', ')}`;
  }

  #value({ name, kind }: Column): string {
    const nullable = this.#identity !== 'key' || !name.startsWith('k');
    return nullable && this.#random() < 0.2 ? 'NULL' : kind.value(this.#random);
  }

  #statement(other: RandomTable): string {
    const random = this.#random;
    const columns = [...this.#keys, ...this.#values];
    const changed = pick(random, columns);
    const key = pick(random, this.#keys);
    const set = `${quote(changed.name)} = ${this.#value(changed)}`;
    const where = `${quote(key.name)} ${pick(random, ['=', '>', '<', '<>'])} ${key.kind.value(random)}`;
    const limit = ` LIMIT ${1 + below(random, 6)}`;
    const theirs = pick(random, other.#keys);
    switch (below(random, 10)) {
      case 0:
      case 1:
        return `INSERT IGNORE ${this.insert(1 + below(random, 20))}`;
      case 2:
        return `REPLACE ${this.insert(1 + below(random, 5))}`;
      case 3:
        return `INSERT ${this.insert(1 + below(random, 3))} ON DUPLICATE KEY UPDATE ${set}`;
      case 4:
        return `UPDATE IGNORE ${this.name} SET ${set} WHERE ${where}`;
      case 5:
        return `UPDATE IGNORE ${this.name} SET ${quote(key.name)} = ${key.kind.value(random)} WHERE ${where}${limit}`;
      case 6:
        return `DELETE FROM ${this.name} WHERE ${where}${limit}`;
      case 7:
        return `UPDATE IGNORE ${this.name} x JOIN ${other.name} y ON 1 SET x.${quote(changed.name)} = ${this.#value(changed)} WHERE y.${quote(theirs.name)} = ${theirs.kind.value(random)}`;
      case 8:
        return `DELETE x FROM ${this.name} x JOIN ${other.name} y ON x.${quote(key.name)} = ${key.kind.value(random)}`;
      default: {
        const names = columns.map(({ name }) => quote(name));
        const copied = this.#identity !== 'key' && random() < 0.6;
        const selected = columns.map(column =>
          column === changed && !copied ? this.#value(changed) : quote(column.name),
        );
        // Where no key refuses a row, nothing else keeps the table from growing.
        const most = this.#identity === 'key' ? '' : limit;
        return `INSERT IGNORE INTO ${this.name} (${names.join(', ')}) SELECT ${selected.join(', ')} FROM ${this.name} WHERE ${where}${most}`;
      }
    }
  }
}
