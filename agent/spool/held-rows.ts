/**
 * The part of the spool that holds rows of prepared (XA) transactions until their COMMIT or ROLLBACK.
 *
 * Invariant: parts count once their key is in `held`. The transaction that moves the position past their PREPARE writes
 * it. Parts without it belong to a group that will be read again.
 */
import { createHash } from 'node:crypto';
import { TributaryError } from '../../shared/errors.ts';
import { integer, text } from './spool-file.ts';
import type { SpoolFile } from './spool-file.ts';
import type { HeldChange } from './spool-types.ts';

function digestOf(body: Buffer): string {
  return createHash('sha256').update(body).digest('hex');
}

/** Stores a part. A group that is read again overwrites its earlier parts. */
export function hold(file: SpoolFile, key: string, part: number, body: Buffer): void {
  file.run(
    'INSERT OR REPLACE INTO held_parts (key, part, digest, body) VALUES (?, ?, ?, ?)',
    key,
    part,
    digestOf(body),
    body,
  );
}

export function heldTransactions(file: SpoolFile): { key: string; xid: string }[] {
  return file.all('SELECT key, xid FROM held').map(row => ({ key: text(row, 'key'), xid: text(row, 'xid') }));
}

/** The parts under a key, one at a time. @throws TributaryError SPOOL_CORRUPT */
export function* heldParts(file: SpoolFile, key: string): Generator<Buffer> {
  const parts = integer(file.get('SELECT count(*) AS n FROM held_parts WHERE key = ?', key), 'n');
  for (let part = 1; part <= parts; part++) {
    const row = file.get('SELECT digest, body FROM held_parts WHERE key = ? AND part = ?', key, part);
    const body = row?.['body'];
    const bytes = body instanceof Uint8Array ? Buffer.from(body.buffer, body.byteOffset, body.byteLength) : null;
    if (row === null || bytes === null || digestOf(bytes) !== text(row, 'digest')) {
      throw new TributaryError(
        'SPOOL_CORRUPT',
        'Rows of a prepared transaction in the spool do not match their digest.',
      );
    }
    yield bytes;
  }
}

/** Must be called inside a transaction. */
export function changeHeld(file: SpoolFile, changes: readonly HeldChange[]): void {
  for (const change of changes) {
    if (change.do === 'keep') {
      file.run('INSERT OR REPLACE INTO held (key, xid) VALUES (?, ?)', change.key, change.xid);
    } else {
      file.run('DELETE FROM held WHERE key = ?', change.key);
      file.run('DELETE FROM held_parts WHERE key = ?', change.key);
    }
  }
}

export function forgetUnkept(file: SpoolFile): void {
  file.run('DELETE FROM held_parts WHERE key NOT IN (SELECT key FROM held)');
}

export function forgetHeld(file: SpoolFile): void {
  file.run('DELETE FROM held');
  file.run('DELETE FROM held_parts');
}
