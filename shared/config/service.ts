/**
 * What systemd does for a service, as far as `check` must know it. `check` runs as root. What root may read and write
 * says nothing about the service's user within its unit's confinement.
 */
import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { dirname, join, resolve } from 'node:path';

interface Account {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

/** A service as its unit describes it. */
export interface Service {
  /** Its name for `systemctl`: `tributary-agent@second.service`. */
  readonly unit: string;
  readonly user: string;
  readonly account: Account;
  /** What LoadCredential= hands over: systemd reads these files as root. By name. */
  readonly credentials: ReadonlyMap<string, string>;
  /** Folders that systemd makes for the service and gives to its user. */
  readonly stateFolders: readonly string[];
  /** Other paths that it may write to; null: all. */
  readonly writable: readonly string[] | null;
  /** Folders whose contents the service does not see. */
  readonly hidden: readonly string[];
}

/** A path that the service may not use, and what to do. */
export interface PathFault {
  readonly message: string;
  readonly hint: string;
}

const UNIT_FOLDERS = ['etc/systemd/system', 'run/systemd/system', 'usr/lib/systemd/system', 'lib/systemd/system'];
const HOMES = ['/home', '/root', '/run/user'];
const TEMPORARY = ['/tmp', '/var/tmp'];

/**
 * The service that runs with this configuration file.
 * @param root of the machine; tests give another
 * @returns null where `check` is not run by root, or no installed unit uses the file
 */
export function serviceOf(program: 'agent' | 'applier', configFile: string, root = '/'): Service | null {
  const name = `tributary-${program}`;
  const match = new RegExp(`^/etc/${name}/(?:([^/]+)/)?${program}\\.yaml$`).exec(resolve(configFile));
  if (process.geteuid?.() !== 0 || match === null) return null;
  const instance = match[1];
  const settings = unitSettings(root, instance === undefined ? `${name}.service` : `${name}@.service`, instance);
  const user = settings?.get('User')?.at(-1);
  if (settings === null || user === undefined) return null;
  const account = accountOf(root, user);
  if (account === null) return null;
  const is = (key: string, ...values: readonly string[]): boolean => values.includes(settings.get(key)?.at(-1) ?? '');
  return {
    unit: instance === undefined ? `${name}.service` : `${name}@${instance}.service`,
    user,
    account,
    credentials: readCredentials(root, settings.get('LoadCredential') ?? []),
    stateFolders: words(settings.get('StateDirectory')).map(folder => `/var/lib/${folder}`),
    writable: is('ProtectSystem', 'strict')
      ? words(settings.get('ReadWritePaths')).map(path => path.replace(/^[-+]+/, ''))
      : null,
    hidden: [...(is('ProtectHome', 'yes', 'true') ? HOMES : []), ...(is('PrivateTmp', 'yes', 'true') ? TEMPORARY : [])],
  };
}

/** The settings of a unit and of its drop-ins, each with all its values; an empty value forgets those before it. */
function unitSettings(root: string, unit: string, instance = ''): Map<string, string[]> | null {
  const places = UNIT_FOLDERS.map(folder => join(root, folder));
  const main = places.map(place => join(place, unit)).find(file => existsSync(file));
  if (main === undefined) return null;
  const folders = [unit, unit.replace('@.', `@${instance}.`)].flatMap(name =>
    places.map(place => join(place, `${name}.d`)),
  );
  const dropIns = [...new Set(folders)]
    .filter(folder => existsSync(folder))
    .flatMap(folder =>
      readdirSync(folder)
        .filter(name => name.endsWith('.conf'))
        .sort()
        .map(name => join(folder, name)),
    );
  const settings = new Map<string, string[]>();
  for (const file of [main, ...dropIns]) {
    for (const [, key = '', value = ''] of readFileSync(file, 'utf8').matchAll(
      /^\s*([A-Za-z]+)\s*=[ \t]*(.*?)\s*$/gm,
    )) {
      const before = value === '' ? [] : (settings.get(key) ?? []);
      settings.set(key, value === '' ? [] : [...before, value.replaceAll('%i', instance)]);
    }
  }
  return settings;
}

function words(values: readonly string[] = []): string[] {
  return values.flatMap(value => value.split(/\s+/));
}

/** Who a user is to the kernel; null: there is no such user. */
function accountOf(root: string, user: string): Account | null {
  const lines = (file: string): string[][] =>
    readFileSync(join(root, 'etc', file), 'utf8')
      .split('\n')
      .map(line => line.split(':'));
  const entry = lines('passwd').find(([name]) => name === user);
  if (entry === undefined) return null;
  const gid = Number(entry[3]);
  const others = lines('group').filter(([, , , members = '']) => members.split(',').includes(user));
  return { uid: Number(entry[2]), gid, groups: [gid, ...others.map(([, , id]) => Number(id))] };
}

/** `NAME:PATH` lines. A missing file is reported when its name is asked for. */
function readCredentials(root: string, lines: readonly string[]): Map<string, string> {
  const found = new Map<string, string>();
  for (const line of lines) {
    const [name = '', path = name] = line.split(':');
    const file = join(root, path);
    if (existsSync(file)) found.set(name, readFileSync(file, 'utf8'));
  }
  return found;
}

/** Runs synchronous work with the rights of the service's user. */
export function asServiceUser<T>(service: Service | null, work: () => T): T {
  if (service === null) return work();
  const groups = process.getgroups?.() ?? [];
  const group = process.getegid?.() ?? 0;
  const { uid, gid, groups: own } = service.account;
  process.setgroups?.(own);
  process.setegid?.(gid);
  process.seteuid?.(uid);
  try {
    return work();
  } finally {
    process.seteuid?.(0);
    process.setegid?.(group);
    process.setgroups?.(groups);
  }
}

/** The hidden folder that a path lies in; undefined: the service sees the path. */
export function hiddenIn(service: Service | null, path: string): string | undefined {
  return service?.hidden.find(folder => isWithin(path, folder));
}

/** Why the service (without one: this process) cannot write to a folder; null: it can. */
export function folderFault(service: Service | null, folder: string): PathFault | null {
  const { existing, real } = resolved(folder);
  if (service !== null) {
    // systemd makes it, or gives all of it to the user, unless it is the user's already.
    const own = service.stateFolders.find(state => isWithin(folder, state));
    if (own !== undefined && !isOwned(service, own)) return null;
    if (own !== undefined) return ownerFault(service, existing);
    const hidden = hiddenIn(service, real);
    if (hidden !== undefined)
      return {
        message: `${service.unit} does not see ${hidden}`,
        hint: 'choose a folder elsewhere, such as /data/tributary',
      };
    if (service.writable?.some(path => isWithin(real, path)) === false) {
      return {
        message: `${service.unit} may not write there`,
        hint: `systemctl edit ${service.unit}, and add the lines [Service] and ReadWritePaths=${folder}`,
      };
    }
    if (existing !== resolve(folder)) {
      const { user } = service;
      return { message: 'is missing', hint: `run: install -d -m 0700 -o ${user} -g ${user} ${folder}` };
    }
  }
  return ownerFault(service, existing);
}

/** Whether the user may write to a folder that exists, and to the files in it. */
function ownerFault(service: Service | null, folder: string): PathFault | null {
  return asServiceUser(service, () => {
    const closed = [folder, ...listed(folder)].find(path => !mayWrite(path));
    if (closed === undefined) return null;
    const user = service?.user ?? 'this user';
    return {
      message: `${user} may not write to ${closed}`,
      hint: service === null ? 'correct its owner or mode' : `run: chown -R ${user}: ${folder}`,
    };
  });
}

function isOwned(service: Service, folder: string): boolean {
  return existsSync(folder) && statSync(folder).uid === service.account.uid;
}

function listed(folder: string): string[] {
  try {
    return readdirSync(folder).map(name => join(folder, name));
  } catch {
    return [];
  }
}

/** By owner and mode, since access(2) asks for the real user, who is root, and writing would leave traces. */
function mayWrite(path: string): boolean {
  const status = statOf(path);
  if (status === null) return false;
  const { uid, gid, mode } = status;
  const user = process.geteuid?.();
  if (user === 0) return true;
  if (uid === user) return (mode & 0o200) !== 0;
  const groups = [process.getegid?.(), ...(process.getgroups?.() ?? [])];
  return (mode & (groups.includes(gid) ? 0o020 : 0o002)) !== 0;
}

/** null: it may not even be examined. */
function statOf(path: string): Stats | null {
  try {
    return statSync(path);
  } catch {
    return null;
  }
}

/** The nearest folder that exists, and the whole path without symbolic links. */
function resolved(path: string): { readonly existing: string; readonly real: string } {
  let existing = resolve(path);
  while (!existsSync(existing)) existing = dirname(existing);
  return { existing, real: resolve(path).replace(existing, realpathSync(existing)) };
}

function isWithin(path: string, folder: string): boolean {
  return path === folder || path.startsWith(`${folder.replace(/\/$/, '')}/`);
}
