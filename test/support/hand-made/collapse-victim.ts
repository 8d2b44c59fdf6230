/**
 * A process that kills itself while it merges batches: at the statement of the spool whose number is the second argument,
 * counted from the beginning of the merge. The first argument is the spool's directory. It prints `merged` if it survives.
 */
import { writeSync } from 'node:fs';
import { Collapse } from '../../../agent/collapse/collapse.ts';
import { SpoolFile } from '../../../agent/spool/spool-file.ts';
import { silentLogger } from '../silent-logger.ts';
import { HUNDRED, puts, store } from './collapse-tools.ts';
import { openSpool } from './spool-tools.ts';

const spool = openSpool(process.argv[2] ?? '', { mayMerge: () => true });
store(
  spool,
  puts(20, () => HUNDRED),
);

const last = Number(process.argv[3]);
let statements = 0;
const run = Reflect.get<SpoolFile, 'run'>(SpoolFile.prototype, 'run');
SpoolFile.prototype.run = function (...values) {
  statements += 1;
  if (statements === last) process.kill(process.pid, 'SIGKILL');
  return run.apply(this, values);
};

const collapse = new Collapse({ spool, isAway: () => true, log: silentLogger() });
if (await collapse.step(new AbortController().signal)) writeSync(1, 'merged\n');
spool.close();
