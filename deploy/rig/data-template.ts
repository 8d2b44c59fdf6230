/**
 * An initialised, empty data directory per server version, kept in the cache and copied for each server: copying takes
 * a tenth of a second, initialising several.
 *
 * The template has the user root, with a random password. It never had a binlog, so a copy begins with an empty GTID
 * set. It has no auto.cnf, so every copy gets a server_uuid of its own.
 */
import { createHash, randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { createConnection } from 'mysql2/promise';
import type { RowDataPacket } from 'mysql2/promise';
import { cacheDirectory } from './install/cache.ts';
import { instanceOptions, placeOptions, sizeOptions, toArguments } from './database-options.ts';
import type { Flavor } from './database-options.ts';
import { waitForDatabase } from './database-ready.ts';
import { LocalServerError } from './errors.ts';
import type { Report } from './errors.ts';
import { temporaryDirectory } from './keeper.ts';
import type { Programs } from './install/programs.ts';
import { lastLines, run } from './run.ts';
import { ServerProcess } from './server-process.ts';

/** Raised whenever a template's content changes. */
const FORMAT = 1;
const INITIALISE_TIMEOUT_MS = 180_000;
const STOP_DEADLINE_MS = 60_000;
/** Binlogs, remains of a crash and, above all, the identity of the server that made the template. */
const NOT_COPIED =
  /(^|\/)(auto\.cnf|binlog\.\w+|server\.pid|.*\.err|ib_buffer_pool|ibtmp1|mysql\.sock.*|mysqld?\.lock)$/;

/** `directory` holds the data in `data`. */
export interface DataTemplate {
  readonly directory: string;
  readonly password: string;
}

const made = new Map<string, Promise<DataTemplate>>();

/** Returns the template for these programs, and makes it first if the cache has none. */
export async function dataTemplate(flavor: Flavor, programs: Programs, report: Report): Promise<DataTemplate> {
  const server = programs.program(flavor === 'mysql' ? 'mysqld' : 'mariadbd');
  const key = createHash('sha256').update(`${FORMAT} ${server}`).digest('hex').slice(0, 8);
  const directory = join(cacheDirectory('templates'), `${flavor}-${programs.version}-${key}`);
  let template = made.get(directory);
  if (template === undefined) {
    template = load(directory).then(async there => there ?? (await make(flavor, programs, directory, report)));
    made.set(directory, template);
    template.catch(() => made.delete(directory));
  }
  return template;
}

/**
 * Copies the data of a template, or of a server that is down, into a new directory; shares the blocks where the file
 * system can. The copy's server draws an identity of its own.
 */
export async function copyData(from: DataTemplate, to: string): Promise<void> {
  await cp(join(from.directory, 'data'), to, {
    recursive: true,
    mode: constants.COPYFILE_FICLONE,
    filter: file => basename(file) !== 'auto.cnf',
  });
}

async function load(directory: string): Promise<DataTemplate | undefined> {
  const password = await readFile(join(directory, 'password'), 'utf8').catch(() => undefined);
  return password === undefined ? undefined : { directory, password };
}

async function make(flavor: Flavor, programs: Programs, directory: string, report: Report): Promise<DataTemplate> {
  report(`initialising a data directory for ${flavor} ${programs.version} (once)`);
  const work = await mkdtemp(join(temporaryDirectory(), 'template-'));
  await mkdir(join(work, 'tmp'));
  const password = randomBytes(12).toString('base64url');
  if (flavor === 'mysql') await initialiseMysql(programs, work);
  else await initialiseMariadb(programs, work);
  await createRoot(flavor, programs, work, password);

  // Made elsewhere and renamed into place, so that the cache never holds half a template.
  const fresh = await mkdtemp(`${directory}.new-`);
  await cp(join(work, 'data'), join(fresh, 'data'), { recursive: true, filter: file => !NOT_COPIED.test(file) });
  await writeFile(join(fresh, 'password'), password, { mode: 0o600 });
  await rm(work, { recursive: true, force: true });
  try {
    await rename(fresh, directory);
  } catch (error) {
    // Another process was faster. Its template and its password are used.
    await rm(fresh, { recursive: true, force: true });
    const there = await load(directory);
    if (there === undefined) throw error;
    return there;
  }
  return { directory, password };
}

async function initialiseMysql(programs: Programs, work: string): Promise<void> {
  const args = toArguments(placeOptions(programs), templateSize('mysql'), {
    datadir: join(work, 'data'),
    tmpdir: join(work, 'tmp'),
    'skip-log-bin': true,
    'initialize-insecure': true,
  });
  const result = await run(programs.program('mysqld'), args, { timeoutMs: INITIALISE_TIMEOUT_MS, directory: work });
  if (result.status !== 0) throw notInitialised('mysqld', result.errors);
}

/** Small redo logs: they are part of what is copied for each server. */
function templateSize(flavor: Flavor): Record<string, string> {
  return { [flavor === 'mysql' ? 'loose-innodb-redo-log-capacity' : 'innodb-log-file-size']: '8M' };
}

async function initialiseMariadb(programs: Programs, work: string): Promise<void> {
  const place = placeOptions(programs);
  const args = [
    '--no-defaults',
    `--datadir=${join(work, 'data')}`,
    '--auth-root-authentication-method=normal',
    // Older scripts do not know it.
    ...(programs.version.startsWith('10.2.') ? [] : ['--skip-test-db']),
    '--skip-name-resolve',
    '--skip-log-bin',
    '--innodb-log-file-size=8M',
    `--tmpdir=${join(work, 'tmp')}`,
    ...(place['user'] === undefined ? [] : [`--user=${place['user']}`]),
    ...(programs.root === undefined
      ? []
      : ['basedir', 'lc-messages-dir'].flatMap(name => (name in place ? [`--${name}=${String(place[name])}`] : []))),
  ];
  const result = await run(programs.program('mariadb-install-db'), args, {
    timeoutMs: INITIALISE_TIMEOUT_MS,
    directory: work,
  });
  if (result.status !== 0) throw notInitialised('mariadb-install-db', `${result.output}${result.errors}`);
}

/**
 * Gives root a password, over the socket (`localhost`) and over TCP. Not `%`: even if a server listens elsewhere by
 * mistake, nobody can log in.
 */
async function createRoot(flavor: Flavor, programs: Programs, work: string, password: string): Promise<void> {
  const socketPath = join(work, 'mysql.sock');
  const options = {
    ...placeOptions(programs),
    ...sizeOptions(flavor),
    ...instanceOptions(work, socketPath),
    ...templateSize(flavor),
  };
  const server = await ServerProcess.start({
    name: `${flavor} template`,
    program: programs.program(flavor === 'mysql' ? 'mysqld' : 'mariadbd'),
    arguments: toArguments(options, { 'skip-networking': true, 'skip-log-bin': true }),
    directory: work,
    logFile: join(work, 'server.log'),
  });
  try {
    await waitForDatabase(server, { socketPath, user: 'root', password: '' }, `${flavor} template`);
    const connection = await createConnection({ socketPath, user: 'root', password: '' });
    // MariaDB's initialisation leaves more root users, without a password.
    const [others] = await connection.query<RowDataPacket[]>(
      `SELECT User AS user, Host AS host FROM mysql.user WHERE User IN ('', 'root') AND Host <> 'localhost'`,
    );
    for (const { user, host } of others) await connection.query('DROP USER ?@?', [user, host]);
    await connection.query(`CREATE USER root@'127.%' IDENTIFIED BY '${password}'`);
    await connection.query(`GRANT ALL PRIVILEGES ON *.* TO root@'127.%' WITH GRANT OPTION`);
    await connection.query(`ALTER USER root@localhost IDENTIFIED BY '${password}'`);
    await connection.end();
  } finally {
    await server.terminate(STOP_DEADLINE_MS);
  }
}

function notInitialised(program: string, said: string): LocalServerError {
  return new LocalServerError(
    'SERVER_NOT_STARTED',
    `${program} could not initialise a data directory: ${lastLines(said)}`,
    `Check the free space under ${dirname(temporaryDirectory())} and ${cacheDirectory()}.`,
  );
}
