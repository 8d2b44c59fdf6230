/**
 * What the catalogue knows about a table: the key that identifies its rows, which the binlog has too, and what the binlog
 * does not show. On MariaDB that is which columns are generated or hidden, and which BINARY columns are really a UUID or an
 * internet address.
 *
 * The binlog's rows may be older than the catalogue. The result is exact nevertheless: the facts are read before the stream,
 * and again when the stream brings a newer statement that changes a table. After every such statement the table is empty, or
 * a snapshot copies it.
 */
import type { Value } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import { tableKey, tableText } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import { inet4Text, inet6Text, uuidText } from '../values/mariadb-text.ts';
import type { Flavor } from './connection.ts';
import { rowsOfEach } from '../catalogue-query.ts';
import type { CatalogueRow, CatalogueSource } from '../catalogue-query.ts';

/** A type whose values are bytes in the binlog and text everywhere else. */
export type MariadbTextType = 'uuid' | 'inet4' | 'inet6';

interface FixedText {
  readonly bytes: number;
  /** Wire type. */
  readonly type: string;
  readonly text: (bytes: Buffer) => string;
}

export const FIXED_TEXTS: Readonly<Record<MariadbTextType, FixedText>> = {
  uuid: { bytes: 16, type: 'char(36)', text: uuidText },
  inet4: { bytes: 4, type: 'varchar(15)', text: inet4Text },
  inet6: { bytes: 16, type: 'varchar(39)', text: inet6Text },
};

export function isMariadbText(type: string): type is MariadbTextType {
  return Object.hasOwn(FIXED_TEXTS, type);
}

export interface TableFacts {
  /** Storage engine, in lower case; '': unknown. */
  readonly engine: string;
  /** MariaDB: it keeps deleted rows. */
  readonly versioned: boolean;
  /** Columns that are not captured: MariaDB does not log generated columns when a row is updated. */
  readonly leftOut: ReadonlySet<string>;
  readonly fixedTexts: ReadonlyMap<string, MariadbTextType>;
  /** Visible columns with names like MariaDB's hidden ones; null: the server has no such hidden columns. */
  readonly notHidden: ReadonlySet<string> | null;
  /** Columns of the primary key, or of the unique key that the server uses in its place; empty: there is neither. */
  readonly identity: readonly string[];
  /** If it has none, a new or dropped index may change what identifies rows. */
  readonly hasPrimaryKey: boolean;
}

/** A table whose rows do not follow from the binlog. */
export interface UnsupportedTable {
  readonly schema: string;
  readonly name: string;
  readonly problem: string;
}

const NO_FACTS: TableFacts = {
  engine: '',
  versioned: false,
  leftOut: new Set(),
  fixedTexts: new Map(),
  notHidden: null,
  identity: [],
  hasPrimaryKey: false,
};

const NO_FACTS_OF: Readonly<Record<Flavor, TableFacts>> = {
  mysql: NO_FACTS,
  mariadb: { ...NO_FACTS, notHidden: new Set() },
};

/** The hidden column of MariaDB's UNIQUE index over long texts. It is in the binlog, and nowhere else. */
const HIDDEN_HASH = /^DB_ROW_HASH_\d+$/;

/** Whether a column of the stream is not captured. */
export function isExcluded({ leftOut, notHidden }: TableFacts, column: string): boolean {
  return leftOut.has(column) || (notHidden !== null && HIDDEN_HASH.test(column) && !notHidden.has(column));
}

/** Engines whose tables have other rows than the binlog shows. */
const UNSUPPORTED_ENGINES: Readonly<Record<string, string>> = {
  blackhole: 'keeps no rows, but logs them',
  mrg_myisam: 'shows rows of other tables, and the binlog does not show what is written to them through it',
  federated: 'shows rows of another server, and this server does not log their changes',
  connect: 'shows rows from outside the server, which does not log their changes',
  spider: 'shows rows of other servers, and this server does not log their changes',
};

/** TABLE_TYPE of a system-versioned table. */
const VERSIONED = 'SYSTEM VERSIONED';

/** @param type TABLE_TYPE of the catalogue @param engine in lower case */
export function tableProblem(type: string | null | undefined, engine: string | null | undefined): string | null {
  if (type === VERSIONED) {
    return 'it is system-versioned and keeps deleted rows, which capture cannot handle; run ALTER TABLE … DROP SYSTEM VERSIONING';
  }
  const problem = UNSUPPORTED_ENGINES[engine ?? ''];
  return problem === undefined ? null : `its engine ${engine ?? ''} ${problem}; give it another engine (ENGINE=InnoDB)`;
}

type Row = CatalogueRow;

/** A SourceConnection is one. */
export interface FactSource extends CatalogueSource {
  identity(): Promise<{ readonly flavor: Flavor }>;
}

export class CatalogueFacts {
  readonly flavor: Flavor;
  readonly #tables: ReadonlyMap<string, TableFacts>;
  /** Tables whose rows do not follow from the binlog. */
  readonly unsupported: readonly UnsupportedTable[];

  readonly #asked: ReadonlySet<string>;

  private constructor(
    flavor: Flavor,
    tables: ReadonlyMap<string, TableFacts>,
    unsupported: readonly UnsupportedTable[] = [],
    asked: ReadonlySet<string> = new Set(),
  ) {
    this.flavor = flavor;
    this.#tables = tables;
    this.unsupported = unsupported;
    this.#asked = asked;
  }

  /** Whether the catalogue was asked about the table, whether or not it exists. */
  wasAsked(table: TableName): boolean {
    return this.#asked.has(tableKey(table));
  }

  static none(): CatalogueFacts {
    return new CatalogueFacts('mysql', new Map());
  }

  of(schema: string, name: string): TableFacts {
    return this.#tables.get(tableKey({ schema, name })) ?? NO_FACTS_OF[this.flavor];
  }

  /**
   * Whether the agent can read rows of the table. It cannot if a MariaDB table did not exist any more when the catalogue was
   * read, and need not: the statement that dropped or renamed the table comes later in the stream and removes the rows too.
   */
  canRead(schema: string, name: string): boolean {
    return this.flavor === 'mysql' || this.#tables.has(tableKey({ schema, name }));
  }

  /** Reads the facts of those of these tables that exist. */
  static async read(source: FactSource, tables: readonly TableName[]): Promise<CatalogueFacts> {
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
        : [
            'IS_GENERATED',
            " OR IS_GENERATED = 'ALWAYS' OR DATA_TYPE IN ('uuid', 'inet4', 'inet6') OR COLUMN_NAME LIKE 'DB_ROW_HASH_%'",
          ];
    // Manual: "A UNIQUE index may be displayed as PRI if it cannot contain NULL values and there is no PRIMARY KEY".
    const columns = await rowsOfEach(
      source,
      tables,
      `SELECT TABLE_SCHEMA AS ts, TABLE_NAME AS tn, COLUMN_NAME AS name, LOWER(DATA_TYPE) AS type, ${made} AS made,
              COLUMN_KEY AS part
         FROM information_schema.COLUMNS WHERE (COLUMN_KEY = 'PRI'${special})`,
    );
    const engines = await rowsOfEach(
      source,
      tables,
      `SELECT TABLE_SCHEMA AS ts, TABLE_NAME AS tn, LOWER(ENGINE) AS engine, TABLE_TYPE AS kind
         FROM information_schema.TABLES WHERE TRUE`,
    );
    const byTable = Map.groupBy([...indexes, ...columns, ...engines], rowTable);
    const facts = new Map([...byTable].map(([key, rows]) => [key, factsOf(rows, flavor)]));
    return new CatalogueFacts(flavor, facts, unsupportedAmong(engines), new Set(tables.map(tableKey)));
  }
}

function unsupportedAmong(tables: readonly Row[]): UnsupportedTable[] {
  return tables.flatMap(row => {
    const problem = tableProblem(row['kind'], row['engine']);
    return problem === null ? [] : [{ schema: row['ts'] ?? '', name: row['tn'] ?? '', problem }];
  });
}

/** Those of these tables whose rows do not follow from the binlog. */
export async function unsupportedTables(
  source: CatalogueSource,
  among: readonly TableName[],
): Promise<UnsupportedTable[]> {
  const rows = await rowsOfEach(
    source,
    among,
    `SELECT TABLE_SCHEMA AS ts, TABLE_NAME AS tn, LOWER(ENGINE) AS engine, TABLE_TYPE AS kind
       FROM information_schema.TABLES WHERE TRUE`,
  );
  return unsupportedAmong(rows);
}

export function unsupportedError(table: UnsupportedTable): TributaryError {
  return new TributaryError('VALUE_UNSUPPORTED', `Table ${tableText(table)} cannot be captured: ${table.problem}.`);
}

function rowTable(row: Row): string {
  return tableKey({ schema: row['ts'] ?? '', name: row['tn'] ?? '' });
}

function factsOf(rows: readonly Row[], flavor: Flavor): TableFacts {
  const generated = new Set<string>();
  const fixedTexts = new Map<string, MariadbTextType>();
  const hashes = new Set<string>();
  const primary = new Set<string>();
  const table = rows.find(row => row['kind'] !== undefined);
  for (const row of rows) {
    const name = row['name'] ?? '';
    const type = row['type'] ?? '';
    if (row['made'] === 'ALWAYS') generated.add(name);
    if (isMariadbText(type)) fixedTexts.set(name, type);
    if (row['idx'] === undefined && HIDDEN_HASH.test(name)) hashes.add(name);
    if (row['part'] === 'PRI') primary.add(name);
  }
  const parts = rows.filter(row => row['idx'] !== undefined);
  const identity = identityOf(parts, primary);
  const hasPrimaryKey = parts.some(row => row['idx'] === 'PRIMARY');
  // A generated column that identifies rows must stay: an update without it stops capture with an error.
  return {
    engine: table?.['engine'] ?? '',
    versioned: table?.['kind'] === VERSIONED,
    leftOut: new Set([...generated].filter(name => !identity.includes(name))),
    fixedTexts,
    notHidden: flavor === 'mariadb' ? hashes : null,
    identity,
    hasPrimaryKey,
  };
}

/** The primary key, or the unique key of exactly the columns that the server marks as the primary key. */
function identityOf(rows: readonly Row[], primary: ReadonlySet<string>): string[] {
  const byIndex = Map.groupBy(rows, row => row['idx'] ?? '');
  const keys = [...byIndex].map(([index, parts]) => ({ index, names: parts.map(part => part['name'] ?? '') }));
  const named = keys.find(key => key.index === 'PRIMARY');
  if (named !== undefined) return named.names;
  const alike = keys.filter(({ names }) => names.length === primary.size && names.every(name => primary.has(name)));
  // If two have the same columns in different orders, it does not matter which one the server means.
  return alike[0]?.names ?? [...primary];
}

/** From the binlog's bytes in base64 to the text. */
export function mariadbTextOf(type: MariadbTextType): (value: Value) => Value {
  const { bytes, text } = FIXED_TEXTS[type];
  return value => {
    if (value === null) return null;
    const whole = Buffer.alloc(bytes);
    Buffer.from(String(value), 'base64').copy(whole);
    return text(whole);
  };
}
