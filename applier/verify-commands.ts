/** `branch verify` and `branch repair`. */
import { EXIT_FAILED, EXIT_OK } from '../shared/process/cli.ts';
import type { CommandCall, CommandSpec } from '../shared/process/cli.ts';
import { pause } from '../shared/pause.ts';
import { tableText } from '../shared/table-name.ts';
import { stageOf } from './branches/verification-state.ts';
import type { Stage } from './branches/verification-state.ts';
import type { VerifiedTable } from './store/verifications.ts';
import { oneLined } from '../shared/process/terminal-text.ts';
import { withBranchAdmin } from './with-branch-admin.ts';

const LOOK_MS = 500;
const TELL_AGAIN_MS = 30_000;

export const VERIFY_COMMANDS: readonly CommandSpec[] = [
  {
    usage: 'branch verify <id> [tables...]',
    summary:
      'prove, while the branch sells on, that its rows are here exactly, or say in which tables (none: all) they are not; exit status 0: equal',
    options: [
      { flags: '--no-wait', description: 'ask only; branch show lists the result' },
      { flags: '--last', description: 'ask nothing; say what the last comparisons have found' },
    ],
    json: true,
    run: branchVerify,
  },
  {
    usage: 'branch repair <id>',
    summary: 'ask a branch to copy again exactly the tables whose last comparison found a difference',
    json: true,
    run: branchRepair,
  },
];

type Verdict = 'equal' | 'different' | 'not-comparable';

async function branchVerify(call: CommandCall): Promise<number> {
  const [branch = '', ...names] = call.args;
  return withBranchAdmin(call, async registry => {
    if (call.options['last'] === true) {
      const { verified } = await registry.show(branch);
      return report(call, branch, null, verified);
    }
    const asked = await registry.verify(branch, names);
    const { request } = asked;
    if (call.options['wait'] === false) {
      call.print({ branch, request }, `${branch} is asked for verification ${request}; branch show ${branch} lists it`);
      return EXIT_OK;
    }
    call.note(`${branch} is asked for verification ${request}`);
    const tell = stageTeller(call);
    while (!call.signal.aborted) {
      const state = await registry.verification(asked);
      const isOver = !state.isOpen && state.tables.every(({ verdict }) => verdict !== 'counting');
      if (isOver) return report(call, branch, request, state.tables);
      tell(stageOf(asked, state, Date.now()), Date.now());
      await pause(LOOK_MS, call.signal);
    }
    call.note(`verification ${request} goes on; branch verify ${branch} --last says what it has found`);
    return EXIT_FAILED;
  });
}

/** Tells a new stage at once, and from time to time how far the same one is. */
function stageTeller(call: CommandCall): (stage: Stage, now: number) => void {
  let told: Stage = { key: '', text: '' };
  let toldAt = 0;
  return (stage, now) => {
    if (stage.key === told.key && (stage.text === told.text || now - toldAt < TELL_AGAIN_MS)) return;
    call.note(oneLined(stage.text));
    told = stage;
    toldAt = now;
  };
}

function report(call: CommandCall, branch: string, request: string | null, tables: readonly VerifiedTable[]): number {
  const verdict = verdictOf(tables);
  const closing = {
    equal: `equal: ${branch} and the head office hold the same rows of ${tables.length} tables`,
    different: `different: \`tributary-applier branch repair ${branch}\` asks for the tables that differ again`,
    'not-comparable': tables.length === 0 ? 'not comparable: no table was compared' : 'not comparable: see above',
  };
  call.print(
    { branch, request, verdict, tables },
    [...oneLined(tables).map(renderVerified), closing[verdict]].join('\n'),
  );
  return verdict === 'equal' ? EXIT_OK : EXIT_FAILED;
}

function verdictOf(tables: readonly VerifiedTable[]): Verdict {
  if (tables.some(({ different }) => different)) return 'different';
  return tables.length > 0 && tables.every(({ verdict }) => verdict === 'equal') ? 'equal' : 'not-comparable';
}

/** One line. */
export function renderVerified(table: VerifiedTable): string {
  const { schema, name, verdict, reason, rowsHere, branchRows, buckets, differingBuckets, seq, endedAt } = table;
  const place = `as of batch ${seq}${endedAt === null ? '' : `, ${endedAt}`}`;
  const found = {
    counting: 'is being compared',
    equal: `equal, ${rowsHere ?? 0} rows`,
    different: `DIFFERENT in ${differingBuckets ?? 0} of ${buckets} buckets: ${branchRows ?? 0} rows at the branch, ${rowsHere ?? 0} here`,
    'not-comparable': 'not comparable',
    interrupted: 'interrupted',
  };
  const before = table.different && verdict !== 'different' ? '; different when it was last compared' : '';
  const repair = table.repair === null ? '' : `; asked for again since (${table.repair})`;
  return `${tableText({ schema, name })}: ${found[verdict]}${reason === null ? '' : `: ${reason}`} (${place})${before}${repair}`;
}

async function branchRepair(call: CommandCall): Promise<undefined> {
  const branch = call.args[0] ?? '';
  const { request, tables, whole } = await withBranchAdmin(call, registry => registry.repair(branch));
  const names = tables.map(tableText);
  const of = whole
    ? `all tables, since some are here that the branch does not have (${oneLined(names).join(', ')})`
    : oneLined(names).join(', ');
  call.print(
    { branch, request, whole, tables: names },
    request === null
      ? `nothing to repair: no table of ${branch} was different when it was last compared`
      : `${branch} is asked for snapshot ${request} of ${of}; branch show ${branch} lists it until it has ended. Then verify again`,
  );
  return undefined;
}
