/**
 * What the catalogue knows of a table and the binlog does not tell: which unique key can stand in for a primary one, and
 * on MariaDB which columns are generated and which BINARY columns are really a UUID or an internet address.
 *
 * The binlog's rows may be older than the catalogue. That is exact in the end all the same: facts are read before the
 * stream is, and again when the stream brings a statement that is newer than they are and changes a table; and every
 * such statement is followed by a snapshot of the table, or begins an empty one.
 */
import type { Value } from '../../shared/batch.ts';
import { inet4Text, inet6Text, uuidText } from './fixed-text.ts';
import type { Flavor } from './source.ts';

/** A type that is bytes in the binlog and text everywhere else. */
export type FixedTextType = 'uuid' | 'inet4' | 'inet6';

interface FixedText {
  readonly bytes: number;
  /** Wire type. */
  readonly type: string;
  readonly text: (bytes: Buffer) => string;
}

export const FIXED_TEXTS: Readonly<Record<FixedTextType, FixedText>> = {
  uuid: { bytes: 16, type: 'char(36)', text: uuidText },
  inet4: { bytes: 4, type: 'varchar(15)', text: inet4Text },
  inet6: { bytes: 16, type: 'varchar(39)', text: inet6Text },
};

export function isFixedText(type: string): type is FixedTextType {
  return Object.hasOwn(FIXED_TEXTS, type);
}

export interface TableFacts {
  /** Columns that are left out: MariaDB does not log a generated column when a row is updated. */
  readonly leftOut: ReadonlySet<string>;
  readonly fixedTexts: ReadonlyMap<string, FixedTextType>;
  /** Columns of the primary key, or else of the unique key without NULLs that identifies rows; none: there is neither. */
  readonly identity: readonly string[];
}

const NO_FACTS: TableFacts = { leftOut: new Set(), fixedTexts: new Map(), identity: [] };

type Row = Readonly<Record<string, string | null>>;

/** A SourceConnection is one. */
export interface FactSource {
  identity(): Promise<{ readonly flavor: Flavor }>;
  rows(sql: string, values?: readonly string[]): Promise<Row[]>;
}

export class Facts {
  readonly flavor: Flavor;
  readonly #tables: ReadonlyMap<string, TableFacts>;

  private constructor(flavor: Flavor, tables: ReadonlyMap<string, TableFacts>) {
    this.flavor = flavor;
    this.#tables = tables;
  }

  static none(): Facts {
    return new Facts('mysql', new Map());
  }

  of(schema: string, name: string): TableFacts {
    return this.#tables.get(factKey(schema, name)) ?? NO_FACTS;
  }

  /** Of all tables, or of one. */
  static async read(source: FactSource, only?: { readonly schema: string; readonly name: string }): Promise<Facts> {
    const { flavor } = await source.identity();
    const where = only === undefined ? '' : ' AND TABLE_SCHEMA = ? AND TABLE_NAME = ?';
    const values = only === undefined ? [] : [only.schema, only.name];
    const system = "TABLE_SCHEMA NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')";
    const indexes = await source.rows(
      `SELECT TABLE_SCHEMA AS ts, TABLE_NAME AS tn, INDEX_NAME AS idx, COLUMN_NAME AS name, SUB_PART AS part, NULLABLE AS nullable
         FROM information_schema.STATISTICS WHERE NON_UNIQUE = 0 AND ${system}${where} ORDER BY INDEX_NAME, SEQ_IN_INDEX`,
      values,
    );
    const columns =
      flavor === 'mysql'
        ? []
        : await source.rows(
            `SELECT TABLE_SCHEMA AS ts, TABLE_NAME AS tn, COLUMN_NAME AS name, LOWER(DATA_TYPE) AS type, IS_GENERATED AS made
               FROM information_schema.COLUMNS
              WHERE (IS_GENERATED = 'ALWAYS' OR DATA_TYPE IN ('uuid', 'inet4', 'inet6')) AND ${system}${where}`,
            values,
          );
    const byTable = Map.groupBy([...indexes, ...columns], row => factKey(row['ts'] ?? '', row['tn'] ?? ''));
    return new Facts(flavor, new Map([...byTable].map(([key, rows]) => [key, factsOf(rows)])));
  }
}

function factKey(schema: string, name: string): string {
  return JSON.stringify([schema, name]);
}

function factsOf(rows: readonly Row[]): TableFacts {
  const generated = new Set<string>();
  const fixedTexts = new Map<string, FixedTextType>();
  for (const row of rows) {
    const name = row['name'] ?? '';
    const type = row['type'] ?? '';
    if (row['made'] === 'ALWAYS') generated.add(name);
    if (isFixedText(type)) fixedTexts.set(name, type);
  }
  const identity = identityOf(
    rows.filter(row => row['idx'] !== undefined),
    generated,
  );
  // A generated column that identifies rows must stay: an update without it then stops capture, and says so.
  return { leftOut: new Set([...generated].filter(name => !identity.includes(name))), fixedTexts, identity };
}

/** The primary key; else the unique key without NULLs, prefixes and generated columns that has the fewest columns. */
function identityOf(rows: readonly Row[], generated: ReadonlySet<string>): string[] {
  const keys = [...Map.groupBy(rows, row => row['idx'] ?? '')].map(([index, parts]) => ({
    index,
    names: parts.map(part => part['name'] ?? ''),
    whole: parts.every(
      ({ name, part, nullable }) =>
        typeof name === 'string' && !generated.has(name) && (part ?? null) === null && nullable !== 'YES',
    ),
  }));
  const primary = keys.find(key => key.index === 'PRIMARY');
  if (primary !== undefined) return primary.names;
  const [best] = keys
    .filter(key => key.whole)
    .sort((a, b) => a.names.length - b.names.length || (a.index < b.index ? -1 : 1));
  return best?.names ?? [];
}

/** From the binlog's bytes in base64 to the text. */
export function fixedTextOf(type: FixedTextType): (value: Value) => Value {
  const { bytes, text } = FIXED_TEXTS[type];
  return value => {
    if (value === null) return null;
    const whole = Buffer.alloc(bytes);
    Buffer.from(String(value), 'base64').copy(whole);
    return text(whole);
  };
}
