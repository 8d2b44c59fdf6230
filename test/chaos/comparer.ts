/**
 * Comparisons all the time, one after the other for each branch, while everything else goes on. Tables of which nobody
 * has changed a row behind Tributary's back must be equal in every one of them, or not compared because something came in
 * between.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { login, rowsOf } from './stage.ts';
import type { Stage } from './stage.ts';

const LOOK_MS = 200;
/** A comparison that was not answered by then is asked for again: faults may take as long. */
const ANSWERED_WITHIN_MS = 90_000;

export class Comparer {
  /** How many comparisons of a table have ended so, by their verdict. */
  readonly verdicts = new Map<string, number>();
  readonly #differences: string[] = [];
  readonly #stage: Stage;
  readonly #running: Promise<void>[];
  #isOver = false;

  constructor(stage: Stage) {
    this.#stage = stage;
    this.#running = stage.branches.map(({ branch }) => this.#compare(branch.id));
  }

  /** @throws if tables were said to be different */
  check(): void {
    if (this.#differences.length > 0) throw new Error(`a comparison has invented: ${this.#differences.join('; ')}`);
  }

  async stop(): Promise<string> {
    this.#isOver = true;
    await Promise.all(this.#running);
    return [...this.verdicts].map(([verdict, count]) => `${count} ${verdict}`).join(', ');
  }

  async #compare(branch: string): Promise<void> {
    while (!this.#isOver) {
      const request = randomUUID();
      const began = Date.now();
      await this.#ask(
        `INSERT INTO tributary_request (branch, request, kind, tables, completes, reason)
         VALUES ('${branch}', '${request}', 'verify', NULL, FALSE, 'chaos')`,
      );
      const isOpen = `SELECT 1 FROM tributary_request WHERE branch = '${branch}' AND request = '${request}'
        UNION ALL SELECT 1 FROM tributary_verify WHERE branch = '${branch}' AND request = '${request}' AND verdict = 'counting'`;
      let open = true;
      while (open && !this.#mayEnd() && Date.now() - began < ANSWERED_WITHIN_MS) {
        await sleep(LOOK_MS);
        const rows = await this.#ask(isOpen);
        open = rows === null || rows.length > 0;
      }
      const verdicts = await this.#ask(
        `SELECT table_name, verdict, reason FROM tributary_verify WHERE branch = '${branch}' AND request = '${request}'`,
      );
      await this.#ask(`DELETE FROM tributary_request WHERE branch = '${branch}' AND request = '${request}'`);
      for (const row of verdicts ?? []) {
        const verdict = String(row['verdict']);
        if (verdict === 'counting') continue;
        this.verdicts.set(verdict, (this.verdicts.get(verdict) ?? 0) + 1);
        if (verdict === 'different')
          this.#differences.push(`${branch} ${String(row['table_name'])}: ${String(row['reason'])}`);
      }
    }
  }

  /** A method, because the field changes during awaits. */
  #mayEnd(): boolean {
    return this.#isOver;
  }

  /** null: the head office does not answer at present. */
  async #ask(sql: string): Promise<Awaited<ReturnType<typeof rowsOf>> | null> {
    const { headOffice, world } = this.#stage;
    try {
      return await rowsOf({ ...login(headOffice), database: world.database }, sql);
    } catch {
      return null;
    }
  }
}
