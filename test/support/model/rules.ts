/**
 * The rules that PROTOCOL.md marks with ◆, and some more, each of which the model can leave out, to show that it is
 * needed.
 *
 * The rules that live in shared/protocol.ts are left out by wrapping its functions here; production code has no
 * switches. The others are rules of the shells around it, which the model plays itself.
 */
import { HelloLedger, judgeAnswer, judgeBatch, receiveHello } from '../../../shared/protocol.ts';

export const RULES = {
  'open parts are deleted at start': 'shell',
  'nothing of an open group is sent': 'shell',
  'the row is read and written under its lock': 'shell',
  'only the acknowledged epoch is replaced': 'core',
  'registering clears inbox, parts and snapshot': 'shell',
  'resend only when the queue is empty': 'core',
  'an answer older than the pruning is ignored': 'core',
  'a batch must follow the digest received': 'core',
  'an inbox entry must follow the digest received': 'shell',
  'quarantine asks for a snapshot': 'shell',
  'resuming compares the last group': 'shell',
  'losing the source voids the pending chunk': 'shell',
  'losing the source voids the open group': 'shell',
  'a chunk yields to keys emitted meanwhile': 'shell',
  'a repair yields to keys emitted meanwhile': 'shell',
  'a repair waits until the stream is past its view': 'shell',
  'losing the source voids the pending repair': 'shell',
  'a new epoch forgets which repairs were answered': 'shell',
  'an answer is acted on once': 'core',
  'an answer that is not one’s own is given back': 'shell',
  'passing a table over is durable': 'shell',
  'nothing is claimed before the head office is told': 'shell',
  'the stream tells which tables are set aside': 'shell',
  'a snapshot keeps the rows of a table that is set aside': 'shell',
  'only a snapshot that began later brings a table back': 'shell',
  'rows of a table that the head office has set aside are passed over': 'shell',
  'what was sent keeps its number': 'shell',
  'what a start finds keeps its number': 'shell',
  'merging keeps the last change of a row': 'shell',
  'merging crosses no marker': 'shell',
  'what takes several batches is one transaction': 'shell',
  'batches after merged ones get new digests': 'shell',
  'a batch is packed only with a dictionary that the last answer names': 'shell',
} as const;

export type Rule = keyof typeof RULES;

/** What decides in production, whole or with one rule left out. */
export interface ProtocolCore {
  readonly receiveHello: typeof receiveHello;
  readonly judgeBatch: typeof judgeBatch;
  readonly judgeAnswer: typeof judgeAnswer;
  readonly createLedger: () => Pick<HelloLedger, 'issue' | 'issued' | 'raiseBarrier' | 'accept'>;
}

const WHOLE: ProtocolCore = { receiveHello, judgeBatch, judgeAnswer, createLedger: () => new HelloLedger() };

export function coreWithout(rule: Rule | null): ProtocolCore {
  switch (rule) {
    case 'only the acknowledged epoch is replaced':
      return {
        ...WHOLE,
        receiveHello: (stream, hello, facts) => receiveHello(stream, { ...hello, replaces: stream.epoch }, facts),
      };
    case 'resend only when the queue is empty':
      return { ...WHOLE, receiveHello: (stream, hello, facts) => receiveHello(stream, hello, { ...facts, queued: 0 }) };
    case 'an answer older than the pruning is ignored':
      return {
        ...WHOLE,
        judgeAnswer: (stream, answer, digestAt) =>
          judgeAnswer(stream, { ...answer, baseEcho: stream.base.seq }, digestAt),
      };
    case 'a batch must follow the digest received':
      return {
        ...WHOLE,
        judgeBatch: (stream, header) => {
          const verdict = judgeBatch(stream, header);
          return verdict === 'forked' ? 'next' : verdict;
        },
      };
    case 'an answer is acted on once':
      return {
        ...WHOLE,
        createLedger: () => {
          const own = new Set<string>();
          return {
            issue: nonce => void own.add(nonce),
            issued: nonce => own.has(nonce),
            raiseBarrier: () => undefined,
            accept: nonce => own.has(nonce),
          };
        },
      };
    default:
      return WHOLE;
  }
}
