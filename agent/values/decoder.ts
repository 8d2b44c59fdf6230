/** The types of decoders of values. */
import type { Value } from '../../shared/batch/batch.ts';

/** Where the next value begins. One object for all decoders of a table. */
export interface Cursor {
  at: number;
}

export type Decoder = (bytes: Buffer) => Value;

/** Moves the cursor past a value without reading it. */
export type Skipper = (bytes: Buffer) => void;
