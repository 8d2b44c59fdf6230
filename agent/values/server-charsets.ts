/**
 * Character sets beyond those of charsets.ts, decoded with tables from the branch's own server. The agent asks the
 * server what each code of a set is in utf8mb4. So text is converted exactly as that server converts it, whatever its
 * version.
 *
 * Invariant: decoding throws at a code for which the server has no character (it would print '?'); nothing is replaced.
 * Tables are loaded before the stream is read. A set that first appears in the stream ends it with a retryable error;
 * the retry loads the table.
 *
 * Bounds: about 65,536 texts per multi-byte set. Only sets that the branch's tables use are loaded.
 */
import { UndecodableText, charsetOfCollation, isBuiltIn } from './charsets.ts';
import type { Charset, ForeignCharset } from './charsets.ts';
import { BinlogRestart } from '../binlog-restart.ts';
import type { TableName } from '../../shared/table-name.ts';
import { rowsOfEach } from '../catalogue-query.ts';
import type { CatalogueSource } from '../catalogue-query.ts';

/** The connection through which tables are read, such as a SourceConnection. */
export type CharsetSource = CatalogueSource;

/** What the server converts an unknown code to: '?', in hexadecimal. */
const UNKNOWN = '3F';
const HEX_DIGITS = Array.from({ length: 16 }, (_, digit) => `SELECT '${digit.toString(16).toUpperCase()}' AS d`).join(
  ' UNION ALL ',
);
/** The linear number of GB18030's code 0x90308130, which is U+10000. The codes after it follow Unicode's order. */
const GB18030_PLANES = 189_000;
/** The end of GB18030's four-byte codes in the Basic Multilingual Plane, as a linear number. */
const GB18030_BMP = 50_400;
const NAME = /^[a-z0-9_]+$/;

/** A set's codes as texts, by length in bytes. */
interface CodeTable {
  readonly single: readonly (string | undefined)[];
  readonly double: ReadonlyMap<number, string>;
  readonly triple: ReadonlyMap<number, string>;
  /** By GB18030's linear number. */
  readonly quadruple: ReadonlyMap<number, string> | null;
}

export class ServerCharsets {
  readonly #mariadb: boolean;
  readonly #collations: ReadonlyMap<number, string>;
  readonly #maxBytes: ReadonlyMap<string, number>;
  readonly #loaded = new Map<string, ForeignCharset>();
  readonly #wanted = new Set<string>();

  private constructor(
    mariadb: boolean,
    collations: ReadonlyMap<number, string> = new Map(),
    maxBytes: ReadonlyMap<string, number> = new Map(),
  ) {
    this.#mariadb = mariadb;
    this.#collations = collations;
    this.#maxBytes = maxBytes;
  }

  /** For the sets of charsets.ts only. */
  static builtIn(mariadb: boolean): ServerCharsets {
    return new ServerCharsets(mariadb);
  }

  /** Asks the server which sets and collations it has. */
  static async read(source: CharsetSource, mariadb: boolean): Promise<ServerCharsets> {
    const sets = await source.rows(
      'SELECT CHARACTER_SET_NAME AS name, MAXLEN AS bytes FROM information_schema.CHARACTER_SETS',
    );
    // Only here has MariaDB the ids of collations that several sets share. Below 10.10 there are none, and no column for it.
    const shared = 'information_schema.COLLATION_CHARACTER_SET_APPLICABILITY';
    const [first] = mariadb ? await source.rows(`SELECT * FROM ${shared} LIMIT 1`) : [];
    const from = first !== undefined && 'ID' in first ? shared : 'information_schema.COLLATIONS';
    const collations = await source.rows(`SELECT ID AS id, CHARACTER_SET_NAME AS name FROM ${from}`);
    return new ServerCharsets(
      mariadb,
      new Map(collations.map(row => [Number(row['id']), row['name'] ?? ''])),
      new Map(sets.map(row => [row['name'] ?? '', Number(row['bytes'])])),
    );
  }

  /**
   * The character set of a collation; null if the server does not know it either.
   * @throws BinlogRestart if its table must be loaded first
   */
  ofCollation(id: number): Charset | ForeignCharset | null {
    const builtIn = charsetOfCollation(id, this.#mariadb);
    if (builtIn !== null) return builtIn;
    const name = this.#collations.get(id);
    if (name === undefined) return null;
    return this.ofName(name);
  }

  /**
   * The set of this name; null: the server does not know it.
   * @throws LookAgain where its table must be loaded first
   */
  ofName(name: string): Charset | ForeignCharset | null {
    if (isBuiltIn(name)) return name;
    const loaded = this.#loaded.get(name);
    if (loaded !== undefined) return loaded;
    if (!this.#maxBytes.has(name)) return null;
    this.#wanted.add(name);
    throw new BinlogRestart(`the character set ${name} appears: its table is read from the server`);
  }

  /** A character set by its name; null if it is not loaded. */
  named(name: string): ForeignCharset | null {
    return this.#loaded.get(name) ?? null;
  }

  /** Loads the sets that these tables use, and those that the stream has asked for. */
  async loadUsed(source: CharsetSource, tables: readonly TableName[]): Promise<void> {
    const used = await rowsOfEach(
      source,
      tables,
      `SELECT DISTINCT CHARACTER_SET_NAME AS name FROM information_schema.COLUMNS
        WHERE CHARACTER_SET_NAME IS NOT NULL`,
    );
    await this.load(
      source,
      used.map(row => row['name'] ?? ''),
    );
  }

  /** Loads the sets that are neither built in nor loaded. */
  async load(source: CharsetSource, names: Iterable<string>): Promise<void> {
    for (const name of new Set([...names, ...this.#wanted])) {
      const maxBytes = this.#maxBytes.get(name);
      if (maxBytes === undefined || this.#loaded.has(name) || !NAME.test(name)) continue;
      const table = await readTable(source, name, maxBytes);
      this.#loaded.set(name, { name, maxBytes, growsInUtf8: true, decode: decoderOf(name, table) });
      this.#wanted.delete(name);
    }
  }
}

async function readTable(source: CharsetSource, name: string, maxBytes: number): Promise<CodeTable> {
  const single: (string | undefined)[] = [];
  for (const [code, text] of await readCodes(source, name, '', 1, '')) single[code] = text;
  const double = maxBytes < 2 ? new Map<number, string>() : await readCodes(source, name, '', 2, `h0.d >= '8'`);
  const triple =
    maxBytes === 3 ? await readCodes(source, name, '8F', 2, `h0.d >= 'A' AND h2.d >= 'A'`) : new Map<number, string>();
  const quadruple = maxBytes === 4 ? await readGb18030(source, name) : null;
  return { single, double, triple, quadruple };
}

/** Reads the codes of `bytes` bytes after a prefix for which the server has a character. */
async function readCodes(
  source: CharsetSource,
  charset: string,
  prefix: string,
  bytes: 1 | 2,
  where: string,
): Promise<Map<number, string>> {
  const digits = Array.from({ length: bytes * 2 }, (_, i) => `h${i}`);
  const code = `CONCAT(${digits.map(digit => `${digit}.d`).join(', ')})`;
  return convert(
    source,
    charset,
    `SELECT CONV(${code}, 16, 10) AS code, CONCAT('${prefix}', ${code}) AS bytes
       FROM ${digits.map(digit => `(${HEX_DIGITS}) ${digit}`).join(', ')}${where === '' ? '' : ` WHERE ${where}`}`,
  );
}

/** Reads GB18030's four-byte codes in the Basic Multilingual Plane, by their linear number. */
async function readGb18030(source: CharsetSource, charset: string): Promise<Map<number, string>> {
  const tens = Array.from({ length: 10 }, (_, i) => `SELECT ${i} AS d`).join(' UNION ALL ');
  const number = 'a.d * 10000 + b.d * 1000 + c.d * 100 + e.d * 10 + f.d';
  return convert(
    source,
    charset,
    `SELECT n AS code, CONCAT(HEX(0x81 + n DIV 12600), HEX(0x30 + n DIV 1260 MOD 10), HEX(0x81 + n DIV 10 MOD 126),
            HEX(0x30 + n MOD 10)) AS bytes
       FROM (SELECT ${number} AS n FROM ${['a', 'b', 'c', 'e', 'f'].map(name => `(${tens}) ${name}`).join(', ')}) numbers
      WHERE n < ${GB18030_BMP}`,
  );
}

async function convert(source: CharsetSource, charset: string, codes: string): Promise<Map<number, string>> {
  const rows = await source.rows(
    `SELECT code, bytes, text FROM (SELECT code, bytes, HEX(CONVERT(CONVERT(UNHEX(bytes) USING ${charset}) USING utf8mb4)) AS text
       FROM (${codes}) codes) converted
      WHERE text <> '' AND (text NOT LIKE '${UNKNOWN}%' OR bytes = '${UNKNOWN}')`,
  );
  return new Map(rows.map(row => [Number(row['code']), Buffer.from(row['text'] ?? '', 'hex').toString('utf8')]));
}

function decoderOf(name: string, table: CodeTable): (bytes: Buffer, start: number, end: number) => string {
  const { single, double, triple, quadruple } = table;
  return (bytes, start, end) => {
    let text = '';
    let at = start;
    while (at < end) {
      const first = bytes[at]!;
      let part = single[first];
      let length = 1;
      if (part === undefined && at + 1 < end) {
        part = double.get(first * 256 + bytes[at + 1]!);
        length = 2;
      }
      if (part === undefined && first === 0x8f && at + 2 < end) {
        part = triple.get(bytes[at + 1]! * 256 + bytes[at + 2]!);
        length = 3;
      }
      if (part === undefined && quadruple !== null && at + 3 < end) {
        part = gb18030(quadruple, bytes, at);
        length = 4;
      }
      if (part === undefined) throw new UndecodableText(name, bytes.subarray(at, end));
      text += part;
      at += length;
    }
    return text;
  };
}

function gb18030(table: ReadonlyMap<number, string>, bytes: Buffer, at: number): string | undefined {
  const [a, b, c, d] = [bytes[at]! - 0x81, bytes[at + 1]! - 0x30, bytes[at + 2]! - 0x81, bytes[at + 3]! - 0x30];
  if (a < 0 || b < 0 || b > 9 || c < 0 || c > 125 || d < 0 || d > 9) return undefined;
  const linear = ((a * 10 + b) * 126 + c) * 10 + d;
  const point = linear - GB18030_PLANES + 0x10000;
  if (linear < GB18030_PLANES) return table.get(linear);
  return point <= 0x10ffff ? String.fromCodePoint(point) : undefined;
}
