/**
 * Carries out what the answers say: moves the spool's marks, the sender and the state, as answer-decision.ts decides.
 */
import { describeError, ERRORS } from '../../shared/errors.ts';
import type { TributaryError } from '../../shared/errors.ts';
import { receivedStanding } from '../../shared/protocol.ts';
import type { Answer } from '../../shared/protocol.ts';
import type { Spool } from '../spool/spool.ts';
import { decide } from './answer-decision.ts';
import { DuplicateIdentityWatch } from './duplicate-identity.ts';
import type { ForwarderCounters, ForwarderEvents, ForwarderHost, ForwarderLog } from './forwarder-types.ts';
import type { HelloLoop } from './hello-loop.ts';
import type { LinkFaults } from './link-faults.ts';
import type { LinkState } from './link-state.ts';
import type { Packing } from './packing.ts';
import type { Sender } from './sender.ts';

/** If the head office has another epoch, the branch says hello again at once, but not more often than this. */
const CLAIM_SPACING_MS = 2_000;

export interface AnswerActionsOptions {
  readonly spool: Spool;
  readonly sender: Sender;
  readonly hellos: HelloLoop;
  readonly state: LinkState;
  readonly faults: LinkFaults;
  readonly packing: Packing;
  readonly counters: ForwarderCounters;
  readonly events: ForwarderEvents;
  readonly log: ForwarderLog;
  readonly now: () => number;
  readonly host: ForwarderHost;
}

export class AnswerActions {
  readonly #o: AnswerActionsOptions;
  readonly #duplicates = new DuplicateIdentityWatch();
  #last: Answer | null = null;
  #claimedAt = -Infinity;

  constructor(options: AnswerActionsOptions) {
    this.#o = options;
  }

  /** The last answer that was not rejected. */
  get last(): Answer | null {
    return this.#last;
  }

  /** Since when another machine has used this branch's identity; null: no such machine is known. */
  get duplicateSince(): number | null {
    return this.#duplicates.since(this.#o.now());
  }

  act(answer: Answer): void {
    const { spool, sender, hellos, state, faults, packing, counters, events, log, now, host } = this.#o;
    if (this.#duplicates.answered(answer, now())) {
      log.warn({ code: 'IDENTITY_SHARED', hint: ERRORS.IDENTITY_SHARED.hint }, ERRORS.IDENTITY_SHARED.cause);
    }
    const before = spool.stream();
    const action = decide(spool, answer, now());
    if (action.do === 'reject') {
      counters.ignoredAnswers += 1;
      if (action.stopSending) this.#stopSending(action.error.message);
      this.#warn(action.error);
      return;
    }
    // A broker that refuses batches, or confirms none, may carry answers all the while.
    if (state.name === 'refused' || faults.fault?.code === 'BROKER_UNCONFIRMED') faults.succeeded();
    else faults.cleared();
    this.#last = answer;
    switch (action.do) {
      case 'ignore':
        counters.ignoredAnswers += 1;
        return;
      case 'stop':
        spool.supersede();
        host.superseded();
        return;
      case 'claim': {
        const { acknowledgedEpoch } = action;
        spool.claim(acknowledgedEpoch);
        this.#stopSending('The head office has another epoch.');
        // The same epoch twice, or another one again: another machine claims too, or the head office is busy. The next
        // hello comes at the usual time.
        const isNew = acknowledgedEpoch !== before.acknowledgedEpoch;
        if (isNew && now() - this.#claimedAt > CLAIM_SPACING_MS) hellos.sayHello();
        this.#claimedAt = now();
        return;
      }
      case 'new-epoch':
        this.#stopSending(`The spool is ${action.reason}.`);
        // The spool reports through onAppend that it has begun the new epoch.
        events.onNewEpoch(action.reason);
        return;
      case 'advance':
        // The head office was restored from a backup: what it lost is sent again, and then compared.
        if (action.receivedSeq < before.receivedSeq) spool.serverSeen.doubt();
        spool.advance(action.receivedSeq, before.epoch);
        spool.history.keep(answer.history ?? []);
        packing.answered(answer, now());
        this.#noteStanding(answer);
        sender.received(action.receivedSeq);
        if (sender.drained && state.name !== 'refused') faults.cleared();
        if (action.resend !== null) {
          sender.resend(action.resend);
          hellos.voidAnswers();
        }
        if (state.name === 'greeting') {
          sender.restart(spool.stream());
          host.enter('streaming', 'The head office has this epoch.');
        }
        events.onAnswer(answer);
    }
  }

  /** For the page: how the branch stands at the head office. */
  #noteStanding({ epoch, applied, halted, standing }: Answer): void {
    const { spool, hellos, now } = this.#o;
    const said = standing === undefined ? null : receivedStanding(standing);
    spool.standing.note({
      heardAt: now(),
      epoch: epoch ?? '',
      appliedSeq: applied.seq,
      aheadSeconds: said === null ? 0 : secondsAhead(Date.parse(said.at), hellos.lastHelloAt ?? now(), now()),
      halted,
      said,
    });
  }

  /** Sends nothing more until an answer says that the head office has this epoch. */
  #stopSending(why: string): void {
    const { sender, hellos, state, host, spool } = this.#o;
    spool.standing.doubt();
    sender.rewind();
    hellos.voidAnswers();
    if (state.name !== 'greeting') host.enter('greeting', why);
  }

  /** Shows what is wrong with an answer, and logs it unless the answer before was wrong in the same way. */
  #warn(error: TributaryError): void {
    const { faults, log } = this.#o;
    const isKnown = faults.description === describeError(error);
    faults.note(error);
    if (!isKnown) log.warn({ code: error.code, hint: error.hint }, error.message);
  }
}

/** How far our clock is ahead of the one that showed `there` between these two moments, at least. In seconds. */
function secondsAhead(there: number, askedAt: number, answeredAt: number): number {
  if (Number.isNaN(there)) return 0;
  if (there < askedAt) return Math.floor((askedAt - there) / 1000);
  return there > answeredAt ? -Math.floor((there - answeredAt) / 1000) : 0;
}
