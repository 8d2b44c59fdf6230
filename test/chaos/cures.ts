/**
 * The person who is called when a branch is halted, and does exactly what the halt names: the statements at the head
 * office, the commands at the other branches, `branch retry`. What names no such cure is a failure of the product.
 */
import mysql from 'mysql2/promise';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { expectSuccess } from '../support/world/world.ts';
import { login } from './stage.ts';
import type { Stage, StageBranch } from './stage.ts';

/** As often may one branch be halted in one round; a cure that does not help is not tried for ever. */
const MOST_CURES = 12;
const HELPLESS_MS = 20_000;
const COMPARED_WITHIN_MS = 150_000;
const MOST_COMPARISONS = 3;

const STATEMENT = /\b(?:ALTER TABLE|DROP TABLE|DROP TRIGGER|RENAME TABLE) .+?(?= and `|, then |; |\. |\.?$)/g;
const COMMAND =
  /`(?:tributary-(?:applier|agent) )?(branch retry|branch snapshot|branch repair|schema approve|snapshot)\b[^`]*`/g;

/** No such index or column, table, trigger: it was done for another branch. */
const DONE_ERRNOS: readonly unknown[] = [1091, 1051, 1360];

interface Halt {
  readonly db: Connection;
  /** Statements that were carried out since the halts were read. */
  readonly said: Set<string>;
  readonly halted: StageBranch;
  readonly code: string;
  readonly reason: string;
}

export class Cures {
  /** How many were carried out. */
  count = 0;
  readonly #stage: Stage;
  readonly #tell: (what: string) => void;
  readonly #times = new Map<string, number>();
  /** Since when a branch is halted by what names no cure. */
  readonly #helpless = new Map<string, number>();

  constructor(stage: Stage, tell: (what: string) => void) {
    this.#stage = stage;
    this.#tell = tell;
  }

  /** Looks once. @throws for a halt whose reason names nothing to do, and for one that its cure does not end */
  async look(): Promise<void> {
    const { headOffice, world, branches } = this.#stage;
    const db = await mysql.createConnection({ ...login(headOffice), database: world.database });
    try {
      const [rows] = await db.query<RowDataPacket[]>(
        "SELECT branch, halt_code AS code, halt_reason AS reason FROM tributary_branch WHERE state = 'halted'",
      );
      for (const id of this.#helpless.keys()) if (!rows.some(row => row['branch'] === id)) this.#helpless.delete(id);
      const said = new Set<string>();
      for (const row of rows) {
        const halted = branches.find(({ branch }) => branch.id === row['branch']);
        if (halted === undefined) throw new Error(`an unknown branch is halted: ${JSON.stringify(row)}`);
        await this.#cure({ db, said, halted, code: String(row['code']), reason: String(row['reason']) });
      }
    } finally {
      db.destroy();
    }
  }

  /** What the runbook says after a time that no agent has seen: compares, and copies what differs. */
  async compare({ branch, source }: StageBranch): Promise<void> {
    const { world } = this.#stage;
    for (let attempt = 1; ; attempt += 1) {
      const args = ['branch', 'verify', branch.id, '--json'];
      const { stdout, stderr } = await world.applierCli(args, 'applier', COMPARED_WITHIN_MS);
      const verdict = /"verdict": *"([\w-]+)"/.exec(stdout)?.[1] ?? 'none';
      this.#tell(`${source.name} was compared: ${verdict}`);
      if (verdict === 'equal') return;
      if (verdict === 'different') break;
      // A table was changed meanwhile, or the link was away.
      if (attempt === MOST_COMPARISONS) throw new Error(`${branch.id} cannot be compared: ${stdout}${stderr}`);
    }
    expectSuccess(await world.applierCli(['branch', 'repair', branch.id]));
    this.count += 1;
  }

  async #cure({ db, said, halted, code, reason }: Halt): Promise<void> {
    const { id } = halted.branch;
    const halt = `${id} is halted by ${code}: ${reason}`;
    if (!this.#stage.halts) throw new Error(halt);
    const hint = reason.slice(reason.lastIndexOf(' — ') + 1);
    const statements = [...hint.matchAll(STATEMENT)].map(([statement]) => statement);
    const commands = [...hint.matchAll(COMMAND)].flatMap(([, command]) => (command === undefined ? [] : [command]));
    if (code !== 'TARGET_SCHEMA' || statements.length + commands.length === 0) {
      const since = this.#helpless.get(id) ?? Date.now();
      this.#helpless.set(id, since);
      // A new epoch may be under way, which ends any halt.
      if (Date.now() - since > HELPLESS_MS) throw new Error(`${halt}\nno cure that chaos knows is named`);
      return;
    }
    const times = (this.#times.get(id) ?? 0) + 1;
    this.#times.set(id, times);
    if (times > MOST_CURES) throw new Error(`${halt}\nits cure was carried out ${MOST_CURES} times and does not last`);
    this.#tell(`${halt}; done: ${[...statements, ...commands].join('; ')}`);
    this.count += 1;
    for (const statement of statements) {
      // The other branch stood still for the same.
      if (said.has(statement)) continue;
      said.add(statement);
      await sayOnce(db, statement);
    }
    for (const command of commands) if (command !== 'branch retry') await this.#run(halted, command, hint);
    if (!commands.includes('schema approve')) await this.#run(halted, 'branch retry', hint);
  }

  async #run(halted: StageBranch, command: string, hint: string): Promise<void> {
    const { world, branches } = this.#stage;
    const others = new RegExp(`other branches[^.]*\`(tributary-\\w+ )?${command}`).test(hint);
    for (const stageBranch of others ? branches.filter(branch => branch !== halted) : [halted]) {
      const { branch } = stageBranch;
      const result =
        command === 'snapshot'
          ? await branch.cli([command])
          : await world.applierCli([...command.split(' '), branch.id]);
      // Another cure may have let it go on already.
      if (command !== 'branch retry') expectSuccess(result);
    }
  }
}

async function sayOnce(db: Connection, statement: string): Promise<void> {
  try {
    await db.query(statement);
  } catch (error) {
    if (!(error instanceof Error && 'errno' in error && DONE_ERRNOS.includes(error.errno))) throw error;
  }
}
