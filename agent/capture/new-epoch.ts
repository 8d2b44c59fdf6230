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
import {
  beginProgress,
  forgetSetAside,
  idleProgress,
  markStale,
  queueTables,
  returning,
  setAside,
  setAsideEntry,
  toldSetAside,
} from '../spool/snapshot-progress.ts';
import type { QueuedTable, SnapshotProgress, Trouble } from '../spool/snapshot-progress.ts';
import { startMarker } from '../snapshot/markers.ts';
import type { Position, Spool } from '../spool/spool.ts';
import { bodyOf } from '../stream/change-buffer.ts';
import { checkTables, checkTargets, troubleOf } from '../source/preflight.ts';
import { createTableFilter } from '../source/table-filter.ts';
import type { TableFilter } from '../source/table-filter.ts';
import type { SourceConnection, SourceIdentity } from '../source/connection.ts';
import { readTables } from '../source/tables.ts';
import type { CapturedTable } from '../source/tables.ts';

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
  const { possible, impossible } = sortTables(identity, tables, tableFilter);
  const position: Position = {
    source: { server: identity.server, gtidSet, file, offset, committedAt: null },
    lastGroup: await findAnchor({ connection, logger }, source, identity, end),
  };
  const before = spool.snapshot() ?? idleProgress();
  const at = new Date(now()).toISOString();
  // A table that was set aside for another cause is copied with the others, and stays out of date until then.
  const setAsideBefore = before.setAside.filter(each => tables.some(table => isSame(table, each)));
  const whole: SnapshotProgress = { ...beginProgress(randomUUID(), true, possible), setAside: setAsideBefore };
  const begun = impossible.reduce((next, { table, trouble }) => setAside(next, table, trouble, at), whole);
  const progress: SnapshotProgress = {
    ...toldSetAside(returning(begun, possible)),
    requests: [...(before.finished ? [] : before.requests), ...before.queuedRequests],
    rules: tableFilter.rules,
    askedEpochs: asked ? noted(before.askedEpochs, now()) : before.askedEpochs,
    askedCopies: before.askedCopies,
    epochReason: reason,
  };
  spool.newEpoch(progress, position);
  const draft = startMarker(progress, possible, tableFilter);
  for (const { table, trouble } of impossible) reportSetAside(logger, table, trouble);
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
    const { possible, impossible } = sortTables(await source.identity(), tables, tableFilter);
    const at = new Date(now()).toISOString();
    for (const { table, trouble } of impossible) {
      if (setAsideEntry(next, table)?.state !== 'aside') reportSetAside(logger, table, trouble);
      next = setAside(next, table, trouble, at);
    }
    // Rows of a table that is no longer chosen stay as they are, and nothing of it is expected.
    next = forgetSetAside(next, ({ schema, name }) => !tableFilter.captures(schema, name));
    const added = possible.filter(
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

interface ImpossibleTable {
  readonly table: QueuedTable;
  readonly trouble: Trouble;
}

/**
 * Tables that can be captured, and those that the catalogue shows to be impossible.
 * @throws TributaryError for faults that concern more than one table; with `halt` for any
 */
function sortTables(
  identity: SourceIdentity,
  tables: readonly CapturedTable[],
  tableFilter: TableFilter,
): { readonly possible: readonly CapturedTable[]; readonly impossible: readonly ImpossibleTable[] } {
  const faults = checkTargets(tables, tableFilter);
  if (tableFilter.onTableTrouble === 'halt') throwFaults([...checkTables(identity, tables, []), ...faults]);
  if (tables.length === 0) throwFaults(checkTables(identity, tables, []));
  throwFaults(faults);
  const impossible = tables.flatMap((table): ImpossibleTable[] => {
    const error = troubleOf(identity, table);
    return error === null ? [] : [{ table: namesOf(table), trouble: { error, shownBy: 'catalogue' } }];
  });
  return { possible: tables.filter(table => !impossible.some(each => isSame(each.table, table))), impossible };
}

function reportSetAside(logger: Logger, table: QueuedTable, { error }: Trouble): void {
  const { code, hint, message } = error;
  logger.error(
    { table: tableText(table), code, hint },
    `A table is set aside, and everything else goes on: ${message}`,
  );
}

function isSame(a: QueuedTable, b: QueuedTable): boolean {
  return a.schema === b.schema && a.name === b.name;
}

function namesOf({ schema, name }: QueuedTable): QueuedTable {
  return { schema, name };
}
