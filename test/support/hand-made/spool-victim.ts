/**
 * A process to be killed: appends batches whose position tells their seq, every third group in three parts, prunes as
 * it goes, and prints each closed seq once it is durable. Argument: the spool's directory.
 */
import { writeSync } from 'node:fs';
import { batch, openSpool } from './spool-tools.ts';

const spool = openSpool(process.argv[2] ?? '', { keepAppliedMs: 1 });
for (;;) {
  const parts = spool.stream().head.seq % 3 === 0 ? 3 : 1;
  for (let part = 1; part < parts; part += 1) {
    spool.append(batch(0, { body: Buffer.alloc(20_000, part), open: true }));
  }
  const seq = spool.stream().head.seq + parts;
  spool.append(batch(seq, { body: Buffer.alloc(5_000, seq) }));
  // It fails where nobody reads any more, and ends this loop, which gives an event no chance.
  writeSync(1, `${seq}\n`);
  if (seq % 10 === 0) spool.advance(seq - 5, spool.stream().epoch);
}
