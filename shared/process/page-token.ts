/**
 * The tokens that actions on a page need, one for each role. A person who can read the daemon's own files may act; a
 * person who can only reach its port may not. Each token is in a file next to the control socket, which only the daemon's
 * user can read. It stays the same over restarts, so that an open page goes on working, until it is renewed.
 * `tributary-agent token` and `tributary-applier token` print them.
 */
import { randomBytes } from 'node:crypto';
import { chmodSync, lstatSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { TributaryError } from '../errors.ts';
import type { ActingRole, Tokens } from './callers.ts';

const TOKEN = /^[\w-]{32}$/;

/** The file of a role's token. @param tokenFile that of who operates */
export function tokenFileOf(tokenFile: string, role: ActingRole): string {
  return role === 'operate' ? tokenFile : tokenFile.replace(/(?:\.token)?$/, `.${role}.token`);
}

/** The tokens of these roles. @throws PAGE_UNAVAILABLE */
export function pageTokens(tokenFile: string, roles: readonly ActingRole[]): Tokens {
  return Object.fromEntries(roles.map(role => [role, pageToken(tokenFileOf(tokenFile, role))]));
}

/** Makes a new token in place of the one in this file, which is worth nothing from then on. @throws PAGE_UNAVAILABLE */
export function renewToken(file: string): string {
  rmSync(file, { force: true });
  return pageToken(file);
}

/** The token in this file. Makes one if there is none, or none that is private to this user. @throws PAGE_UNAVAILABLE */
export function pageToken(file: string): string {
  const known = readToken(file);
  if (known !== null) return known;
  const token = randomBytes(24).toString('base64url');
  const fresh = `${file}.${randomBytes(6).toString('hex')}`;
  try {
    // Whole or not at all, and never through a link that another user has put there.
    writeFileSync(fresh, `${token}\n`, { mode: 0o600, flag: 'wx' });
    chmodSync(fresh, 0o600);
    renameSync(fresh, file);
  } catch (cause) {
    rmSync(fresh, { force: true });
    throw new TributaryError('PAGE_UNAVAILABLE', `The token of the page cannot be written to ${file}.`, {
      hint: 'Correct the owner, mode or free space of its directory. The page is tried again by itself.',
      cause,
    });
  }
  return token;
}

function readToken(file: string): string | null {
  try {
    const status = lstatSync(file);
    if (!status.isFile() || status.uid !== process.geteuid?.() || (status.mode & 0o077) !== 0) return null;
    const text = readFileSync(file, 'utf8').trim();
    return TOKEN.test(text) ? text : null;
  } catch {
    // It is missing or unreadable: a new one replaces it.
    return null;
  }
}
