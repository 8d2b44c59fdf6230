import { TributaryError } from '../shared/errors.ts';
import type { TableName } from '../shared/table-name.ts';

/**
 * The stream has met something that the server must be asked about first. Capture resumes at once from the last durable
 * position, and asks before it reads on: the same place does not bring the same question again.
 */
export class BinlogRestart extends TributaryError {
  /** Tables that are not captured, of which the catalogue must be asked as well from now on. */
  readonly tables: readonly TableName[];

  constructor(message: string, tables: readonly TableName[] = []) {
    super('STREAM_ENDED', message);
    this.tables = tables;
  }
}
