/**
 * The protocol as a model: agents, a broker and head-office appliers in memory, with everything going wrong that may.
 *
 * A run is a tape of numbers, each of which picks one action by weight; then the faults stop, one agent stays, and
 * the world must settle. What decides is shared/protocol.ts itself (or that with one rule left out: rules.ts).
 *
 * Invariants, checked at every step:
 * - what an agent forgets has been committed at the head office;
 * - the head office receives each epoch in order, every batch exactly once, each following the digest before it;
 * - a superseded epoch never comes back; no answer is acted on twice;
 * - whenever the head office is complete, its rows are a state that the source was in: the one it says, but for rows
 *   that somebody has changed by hand there; of a table that is set aside it says nothing, and the table's rows stay as
 *   they are;
 * - no new epoch, no stop and no halt without a fault that calls for it; without faults nothing is sent twice;
 * - in the end the head office's rows are the source's, or the agent that is left has been superseded, loudly.
 */
import type { Rule } from './rules.ts';
import { MAX_PARTS } from './source.ts';
import { ModelWorld } from './world.ts';
import type { Ending } from './world.ts';

export type { Ending };

/** How likely each action is, relative to the others; absent: never. */
export type Weights = Partial<Record<Action, number>>;

const ACTIONS = {
  commit: (world, choice) => world.source.commit(choice, 1),
  commitLarge: (world, choice) => world.source.commit(choice, MAX_PARTS),
  restoreSource: (world, choice) => world.restoreSource(choice),
  capture: (world, choice) => world.someAgent(choice).capture(world.poisons(choice)),
  flush: (world, choice) => world.someAgent(choice).flush(world.poisons(choice)),
  setAside: (world, choice) => world.someAgent(choice).setAside(),
  snapshotStep: (world, choice) => world.someAgent(choice).snapshotStep(world.poisons(choice)),
  loseSource: (world, choice) => world.someAgent(choice).loseSource(),
  connectSource: (world, choice) => world.someAgent(choice).connectSource(),
  send: (world, choice) => world.someAgent(choice).send(),
  confirm: (world, choice) => world.someAgent(choice).confirm(choice >> 3),
  rewind: (world, choice) => world.someAgent(choice).rewind(),
  hello: (world, choice) => world.someAgent(choice).sayHello(),
  restart: (world, choice) => world.restart(choice),
  copySpool: (world, choice) => world.copySpool(choice),
  backupSpool: (world, choice) => world.backupSpool(choice),
  restoreSpool: (world, choice) => world.restoreSpool(choice),
  reinstall: (world, choice) => world.reinstall(choice),
  deliverBatch: (world, choice) => world.deliverBatch(choice),
  deliverHello: (world, choice) => world.deliverHello(choice),
  deliverAnswer: (world, choice) => world.deliverAnswer(choice),
  loseMessage: (world, choice) => world.loseMessage(choice),
  repeatMessage: (world, choice) => world.repeatMessage(choice),
  freeze: (world, choice) => world.freeze(choice),
  restartApplier: world => world.restartApplier(),
  thaw: world => world.thaw(),
  unlock: world => world.unlock(),
  backupHeadOffice: world => world.backupHeadOffice(),
  restoreHeadOffice: world => world.restoreHeadOffice(),
  operate: (world, choice) => world.operate(choice),
  changeByHand: (world, choice) => world.changeByHand(choice),
  askForRepair: (world, choice) => world.askForRepair(choice),
  repairStep: (world, choice) => world.someAgent(choice).repairStep(),
  collapse: (world, choice) => world.someAgent(choice).collapse(choice >> 2),
} as const satisfies Record<string, (world: ModelWorld, choice: number) => void>;

export type Action = keyof typeof ACTIONS;

/** The faults that a run may be without. What ends a fault (connecting, thawing, repairing) is never left out. */
const FAULTS: ReadonlySet<Action> = new Set([
  'commitLarge',
  'restoreSource',
  'loseSource',
  'rewind',
  'restart',
  'copySpool',
  'restoreSpool',
  'reinstall',
  'loseMessage',
  'repeatMessage',
  'freeze',
  'restartApplier',
  'restoreHeadOffice',
]);

/**
 * Plays a tape and lets the world settle. The first number chooses which faults this run is spared, so that some runs
 * get far with few kinds of fault; the second chooses the agent that is left in the end.
 * @throws Violation
 */
export function play(
  [spared = 0, left = 0, ...tape]: readonly number[],
  weights: Weights,
  off: Rule | null = null,
): Ending {
  const faultless = weights.rewind === undefined;
  const world = new ModelWorld({ faultless, poisons: weights.operate !== undefined }, off);
  const names = Object.keys(ACTIONS) as Action[];
  const actions = names
    .filter((name, i) => !FAULTS.has(name) || ((spared >>> i) & 1) === 0)
    .flatMap(name => (weights[name] === undefined ? [] : [[name, weights[name]] as const]));
  const total = actions.reduce((sum, [, weight]) => sum + weight, 0);
  for (const value of tape) {
    let point = (value & 0xffff) % total;
    const action = actions.find(([, weight]) => (point -= weight) < 0);
    if (action !== undefined) ACTIONS[action[0]](world, value >>> 16);
  }
  return world.settle(left);
}
