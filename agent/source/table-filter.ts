/** Which tables and columns are captured, and their names at the head office. Pure. */
import { TributaryError } from '../../shared/errors.ts';
import { parseTable, splitNames, tableKey } from '../../shared/table-name.ts';
import { ColumnHasher } from '../values/column-rules.ts';
import type { ColumnRule } from '../values/column-rules.ts';
import type { StoredRules } from '../spool/stored-state.ts';

/** Never captured, whatever the patterns say. */
const SYSTEM_SCHEMAS = new Set(['mysql', 'sys', 'information_schema', 'performance_schema']);

export interface TableFilterRules {
  /**
   * Patterns `schema.table`; `*` means any characters, `?` means one. A name with a dot must be in backquotes:
   * `` `a.b`.* ``.
   */
  readonly include: readonly string[];
  readonly exclude: readonly string[];
  /** `schema.table` → the table's name at the head office. */
  readonly map: Readonly<Record<string, string>>;
  /** Rules by pattern `schema.table.column`; the first match applies. Absent: every column stays as it is. */
  readonly columns?: Readonly<Record<string, ColumnRule>>;
  /** Fingerprint of the key with which columns were hashed, if these rules were stored. */
  readonly hashedBy?: string;
}

/** `set-aside`: everything else goes on without the table. `halt`: all of capture waits for a person. */
export type TableTroublePolicy = 'set-aside' | 'halt';

export interface TableFilter {
  readonly rules: StoredRules;
  /** What to do when something about a table cannot be carried. */
  readonly onTableTrouble: TableTroublePolicy;
  captures(schema: string, name: string): boolean;
  /** Whether any table of the schema could be captured. */
  mayCaptureIn(schema: string): boolean;
  /** The table's name at the head office. */
  targetName(schema: string, name: string): string;
  /** The branch's name of the table with that name at the head office. */
  sourceName(schema: string, target: string): string;
  /** The rule for the column; null: it stays as it is. */
  column(schema: string, table: string, column: string): ColumnRule | null;
  /** Changes whenever the rules for the table's columns may have changed. */
  columnsFingerprint(schema: string, table: string): string;
  /** @throws TributaryError CONFIG_INVALID without a key */
  readonly hasher: ColumnHasher;
}

/** @param hashKey required if a column is hashed */
export function createTableFilter(
  rules: TableFilterRules,
  hashKey: string | null = null,
  onTableTrouble: TableTroublePolicy = 'set-aside',
): TableFilter {
  const include = rules.include.map(patternToRegExp);
  const exclude = rules.exclude.map(patternToRegExp);
  const map = new Map(
    Object.entries(rules.map).flatMap(([text, target]) => {
      const table = parseTable(text);
      return table === null ? [] : [[tableKey(table), { table, target }]];
    }),
  );
  const columns = Object.entries(rules.columns ?? {}).map(
    ([pattern, choice]) => [patternToRegExp(pattern), choice, pattern] as const,
  );
  const hasher = hashKey === null ? null : new ColumnHasher(hashKey);
  const hashes = columns.some(([, choice]) => choice === 'hash');
  const fingerprint = hashes ? (hasher?.fingerprint ?? rules.hashedBy ?? '') : '';
  const { include: included, exclude: excluded, map: mapped } = rules;
  return {
    onTableTrouble,
    rules: { include: included, exclude: excluded, map: mapped, columns: rules.columns ?? {}, hashedBy: fingerprint },
    column(schema, table, column) {
      const full = joined(schema, table, column);
      return columns.find(([pattern]) => pattern.test(full))?.[1] ?? null;
    },
    columnsFingerprint(schema, table) {
      // Takes all patterns that can match the table, because its columns are not known here.
      const own = columns.filter(([, , pattern]) =>
        partsToRegExp(partsOf(pattern).slice(0, -1)).test(joined(schema, table)),
      );
      if (own.length === 0) return '';
      const hashed = own.some(([, choice]) => choice === 'hash');
      return JSON.stringify([own.map(([, choice, pattern]) => [pattern, choice]), hashed ? fingerprint : '']);
    },
    get hasher() {
      if (hasher === null) {
        throw new TributaryError('CONFIG_INVALID', 'Columns must be hashed, but tables.hashKeyFile names no key.');
      }
      return hasher;
    },
    captures(schema, name) {
      if (SYSTEM_SCHEMAS.has(schema.toLowerCase())) return false;
      const full = joined(schema, name);
      return include.some(pattern => pattern.test(full)) && !exclude.some(pattern => pattern.test(full));
    },
    mayCaptureIn: schema =>
      !SYSTEM_SCHEMAS.has(schema.toLowerCase()) && included.some(pattern => matchesFrom(joined(schema, ''), pattern)),
    targetName: (schema, name) => map.get(tableKey({ schema, name }))?.target ?? name,
    sourceName: (schema, target) =>
      [...map.values()].find(each => each.target === target && each.table.schema === schema)?.table.name ?? target,
  };
}

/** Separates names when patterns are matched: no name contains it. */
const BETWEEN = '\0';

function joined(...names: readonly string[]): string {
  return names.join(BETWEEN);
}

/** A text that is not a pattern matches nothing. An old spool may have one. */
function partsOf(pattern: string): readonly string[] {
  return splitNames(pattern) ?? [];
}

function patternToRegExp(pattern: string): RegExp {
  return partsToRegExp(partsOf(pattern));
}

function partsToRegExp(parts: readonly string[]): RegExp {
  const text = joined(...parts)
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', `[^${BETWEEN}]`);
  return new RegExp(`^${text}$`, 'su');
}

/** Whether the pattern matches some text with this beginning. */
function matchesFrom(beginning: string, pattern: string): boolean {
  const signs = Array.from(joined(...partsOf(pattern)));
  let places = new Set([0]);
  for (const character of beginning) {
    const next = new Set<number>();
    for (const from of places) {
      let place = from;
      // A `*` matches this character and those after it, or nothing.
      for (; signs[place] === '*'; place += 1) next.add(place);
      if (signs[place] === character || (signs[place] === '?' && character !== BETWEEN)) next.add(place + 1);
    }
    places = next;
  }
  return places.size > 0;
}
