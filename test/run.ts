/**
 * The test runner behind `make test`.
 *
 *   node test/run.ts [FILE | FOLDER | --tap-option=value …]
 *
 * Starts the shared servers if a chosen test needs them, and runs tap over test/unit and then test/integration (over
 * test/servers, test/system and test/chaos when they are named). Ends with the failures and the number of tests, and stops only what it
 * started, however the run goes.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { startSharedServers } from '../deploy/rig/shared-servers.ts';
import type { SharedServersHandle } from '../deploy/rig/shared-servers.ts';
import { nodeSettings } from '../shared/process/node-settings.ts';
import { addCounts, countTests, describeFile, NO_TESTS, summarizeFailures } from './support/tap-output.ts';

const ROOT = resolve(import.meta.dirname, '..');
const TAP = join(ROOT, 'node_modules/.bin/tap');
/** Compiled code is kept, as daemons keep theirs: to compile is most of what the start of a test or a command costs. */
const { NODE_COMPILE_CACHE } = nodeSettings(process.env, homedir()).environment;

/**
 * In this order: what is quick to fail comes first. Unit tests share the machine. Integration tests mostly wait, so they run in
 * three lanes, one file after the other in each; a lane has servers of its own, which its tests may set as they like. A lane
 * that is free takes the next files, and the longest are begun first, so that all end at about the same time.
 */
const SUITES = [
  { folder: 'test/unit', jobs: 2, lanes: 1, filesAtOnce: Infinity, servers: false, always: true },
  { folder: 'test/integration', jobs: 1, lanes: 3, filesAtOnce: 3, servers: true, always: true },
  { folder: 'test/servers', jobs: 1, lanes: 1, filesAtOnce: Infinity, servers: true, always: false },
  { folder: 'test/system', jobs: 1, lanes: 1, filesAtOnce: Infinity, servers: true, always: false },
  { folder: 'test/chaos', jobs: 1, lanes: 1, filesAtOnce: Infinity, servers: true, always: false },
] as const;

/** Integration tests of more than a minute, the longest first. */
const LONG = [
  'cases',
  'healing',
  'alerts',
  'verify-rows',
  'verify',
  'settings-changed',
  'first-run',
  'bounds',
  'hints-branch',
  'hints-head-office',
  'check',
  'link-told',
  'guides',
  'kills',
  'twins',
  'failover',
  'definition-storm',
].map(name => `test/integration/${name}.test.ts`);

/** Exit status of a run that a signal has ended, as shells have it. */
const STATUS_OF_SIGNAL = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/** What a run says last about its failures: CI keeps only the end of its output. */
const SUMMARY_LINES = 36;

interface Selection {
  readonly files: readonly string[];
  readonly options: readonly string[];
}

/** Arguments that begin with a dash are tap's, all others name files or folders. Without names: all tests. */
function select(args: readonly string[]): Selection {
  const options = args.filter(arg => arg.startsWith('-'));
  const paths = args.filter(arg => !arg.startsWith('-'));
  const missing = paths.filter(path => !existsSync(path));
  if (missing.length > 0) throw new Error(`no such file or folder: ${missing.join(', ')}`);
  const roots =
    paths.length > 0 ? paths : SUITES.filter(({ always }) => always).map(({ folder }) => join(ROOT, folder));
  const files = roots.flatMap(root => (statSync(root).isDirectory() ? testFilesUnder(root) : [root]));
  return { files: files.map(file => relative(ROOT, resolve(file))), options };
}

function testFilesUnder(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.test.ts'))
    .sort()
    .map(name => join(folder, name));
}

const running = new Set<ChildProcess>();
let interrupted: keyof typeof STATUS_OF_SIGNAL | undefined;

/** Runs tap, tells of each file as it ends, and resolves with tap's exit status and with all that it wrote. */
function runTap(
  args: readonly string[],
  environment: Record<string, string>,
): Promise<{ code: number; output: string }> {
  return new Promise((done, fail) => {
    const child = spawn(process.execPath, [TAP, 'run', '--reporter=tap', ...args], {
      cwd: ROOT,
      env: { ...process.env, NODE_COMPILE_CACHE, ...environment },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    running.add(child);
    let output = '';
    let linesOfFile: string[] = [];
    createInterface({ input: child.stdout }).on('line', line => {
      output += `${line}\n`;
      linesOfFile.push(line);
      const told = describeFile(linesOfFile);
      if (told === null) return;
      console.log(told);
      linesOfFile = [];
    });
    child.once('error', fail);
    child.once('close', code => {
      running.delete(child);
      done({ code: code ?? 1, output });
    });
  });
}

/** What failed. Without a failed test only the end of tap's output can tell. */
function summary(status: number, failed: number, output: string): string[] {
  if (failed > 0) return summarizeFailures(output, SUMMARY_LINES);
  const end = output
    .trimEnd()
    .split('\n')
    .slice(1 - SUMMARY_LINES);
  return [`tap ended with status ${status}, but no test failed. The end of its output:`, ...end];
}

async function main(args: readonly string[]): Promise<number> {
  const { files, options } = select(args);
  const servers: SharedServersHandle[] = [];
  let counts = NO_TESTS;
  let status = 0;
  let failedOutput = '';
  try {
    for (const { folder, jobs, lanes, filesAtOnce, servers: needed } of SUITES) {
      const chosen = files.filter(file => file.startsWith(`${folder}/`));
      const long = LONG.filter(file => chosen.includes(file));
      const waiting = [...long, ...chosen.filter(file => !long.includes(file))];
      const wanted = Math.min(lanes, waiting.length);
      if (wanted === 0 || interrupted !== undefined) continue;
      const runLane = async (lane: number): Promise<void> => {
        const environment = needed ? { ...servers[lane]?.environment } : {};
        while (waiting.length > 0 && interrupted === undefined) {
          const number = LONG.includes(waiting[0] ?? '') ? 1 : filesAtOnce;
          const next = waiting.splice(0, Math.min(number, Math.ceil(waiting.length / wanted)));
          const { code, output } = await runTap([`--jobs=${jobs}`, ...options, ...next], environment);
          counts = addCounts(counts, countTests(output));
          if (code === 0) continue;
          status = code;
          failedOutput += output;
        }
      };
      // One set of servers after the other: the first may have to be fetched. A lane that has its own need not wait.
      let started = Promise.resolve();
      const startServersOf = async (lane: number): Promise<void> => {
        if (!needed || servers.length > lane || interrupted !== undefined) return;
        servers.push(await startSharedServers(line => console.error(line)));
      };
      const runs = Array.from({ length: wanted }, (_, lane) => {
        started = started.then(() => startServersOf(lane));
        return started.then(() => runLane(lane));
      });
      const failed = (await Promise.allSettled(runs)).find(run => run.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
    }
  } finally {
    await Promise.all(servers.map(handle => handle.stop()));
  }
  if (status !== 0) console.log(['', ...summary(status, counts.failed, failedOutput)].join('\n'));
  const skipped = counts.skipped > 0 ? `, ${counts.skipped} skipped` : '';
  console.log(`\n${counts.passed} passed, ${counts.failed} failed${skipped}`);
  if (interrupted !== undefined) return STATUS_OF_SIGNAL[interrupted];
  if (counts.passed + counts.failed === 0) {
    console.error(
      'No test has run. Name a file under test/unit, test/integration, test/servers, test/system or test/chaos.',
    );
    return 1;
  }
  return status !== 0 ? status : counts.failed > 0 ? 1 : 0;
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    // The second time the user means it; the servers die with this process.
    if (interrupted !== undefined) process.exit(STATUS_OF_SIGNAL[signal]);
    interrupted = signal;
    for (const child of running) child.kill('SIGTERM');
  });
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
