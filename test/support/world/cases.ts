/**
 * The data cases under test/cases: a folder a case.
 *
 *   create.sql     what is there before the agent starts
 *   workload.sql   what happens then
 *   expect.yaml    only where the end is not equality on every server; see `Expectation`
 *
 * Statements end at a `;` at a line's end; one that holds such lines itself (a procedure) stands between lines `$$`.
 * Lines that begin with `-- @` direct: `@session NAME` goes on in another session (there is one without a name),
 * `@only mysql|mariadb|both` limits what follows to a server, `@restart-agent` stops the agent and starts it again,
 * `@fails` says that the next statement is refused by the server. `{schema}` and `{folder}` are replaced in statements.
 */
import { createReadStream, existsSync, readFileSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Connection } from 'mysql2/promise';
import { parse } from 'yaml';
import * as z from 'zod';
import type { Flavor } from '../../../deploy/rig/database-options.ts';

const CASES = resolve(import.meta.dirname, '../../cases');

const trouble = z.strictObject({
  /** Who cannot go on with it: the agent's capture, or the head office. */
  side: z.enum(['agent', 'head-office']),
  code: z.string(),
  /** Words of the message: the table, above all. */
  says: z.array(z.string()).min(1),
  /** Words of the cure. */
  cure: z.string(),
  /** Statements at the branch or the head office, and commands, after which both sides end equal. */
  branch: z.array(z.string()).default([]),
  headOffice: z.array(z.string()).default([]),
  agent: z.array(z.array(z.string())).default([]),
  applier: z.array(z.array(z.string())).default([]),
});

const expectation = z.strictObject({
  /** The servers that the case is for; default: both. */
  only: z.enum(['mysql', 'mariadb']).optional(),
  /** The branch stops on purpose: loudly, with a cure. */
  stops: trouble.optional(),
  /** A table is set aside: loudly, with a cure. */
  setsAside: trouble.optional(),
});

export type Expectation = z.infer<typeof expectation>;

export type Step =
  | { readonly do: 'run'; readonly sql: string; readonly session: string; readonly fails: boolean }
  | { readonly do: 'restart-agent' };

export interface Case {
  readonly name: string;
  readonly folder: string;
  readonly create: readonly Step[];
  readonly workload: readonly Step[];
  readonly expect: Expectation;
}

/** All cases for a server, by name. @throws for a folder that is no case */
export function loadCases(flavor: Flavor): Case[] {
  return readdirSync(CASES)
    .sort()
    .map(name => {
      const folder = join(CASES, name);
      const read = (file: string): string => readFileSync(join(folder, file), 'utf8');
      const expect = existsSync(join(folder, 'expect.yaml')) ? expectation.parse(parse(read('expect.yaml'))) : {};
      const steps = (file: string): Step[] => splitScript(read(file), flavor);
      return { name, folder, create: steps('create.sql'), workload: steps('workload.sql'), expect };
    })
    .filter(({ expect }) => expect.only === undefined || expect.only === flavor);
}

export function splitScript(text: string, flavor: Flavor): Step[] {
  const steps: Step[] = [];
  let lines: string[] = [];
  let session = '';
  let whole = false;
  let fails = false;
  let here = true;
  const close = (): void => {
    const sql = lines.join('\n').trim().replace(/;$/, '');
    lines = [];
    if (sql === '') return;
    if (here) steps.push({ do: 'run', sql, session, fails });
    fails = false;
  };
  for (const line of text.split('\n')) {
    const directive = /^-- @([a-z-]+) ?(\S*)$/.exec(line);
    if (directive !== null) {
      const [, word, value = ''] = directive;
      if (word === 'session') session = value;
      else if (word === 'only') here = value === 'both' || value === flavor;
      else if (word === 'restart-agent') steps.push({ do: 'restart-agent' });
      else if (word === 'fails') fails = true;
      else throw new Error(`no such directive: ${line}`);
    } else if (line.trim() === '$$') {
      whole = !whole;
      if (!whole) close();
    } else if (whole || !line.startsWith('--')) {
      lines.push(line);
      if (!whole && line.trimEnd().endsWith(';')) close();
    }
  }
  close();
  return steps;
}

/** Where a case's statements run: sessions in one schema. */
export interface Stage {
  readonly schema: string;
  /** A new session in the schema. */
  readonly open: () => Promise<Connection>;
  readonly restartAgent: () => Promise<void>;
}

/** Runs the steps one after the other. @throws with the statement that failed */
export async function runSteps(steps: readonly Step[], stage: Stage, folder: string): Promise<void> {
  const sessions = new Map<string, Connection>();
  try {
    for (const step of steps) {
      if (step.do === 'restart-agent') {
        await stage.restartAgent();
        continue;
      }
      let session = sessions.get(step.session);
      if (session === undefined) sessions.set(step.session, (session = await stage.open()));
      const sql = step.sql.replaceAll('{schema}', stage.schema).replaceAll('{folder}', folder);
      const infileStreamFactory = (path: string) => createReadStream(path);
      let failed: unknown = null;
      try {
        await session.query({ sql, infileStreamFactory });
      } catch (error) {
        failed = error;
      }
      if ((failed !== null) !== step.fails) {
        throw new Error(`${step.fails ? 'not refused' : String(failed)}: ${sql}`, { cause: failed });
      }
    }
  } finally {
    for (const session of sessions.values()) session.destroy();
  }
}
