/**
 * What the pipelines need of the part that writes rows (`Applier` of applier/apply). A narrow door, so that the order
 * of things (lock, write, watermark, commit) can be tested without it.
 */
import type { Applier } from './applier.ts';

/**
 * `prepare` runs before the transaction (its DDL commits by itself), the others inside it.
 * See applier/apply/applier.ts for arguments and errors.
 */
export type RowWriter = Pick<Applier, 'prepare' | 'apply' | 'sweep' | 'clearOtherForm'>;
