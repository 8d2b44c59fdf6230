/**
 * Loads a configuration file: YAML in, a frozen typed value or every fault at once out.
 *
 * A program describes its configuration with zod (agent/config.ts, applier/config.ts), using the fields of fields.ts.
 * The description has types, limits, defaults and texts. The checks, the "did you mean" for unknown keys and the
 * commented example (example.ts) come from it.
 *
 * Invariants: the value is deeply frozen, its paths are absolute, and the names of amounts contain their unit.
 */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { LineCounter, parseDocument } from 'yaml';
import * as z from 'zod';
import { TributaryError } from '../errors.ts';
import { asServiceUser } from './service.ts';
import type { Service } from './service.ts';

const MAX_FILE_BYTES = 1024 * 1024;
const MAX_SHOWN_VALUE = 60;

/** One fault: the field, its value, and the rule that it breaks. */
export interface ConfigFault {
  /** Dotted path: `source.port`, `link.windows[1]`; or `line 3, column 5` if the file is not YAML. */
  readonly field: string;
  readonly value: string;
  readonly rule: string;
}

/** CONFIG_INVALID with its faults. The message lists all of them, one on each line. */
export class ConfigError extends TributaryError {
  readonly file: string;
  readonly faults: readonly ConfigFault[];

  constructor(file: string, faults: readonly ConfigFault[]) {
    const lines = faults.map(fault => `  ${fault.field}: ${fault.value}: ${fault.rule}`);
    super('CONFIG_INVALID', `${file} has ${faults.length === 1 ? 'a fault' : 'faults'}:\n${lines.join('\n')}`);
    this.name = 'ConfigError';
    this.file = file;
    this.faults = faults;
  }
}

/** What fields need besides their own text. */
export interface ConfigContext {
  /** The directory of the configuration file: relative paths start here. */
  readonly directory: string;
  /** systemd's $CREDENTIALS_DIRECTORY, the first place to look for secrets. */
  readonly credentialsDirectory: string | null;
  /** False for commands that need no secret: files are neither read nor missed. */
  readonly readSecrets: boolean;
  /** Whose rights and credentials count; null: those of this process. */
  readonly service: Service | null;
}

/** Builds the schema of a program's configuration for one file. */
export type ConfigSchema<T> = (context: ConfigContext) => z.ZodType<T>;

export interface LoadOptions {
  /** Default true. False: secrets are withheld (commands that only talk to the running daemon). */
  readonly readSecrets?: boolean;
  /** For `check` as root: reads every file with the rights of the service's user. Default: null. */
  readonly service?: Service | null;
  readonly environment?: NodeJS.ProcessEnv;
}

/**
 * Reads and checks a configuration file.
 * @throws TributaryError CONFIG_UNREADABLE, or ConfigError (CONFIG_INVALID) with every fault
 */
export function loadConfig<T>(file: string, schema: ConfigSchema<T>, options: LoadOptions = {}): T {
  const path = resolve(file);
  const { service = null } = options;
  return asServiceUser(service, () => parseConfig(path, readConfigFile(path, service), schema, options));
}

function readConfigFile(path: string, service: Service | null): string {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw new TributaryError(
      'CONFIG_UNREADABLE',
      `cannot read ${path}${service === null ? '' : ` as ${service.user}`} (${errorCode(error)})`,
      { cause: error },
    );
  }
  if (bytes.length > MAX_FILE_BYTES) {
    throw new TributaryError('CONFIG_UNREADABLE', `${path} is larger than 1 MiB, so it is no configuration file`);
  }
  return bytes.toString('utf8');
}

/** The same for text that is already in memory; `path` says where relative paths start. */
export function parseConfig<T>(path: string, text: string, schema: ConfigSchema<T>, options: LoadOptions = {}): T {
  const document = parseYaml(path, text);
  const { readSecrets = true, service = null, environment = process.env } = options;
  const credentials = environment['CREDENTIALS_DIRECTORY'];
  const type = schema({
    directory: dirname(resolve(path)),
    credentialsDirectory: credentials === undefined || credentials === '' ? null : credentials,
    readSecrets,
    service,
  });
  const outline: unknown = z.toJSONSchema(type, { io: 'input', unrepresentable: 'any' });
  const filled = fillSections(document, outline);
  const result = type.safeParse(filled, { error: ruleOf });
  if (result.success) return deepFreeze(result.data);
  const faults = result.error.issues.flatMap(issue => faultsOf(issue, document, outline));
  throw new ConfigError(path, faults);
}

function parseYaml(path: string, text: string): unknown {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, stringKeys: true });
  if (document.errors.length > 0) {
    const faults = document.errors.map(error => {
      const { line, col } = lines.linePos(error.pos[0]);
      const source = text.split('\n')[line - 1]?.trim() ?? '';
      const value = /(password|secret|token)\s*:/i.test(source) ? '[secret]' : shorten(maskUrls(source));
      return { field: `line ${line}, column ${col}`, value, rule: error.message };
    });
    throw new ConfigError(path, faults);
  }
  const value: unknown = document.toJS({ maxAliasCount: 20 });
  return value ?? {};
}

/**
 * Adds an empty section where one is missing or empty, so that its missing keys are reported one by one and others get
 * their defaults. `outline` is the schema in its JSON form.
 */
function fillSections(value: unknown, outline: unknown): unknown {
  const properties = member(outline, 'properties');
  if (!isObject(properties)) return value;
  if (value !== undefined && value !== null && (!isObject(value) || Array.isArray(value))) return value;
  const filled: Record<string, unknown> = { ...value };
  for (const [key, child] of Object.entries(properties)) {
    const present = filled[key];
    const replaced = fillSections(present, child);
    if (replaced !== present) filled[key] = replaced;
  }
  return filled;
}

function member(value: unknown, key: PropertyKey): unknown {
  return isObject(value) && Object.hasOwn(value, key) ? Reflect.get(value, key) : undefined;
}

/** zod's own messages in our words. Messages of the fields stay. */
function ruleOf(issue: z.core.$ZodRawIssue): string | undefined {
  switch (issue.code) {
    case 'invalid_type':
      if (issue.input === undefined || issue.input === null) return 'is required';
      return `must be ${typeWord(issue.expected)}`;
    case 'invalid_union':
      return issue.input === undefined ? 'is required' : 'must be text or a number';
    case 'invalid_key':
      return issue.issues[0]?.message;
    case 'invalid_value':
      return `must be one of ${issue.values.map(value => String(value)).join(', ')}`;
    case 'too_small':
      return typeof issue.input === 'number' || issue.origin === 'number'
        ? `must be at least ${issue.minimum}`
        : 'must not be empty';
    case 'too_big':
      return typeof issue.input === 'number' || issue.origin === 'number'
        ? `must be at most ${issue.maximum}`
        : `must have at most ${issue.maximum} ${issue.origin === 'string' ? 'characters' : 'entries'}`;
    default:
      return undefined;
  }
}

function typeWord(expected: string): string {
  const words: Record<string, string> = {
    string: 'text; put it in quotes if it looks like a number, a date or a yes/no',
    number: 'a number',
    int: 'a whole number',
    boolean: 'true or false',
    array: 'a list: [ … ]',
    object: 'a section: { key: value, … }',
    record: 'a section: { key: value, … }',
  };
  return words[expected] ?? expected;
}

function faultsOf(issue: z.core.$ZodIssue, document: unknown, outline: unknown): ConfigFault[] {
  if (issue.code !== 'unrecognized_keys') {
    const path = pathIn(document, issue.path);
    return [{ field: fieldName(path), value: showAt(document, path), rule: issue.message }];
  }
  const known = knownKeys(outline, issue.path);
  return issue.keys.map(key => {
    const near = nearest(key, known);
    const path = [...issue.path, key];
    const rule =
      near === null ? `is not a key here; keys are ${known.join(', ')}` : `is not a key; did you mean ${near}?`;
    return { field: fieldName(path), value: showAt(document, path), rule };
  });
}

/** A single value where a list may stand was checked as a list of one. */
function pathIn(document: unknown, path: readonly PropertyKey[]): readonly PropertyKey[] {
  const parent = path.slice(0, -1);
  return path.at(-1) === 0 && !Array.isArray(parent.reduce<unknown>(member, document)) ? parent : path;
}

function fieldName(path: readonly PropertyKey[]): string {
  if (path.length === 0) return '(file)';
  return path.reduce<string>((text, part) => {
    if (typeof part === 'number') return `${text}[${part}]`;
    return text === '' ? String(part) : `${text}.${String(part)}`;
  }, '');
}

function showAt(document: unknown, path: readonly PropertyKey[]): string {
  const value = path.reduce<unknown>(member, document);
  if (value === undefined) return 'missing';
  const text = JSON.stringify(value);
  return isSecretName(String(path.at(-1))) ? '[secret]' : shorten(maskUrls(text));
}

/** Keys under which somebody might put a password by mistake. `passwordFile` holds only a name. */
function isSecretName(key: string): boolean {
  return /(password|secret|token)$/i.test(key);
}

/** A password that somebody put into a URL by mistake must not reach a screen or a log. */
function maskUrls(text: string): string {
  return text.replace(/(:\/\/[^:/@\s"]*):[^@\s"]*@/g, '$1:…@');
}

function shorten(text: string): string {
  return text.length <= MAX_SHOWN_VALUE ? text : `${text.slice(0, MAX_SHOWN_VALUE - 1)}…`;
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

/** The keys that the schema allows at a path. */
function knownKeys(outline: unknown, path: readonly PropertyKey[]): string[] {
  const node = path.reduce<unknown>((at, part) => member(member(at, 'properties'), part), outline);
  const properties = member(node, 'properties');
  return isObject(properties) ? Object.keys(properties) : [];
}

/** The known key that a mistyped one probably means; null if none is similar. */
function nearest(key: string, known: readonly string[]): string | null {
  let best: string | null = null;
  let bestDistance = Math.max(2, Math.floor(key.length / 3)) + 1;
  for (const candidate of known) {
    const distance = editDistance(key.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

function editDistance(a: string, b: string): number {
  const at = (row: readonly number[], index: number): number => row[index] ?? Infinity;
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= Math.min(a.length, 64); i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const change = at(previous, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(change, at(previous, j) + 1, at(row, j - 1) + 1));
    }
    previous = row;
  }
  return at(previous, b.length);
}

/** The code of a file system error, such as `ENOENT`, or else its message. */
export function errorCode(error: unknown): string {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  return error instanceof Error ? error.message : String(error);
}

function deepFreeze<T>(value: T): T {
  if (isObject(value) && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const key of Reflect.ownKeys(value)) deepFreeze(Reflect.get(value, key));
  }
  return value;
}
