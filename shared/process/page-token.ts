/**
 * The token that an action on a page needs: whoever may read the daemon's own files may act, whoever merely reaches
 * its port may not. It stands in a file beside the control socket, readable by the daemon's user alone, and stays the
 * same over restarts, so that a page that is open goes on working. `tributary-agent token` and `tributary-applier
 * token` print it.
 */
import { randomBytes } from 'node:crypto';
import { chmodSync, lstatSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { TributaryError } from '../errors.ts';

const TOKEN = /^[\w-]{32}$/;

/** The token in this file; made if there is none, or none that is this user's alone. @throws CONFIG_UNREADABLE */
export function pageToken(file: string): string {
  const known = readToken(file);
  if (known !== null) return known;
  const token = randomBytes(24).toString('base64url');
  try {
    // Whole or not at all, and never through a link that somebody else has put there.
    const fresh = `${file}.${process.pid}`;
    writeFileSync(fresh, `${token}\n`, { mode: 0o600, flag: 'wx' });
    chmodSync(fresh, 0o600);
    renameSync(fresh, file);
  } catch (cause) {
    throw new TributaryError('CONFIG_UNREADABLE', `cannot write the page's token to ${file}`, { cause });
  }
  return token;
}

function readToken(file: string): string | null {
  try {
    const status = lstatSync(file);
    if (!status.isFile() || status.uid !== userInfo().uid || (status.mode & 0o077) !== 0) return null;
    const text = readFileSync(file, 'utf8').trim();
    return TOKEN.test(text) ? text : null;
  } catch {
    // It is not there, or cannot be read: another one takes its place.
    return null;
  }
}
