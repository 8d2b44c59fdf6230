import { TributaryError } from '../shared/errors.ts';
import type { TableName } from '../shared/table-name.ts';

/**
 * The stream has met something about which capture must ask the server first. Capture resumes at once from the last durable
 * position and asks before it reads on, so the same place does not stop it again.
 */
export class BinlogRestart extends TributaryError {
  /** Tables that are not captured but must be looked up in the catalogue from now on. */
  readonly tables: readonly TableName[];

  constructor(message: string, tables: readonly TableName[] = []) {
    super('STREAM_ENDED', message);
    this.tables = tables;
  }
}

/** The binlog does not name the columns of these tables: the catalogue must, from now on. */
export class UnnamedColumns extends BinlogRestart {}
