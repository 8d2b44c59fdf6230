/** The forwarder's state, since when it is in it, and the log lines about changes. forwarder.ts explains the states. */
import type { ForwarderLog, ForwarderState } from './forwarder-types.ts';

const CONNECTED: readonly ForwarderState[] = ['greeting', 'streaming', 'refused'];
const ENDED: readonly ForwarderState[] = ['stopped', 'superseded', 'failed'];
const WARNED: readonly ForwarderState[] = ['backing-off', 'refused', 'failed'];

export class LinkState {
  readonly #log: ForwarderLog;
  #name: ForwarderState = 'stopped';
  #since: number;

  constructor(log: ForwarderLog, now: number) {
    this.#log = log;
    this.#since = now;
  }

  get name(): ForwarderState {
    return this.#name;
  }

  /** When the state was entered, milliseconds since 1970. */
  get since(): number {
    return this.#since;
  }

  /** Whether there is a link. */
  get isConnected(): boolean {
    return CONNECTED.includes(this.#name);
  }

  /** Whether nothing moves any more until the next start. */
  get hasEnded(): boolean {
    return ENDED.includes(this.#name);
  }

  /** @param logAttempts whether attempts to connect are logged */
  enter(to: ForwarderState, why: string, now: number, logAttempts: boolean): void {
    const from = this.#name;
    this.#name = to;
    this.#since = now;
    if ((to === 'connecting' || to === 'backing-off') && !logAttempts) return;
    const facts = { from, to, why };
    const text = 'The state of the link has changed.';
    if (WARNED.includes(to)) this.#log.warn(facts, text);
    else this.#log.info(facts, text);
  }
}
