/**
 * What the agent does about an answer: what shared/protocol.ts says, unless the head office contradicts itself or drives the
 * branch from epoch to epoch. Pure.
 */
import { TributaryError } from '../../shared/errors.ts';
import { judgeAnswer } from '../../shared/protocol.ts';
import type { AgentAction, Answer } from '../../shared/protocol.ts';
import { EPOCHS_ASKED, pauseMs } from '../growing-pause.ts';
import type { Spool } from '../spool/spool.ts';

export type AnswerDecision =
  | Exclude<AgentAction, { readonly do: 'refuse' }>
  /** Nothing of the answer is acted on; the next may be sound. `stop`: nothing may be sent until then. */
  | { readonly do: 'hold'; readonly stop: boolean; readonly error: TributaryError };

/** @param now ms since 1970 */
export function decide(
  spool: Pick<Spool, 'stream' | 'snapshot' | 'digestAt'>,
  answer: Answer,
  now: number,
): AnswerDecision {
  const action = judgeAnswer(spool.stream(), answer, seq => spool.digestAt(seq));
  const hold = (stop: boolean, message: string): AnswerDecision => ({
    do: 'hold',
    stop,
    error: new TributaryError('MESSAGE_INVALID', message),
  });
  if (action.do === 'refuse') return hold(false, `The head office's answer is refused: ${action.reason}.`);
  if (action.do !== 'new-epoch') return action;
  // The head office is asked again meanwhile: it may be well by then, and this epoch still good.
  const begun = spool.snapshot()?.askedEpochs ?? [];
  if (pauseMs(begun, EPOCHS_ASKED, now) === 0) return action;
  const last = new Date(begun.at(-1) ?? now).toISOString();
  return hold(
    true,
    `This spool is ${action.reason} for the head office, which made it begin anew at ${last} already: the next new epoch waits.`,
  );
}
