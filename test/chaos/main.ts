/**
 * `make chaos`: a stage of real servers, a seeded workload and seeded faults, round after round. After each round the faults stop,
 * whoever is called carries out the cures that the products name (cures.ts), and within a deadline every row must be
 * equal. `node test/chaos/main.ts --help` lists the faults and what can be set.
 *
 * A round's faults and statements follow from the seed and the round's number alone, so that a failing seed replays
 * (START=17 begins with round 17). Exits 0 if and only if every round ended equal.
 */
import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Report } from '../../deploy/rig/errors.ts';
import { Comparer } from './comparer.ts';
import { CLUSTER_FAULTS } from './cluster-faults.ts';
import { ClusterStage } from './cluster-stage.ts';
import type { Faults, Memory } from './fault.ts';
import { Round } from './round.ts';
import { SINGLE_FAULTS } from './single-faults.ts';
import { SingleStage } from './single-stage.ts';
import type { Stage } from './stage.ts';

const DEFAULT_ROUNDS = 10;
const DEFAULT_WITHIN_S = 180;

const HELP = `Breaks everything at random, and compares branch and head office after each round.

  make chaos                              the protocol's model, random schemas, then ${DEFAULT_ROUNDS} rounds
  node test/chaos/main.ts                 the rounds alone
  FAULTS=failover,unlogged SEED=x node test/chaos/main.ts
  STAGE=cluster make chaos                rounds of a head office that fails over, alone
  STAGE=verify ROUNDS=20 make chaos       comparisons all the time: none may find a difference

STAGE=NAME    single: one broker and one database, where a fault may cost a new epoch; cluster: three of each, where
              it may cost neither that nor a copy of a table nor a halt; verify: the single stage with faults that
              change no row behind Tributary's back, and comparisons all the time (default: single)
SEED=TEXT     what faults and statements follow from; printed at the start (default: random)
ROUNDS=N      how many rounds (default: ${DEFAULT_ROUNDS})
START=N       the first round's number (default: 1); a round follows from SEED and its number,
              but the rows that it finds are those of the rounds before
FAULTS=A,B    only faults whose names contain one of these (default: all)
WITHIN=N      seconds in which a round must become equal once its faults are over (default: ${DEFAULT_WITHIN_S})
MODEL_RUNS=N  runs of the protocol's model, RUNS=N of random schemas (of make chaos alone)

A round that fails leaves logs, spools and the definitions of tables in a folder that it names.

Faults of the single stage, with how often each is drawn:
${listed(SINGLE_FAULTS)}

Faults of the cluster stage:
${listed(CLUSTER_FAULTS)}
`;

function listed(faults: Readonly<Record<string, { readonly weight: number }>>): string {
  return Object.entries(faults)
    .map(([name, { weight }]) => `  ${name} ${weight}`)
    .join('\n');
}

/** A stage and what can befall it. */
interface Play<S extends Stage> {
  readonly open: (report: Report) => Promise<S>;
  readonly faults: Faults<S>;
  /** Compares all the time; a difference is a failure of the product. */
  readonly compares?: true;
}

const SINGLE: Play<SingleStage> = { open: report => SingleStage.open(report), faults: SINGLE_FAULTS };
const CLUSTER: Play<ClusterStage> = { open: report => ClusterStage.open(report), faults: CLUSTER_FAULTS };

/** Of the single stage, what changes no row at one end alone, and loses none that the other end has. */
const HARMLESS = /^(link|agent|applier)-|^(broker|head-office|source)-(killed|frozen)$|^source-failover-clean$/;
const VERIFY: Play<SingleStage> = {
  ...SINGLE,
  faults: Object.fromEntries(Object.entries(SINGLE_FAULTS).filter(([name]) => HARMLESS.test(name))),
  compares: true,
};

const began = Date.now();

function positive(name: string, otherwise: number): number {
  const value = Number(process.env[name] ?? otherwise);
  if (!Number.isSafeInteger(value) || value < 1) throw new Error(`${name} must be a positive whole number`);
  return value;
}

function say(line: string): void {
  process.stdout.write(`${((Date.now() - began) / 1000).toFixed(0).padStart(5)} s  ${line}\n`);
}

/** The faults that FAULTS names. */
function chosen<S extends Stage>(all: Faults<S>, names: string): Faults<S> {
  const parts = names.split(',').filter(part => part !== '');
  if (parts.length === 0) return all;
  const faults = Object.entries(all).filter(([name]) => parts.some(part => name.includes(part)));
  if (faults.length === 0) throw new Error(`no fault is named so: ${names}`);
  return Object.fromEntries(faults);
}

function main(): Promise<number> {
  const name = process.env['STAGE'] ?? 'single';
  if (name === 'cluster') return perform(name, CLUSTER);
  if (name === 'single') return perform(name, SINGLE);
  if (name === 'verify') return perform(name, VERIFY);
  throw new Error(`STAGE must be single, cluster or verify, not ${name}`);
}

async function perform<S extends Stage>(stageName: string, play: Play<S>): Promise<number> {
  const seed = process.env['SEED'] ?? randomBytes(4).toString('hex');
  const rounds = positive('ROUNDS', DEFAULT_ROUNDS);
  const first = positive('START', 1);
  const withinMs = positive('WITHIN', DEFAULT_WITHIN_S) * 1_000;
  const names = process.env['FAULTS'] ?? '';
  const faults = chosen(play.faults, names);
  const settings = `STAGE=${stageName} SEED=${seed}${names === '' ? '' : ` FAULTS=${names}`}`;
  say(`${settings} ROUNDS=${rounds}`);
  const stage = await play.open(say);
  const comparer = play.compares === true ? new Comparer(stage) : null;
  const tally = new Map<string, number>();
  const memory: Memory = { dumps: [], spools: new Map(), unseen: new Set() };
  let rows = 0;
  let transactions = 0;
  let number = first;
  let failed = false;
  for (; number < first + rounds && !failed; number += 1) {
    const round = new Round(stage, `${seed}/${number}`, withinMs);
    try {
      say(`round ${number}: ${await round.play(faults, memory)}`);
      comparer?.check();
    } catch (error) {
      failed = true;
      say(`round ${number} failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
      for (const line of [...round.story, ...(await stage.findings())]) say(line);
      const folder = join(tmpdir(), `tributary-chaos-${seed.replaceAll(/[^\w-]/g, '_')}-${process.pid}`);
      await stage.keepTraces(folder);
      say(`logs, spools and tables: ${folder}; replay: ${settings} ROUNDS=${number} node test/chaos/main.ts`);
    }
    for (const name of round.drawn) tally.set(name, (tally.get(name) ?? 0) + 1);
    rows += round.rows;
    transactions += round.transactions;
  }
  const verdicts = await comparer?.stop();
  if (verdicts !== undefined) say(`comparisons of tables: ${verdicts}`);
  for (const { workload } of stage.branches) await workload.stop().catch(() => undefined);
  await stage.remove();
  const drawn = [...tally].sort(([a], [b]) => a.localeCompare(b)).map(([name, n]) => `${name} ${n}`);
  const equal = number - first - (failed ? 1 : 0);
  say(`${equal} of ${rounds} rounds equal; ${transactions} transactions, ${rows} rows compared`);
  say(`faults: ${drawn.join(', ')}`);
  return failed ? 1 : 0;
}

if (process.argv.includes('--help')) process.stdout.write(HELP);
// Ends whatever a failed round has left half done.
else process.exit(await main());
