/**
 * Dependencies run one way, each foreign library has one door, and one file reads statements by patterns. A heuristic over
 * import statements, SQL text and regular expressions.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import t from 'tap';
import ts from 'typescript';

const ROOT = resolve(import.meta.dirname, '../..');

interface Source {
  /** Relative to the project's root. */
  readonly path: string;
  readonly text: string;
  /** Modules imported; those of the project relative to its root. */
  readonly imports: readonly string[];
}

const IMPORT =
  /^\s*(?:import|export)\s[^'"]*?from\s*['"]([^'"]+)['"]|^\s*import\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/gm;

function readSource(file: string): Source {
  const text = readFileSync(file, 'utf8');
  const imports = [...text.matchAll(IMPORT)].map(match => {
    const name = match[1] ?? match[2] ?? match[3] ?? '';
    return name.startsWith('.') ? relative(ROOT, resolve(dirname(file), name)) : name;
  });
  return { path: relative(ROOT, file), text, imports };
}

const allSources = ['agent', 'applier', 'shared', 'deploy'].flatMap(folder =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.ts'))
    .map(name => readSource(join(ROOT, folder, name))),
);

/** Of the product alone. */
const sources = allSources.filter(({ path }) => !path.startsWith('deploy/'));

/** `importer -> imported` of every import that goes from one layer to another. */
function importsFrom(layer: string, ...others: readonly string[]): string[] {
  return sources
    .filter(source => source.path.startsWith(`${layer}/`))
    .flatMap(({ path, imports }) =>
      imports.filter(name => others.some(other => name.startsWith(`${other}/`))).map(name => `${path} -> ${name}`),
    );
}

const importersOf = (library: string): string[] =>
  sources.filter(({ imports }) => imports.includes(library)).map(({ path }) => path);

void t.test('agent and applier never import each other', t => {
  t.same(importsFrom('agent', 'applier'), []);
  t.same(importsFrom('applier', 'agent'), []);
  for (const layer of ['agent', 'applier']) t.ok(importsFrom(layer, 'shared').length > 50, 'imports are seen');
  t.end();
});

void t.test('shared imports neither agent nor applier', t => {
  t.same(importsFrom('shared', 'agent', 'applier'), []);
  t.end();
});

void t.test('products import nothing from tests or from local servers', t => {
  for (const layer of ['agent', 'applier', 'shared']) t.same(importsFrom(layer, 'test', 'deploy'), []);
  t.same(
    allSources.flatMap(({ path, imports }) => (imports.some(name => name.startsWith('test/')) ? [path] : [])),
    [],
  );
  t.end();
});

void t.test('exactly one file imports each guarded library', t => {
  t.same(importersOf('@vlasky/zongji'), ['agent/binlog/binlog-stream.ts']);
  t.equal(importersOf('node:sqlite').length, 1, importersOf('node:sqlite').join(', '));
  t.match(importersOf('node:sqlite')[0], /^agent\/spool\//);
  t.same(importersOf('rabbitmq-client'), ['shared/broker/amqp.ts']);
  t.end();
});

void t.test('only shared/database/sql.ts quotes names for SQL', t => {
  // In a file that speaks SQL: a backtick beside an insertion, in a template or not, or mysql2's own quoting.
  const sql = /\b(?:SELECT|INSERT|REPLACE|UPDATE|DELETE|ALTER|CREATE|DROP|LOAD) /;
  const quoting = /\\`\$\{|\}\\`|'`'\s*\+|\+\s*'`'|\bescapeId\(|replaceAll\('`'/;
  t.match('`SELECT 1 FROM \\`${name}\\``', quoting, 'it sees one');
  const offenders = sources.filter(
    ({ path, text }) => path !== 'shared/database/sql.ts' && sql.test(text) && quoting.test(text),
  );
  t.ok(sources.filter(({ text }) => sql.test(text)).length > 30, 'files that speak SQL are seen');
  t.same(
    offenders.map(({ path }) => path),
    [],
  );
  t.end();
});

void t.test('only shared/table-name.ts, its like on the page, and SQL join a table’s names', t => {
  // `${schema}.${name}`, with whatever between: two names with dots would become one.
  const joining = /schema(?:\)|\b)\}[^`$]{0,4}\$\{|JSON\.stringify\(\[(?:\w+\.)?schema, (?:\w+\.)?(?:name|table)\]\)/;
  const doors = ['shared/table-name.ts', 'shared/database/sql.ts', 'shared/web/numbers.js'];
  t.match('`${table.schema}.${table.name}`', joining, 'it sees one');
  const pages = ['agent/web/assets', 'applier/web/assets', 'shared/web'].flatMap(folder =>
    readdirSync(join(ROOT, folder)).map(name => ({
      path: `${folder}/${name}`,
      text: readFileSync(join(ROOT, folder, name), 'utf8'),
    })),
  );
  const offenders = [...sources, ...pages].filter(({ path, text }) => !doors.includes(path) && joining.test(text));
  t.same(
    offenders.map(({ path }) => path),
    [],
  );
  t.end();
});

/** The regular expressions of a file, as they are written. */
function expressionsOf({ path, text }: Source): string[] {
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isRegularExpressionLiteral(node)) found.push(node.text);
    if (ts.isIdentifier(node) && node.text === 'RegExp' && !ts.isTypeReferenceNode(node.parent)) found.push(node.text);
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true));
  return found;
}

void t.test('only agent/binlog/sql-tokens.ts reads statements by regular expressions', t => {
  const reader = 'agent/binlog/sql-tokens.ts';
  const handed = /^agent\/capture\/(?:sql-tokens|query-text|statements|ddl-statements|ddl-effects)\.ts$/;
  // A comment or a quote between two words of a statement would deceive each of these.
  const words =
    /\b(?:ADD|ALTER|CASCADE|CONSTRAINT|CREATE|DATABASE|DELETE|DROP|ENGINE|FOREIGN|GRANT|INDEX|INSERT|PARTITION|PRIMARY|REFERENCES|RENAME|REVOKE|SELECT|TABLE|TRUNCATE|UNIQUE|UPDATE|VERSIONING)\b/i;
  const offenders = sources
    .filter(({ path }) => path.startsWith('agent/') && path !== reader)
    .flatMap(source => {
      const handles = handed.test(source.path) || source.imports.some(name => handed.test(name));
      return expressionsOf(source)
        .filter(expression => handles || words.test(expression.replaceAll(/\\./g, ' ')))
        .map(expression => `${source.path}: ${expression}`);
    });
  t.same(offenders, []);
  const asBefore = { path: 'x.ts', text: String.raw`/\bDROP\s+(?:FOREIGN|CONSTRAINT)\b/i.test(text)`, imports: [] };
  t.ok(expressionsOf(asBefore).some(expression => words.test(expression.replaceAll(/\\./g, ' '))));
  t.end();
});

void t.test('mains only wire: nothing imports them', t => {
  const importers = sources.filter(({ imports }) => imports.some(name => /^(agent|applier)\/main\.ts$/.test(name)));
  t.same(
    importers.map(({ path }) => path),
    [],
  );
  t.end();
});

/**
 * The floors of each program, from the top: a folder imports from those below it, never from one above, so no two
 * folders depend on each other. A program's own files in its root wire it together and stand on top.
 */
const FLOORS: Readonly<Record<string, readonly string[]>> = {
  agent: [
    '.',
    'web',
    'capture',
    'verify',
    'snapshot',
    'forward',
    'collapse',
    'stream',
    'source',
    'binlog',
    'values',
    'spool',
  ],
  applier: ['.', 'web', 'consume', 'transaction', 'verify', 'branches', 'broker', 'store', 'apply'],
  shared: ['process', 'broker', 'batch', 'database', 'config', '.'],
  deploy: ['packages', 'demo', 'rig/oracle', 'rig', 'rig/install'],
};
/** Files beside the floors on which every floor of their program stands: they import nothing of it. */
const GROUND: ReadonlySet<string> = new Set([
  'agent/binlog-restart.ts',
  'agent/catalogue-query.ts',
  'agent/growing-pause.ts',
  'agent/fault-watch.ts',
  'agent/state-machine.ts',
  'applier/config.ts',
  'deploy/rig/errors.ts',
  'deploy/rig/run.ts',
]);
/** Files that stand on another floor than their folder. */
const FLOOR_OF_FILE: Readonly<Record<string, string>> = { 'shared/protocol.ts': 'broker' };

for (const [program, floors] of Object.entries(FLOORS)) {
  const floorOf = (path: string): string => {
    const folder = relative(program, dirname(path));
    return FLOOR_OF_FILE[path] ?? (folder === '' ? '.' : folder);
  };
  const own = allSources.filter(({ path }) => path.startsWith(`${program}/`));

  void t.test(`${program}: every folder has its floor, and no import goes up`, t => {
    const unknown = own.map(({ path }) => floorOf(path)).filter(floor => !floors.includes(floor));
    t.same([...new Set(unknown)], [], 'folders without a floor');
    const upward = own.flatMap(({ path, imports }) =>
      imports
        .filter(name => name.startsWith(`${program}/`) && !GROUND.has(name))
        .filter(name => floors.indexOf(floorOf(name)) < floors.indexOf(floorOf(path)))
        .map(name => `${path} -> ${name}`),
    );
    t.same(upward, []);
    t.end();
  });
}

void t.test('no circle of imports', t => {
  const importsOf = new Map(allSources.map(({ path, imports }) => [path, imports]));
  const circles: string[] = [];
  const done = new Set<string>();
  const visit = (path: string, trail: readonly string[]): void => {
    if (trail.includes(path)) {
      circles.push([...trail.slice(trail.indexOf(path)), path].join(' -> '));
      return;
    }
    if (done.has(path)) return;
    for (const name of importsOf.get(path) ?? []) visit(name, [...trail, path]);
    done.add(path);
  };
  for (const { path } of allSources) visit(path, []);
  t.same(circles, []);
  t.end();
});
