/**
 * How an epoch begins, and how a running epoch adopts another choice of tables. Both happen at one place of the stream, with
 * a snapshot of the tables that come in.
 */
import { randomUUID } from 'node:crypto';
import type { BinlogConnection } from '../binlog/binlog-stream.ts';
import { findAnchor } from './anchor.ts';
import { encodeBatch } from '../../shared/batch/encoder.ts';
import { throwFaults } from '../../shared/process/findings.ts';
import type { Logger } from '../../shared/process/logging.ts';
import { tableText } from '../../shared/table-name.ts';
import { noted } from '../growing-pause.ts';
import { beginProgress, idleProgress, markStale, queueTables } from '../spool/snapshot-progress.ts';
import type { QueuedTable, SnapshotProgress } from '../spool/snapshot-progress.ts';
import { startMarker } from '../snapshot/markers.ts';
import type { Position, Spool } from '../spool/spool.ts';
import { bodyOf } from '../stream/change-buffer.ts';
import { checkTables, checkTargets } from '../source/preflight.ts';
import { createTableFilter } from '../source/table-filter.ts';
import type { TableFilter } from '../source/table-filter.ts';
import type { SourceConnection, SourceIdentity } from '../source/connection.ts';
import { readTables } from '../source/tables.ts';

export interface EpochOptions {
  readonly spool: Spool;
  readonly tableFilter: TableFilter;
  /** For reading the binlog. */
  readonly connection: BinlogConnection;
  readonly logger: Logger;
  readonly now: () => number;
}

/** Why an epoch begins. */
export interface EpochReason {
  readonly reason: string;
  /** An answer of the head office requires it. */
  readonly asked: boolean;
}

/** Drops what the spool holds and begins again at the binlog's end. @throws TributaryError if a table cannot be captured */
export async function beginEpoch(
  { spool, tableFilter, connection, logger, now }: EpochOptions,
  source: SourceConnection,
  identity: SourceIdentity,
  { reason, asked }: EpochReason,
): Promise<void> {
  // The place comes first: the stream brings tables that are created after it, and the list has those from before it.
  const end = await source.binlogEnd();
  const { file, offset } = end;
  const gtidSet = identity.flavor === 'mariadb' ? await source.mariadbGtids({ file, offset }) : end.gtidSet;
  const tables = await readTables(source, tableFilter);
  throwFaults([...checkTables(identity, tables, []), ...checkTargets(tables, tableFilter)]);
  const position: Position = {
    source: { server: identity.server, gtidSet, file, offset, committedAt: null },
    lastGroup: await findAnchor({ connection, logger }, source, identity, end),
  };
  const before = spool.snapshot() ?? idleProgress();
  const progress: SnapshotProgress = {
    ...beginProgress(randomUUID(), true, tables),
    requests: [...(before.finished ? [] : before.requests), ...before.queuedRequests],
    rules: tableFilter.rules,
    askedEpochs: asked ? noted(before.askedEpochs, now()) : before.askedEpochs,
    askedCopies: before.askedCopies,
    epochReason: reason,
  };
  spool.newEpoch(progress, position);
  const draft = startMarker(progress, tables, tableFilter);
  spool.append({
    body: encodeBatch(bodyOf(draft, position.source)),
    rows: 0,
    position,
    open: false,
    snapshot: { ...progress, started: true },
  });
  logger.info({ epoch: spool.stream().epoch, tables: tables.length, reason }, 'A new epoch begins with a snapshot.');
}

/** Has tables copied that the configuration newly includes, or to which it gives another name or other columns. */
export async function adoptRules(
  { spool, tableFilter, logger, now }: EpochOptions,
  source: SourceConnection,
  position: Position,
): Promise<void> {
  const progress = spool.snapshot() ?? idleProgress();
  if (JSON.stringify(progress.rules) === JSON.stringify(tableFilter.rules)) return;
  let next: SnapshotProgress = { ...progress, rules: tableFilter.rules };
  if (progress.rules !== null) {
    const before = createTableFilter(progress.rules);
    const tables = await readTables(source, tableFilter);
    throwFaults([...checkTables(await source.identity(), tables, []), ...checkTargets(tables, tableFilter)]);
    const added = tables.filter(
      ({ schema, name }) =>
        !before.captures(schema, name) ||
        before.targetName(schema, name) !== tableFilter.targetName(schema, name) ||
        before.columnsFingerprint(schema, name) !== tableFilter.columnsFingerprint(schema, name),
    );
    if (added.length > 0) next = markStale(queueTables(next, added.map(namesOf)), new Date(now()).toISOString());
    logger.warn(
      { before: progress.rules, now: tableFilter.rules, copied: added.map(tableText) },
      'The choice of tables has changed. New tables are copied; rows of tables that are no longer chosen stay as they are.',
    );
  }
  spool.savePosition(position, next);
}

function namesOf({ schema, name }: QueuedTable): QueuedTable {
  return { schema, name };
}
