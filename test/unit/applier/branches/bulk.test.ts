import t from 'tap';
import type { BranchAdmin } from '../../../../applier/branches/branch-admin.ts';
import { doBulk, listBulk } from '../../../../applier/branches/bulk.ts';
import type { BulkAdmin } from '../../../../applier/branches/bulk.ts';
import { TributaryError } from '../../../../shared/errors.ts';

/** Branches that retry a batch each; `kept` has what was not undone. */
function office(batches: Record<string, number>) {
  const kept: string[] = [];
  const admin: BulkAdmin = {
    judged: keeps =>
      ({
        retry: (branch: string) => {
          const batch = batches[branch];
          if (batch === undefined)
            throw new TributaryError('CONFIG_INVALID', `${branch} is not halted.`, { hint: 'Wait.' });
          if (keeps({ batch })) kept.push(branch);
          return Promise.resolve({ batch });
        },
      }) as unknown as BranchAdmin,
  };
  return { admin, kept };
}

void t.test('the list does nothing, says what would be done, and what is refused and why', async t => {
  const { admin, kept } = office({ lyon: 7, paris: 9 });
  t.same(await listBulk(admin, 'retry', ['paris', 'nice', 'lyon']), [
    { branch: 'paris', does: 'tries batch 9 again', refused: null },
    { branch: 'nice', does: null, refused: { reason: 'nice is not halted.', hint: 'Wait.' } },
    { branch: 'lyon', does: 'tries batch 7 again', refused: null },
  ]);
  t.same(kept, []);
});

void t.test('what was confirmed is done, unless it is something else by now', async t => {
  const batches: Record<string, number> = { lyon: 7, paris: 9 };
  const { admin, kept } = office(batches);
  const confirmed = (await listBulk(admin, 'retry', ['lyon', 'paris'])).map(({ branch, does }) => ({
    branch,
    does: does ?? '',
  }));
  batches['paris'] = 10;
  const [lyon, paris] = await doBulk(admin, 'retry', confirmed);
  t.match(lyon, { branch: 'lyon', does: 'tries batch 7 again', refused: null });
  t.match(paris, { branch: 'paris', does: null, refused: { reason: /now it tries batch 10 again/ } });
  t.same(kept, ['lyon']);
});
