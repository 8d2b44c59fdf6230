/**
 * Runs the protocol model. MODEL_RUNS (default 2,500: fewer miss rules) is the number of runs a weighting; MODEL_SEED replays a failure.
 */
import fc from 'fast-check';
import t from 'tap';
import { RULES } from '../support/model/rules.ts';
import type { Rule } from '../support/model/rules.ts';
import { play } from '../support/model/protocol-model.ts';
import type { Ending, Weights } from '../support/model/protocol-model.ts';

const RUNS = Number(process.env['MODEL_RUNS'] ?? 2_500);
const SEED = Number(process.env['MODEL_SEED'] ?? Math.floor(Math.random() * 0x7fffffff));
/** Within so many runs a missing rule must show; it takes a small part of them. */
const RUNS_TO_FIND = 6_000;

const tape = (length: number) =>
  fc.array(fc.noBias(fc.nat({ max: 0xffffffff })), { minLength: length / 2, maxLength: length, size: 'max' });

/** Nothing goes wrong. */
const CALM: Weights = {
  commit: 6,
  commitLarge: 1,
  connectSource: 4,
  capture: 10,
  flush: 5,
  snapshotStep: 10,
  send: 10,
  confirm: 10,
  hello: 4,
  deliverHello: 4,
  deliverAnswer: 4,
  deliverBatch: 8,
  setAside: 1,
  collapse: 3,
};

/** Links, brokers and processes fail; nobody's memory does. */
const LOSSY: Weights = {
  ...CALM,
  rewind: 1,
  loseSource: 1,
  restart: 1,
  loseMessage: 2,
  repeatMessage: 2,
  restartApplier: 1,
  freeze: 1,
  unlock: 1,
  thaw: 1,
  operate: 2,
};

/** Also what is kept is lost, copied or put back. */
const HOSTILE: Weights = {
  ...LOSSY,
  restoreSource: 1,
  copySpool: 1,
  backupSpool: 1,
  restoreSpool: 1,
  reinstall: 1,
  backupHeadOffice: 1,
  restoreHeadOffice: 1,
};

/** Rows are changed by hand at the head office and repaired, while much goes wrong. */
const BY_HAND: Weights = { ...HOSTILE, changeByHand: 2, askForRepair: 3, repairStep: 12 };

t.comment(`MODEL_SEED=${SEED} MODEL_RUNS=${RUNS}`);

for (const [name, weights, length] of [
  ['without faults', CALM, 200],
  ['over lossy links, with crashes and a frozen applier', LOSSY, 400],
  ['with spools, machines and databases lost, copied and restored', HOSTILE, 500],
  ['while rows are changed by hand and repaired', BY_HAND, 500],
] as const) {
  void t.test(`the protocol holds ${name}`, t => {
    const endings: Record<Ending, number> = { equal: 0, superseded: 0 };
    const property = fc.property(tape(length), numbers => {
      endings[play(numbers, weights)] += 1;
    });
    fc.assert(property, { seed: SEED, numRuns: RUNS });
    t.comment(endings);
    t.ok(endings.equal > endings.superseded, 'most runs end equal');
    t.end();
  });
}

/** Where a rule's absence shows soonest. */
const REVEALING: Partial<Record<Rule, Weights>> = {
  'nothing of an open group is sent': { ...LOSSY, commitLarge: 6, restart: 4 },
  'an answer older than the pruning is ignored': { ...CALM, rewind: 1, hello: 12, deliverHello: 10, deliverAnswer: 10 },
  'resend only when the queue is empty': CALM,
  'a repair yields to keys emitted meanwhile': BY_HAND,
  'a repair waits until the stream is past its view': BY_HAND,
  'losing the source voids the pending repair': {
    ...CALM,
    setAside: 0,
    rewind: 1,
    loseSource: 2,
    restoreSource: 1,
    restart: 1,
    snapshotStep: 20,
    changeByHand: 2,
    askForRepair: 6,
    repairStep: 14,
  },
  'a new epoch forgets which repairs were answered': BY_HAND,
};

for (const rule of Object.keys(RULES) as Rule[]) {
  void t.test(`the model breaks without the rule: ${rule}`, t => {
    const property = fc.property(tape(400), numbers => {
      play(numbers, REVEALING[rule] ?? HOSTILE, rule);
    });
    const result = fc.check(property, { seed: SEED, numRuns: RUNS_TO_FIND, endOnFailure: true });
    t.comment(`after ${result.numRuns} runs: ${String(result.errorInstance)}`);
    t.ok(result.failed, 'a violation is found');
    t.end();
  });
}
