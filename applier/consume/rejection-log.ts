/** What a branch has sent amiss, in the log. */
import type { Logger } from '../../shared/process/logging.ts';
import { RateLimit } from './rate-limit.ts';

/** Lines in the log of one branch's bad messages; those between are counted. A flood must not fill the disk. */
const LOG_RATE = { burst: 10, everyMs: 10_000 } as const;

export class RejectionLog {
  readonly #branch: string;
  readonly #logger: Logger;
  readonly #rate = new RateLimit(LOG_RATE);
  #suppressed = 0;

  constructor(branch: string, logger: Logger) {
    this.#branch = branch;
    this.#logger = logger;
  }

  /** Logs it, unless there is too much of it. */
  log(facts: object, text: string): void {
    if (!this.#rate.takeNow(performance.now())) {
      this.#suppressed += 1;
      return;
    }
    this.#logger.error({ branch: this.#branch, ...facts, suppressed: this.#suppressed }, text);
    this.#suppressed = 0;
  }
}
