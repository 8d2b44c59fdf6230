import fc from 'fast-check';
import t from 'tap';
import { Outbox } from '../../../../agent/forward/outbox.ts';
import type { AgentStream } from '../../../../shared/protocol.ts';

function stream(known: number, epoch = 'epoch'): AgentStream {
  const mark = { seq: known, digest: '' };
  return {
    branch: 'paris',
    epoch,
    base: mark,
    head: mark,
    receivedSeq: known,
    acknowledgedEpoch: null,
    superseded: false,
  };
}

await t.test('confirms out of order are contiguous only when the gap is closed', test => {
  const outbox = new Outbox(stream(0));
  const flights = [1, 2, 3].map(seq => [seq, outbox.sent(seq, 10)] as const);
  outbox.confirm(3);
  outbox.confirm(2);
  test.equal(outbox.confirmed, 0);
  test.equal(outbox.inFlightBytes, 10);
  outbox.confirm(1);
  test.equal(outbox.confirmed, 3);
  test.notOk(outbox.holds(...flights[0]!));
  test.end();
});

await t.test('what the head office has received is not sent again by a rewind: the spool may have pruned it', test => {
  const outbox = new Outbox(stream(0));
  for (let seq = 1; seq <= 5; seq += 1) outbox.sent(seq, 1);
  outbox.received(3);
  outbox.rewind();
  test.equal(outbox.peek(10), 4);
  test.equal(outbox.confirmed, 3);
  test.end();
});

await t.test('a flight from before a rewind is not taken for the new one', test => {
  const outbox = new Outbox(stream(0));
  const old = outbox.sent(1, 10);
  outbox.rewind();
  test.notOk(outbox.holds(1, old));
  const fresh = outbox.sent(1, 10);
  test.notOk(outbox.holds(1, old));
  test.ok(outbox.holds(1, fresh));
  test.end();
});

await t.test('whatever happens, everything up to the head is sent and confirmed in the end', test => {
  const step = fc.oneof(
    fc.record({ do: fc.constant('send' as const) }),
    fc.record({ do: fc.constant('confirm' as const), pick: fc.nat(1_000) }),
    fc.record({ do: fc.constant('rewind' as const) }),
    fc.record({ do: fc.constant('known' as const), pick: fc.nat(1_000) }),
    fc.record({ do: fc.constant('resend' as const), pick: fc.nat(1_000), length: fc.nat(20) }),
  );
  const head = 40;
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), steps => {
      const outbox = new Outbox(stream(0));
      const inFlight = new Set<number>();
      const confirmed = new Set<number>();
      let known = 0;
      const send = (): boolean => {
        const seq = outbox.peek(head);
        if (seq === null) return false;
        outbox.sent(seq, 1);
        inFlight.add(seq);
        return true;
      };
      const confirm = (seq: number): void => {
        inFlight.delete(seq);
        confirmed.add(seq);
        outbox.confirm(seq);
      };
      const check = (): void => {
        for (let seq = known + 1; seq <= outbox.confirmed; seq += 1) {
          if (!confirmed.has(seq)) throw new Error(`${seq} counts as confirmed but never was`);
        }
        if (outbox.inFlightBatches !== inFlight.size) throw new Error('in flight');
      };
      for (const each of steps) {
        if (each.do === 'send') send();
        else if (each.do === 'confirm' && inFlight.size > 0) confirm([...inFlight][each.pick % inFlight.size]!);
        else if (each.do === 'rewind') {
          outbox.rewind();
          inFlight.clear();
        } else if (each.do === 'known') {
          // The head office can have received what was sent, confirmed or not.
          const most = Math.max(outbox.confirmed, ...inFlight);
          known = Math.max(known, each.pick % (most + 1));
          outbox.received(known);
        } else if (each.do === 'resend' && outbox.confirmed > known) {
          const to = Math.min(outbox.confirmed, known + 1 + each.length);
          outbox.resend(known + 1, to);
        }
        check();
      }
      while (send() || inFlight.size > 0) {
        for (const seq of inFlight) confirm(seq);
        check();
      }
      if (outbox.confirmed !== head) throw new Error(`ended at ${outbox.confirmed}`);
    }),
    { numRuns: 500 },
  );
  test.pass();
  test.end();
});
