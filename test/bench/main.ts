/**
 * `make bench`, or node test/bench/main.ts [--rounds N] [--large] [--profile PROGRAM] [FILTER…]: measures, prints a table, writes latest.json.
 * A filter is the beginning of names: `capture`, `catch-up/10-row`. `--large` adds the backlog of ten million rows,
 * `--profile agent|applier` takes a processor profile of each catch-up. What was measured before a failure is still told.
 */
import { parseArgs } from 'node:util';
import { benchCapture } from './capture.ts';
import { benchCatchUp } from './catch-up.ts';
import { benchCluster } from './cluster.ts';
import { benchCollapse } from './collapse.ts';
import { benchFleet } from './fleet.ts';
import { benchHistory } from './history.ts';
import { benchLatency } from './latency.ts';
import { benchLink } from './link.ts';
import { benchMemory } from './memory.ts';
import { benchPlanted } from './planted.ts';
import { Reporter } from './report.ts';
import { Servers } from './servers.ts';
import type { Bench } from './servers.ts';
import { benchTrickle } from './trickle.ts';
import { benchVerify } from './verify.ts';
import { benchWire } from './wire.ts';

const GROUPS: readonly (readonly [name: string, run: (bench: Bench) => Promise<void>])[] = [
  ['capture', benchCapture],
  ['wire', benchWire],
  ['catch-up', benchCatchUp],
  ['collapse', benchCollapse],
  ['history', benchHistory],
  ['latency', benchLatency],
  ['link', benchLink],
  ['link/trickle', benchTrickle],
  ['memory', benchMemory],
  ['fleet', benchFleet],
  ['verify', benchVerify],
  ['planted', benchPlanted],
  ['cluster', benchCluster],
];

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: {
      rounds: { type: 'string', default: '3' },
      large: { type: 'boolean', default: false },
      profile: { type: 'string' },
    },
    allowPositionals: true,
  });
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds ${values.rounds} is not a count`);
  const servers = new Servers();
  const report = new Reporter();
  const bench: Bench = {
    servers,
    report,
    rounds,
    large: values.large,
    profiled: values.profile === 'agent' || values.profile === 'applier' ? values.profile : null,
    // A group is asked before its measurements are, so a longer filter wants its group as well.
    wants: name =>
      positionals.length === 0 || positionals.some(filter => name.startsWith(filter) || filter.startsWith(name)),
  };
  try {
    try {
      for (const [name, run] of GROUPS) if (bench.wants(name)) await run(bench);
    } finally {
      report.finish(await servers.versions());
    }
  } finally {
    await servers.stop();
  }
}

await main();
