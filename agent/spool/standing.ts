/**
 * What the head office last said of how this branch stands there, kept over restarts: a branch whose link is open twice a
 * day can say at any time up to when its sales have arrived. Only for people; nothing is decided by it.
 */
import * as z from 'zod';
import type { BranchStanding } from '../../shared/protocol.ts';
import { TributaryError } from '../../shared/errors.ts';
import { isTime } from '../../shared/protocol.ts';
import { text } from './spool-file.ts';
import type { SpoolFile } from './spool-file.ts';

/** Where only times have moved on, the file is written this often. */
const STORE_EVERY_MS = 60_000;

/** An answer, as far as it tells people how the branch stands. */
export interface HeardStanding {
  /** By this machine's clock, milliseconds since 1970. */
  readonly heardAt: number;
  readonly epoch: string;
  /** Batches up to here are applied. */
  readonly appliedSeq: number;
  /** At least so many seconds was this machine's clock ahead of the head office's; negative: behind; 0: as far as is known neither. */
  readonly aheadSeconds: number;
  readonly halted: { readonly code: string; readonly reason: string } | null;
  /** Null: the head office is too old to say. */
  readonly said: BranchStanding | null;
}

const schema = z.object({
  heardAt: z.number(),
  epoch: z.string(),
  appliedSeq: z.number(),
  aheadSeconds: z.number(),
  halted: z.object({ code: z.string(), reason: z.string() }).nullable(),
  said: z
    .object({
      at: z.string(),
      completeThrough: z
        .string()
        .nullable()
        .transform(time => (time !== null && isTime(time) ? time : null)),
      incomplete: z.boolean(),
      quarantined: z.number(),
      setAsideTables: z.number(),
      differentTables: z.number(),
    })
    .nullable(),
});

export class Standing {
  readonly #file: SpoolFile;
  #heard: HeardStanding | null;
  #storedAt = -Infinity;

  constructor(file: SpoolFile) {
    this.#file = file;
    const row = file.get('SELECT heard FROM standing WHERE id = 1');
    this.#heard = row === null ? null : read(text(row, 'heard'));
  }

  /** Null: the head office has not answered yet. */
  get heard(): HeardStanding | null {
    return this.#heard;
  }

  /** The head office has another stream than ours, or has lost some of it: what it said before holds no more. */
  doubt(): void {
    const heard = this.#heard;
    if (heard === null || heard.said === null) return;
    this.note({ ...heard, said: { ...heard.said, completeThrough: null, incomplete: true } });
  }

  /** Notes what an answer says. A full disk keeps it in memory only. */
  note(heard: HeardStanding): void {
    const before = this.#heard;
    this.#heard = heard;
    const isDue = heard.heardAt - this.#storedAt >= STORE_EVERY_MS || heard.heardAt < this.#storedAt;
    if (!isDue && before !== null && gist(before) === gist(heard)) return;
    try {
      this.#file.run('INSERT OR REPLACE INTO standing (id, heard) VALUES (1, ?)', JSON.stringify(heard));
      this.#storedAt = heard.heardAt;
    } catch (error) {
      if (!(error instanceof TributaryError && error.code === 'SPOOL_FULL')) throw error;
    }
  }
}

/** What must not be forgotten by a restart: everything but times and numbers that move by themselves. */
function gist({ epoch, halted, said }: HeardStanding): string {
  const { incomplete, quarantined, setAsideTables, differentTables } = said ?? {};
  return JSON.stringify([epoch, halted, said === null, incomplete, quarantined, setAsideTables, differentTables]);
}

/** It is repeated with the next answer, so what cannot be read is no fault of the spool. */
function read(stored: string): HeardStanding | null {
  try {
    return schema.parse(JSON.parse(stored));
  } catch {
    return null;
  }
}
