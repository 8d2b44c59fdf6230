/** Reports what a branch has sent wrongly: to the listeners and, at a limited rate, to the log. */
import type { ReceivedMessage } from '../../shared/broker/amqp-messages.ts';
import type { TributaryError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/process/logging.ts';
import type { Arrival, DropVerdict } from '../transaction/unit.ts';
import type { PipelineEvents, RefusalReason } from './pipeline-events.ts';
import { RateLimit } from './rate-limit.ts';

/** Log lines for one branch. Those in between are counted, so that a flood of messages does not fill the disk. */
const LOG_RATE = { burst: 10, everyMs: 10_000 } as const;

export class RejectionLog {
  readonly #branch: string;
  readonly #logger: Logger;
  readonly #events: Pick<PipelineEvents, 'refused' | 'ignored'>;
  readonly #rate = new RateLimit(LOG_RATE);
  #suppressed = 0;

  constructor(branch: string, logger: Logger, events: Pick<PipelineEvents, 'refused' | 'ignored'>) {
    this.#branch = branch;
    this.#logger = logger;
    this.#events = events;
  }

  /** A message is malformed, or the branch's own user did not publish it. */
  refused({ queue, userId }: ReceivedMessage, error: TributaryError, reason: RefusalReason): void {
    this.#events.refused(this.#branch, reason);
    this.#log({ reason, queue, user: userId, err: error }, 'A message is refused.');
  }

  /** A batch is dropped. */
  dropped({ header: { epoch, seq } }: Arrival, verdict: DropVerdict): void {
    this.#events.ignored(this.#branch, verdict);
    if (verdict !== 'forked' && verdict !== 'too-early') return;
    this.#log({ epoch, seq, verdict }, 'A batch does not follow the batches before it.');
  }

  #log(facts: object, text: string): void {
    if (!this.#rate.takeNow(performance.now())) {
      this.#suppressed += 1;
      return;
    }
    this.#logger.error({ branch: this.#branch, ...facts, suppressed: this.#suppressed }, text);
    this.#suppressed = 0;
  }
}
