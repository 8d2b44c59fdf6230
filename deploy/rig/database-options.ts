/**
 * Options of a local MySQL or MariaDB server: where things are, how small it may be, and what its role needs.
 * Pure: values in, an argument list out.
 */
import { existsSync, globSync } from 'node:fs';
import { join } from 'node:path';
import { JAR_FOLDER } from './install/bundles.ts';
import type { Programs } from './install/programs.ts';

export type Flavor = 'mysql' | 'mariadb';
export type Role = 'branch' | 'head-office';
/** `true` is an option without a value: `{ 'skip-log-bin': true }` → `--skip-log-bin`; `false` one that is not given. */
export type ServerOptions = Record<string, string | number | boolean>;

/** Later options win over earlier ones of the same name; `skip-x`, `disable-x` and `x` are one name. */
export function toArguments(...layers: readonly ServerOptions[]): string[] {
  const merged = new Map<string, string>();
  for (const layer of layers) {
    for (const [key, value] of Object.entries(layer)) {
      if (value === false) continue;
      const option = key.replaceAll('_', '-');
      const name = option.replace(/^loose-/, '').replace(/^(skip|disable)-(?=log-bin|networking|ssl|grant)/, '');
      merged.delete(name);
      merged.set(name, value === true ? `--${option}` : `--${option}=${value}`);
    }
  }
  // No configuration file of the machine may change what the tests see. It has to come first.
  return ['--no-defaults', ...merged.values()];
}

/** The paths of the server's own files. Unpacked packages are not where they were compiled to be. */
export function placeOptions(programs: Programs): ServerOptions {
  const options: ServerOptions = {};
  if (process.getuid?.() === 0) options['user'] = 'root';
  if (programs.root === undefined) return options;
  const jar = join(programs.root, JAR_FOLDER);
  if (existsSync(jar)) return { ...options, basedir: jar };
  // Debian's MariaDB had its files in MySQL's folder until bookworm.
  const own = join(programs.root, 'usr/share/mariadb');
  const share = existsSync(join(own, 'english')) ? own : join(programs.root, 'usr/share/mysql');
  const plugins = globSync(['usr/lib/mysql/plugin', 'usr/lib/*/mariadb*/plugin'], { cwd: programs.root })[0];
  options['basedir'] = join(programs.root, 'usr');
  options['lc-messages-dir'] = share;
  options['character-sets-dir'] = join(share, 'charsets');
  if (plugins !== undefined) options['plugin-dir'] = join(programs.root, plugins);
  return options;
}

/** One server's own folder and addresses; loopback only. */
export function instanceOptions(directory: string, socketPath: string): ServerOptions {
  return {
    datadir: join(directory, 'data'),
    socket: socketPath,
    'pid-file': join(directory, 'server.pid'),
    tmpdir: join(directory, 'tmp'),
    'bind-address': '127.0.0.1',
    // No reverse look-ups: without a name server each connection would wait for one.
    'skip-name-resolve': true,
  };
}

/** Several of these share one small machine. A `loose-` option is passed over by versions that do not know it. */
export function sizeOptions(flavor: Flavor): ServerOptions {
  const common: ServerOptions = {
    'innodb-buffer-pool-size': '96M',
    'performance-schema': 'OFF',
    // The kernel has a limited number of AIO contexts for the whole machine. If others use them all, no server starts.
    'innodb-use-native-aio': 'OFF',
    'table-open-cache': 400,
    'max-connections': 120,
  };
  if (flavor === 'mariadb') return { ...common, 'innodb-log-file-size': '256M' };
  return {
    ...common,
    // 256 MiB holds a transaction of a million rows without stalling on checkpoints.
    'loose-innodb-redo-log-capacity': '256M',
    'loose-mysqlx': 'OFF',
    'secure-file-priv': 'NULL',
    // SYSTEM and NOTE lines fill the log that messages quote.
    'log-error-verbosity': 2,
  };
}

/**
 * What a commit waits for. What the system holds outlives the kill of a server, but not a power cut: `synced` is for those
 * who measure. Servers under many short tests would wait for the disk most of the time.
 */
export function syncOptions(flavor: Flavor, synced: boolean): ServerOptions {
  const common: ServerOptions = { 'innodb-flush-log-at-trx-commit': 1 };
  if (synced) return { ...common, 'sync-binlog': 1 };
  return {
    ...common,
    'sync-binlog': 0,
    'innodb-flush-method': 'nosync',
    ...(flavor === 'mariadb' ? { 'loose-debug-no-sync': 'ON' } : {}),
  };
}

/** A branch writes a binlog as Tributary asks for; the head office takes rows in and writes none. */
export function roleOptions(flavor: Flavor, role: Role, serverId: number): ServerOptions {
  const common: ServerOptions = { 'server-id': serverId };
  if (role === 'head-office') return { ...common, 'skip-log-bin': true, 'local-infile': 'ON' };
  return {
    ...common,
    'log-bin': 'binlog',
    'binlog-format': 'ROW',
    'binlog-row-image': 'FULL',
    'loose-binlog-row-metadata': 'FULL',
    ...(flavor === 'mysql' ? { 'gtid-mode': 'ON', 'enforce-gtid-consistency': 'ON' } : {}),
  };
}
