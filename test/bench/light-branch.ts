/** A branch without a database: the agent's own forwarder and spool, and a clock that sells. */
import { join } from 'node:path';
import { brokerLink } from '../../agent/forward/broker-link.ts';
import { Forwarder } from '../../agent/forward/forwarder.ts';
import { Spool } from '../../agent/spool/spool.ts';
import { encodeBatch } from '../../shared/batch/encoder.ts';
import type { Enrolment } from '../../shared/config/enrolment.ts';
import { SALES, upsert } from '../support/hand-made/branch.ts';
import { makeReport } from '../support/hand-made/messages.ts';

/** A branch that sells sends a batch so often, at its own time, with so many rows. */
export const BATCH_EVERY_MS = 1_000;
const ROWS = 10;

export class LightBranch {
  readonly branch: string;
  readonly #spool: Spool;
  readonly #forwarder: Forwarder;
  #timer: NodeJS.Timeout | null = null;
  rows = 0;

  private constructor(branch: string, spool: Spool, forwarder: Forwarder) {
    this.branch = branch;
    this.#spool = spool;
    this.#forwarder = forwarder;
  }

  static open({ branch, broker }: Enrolment, folder: string): LightBranch {
    const spool = Spool.open({
      directory: join(folder, branch),
      branch,
      maxBytes: 2 ** 30,
      keepAppliedMs: 60_000,
      minFreeBytes: 0,
      now: () => Date.now(),
    });
    const report = makeReport({ version: 'bench' });
    const forwarder = new Forwarder({
      spool,
      connect: brokerLink({ ...broker, branch }),
      policy: { windows: [], timeZone: 'UTC', maxBytesPerSecond: 0 },
      facts: () => ({ capturedThrough: new Date().toISOString(), report }),
      events: {
        onNewEpoch: reason => {
          throw new Error(`${branch}: a new epoch: ${reason}`);
        },
        onStopped: error => {
          throw error;
        },
        onIdle: () => undefined,
        onAnswer: () => undefined,
      },
      log: { info: () => undefined, warn: () => undefined },
      now: () => Date.now(),
      random: () => Math.random(),
    });
    return new LightBranch(branch, spool, forwarder);
  }

  start(): void {
    this.#forwarder.start();
  }

  answeredSince(since: number): boolean {
    const { connected, lastHelloAt, lastAnswerAt } = this.#forwarder.status();
    return connected && lastHelloAt !== null && lastAnswerAt !== null && lastHelloAt >= since && lastAnswerAt >= since;
  }

  get hellos(): number {
    return this.#forwarder.status().counters.hellos;
  }

  sell(): void {
    this.#sellLater(BATCH_EVERY_MS * Math.random());
  }

  rest(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  async close(): Promise<void> {
    this.rest();
    await this.#forwarder.stop();
    this.#spool.close();
  }

  #sellLater(ms: number): void {
    this.#timer = setTimeout(() => {
      this.#sellOne();
      this.#sellLater(BATCH_EVERY_MS);
    }, ms);
  }

  #sellOne(): void {
    // When it was sold is its item: what the head office adds tells when it was there.
    const soldAt = new Date().toISOString().slice(0, -1).replace('T', ' ');
    const changes = [upsert(Array.from({ length: ROWS }, (_, n) => [this.rows + n + 1, soldAt] as const))];
    this.rows += ROWS;
    const source = { server: 'bench', gtidSet: '', file: 'binlog.1', offset: this.rows, committedAt: null };
    const body = encodeBatch({ v: 1, source, transactions: 1, part: null, tables: [SALES], changes });
    this.#spool.append({ body, rows: ROWS, position: { source, lastGroup: null }, open: false });
  }
}
