/**
 * Skips a whole batch, because it cannot be read or a person has decided so. Its rows are not written, nor are those of
 * the parts that it ends. It is unknown which rows these are. So the branch becomes incomplete, and is asked for a
 * snapshot of all tables.
 */
import { randomUUID } from 'node:crypto';
import { deleteInboxThrough } from '../store/inbox.ts';
import { BY_HEAD_OFFICE } from '../store/event-kinds.ts';
import { noteEvent } from '../store/events.ts';
import { keepBody, recordOrphan, saveOutcome } from '../store/quarantined-batches.ts';
import type { Decision } from '../store/quarantined-batches.ts';
import { addRequest, closeRequests, openRequests } from '../store/snapshots.ts';
import { markIncomplete } from '../store/branch-row.ts';
import { asStored, NO_ROWS } from './fence.ts';
import type { Fence, WriteResult } from './fence.ts';
import { bytesOf, markOf } from './unit.ts';
import type { Arrival } from './unit.ts';

/** @param decision null: an earlier part of its transaction was skipped */
export async function skipBatch(fence: Fence, arrival: Arrival, decision: Decision | null): Promise<WriteResult> {
  const { branch, row } = fence;
  const { header } = arrival;
  return fence.transact(async connection => {
    await deleteInboxThrough(connection, branch, header.seq);
    if (decision === null) await recordOrphan(connection, header);
    else {
      await saveOutcome(connection, header, 'skipped');
      await keepBody(connection, header, Buffer.concat(arrival.body));
      // The batch may have been a marker that answers open requests. The agent will not answer them again, so they
      // would stay open for ever. They are closed, because the new request covers them all.
      const open = await openRequests(connection, branch);
      const ids = open.map(({ id }) => id);
      await closeRequests(connection, branch, ids);
      const reason = `batch ${header.seq} was skipped`;
      await addRequest(connection, branch, { id: decision.request || randomUUID(), reason, completes: true });
    }
    const mark = markOf(arrival);
    const bytes = bytesOf(arrival);
    const advance = { received: mark, applied: mark, batchNumber: row.batchNumber, source: null, bytes };
    const done = await fence.advance(connection, advance, NO_ROWS);
    await markIncomplete(connection, branch);
    await noteEvent(connection, branch, {
      kind: 'left-out',
      actor: BY_HEAD_OFFICE,
      text:
        decision === null
          ? `Batch ${header.seq} was skipped, because an earlier part of its transaction was.`
          : `Batch ${header.seq} was skipped. The branch is asked for all its tables again.`,
      facts: { seq: header.seq },
    });
    return asStored(connection, done);
  });
}
