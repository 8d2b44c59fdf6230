/** The agent's page: its files, and the one thing that it can do (Sync now). */
import { join } from 'node:path';
import { loadAssets } from '../../shared/process/http.ts';
import type { Assets, Route } from '../../shared/process/http.ts';
import { libraryFiles } from '../../shared/process/page-libraries.ts';
import { ROOT } from '../../shared/root.ts';

/** The files of the page; read once, when the agent starts. */
export function agentAssets(): Assets {
  return loadAssets(join(ROOT, 'shared/web'), join(ROOT, 'agent/web/assets'), ...libraryFiles());
}

/** The roles for which the page has tokens: the shop's manager may sync. */
export const AGENT_ROLES = ['sync', 'operate'] as const;

export interface AgentActions {
  /**
   * Opens the link until the spool is empty. Returns at once; `AgentStatus.sync` shows its progress.
   * @param by who asks
   */
  startSync(by: string): void;
}

/** Routes beyond the standard ones. */
export function agentRoutes(actions: AgentActions): Route[] {
  return [
    {
      method: 'POST',
      path: '/api/sync',
      role: 'sync',
      handle: ({ caller }) => {
        actions.startSync(caller.name ?? 'somebody');
        return { status: 202, json: { started: true } };
      },
    },
  ];
}
