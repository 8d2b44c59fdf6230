/** What commands ask the applier that runs on this machine. */
import { TributaryError } from '../shared/errors.ts';
import type { CommandCall } from '../shared/process/cli.ts';
import { callDaemon } from '../shared/process/control.ts';
import type { DaemonStatus } from '../shared/process/daemon.ts';
import { placeOf } from './run.ts';
import type { ApplierStatus, WaitingStatus } from './web/status.ts';

/** @throws DAEMON_UNREACHABLE */
export async function statusOfApplier({ configFile, signal }: CommandCall): Promise<DaemonStatus<ApplierStatus>> {
  return (await callDaemon({ place: placeOf(configFile), command: 'status', signal })) as DaemonStatus<ApplierStatus>;
}

/** Why branches wait, by branch: the database does not know it. Empty where no applier runs here, or it does not answer. */
export async function waitingBranches(call: CommandCall): Promise<ReadonlyMap<string, WaitingStatus>> {
  try {
    const { branches } = await statusOfApplier(call);
    return new Map(branches.flatMap(({ branch, waiting }) => (waiting === null ? [] : [[branch, waiting]])));
  } catch (error) {
    if (error instanceof TributaryError && error.code === 'DAEMON_UNREACHABLE') return new Map();
    throw error;
  }
}
