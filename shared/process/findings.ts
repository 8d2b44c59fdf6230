/**
 * What `check` finds: every fault at once, each with the statement that corrects it. The daemons use the same findings
 * when they start, so that both report the same.
 */
import type { Colour } from './cli.ts';
import { TributaryError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';

export type FindingLevel = 'ok' | 'warning' | 'fault';

export interface Finding {
  readonly level: FindingLevel;
  /** What was checked, such as `source.binlog_format`. */
  readonly subject: string;
  readonly message: string;
  /** For faults: the code that the daemon stops with. */
  readonly code?: ErrorCode;
  /** What to do instead of a statement, or after it. */
  readonly hint?: string;
  /** The SQL statement or command that corrects it, as a person types it. */
  readonly statement?: string;
  /** The my.cnf line that keeps it after a restart of the server. */
  readonly configLine?: string;
  /** Whether the server must be restarted after the statement. */
  readonly needsRestart?: boolean;
}

export function ok(subject: string, message: string): Finding {
  return { level: 'ok', subject, message };
}

export function warning(subject: string, message: string, hint: Partial<Finding> = {}): Finding {
  return { ...hint, level: 'warning', subject, message };
}

export function fault(subject: string, code: ErrorCode, message: string, hint: Partial<Finding> = {}): Finding {
  return { ...hint, level: 'fault', subject, code, message };
}

/** How to correct a finding, as one sentence; '' if nothing is known. */
export function hintOf(finding: Finding): string {
  const parts: string[] = [];
  if (finding.statement !== undefined) parts.push(`run: ${finding.statement}`);
  if (finding.hint !== undefined) parts.push(finding.hint);
  if (finding.configLine !== undefined)
    parts.push(`in my.cnf under [mysqld]: ${finding.configLine.replaceAll('\n', ' and ')}`);
  if (finding.needsRestart !== undefined) {
    parts.push(finding.needsRestart ? 'the server must be restarted' : 'no restart is needed');
  }
  return parts.join('; ');
}

/** One line for each finding, and its hint on the next line. */
export function renderFindings(findings: readonly Finding[]): string {
  const marks: Record<FindingLevel, string> = { ok: 'ok     ', warning: 'warning', fault: 'FAULT  ' };
  return findings
    .map(finding => {
      const hint = hintOf(finding);
      const line = `${marks[finding.level]} ${finding.subject}: ${finding.message}`;
      return hint === '' ? line : `${line}\n        → ${hint}`;
    })
    .join('\n');
}

/** The marks of `renderFindings` on a terminal. */
export const FINDING_COLOURS: readonly Colour[] = [
  { pattern: /^FAULT(?= )/gm, format: 'red' },
  { pattern: /^warning(?= )/gm, format: 'yellow' },
  { pattern: /^ok(?= )/gm, format: 'green' },
];

/** Throws one error with all faults; returns the findings if there is none. */
export function throwFaults(findings: readonly Finding[]): readonly Finding[] {
  const faults = findings.filter(finding => finding.level === 'fault');
  const first = faults[0];
  if (first === undefined) return findings;
  throw new TributaryError(
    first.code ?? 'INTERNAL',
    faults.map(finding => `${finding.subject}: ${finding.message}`).join(' | '),
    { hint: faults.map(hintOf).filter(Boolean).join(' | ') },
  );
}

/** An error of ours as a finding. @throws any other error: a bug is not a finding */
export function faultOf(subject: string, error: unknown): Finding {
  if (error instanceof TributaryError) return fault(subject, error.code, error.message, { hint: error.hint });
  throw error;
}
