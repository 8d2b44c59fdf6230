/**
 * Small things that tests of the spool and the forwarder share: a spool in a fresh directory, and batches with a
 * position that tells which batch it belongs to.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Spool } from '../../../agent/spool/spool.ts';
import type { BatchToAppend, Position, SpoolOptions } from '../../../agent/spool/spool.ts';

const made: string[] = [];
process.once('exit', () => {
  for (const directory of made) rmSync(directory, { recursive: true, force: true });
});

/** A fresh directory, which goes with this process. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'tributary-spool-'));
  made.push(directory);
  return directory;
}

export function position(offset: number): Position {
  return {
    source: { server: 'server-1', gtidSet: '', file: 'binlog.000001', offset, committedAt: null },
    lastGroup: null,
  };
}

export function openSpool(directory: string, options: Partial<SpoolOptions> = {}): Spool {
  return Spool.open({
    directory,
    branch: 'paris',
    maxBytes: 1024 ** 3,
    keepAppliedMs: 48 * 3_600_000,
    minFreeBytes: 0,
    now: () => Date.now(),
    ...options,
  });
}

/** A closed batch whose position's offset is `number`. */
export function batch(number: number, options: Partial<BatchToAppend> = {}): BatchToAppend {
  return { body: Buffer.from(`body ${number}`), rows: 1, position: position(number), open: false, ...options };
}
