/** `branch verify` and `branch repair`. */
import { EXIT_FAILED, EXIT_OK } from '../shared/process/cli.ts';
import type { Colour, CommandCall, CommandSpec } from '../shared/process/cli.ts';
import { pause } from '../shared/pause.ts';
import { tableText } from '../shared/table-name.ts';
import { counted, formatDuration } from '../shared/units.ts';
import { stageOf } from './branches/verification-state.ts';
import type { Stage } from './branches/verification-state.ts';
import type { Difference } from './store/differences.ts';
import type { VerifiedTable } from './store/verifications.ts';
import { oneLined } from '../shared/process/terminal-text.ts';
import { withBranchAdmin } from './with-branch-admin.ts';

const LOOK_MS = 500;
const TELL_AGAIN_MS = 30_000;
/** Rows of a table that are printed, and characters of a value. */
const SHOWN_ROWS = 20;
const MAX_VALUE = 60;

export const VERIFY_COMMANDS: readonly CommandSpec[] = [
  {
    usage: 'branch verify <id> [tables...]',
    summary:
      'compare the rows of tables (none given: all) at the branch and here, while the branch works; exit status 0: equal',
    options: [
      { flags: '--no-wait', description: 'do not wait for the result; `branch show` lists it' },
      { flags: '--last', description: 'compare nothing; print the results of the last comparisons' },
    ],
    examples: ['branch verify paris', 'branch verify paris shop.orders', 'branch verify paris --last'],
    json: true,
    run: branchVerify,
  },
  {
    usage: 'branch repair <id>',
    summary:
      'ask a branch for the rows that the last comparison found to differ, or for the table if they are not known',
    options: [
      { flags: '--dry-run', description: 'print what would be asked for, and ask for nothing' },
      { flags: '--copy', description: 'ask for whole tables' },
    ],
    examples: ['branch repair paris --dry-run', 'branch repair paris'],
    json: true,
    run: branchRepair,
  },
];

const VERDICT_COLOURS: readonly Colour[] = [
  { pattern: /(?<=: )DIFFERENT\b|^different(?=:)/gm, format: 'red' },
  { pattern: /^not comparable(?=:)/gm, format: 'yellow' },
  { pattern: /^equal(?=:)/gm, format: 'green' },
];

type Verdict = 'equal' | 'different' | 'not-comparable';

async function branchVerify(call: CommandCall): Promise<number> {
  const [branch = '', ...names] = call.args;
  return withBranchAdmin(call, async admin => {
    if (call.options['last'] === true) {
      const { verified } = await admin.show(branch);
      return report(call, branch, null, verified);
    }
    const asked = await admin.verify(branch, names);
    const { request } = asked;
    if (call.options['wait'] === false) {
      call.print(
        { branch, request },
        `Verification ${request} of branch ${branch} is requested: see \`tributary-applier branch show ${branch}\`.`,
      );
      return EXIT_OK;
    }
    call.note(`Verification ${request} of branch ${branch} is requested.`);
    const tell = stageTeller(call);
    while (!call.signal.aborted) {
      const state = await admin.verification(asked);
      const isOver = !state.isOpen && state.tables.every(({ verdict }) => verdict !== 'counting');
      if (isOver) return report(call, branch, request, state.tables);
      tell(stageOf(asked, state, Date.now()), Date.now());
      await pause(LOOK_MS, call.signal);
    }
    call.note(`Verification ${request} goes on. For its result: \`tributary-applier branch verify ${branch} --last\`.`);
    return EXIT_FAILED;
  });
}

/** Prints a new stage at once, and the progress of the same one from time to time. */
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
    equal: `equal: ${branch} and the head office hold the same rows of ${counted(tables.length, 'table')}`,
    different: `different: \`tributary-applier branch repair ${branch} --dry-run\` says what a repair would do, \`tributary-applier branch repair ${branch}\` does it`,
    'not-comparable': tables.length === 0 ? 'not comparable: no table was compared' : 'not comparable: see above',
  };
  call.print(
    { branch, request, verdict, tables },
    [...oneLined(tables).flatMap(table => [renderVerified(table), ...renderDifferences(table)]), closing[verdict]].join(
      '\n',
    ),
    VERDICT_COLOURS,
  );
  return verdict === 'equal' ? EXIT_OK : EXIT_FAILED;
}

function verdictOf(tables: readonly VerifiedTable[]): Verdict {
  if (tables.some(({ different }) => different)) return 'different';
  return tables.length > 0 && tables.every(({ verdict }) => verdict === 'equal') ? 'equal' : 'not-comparable';
}

/** One line. */
export function renderVerified(table: VerifiedTable): string {
  const { schema, name, verdict, reason, rowsHere, branchRows, buckets, differingBuckets, seq, startedAt, endedAt } =
    table;
  const took =
    endedAt === null ? '' : `, ${endedAt}, in ${formatDuration(Date.parse(endedAt) - Date.parse(startedAt))}`;
  const place = `as of batch ${seq}${took}`;
  const found = {
    counting: 'being compared',
    equal: `equal, ${counted(rowsHere ?? 0, 'row')}`,
    different: `DIFFERENT in ${differingBuckets ?? 0} of ${counted(buckets, 'bucket')}: ${counted(branchRows ?? 0, 'row')} at the branch, ${rowsHere ?? 0} here`,
    'not-comparable': 'not comparable',
    interrupted: 'interrupted',
  };
  const before =
    table.different && verdict !== 'different' ? '; it was different in the last comparison that ended' : '';
  const repair = table.repair === null ? '' : `; repair ${table.repair} was requested since`;
  return `${tableText({ schema, name })}: ${found[verdict]}${reason === null ? '' : `: ${reason}`} (${place})${before}${repair}`;
}

async function branchRepair(call: CommandCall): Promise<undefined> {
  const branch = call.args[0] ?? '';
  const dryRun = call.options['dryRun'] === true;
  const options = { dryRun, copy: call.options['copy'] === true };
  const { request, tables, whole, rows, copied } = await withBranchAdmin(call, admin => admin.repair(branch, options));
  const names = tables.map(tableText);
  const lines = [
    ...rows.map(each => {
      const left = each.quarantined === 0 ? '' : `; ${each.quarantined} more are in quarantine and stay there`;
      return `${tableText(each)}: ${counted(each.rows, 'row')}${left}`;
    }),
    ...oneLined(tables)
      .filter(({ name }) => rows.some(each => each.name === name))
      .flatMap(renderDifferences),
  ];
  if (copied.length > 0) {
    const of = oneLined(copied).map(tableText).join(', ');
    lines.push(whole ? `all tables, because some here do not exist at the branch (${of})` : `${of}: the whole table`);
  }
  const closing =
    tables.length === 0
      ? `There is nothing to repair: no table of branch ${branch} was different when it was last compared.`
      : lines.length === 0
        ? `The repair of branch ${branch} is requested already.`
        : dryRun
          ? 'Nothing was requested.'
          : `The repair is requested. \`tributary-applier branch show ${branch}\` lists it until it ends. Repaired rows are compared again by themselves; after a copy, verify again.`;
  call.print(
    { branch, request, whole, dryRun, tables: names, rows, copied: copied.map(tableText) },
    [...lines, closing].join('\n'),
  );
  return undefined;
}

/** The rows that differ, one in a line. */
export function renderDifferences(table: VerifiedTable): string[] {
  const { rows } = table;
  const shown = rows.slice(0, SHOWN_ROWS).map(each => `  ${renderDifference(each)}`);
  return rows.length <= SHOWN_ROWS ? shown : [...shown, '  … more are in tributary_difference'];
}

function renderDifference({
  row,
  kind,
  key,
  columns,
  here,
  there,
  copiesHere,
  copiesThere,
  quarantined,
}: Difference): string {
  const values = key ?? here ?? there;
  const which =
    values === null
      ? `row ${row}`
      : Object.entries(values)
          .map(([name, value]) => `${name}=${value === null ? 'NULL' : shortened(String(value))}`)
          .join(', ');
  const what = {
    changed:
      columns.length > 0
        ? `${columns.join(', ')} ${columns.length === 1 ? 'differs' : 'differ'}`
        : `${copiesThere} times there, ${copiesHere} here`,
    missing: 'missing here',
    extra: 'only here',
    unnamed: 'not read yet',
  };
  return oneLined(`${which}: ${what[kind]}${quarantined ? ' (in quarantine)' : ''}`);
}

function shortened(text: string): string {
  return text.length <= MAX_VALUE ? text : `${text.slice(0, MAX_VALUE)}…`;
}
