/** Which tables are captured and what the head office calls them. Pure. */

/** Never captured, whatever the patterns say. */
const SYSTEM_SCHEMAS = new Set(['mysql', 'sys', 'information_schema', 'performance_schema']);

export interface SelectionRules {
  /** Patterns `schema.table`; `*` stands for any characters, `?` for one. */
  readonly include: readonly string[];
  readonly exclude: readonly string[];
  /** `schema.table` → the table's name at the head office. */
  readonly map: Readonly<Record<string, string>>;
}

export interface Selection {
  captures(schema: string, name: string): boolean;
  /** The table's name at the head office. */
  targetName(schema: string, name: string): string;
}

export function createSelection(rules: SelectionRules): Selection {
  const include = rules.include.map(patternToRegExp);
  const exclude = rules.exclude.map(patternToRegExp);
  const map = new Map(Object.entries(rules.map));
  return {
    captures(schema, name) {
      if (SYSTEM_SCHEMAS.has(schema.toLowerCase())) return false;
      const full = `${schema}.${name}`;
      return include.some(pattern => pattern.test(full)) && !exclude.some(pattern => pattern.test(full));
    },
    targetName: (schema, name) => map.get(`${schema}.${name}`) ?? name,
  };
}

function patternToRegExp(pattern: string): RegExp {
  const text = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${text}$`, 'su');
}
