/** The types that decoders of values share. */
import type { Value } from '../../shared/batch/batch.ts';

/** Where the next value begins. All decoders of a table share one. */
export interface Cursor {
  at: number;
}

export type Decoder = (bytes: Buffer) => Value;

/** Moves the cursor past a value without reading it. */
export type Skipper = (bytes: Buffer) => void;
