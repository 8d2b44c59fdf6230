/**
 * What the catalogue knows of a table: which key identifies its rows, as the binlog has it too; and what the binlog does
 * not tell: on MariaDB, which columns are generated or hidden and which BINARY columns are really a UUID or an internet address.
 *
 * The binlog's rows may be older than the catalogue. That is exact in the end all the same: facts are read before the
 * stream is, and again when the stream brings a statement that is newer than they are and changes a table; and every
 * such statement is followed by a snapshot of the table, or begins an empty one.
 */
import type { Value } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import { tableKey, tableText } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import { inet4Text, inet6Text, uuidText } from '../values/mariadb-text.ts';
import type { Flavor } from './connection.ts';
import { rowsOfEach } from '../catalogue-query.ts';
import type { CatalogueRow, CatalogueSource } from '../catalogue-query.ts';

/** A type that is bytes in the binlog and text everywhere else. */
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
  /** Storage engine, in lower case; '': not known. */
  readonly engine: string;
  /** MariaDB: it keeps rows that were deleted. */
  readonly versioned: boolean;
  /** Columns that are left out: MariaDB does not log a generated column when a row is updated. */
  readonly leftOut: ReadonlySet<string>;
  readonly fixedTexts: ReadonlyMap<string, MariadbTextType>;
  /** Columns that are called as a hidden one of MariaDB would be; null: the server has none that are hidden so. */
  readonly notHidden: ReadonlySet<string> | null;
  /** Columns of the primary key, or of the unique key that the server takes for it; none: there is neither. */
  readonly identity: readonly string[];
  /** Otherwise an index that comes or goes may change what identifies rows. */
  readonly hasPrimaryKey: boolean;
}

/** A table of which the binlog does not tell what rows it has. */
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

/** The column behind a UNIQUE index of MariaDB over texts that no index has room for: in the binlog, and nowhere else. */
const HIDDEN_HASH = /^DB_ROW_HASH_\d+$/;

/** Whether nothing of the stream's column is captured. */
export function isExcluded({ leftOut, notHidden }: TableFacts, column: string): boolean {
  return leftOut.has(column) || (notHidden !== null && HIDDEN_HASH.test(column) && !notHidden.has(column));
}

/** Engines whose tables hold other rows than the binlog tells of. */
const STRANGE_ENGINES: Readonly<Record<string, string>> = {
  blackhole: 'keeps no rows, but logs them',
  mrg_myisam: 'shows rows of other tables, which lack what is written through it in the binlog: drop it',
  federated: 'shows rows of another server, which change without being logged here',
  connect: 'shows rows from elsewhere, which change without being logged here',
  spider: 'shows rows of other servers, which change without being logged here',
};

/** TABLE_TYPE of a system-versioned table. */
const VERSIONED = 'SYSTEM VERSIONED';

/** @param type TABLE_TYPE of the catalogue @param engine in lower case */
export function tableProblem(type: string | null | undefined, engine: string | null | undefined): string | null {
  if (type === VERSIONED) {
    return 'a system-versioned table keeps rows that were deleted: it is not handled; ALTER TABLE … DROP SYSTEM VERSIONING';
  }
  const strange = STRANGE_ENGINES[engine ?? ''];
  return strange === undefined ? null : `its engine ${engine ?? ''} ${strange}; give it another one (ENGINE=InnoDB)`;
}

type Row = CatalogueRow;

/** A SourceConnection is one. */
export interface FactSource extends CatalogueSource {
  identity(): Promise<{ readonly flavor: Flavor }>;
}

export class CatalogueFacts {
  readonly flavor: Flavor;
  readonly #tables: ReadonlyMap<string, TableFacts>;
  /** Of which the binlog does not tell what rows they have. */
  readonly strange: readonly UnsupportedTable[];

  readonly #asked: ReadonlySet<string>;

  private constructor(
    flavor: Flavor,
    tables: ReadonlyMap<string, TableFacts>,
    strange: readonly UnsupportedTable[] = [],
    asked: ReadonlySet<string> = new Set(),
  ) {
    this.flavor = flavor;
    this.#tables = tables;
    this.strange = strange;
    this.#asked = asked;
  }

  /** Whether the catalogue was asked about the table, there or not. */
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
   * Whether rows of the table can be understood. Those of a MariaDB table that was gone when the catalogue was asked cannot,
   * and need not: what has taken it away, or its name, stands behind them in the stream and takes them away as well.
   */
  canRead(schema: string, name: string): boolean {
    return this.flavor === 'mysql' || this.#tables.has(tableKey({ schema, name }));
  }

  /** Of these tables, those that there are. */
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
    return new CatalogueFacts(flavor, facts, strangeOf(engines), new Set(tables.map(tableKey)));
  }
}

function strangeOf(tables: readonly Row[]): UnsupportedTable[] {
  return tables.flatMap(row => {
    const problem = tableProblem(row['kind'], row['engine']);
    return problem === null ? [] : [{ schema: row['ts'] ?? '', name: row['tn'] ?? '', problem }];
  });
}

/** Tables that the binlog does not tell the truth of, among these. */
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
  return strangeOf(rows);
}

/** @throws TributaryError VALUE_UNSUPPORTED for the first of them */
export function refuseUnsupported([found]: readonly UnsupportedTable[]): void {
  if (found === undefined) return;
  throw new TributaryError('VALUE_UNSUPPORTED', `table ${tableText(found)}: ${found.problem}`);
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
  // A generated column that identifies rows must stay: an update without it then stops capture, and says so.
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
export function mariadbTextOf(type: MariadbTextType): (value: Value) => Value {
  const { bytes, text } = FIXED_TEXTS[type];
  return value => {
    if (value === null) return null;
    const whole = Buffer.alloc(bytes);
    Buffer.from(String(value), 'base64').copy(whole);
    return text(whole);
  };
}
