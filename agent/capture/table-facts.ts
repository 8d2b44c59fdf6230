/**
 * What the catalogue knows of a table: which key identifies its rows, as the binlog has it too; and what the binlog does
 * not tell: on MariaDB, which columns are generated and which BINARY columns are really a UUID or an internet address.
 *
 * The binlog's rows may be older than the catalogue. That is exact in the end all the same: facts are read before the
 * stream is, and again when the stream brings a statement that is newer than they are and changes a table; and every
 * such statement is followed by a snapshot of the table, or begins an empty one.
 */
import type { Value } from '../../shared/batch.ts';
import { inet4Text, inet6Text, uuidText } from './fixed-text.ts';
import type { Flavor } from './source.ts';
import type { TableName } from './statements.ts';
import { rowsOfEach } from './table-names.ts';
import type { CatalogueRow, CatalogueSource } from './table-names.ts';

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
  /** Columns of the primary key, or of the unique key that the server takes for it; none: there is neither. */
  readonly identity: readonly string[];
  /** Otherwise an index that comes or goes may change what identifies rows. */
  readonly hasPrimaryKey: boolean;
}

const NO_FACTS: TableFacts = { leftOut: new Set(), fixedTexts: new Map(), identity: [], hasPrimaryKey: false };

type Row = CatalogueRow;

/** A SourceConnection is one. */
export interface FactSource extends CatalogueSource {
  identity(): Promise<{ readonly flavor: Flavor }>;
}

export class Facts {
  readonly flavor: Flavor;
  readonly #tables: ReadonlyMap<string, TableFacts>;
  /** Those of the captured tables that there are; null: of no interest. */
  readonly #there: ReadonlySet<string> | null;

  private constructor(
    flavor: Flavor,
    tables: ReadonlyMap<string, TableFacts>,
    there: ReadonlySet<string> | null = null,
  ) {
    this.flavor = flavor;
    this.#tables = tables;
    this.#there = there;
  }

  static none(): Facts {
    return new Facts('mysql', new Map());
  }

  of(schema: string, name: string): TableFacts {
    return this.#tables.get(factKey(schema, name)) ?? NO_FACTS;
  }

  /**
   * Whether rows of the table can be understood. Those of a MariaDB table that was gone when the catalogue was asked cannot,
   * and need not: what has taken it away, or its name, stands behind them in the stream and takes them away as well.
   */
  canRead(schema: string, name: string): boolean {
    return this.#there?.has(factKey(schema, name)) ?? true;
  }

  /** Of these tables, all of which there are. */
  static async read(source: FactSource, tables: readonly TableName[]): Promise<Facts> {
    const { flavor } = await source.identity();
    const parts = await rowsOfEach(
      source,
      tables,
      `SELECT TABLE_SCHEMA AS ts, TABLE_NAME AS tn, INDEX_NAME AS idx, COLUMN_NAME AS name, SEQ_IN_INDEX AS place
         FROM information_schema.STATISTICS WHERE NON_UNIQUE = 0`,
    );
    const indexes = parts.sort((a, b) => Number(a['place']) - Number(b['place']));
    const [made, special] =
      flavor === 'mysql'
        ? ["'NEVER'", '']
        : ['IS_GENERATED', " OR IS_GENERATED = 'ALWAYS' OR DATA_TYPE IN ('uuid', 'inet4', 'inet6')"];
    // Manual: "A UNIQUE index may be displayed as PRI if it cannot contain NULL values and there is no PRIMARY KEY".
    const columns = await rowsOfEach(
      source,
      tables,
      `SELECT TABLE_SCHEMA AS ts, TABLE_NAME AS tn, COLUMN_NAME AS name, LOWER(DATA_TYPE) AS type, ${made} AS made,
              COLUMN_KEY AS part
         FROM information_schema.COLUMNS WHERE (COLUMN_KEY = 'PRI'${special})`,
    );
    const byTable = Map.groupBy([...indexes, ...columns], row => factKey(row['ts'] ?? '', row['tn'] ?? ''));
    const facts = new Map([...byTable].map(([key, rows]) => [key, factsOf(rows)]));
    if (flavor === 'mysql') return new Facts(flavor, facts);
    return new Facts(flavor, facts, new Set(tables.map(({ schema, name }) => factKey(schema, name))));
  }
}

function factKey(schema: string, name: string): string {
  return JSON.stringify([schema, name]);
}

function factsOf(rows: readonly Row[]): TableFacts {
  const generated = new Set<string>();
  const fixedTexts = new Map<string, FixedTextType>();
  const primary = new Set<string>();
  for (const row of rows) {
    const name = row['name'] ?? '';
    const type = row['type'] ?? '';
    if (row['made'] === 'ALWAYS') generated.add(name);
    if (isFixedText(type)) fixedTexts.set(name, type);
    if (row['part'] === 'PRI') primary.add(name);
  }
  const parts = rows.filter(row => row['idx'] !== undefined);
  const identity = identityOf(parts, primary);
  const hasPrimaryKey = parts.some(row => row['idx'] === 'PRIMARY');
  // A generated column that identifies rows must stay: an update without it then stops capture, and says so.
  return {
    leftOut: new Set([...generated].filter(name => !identity.includes(name))),
    fixedTexts,
    identity,
    hasPrimaryKey,
  };
}

/** The primary key, or the unique key of exactly the columns that the server says are it. */
function identityOf(rows: readonly Row[], primary: ReadonlySet<string>): string[] {
  const byIndex = Map.groupBy(rows, row => row['idx'] ?? '');
  const keys = [...byIndex].map(([index, parts]) => ({ index, names: parts.map(part => part['name'] ?? '') }));
  const named = keys.find(key => key.index === 'PRIMARY');
  if (named !== undefined) return named.names;
  const alike = keys.filter(({ names }) => names.length === primary.size && names.every(name => primary.has(name)));
  // Of two with the same columns in another order it does not matter which one the server means.
  return alike[0]?.names ?? [...primary];
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
