/** A fault that concerns one table of a branch alone: the head office cannot take its definition, or a row of it. */
import type { TableDescription } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';

export class TableTrouble extends TributaryError {
  /** The table as the branch describes it, under its name at the head office. */
  readonly description: TableDescription;

  constructor(
    code: 'TARGET_SCHEMA' | 'BATCH_REFUSED',
    description: TableDescription,
    message: string,
    options: { readonly hint?: string | undefined; readonly cause?: unknown } = {},
  ) {
    super(code, message, options);
    this.description = description;
  }
}
