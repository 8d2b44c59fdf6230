/**
 * Commands in the test's own process: a process of their own costs more than what most of them do. Only the daemon needs
 * one, and what a test wants to know about the process itself: for that, `runCli` of deploy/rig/daemon.ts.
 */
import { agentCli } from '../../../agent/commands.ts';
import { applierCli } from '../../../applier/commands.ts';
import type { CliResult, Program } from '../../../deploy/rig/daemon.ts';
import { runCli } from '../../../shared/process/cli.ts';

const PROGRAMS = { agent: agentCli, applier: applierCli } as const;
const DEADLINE_MS = 180_000;

/** Runs a command to its end. Does not reject if the command fails: see the exit code. */
export async function runHere(program: Program, args: readonly string[], deadlineMs = DEADLINE_MS): Promise<CliResult> {
  let stdout = '';
  let stderr = '';
  const streams = { out: (text: string) => (stdout += text), err: (text: string) => (stderr += text) };
  const code = await runCli(PROGRAMS[program](), args, AbortSignal.timeout(deadlineMs), streams);
  return { code, stdout, stderr };
}
