/**
 * `make chaos`: real servers, a seeded workload and seeded faults, round after round. After each round the faults stop,
 * and within a deadline every row must be equal.
 *
 *   SEED=any-text ROUNDS=100 make chaos
 *
 * A round's faults and statements follow from the seed and the round's number alone, so that a failing seed replays
 * (START=17 begins with round 17). Exits 0 if and only if every round ended equal.
 */
import { cpSync, mkdirSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { basename, dirname, join } from 'node:path';
import { tmpdir } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Product } from '../../deploy/local/product.ts';
import { Chance } from './chance.ts';
import { FAULTS } from './faults.ts';
import type { Memory } from './faults.ts';
import { waitUntilEqual } from '../support/compare.ts';
import { Stage } from './stage.ts';

const DEFAULT_ROUNDS = 10;
const MOST_FAULTS_A_ROUND = 5;
const EQUAL_WITHIN_MS = 120_000;
const HEALTHY_WITHIN_MS = 60_000;

/** As an ended program's last words begin. */
const PASSING = /^(TARGET_UNREACHABLE|TARGET_BUSY|SPOOL_IO|SPOOL_CORRUPT): /m;

const seed = process.env['SEED'] ?? randomBytes(4).toString('hex');
const rounds = positive('ROUNDS', DEFAULT_ROUNDS);
const firstRound = positive('START', 1);
/** Only faults whose names contain this; for hunting one down. */
const only = process.env['FAULT'] ?? '';
const began = Date.now();

function positive(name: string, otherwise: number): number {
  const value = Number(process.env[name] ?? otherwise);
  if (!Number.isSafeInteger(value) || value < 1) throw new Error(`${name} must be a positive whole number`);
  return value;
}

function say(line: string): void {
  process.stdout.write(`${((Date.now() - began) / 1000).toFixed(0).padStart(5)} s  ${line}\n`);
}

interface Tally {
  /** Of the present round. */
  drawn: readonly string[];
  readonly faults: Map<string, number>;
  rows: number;
  transactions: number;
}

const weights: Record<string, number> = Object.fromEntries(
  Object.entries(FAULTS)
    .filter(([name]) => name.includes(only))
    .map(([name, { weight }]) => [name, weight]),
);

/** One round; throws when the ends differ. */
async function play(stage: Stage, memory: Memory, tally: Tally, round: number): Promise<void> {
  const chance = new Chance(`${seed}/${round}`);
  for (const { branch, workload } of stage.branches)
    workload.start(new Chance(`${seed}/${round}/${branch.schema.split('_')[0]}`));
  const drawn: string[] = [];
  const together = chance.below(3) === 0;
  const count = chance.between(1, MOST_FAULTS_A_ROUND);
  const running: Promise<void>[] = [];
  tally.drawn = drawn;
  for (let i = 0; i < count; i += 1) {
    await sleep(chance.between(100, 1_500));
    const name = chance.weighted(weights);
    // Another process group's start or stop must not meet its own kill: only faults of links overlap with others.
    const call = { stage, memory, chance: new Chance(`${seed}/${round}/${i}`) };
    const fault = FAULTS[name];
    if (fault === undefined) throw new Error(`no fault ${name}`);
    drawn.push(name);
    tally.faults.set(name, (tally.faults.get(name) ?? 0) + 1);
    const run = fault.run(call);
    if (together && name.startsWith('link-')) {
      run.catch(() => undefined);
      running.push(run);
    } else await run;
  }
  await Promise.all(running);
  await sleep(chance.between(0, 1_000));
  for (const { link } of stage.branches) await link.heal();
  await stage.applierLink.heal();
  await stage.targetLink.heal();
  for (const { workload } of stage.branches) {
    tally.transactions += workload.committed;
    await workload.stop();
  }
  const healed: string[] = [];
  for (const product of stage.products) {
    if (product.running) continue;
    // What ends with a fault that passes is started again by its supervisor, as systemd would.
    const last = product.logTail(4);
    if (!PASSING.test(last)) throw new Error(`a ${product.program} has ended by itself\n${last}`);
    healed.push(`${product.program} started again`);
    await product.start();
  }
  for (const stageBranch of stage.branches) {
    if (await isSuperseded(stageBranch.branch.agent)) {
      healed.push(`${basename(stageBranch.branch.folder)} enrolled again`);
      await stage.enrolAgain(stageBranch);
    }
  }
  const started = Date.now();
  let rows = 0;
  for (const { branch } of stage.branches) {
    const compared = await waitUntilEqual(stage.world.compareOptions(branch, { maxDifferences: 5 }), {
      deadlineMs: EQUAL_WITHIN_MS,
    });
    rows += compared.rowsCompared;
  }
  tally.rows += rows;
  const took = ((Date.now() - started) / 1000).toFixed(1);
  say(
    `round ${round}: ${drawn.join(', ')}${healed.length > 0 ? ` (${healed.join(', ')})` : ''}: ${rows} rows equal after ${took} s`,
  );
}

/** Whether the agent has said for good that another life of its branch is the valid one. */
async function isSuperseded(agent: Product): Promise<boolean> {
  const asked = Date.now();
  const end = asked + HEALTHY_WITHIN_MS;
  for (;;) {
    try {
      const status = (await agent.get('/api/status')) as { state: string; link: { lastAnswerAt: string | null } };
      if (status.state === 'superseded') return true;
      // An answer from before tells nothing: another life may have been registered since.
      if (status.link.lastAnswerAt !== null && Date.parse(status.link.lastAnswerAt) > asked) return false;
    } catch {
      // It is starting.
    }
    if (Date.now() > end) return false;
    await sleep(200);
  }
}

function keepLogs(stage: Stage): string {
  const folder = join(tmpdir(), `tributary-chaos-${seed.replaceAll(/[^\w-]/g, '_')}`);
  mkdirSync(folder, { recursive: true });
  for (const product of stage.products) {
    const owner = basename(dirname(product.logFile));
    cpSync(product.logFile, join(folder, `${owner}.log`));
  }
  return folder;
}

async function main(): Promise<number> {
  say(`SEED=${seed} ROUNDS=${rounds}`);
  const stage = await Stage.open(line => say(line));
  const tally: Tally = { drawn: [], faults: new Map(), rows: 0, transactions: 0 };
  const memory: Memory = { dumps: [], spools: new Map() };
  let round = firstRound;
  let failure: unknown = null;
  try {
    for (; round < firstRound + rounds; round += 1) await play(stage, memory, tally, round);
  } catch (error) {
    failure = error;
    say(`round ${round} failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    say(`its faults: ${tally.drawn.join(', ')}`);
    for (const line of await stage.findings()) say(line);
    say(`logs: ${keepLogs(stage)}; replay: SEED=${seed} ROUNDS=${round} make chaos`);
  }
  for (const { workload } of stage.branches) await workload.stop().catch(() => undefined);
  await stage.remove();
  const faults = [...tally.faults].sort(([a], [b]) => a.localeCompare(b)).map(([name, n]) => `${name} ${n}`);
  const played = round - firstRound;
  say(`${played} of ${rounds} rounds equal; ${tally.transactions} transactions, ${tally.rows} rows compared`);
  say(`faults: ${faults.join(', ')}`);
  return failure === null ? 0 : 1;
}

// Ends whatever a failed round has left half done.
process.exit(await main());
