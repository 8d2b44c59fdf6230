/** Actions for several branches: the list of what would be done, and what a person has confirmed of it. */
import * as z from 'zod';
import { BRANCH_ID } from '../../shared/branch-id.ts';
import { HttpError } from '../../shared/process/http.ts';
import type { Route } from '../../shared/process/http.ts';
import { BULK_ACTIONS, doBulk, listBulk } from '../branches/bulk.ts';
import type { BulkAdmin, BulkLine } from '../branches/bulk.ts';

/** Branches of one request; the page asks again for the next ones. */
const MAX_BRANCHES = 100;
const MAX_TEXT = 20_000;

const branchSchema = z.string().regex(BRANCH_ID);
const listSchema = z.object({ action: z.enum(BULK_ACTIONS), branches: z.array(branchSchema).min(1).max(MAX_BRANCHES) });
const doSchema = z.object({
  action: z.enum(BULK_ACTIONS),
  lines: z
    .array(z.object({ branch: branchSchema, does: z.string().max(MAX_TEXT) }))
    .min(1)
    .max(MAX_BRANCHES),
});

/** The answer to both. */
export interface BulkAnswer {
  readonly lines: readonly BulkLine[];
}

export interface BulkSources {
  readonly actions: (person: string | null) => BulkAdmin;
  /** An action has changed branches. */
  readonly changed: () => void;
}

export function bulkRoutes({ actions, changed }: BulkSources): Route[] {
  return [
    {
      method: 'POST',
      path: '/api/bulk/list',
      handle: async ({ body, caller }) => {
        const { action, branches } = read(listSchema, body);
        return { json: { lines: await listBulk(actions(caller.name), action, branches) } satisfies BulkAnswer };
      },
    },
    {
      method: 'POST',
      path: '/api/bulk/do',
      handle: async ({ body, caller }) => {
        const { action, lines } = read(doSchema, body);
        const done = await doBulk(actions(caller.name), action, lines);
        changed();
        return { json: { lines: done } satisfies BulkAnswer };
      },
    },
  ];
}

function read<T>(schema: z.ZodType<T>, body: unknown): T {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const what = `an action, and at most ${MAX_BRANCHES} branches`;
  throw new HttpError(400, 'BAD_REQUEST', `This takes ${what}.`);
}
