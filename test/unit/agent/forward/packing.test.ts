/** Which batches are packed, and with what. */
import { createHash, randomUUID } from 'node:crypto';
import t from 'tap';
import { Packing } from '../../../../agent/forward/packing.ts';
import { storedFrame } from '../../../../shared/batch/stored-frame.ts';
import { readSlim } from '../../../../shared/broker/slim-batch.ts';
import type { StreamMark } from '../../../../shared/batch/batch.ts';
import type { OutgoingMessage } from '../../../../shared/broker/amqp.ts';
import { Dictionaries } from '../../../../applier/consume/dictionaries.ts';
import { grown } from '../../../../shared/broker/slim-batch.ts';
import { headerAfter, makeAnswer, startOf } from '../../../support/hand-made/messages.ts';

const epoch = randomUUID();
const MINUTE = 60_000;

function columnsOf(word: string): string {
  return Array.from({ length: 20 }, (_, n) => createHash('sha512').update(`${word}${n}`).digest('hex')).join('');
}

/** Both ends of the line. */
class Line {
  readonly packing = new Packing();
  office = new Dictionaries();
  seq = 0;
  #head: StreamMark = startOf('paris', epoch);
  now = 0;

  /** @param word of a table: its text has nothing in common with that of another */
  send(word: string, body = storedFrame(Buffer.from(`${word}:${columnsOf(word)}:${this.seq}`))) {
    this.seq += 1;
    this.now += 1_000;
    const header = headerAfter(this.#head, 'paris', epoch, body);
    this.#head = header;
    const message = this.packing.message(header, body, () => null, this.now);
    return { message, read: message === null ? null : this.#receive(message) };
  }

  answer(changes: Parameters<typeof makeAnswer>[0] = {}): void {
    const received = { seq: this.seq, digest: 'a'.repeat(64) };
    const dictionaries = this.office.namesOf(epoch);
    this.packing.answered(makeAnswer({ capabilities: ['slim'], received, dictionaries, ...changes }), this.now);
  }

  #receive(message: OutgoingMessage) {
    const read = readSlim('paris', message, this.office);
    if (read !== null) this.office.note(read.header);
    if (read !== null && read.keep) this.office.keep(epoch, grown(read.dictionary, read.header.seq, read.text!));
    return read;
  }
}

void t.test('a head office that does not know slim batches gets none', t => {
  const line = new Line();
  t.equal(line.send('tea').message, null, 'before its first answer');
  line.answer({ capabilities: ['pace'] });
  t.equal(line.send('tea').message, null, 'and after one that does not name them');
  line.answer();
  t.ok(line.send('tea').message);
  t.ok(line.send('tea', Buffer.alloc(100, 1)).message, 'a body that is no text has a short header too');
  t.equal(line.send('tea', Buffer.alloc(64 * 1024, 1)).message, null, 'a large one gains nothing');
  t.end();
});

void t.test('batches are packed with what the head office says that it has', t => {
  const line = new Line();
  line.answer();
  const first = line.send('tea');
  t.ok(first.read?.keep && line.packing.isOffering);
  const second = line.send('tea');
  t.equal(second.read?.dictionary, null, 'not before an answer names it');
  t.notOk(second.read?.keep, 'one is offered at a time');
  line.answer();
  const third = line.send('tea');
  t.equal(third.read?.dictionary?.seq, 1);
  t.ok(third.message!.body.length < first.message!.body.length, 'it takes fewer bytes');
  t.end();
});

void t.test('another table is offered too, and then both are in the dictionary', t => {
  const line = new Line();
  line.answer();
  line.send('tea');
  line.answer();
  t.notOk(line.send('coffee').read?.keep, 'not at once');
  line.now += MINUTE;
  t.ok(line.send('coffee').read?.keep);
  line.answer();
  const [tea, coffee] = [line.send('tea'), line.send('coffee')];
  t.match([tea.read?.dictionary?.bytes.toString(), coffee.read?.dictionary?.seq], [/tea:.*coffee:/, 3]);
  line.now += 60 * MINUTE;
  t.ok(line.send('tea').read?.keep, 'but after an hour');
  t.end();
});

void t.test('an applier that has lost its dictionaries is not sent what it cannot read again', t => {
  const line = new Line();
  line.answer();
  line.send('tea');
  line.answer();
  line.office = new Dictionaries();
  t.equal(line.send('tea').read, null, 'the agent does not know yet');
  line.answer();
  t.ok(line.send('tea').read?.keep, 'the answer names none: it is packed without one, and offered');
  line.answer();
  t.equal(line.send('tea').read?.dictionary?.seq, 3);
  line.answer({ resend: { from: 2, to: 4 } });
  t.equal(line.send('tea').read?.dictionary, null, 'what is asked for again is packed without, whatever it names');
  t.end();
});

void t.test('over a new link a dictionary is used again when an answer has named it', t => {
  const line = new Line();
  line.answer();
  line.send('tea');
  line.answer();
  line.packing.connected();
  t.equal(line.send('tea').read?.dictionary, null, 'the applier may be another one');
  line.answer();
  t.equal(line.send('tea').read?.dictionary?.seq, 1);
  t.end();
});

void t.test('an offer that did not arrive is made again', t => {
  const line = new Line();
  line.answer();
  line.send('tea');
  line.office = new Dictionaries();
  line.answer();
  t.notOk(line.packing.isOffering);
  t.ok(line.send('tea').read?.keep);
  t.end();
});

void t.test('when a hello has no answer in time, nothing is packed with a dictionary until the next answer', t => {
  const line = new Line();
  line.answer();
  line.send('tea');
  line.answer();
  t.equal(line.send('tea').read?.dictionary?.seq, 1);
  line.packing.unanswered();
  t.equal(line.send('tea').read?.dictionary, null);
  line.answer();
  t.equal(line.send('tea').read?.dictionary?.seq, 1);
  t.end();
});
