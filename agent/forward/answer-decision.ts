/**
 * What the agent does about an answer: what shared/protocol.ts says, unless the head office contradicts itself or makes
 * the branch begin new epochs too often. Pure.
 */
import { TributaryError } from '../../shared/errors.ts';
import { judgeAnswer } from '../../shared/protocol.ts';
import type { AgentAction, Answer } from '../../shared/protocol.ts';
import { EPOCHS_ASKED, pauseMs } from '../growing-pause.ts';
import type { Spool } from '../spool/spool.ts';

export type AnswerDecision =
  | Exclude<AgentAction, { readonly do: 'refuse' }>
  /** The answer is not acted on; the next one may be correct. `stopSending`: nothing may be sent until then. */
  | { readonly do: 'reject'; readonly stopSending: boolean; readonly error: TributaryError };

/** @param now ms since 1970 */
export function decide(
  spool: Pick<Spool, 'stream' | 'snapshot' | 'digestAt'>,
  answer: Answer,
  now: number,
): AnswerDecision {
  const action = judgeAnswer(spool.stream(), answer, seq => spool.digestAt(seq));
  const reject = (stopSending: boolean, message: string): AnswerDecision => ({
    do: 'reject',
    stopSending,
    error: new TributaryError('MESSAGE_INVALID', message),
  });
  if (action.do === 'refuse') return reject(false, `The head office's answer is refused: ${action.reason}.`);
  if (action.do !== 'new-epoch') return action;
  // Meanwhile hellos go on: the head office may recover, and then this epoch is still valid.
  const begun = spool.snapshot()?.askedEpochs ?? [];
  if (pauseMs(begun, EPOCHS_ASKED, now) === 0) return action;
  const last = new Date(begun.at(-1) ?? now).toISOString();
  return reject(
    true,
    `The head office's answer asks for another new epoch (the spool is ${action.reason}). The last one began at ${last}. The agent waits before it begins the next.`,
  );
}
