/** Slim batches stand for the same header and body as those of the usual form, or are refused. */
import { randomBytes, randomUUID } from 'node:crypto';
import t from 'tap';
import { nextDigest } from '../../../../shared/batch/batch.ts';
import { decodeBatch } from '../../../../shared/batch/decoder.ts';
import { encodeBatch } from '../../../../shared/batch/encoder.ts';
import { pack } from '../../../../shared/batch/packing.ts';
import { MOST_STORED_BYTES, storedFrame, storedText } from '../../../../shared/batch/stored-frame.ts';
import { grown, MOST_DICTIONARY_BYTES, readSlim, slimMessage } from '../../../../shared/broker/slim-batch.ts';
import type { Dictionary, SlimMemory } from '../../../../shared/broker/slim-batch.ts';
import type { BatchHeader } from '../../../../shared/batch/batch.ts';
import { headerAfter, startOf } from '../../../support/hand-made/messages.ts';
import { SALES, upsert } from '../../../support/hand-made/branch.ts';

const epoch = randomUUID();
const source = { server: 's', gtidSet: '', file: 'binlog.1', offset: 1, committedAt: null };

function bodyOf(id: number, asText = true): Buffer {
  const changes = [upsert([[id, `tea no. ${id}`]])];
  return encodeBatch({ v: 1, source, transactions: 1, part: null, tables: [SALES], changes }, { asText });
}

function batchOf(seq: number, body: Buffer) {
  const header = headerAfter({ ...startOf('paris', epoch), seq: seq - 1 }, 'paris', epoch, body);
  return { header, body, keep: false, through: '2026-12-01T10:00:00.123Z' };
}

const nothing: SlimMemory = { find: () => null, arrived: () => null };

/** Remembers a dictionary, and the batch before one. */
function memoryOf(dictionary: Dictionary, { seq, previous, branch }: BatchHeader): SlimMemory {
  const before = { branch, epoch, seq: seq - 1, previous: '', digest: previous };
  return {
    find: (of, name) => (of === epoch && name === dictionary.seq ? dictionary : null),
    arrived: number => (number === before.seq ? before : null),
  };
}

void t.test('a small body is spooled as text, which every reader of batches reads', t => {
  const asText = bodyOf(1);
  t.same(decodeBatch(asText), decodeBatch(bodyOf(1, false)));
  t.equal(storedText(bodyOf(1, false)), null, 'a compressed body has no text to be packed');
  for (const bytes of [1, 255, 256, 257, MOST_STORED_BYTES]) {
    const text = randomBytes(bytes);
    t.same(storedText(storedFrame(text)), text, `${bytes} bytes`);
  }
  t.equal(storedText(Buffer.alloc(0)), null);
  t.equal(storedText(storedFrame(randomBytes(MOST_STORED_BYTES + 1))), null, 'a longer one is none');
  const changed = storedFrame(randomBytes(300));
  changed.writeUInt8(0, 5);
  t.equal(storedText(changed), null, 'nor is one with another header');
  t.end();
});

void t.test('a slim message says the same as the usual one, with a dictionary and without, in fewer bytes', t => {
  const batch = batchOf(7, bodyOf(7));
  const dictionary: Dictionary = grown(null, 3, storedText(bodyOf(3))!);
  const plain = slimMessage(batch, null, 'thorough')!;
  const packed = slimMessage({ ...batch, keep: true }, dictionary, 'thorough')!;
  t.match(readSlim('paris', plain, nothing), batch);
  const memory = memoryOf(dictionary, batch.header);
  const read = readSlim('paris', packed, memory);
  t.match(read, { ...batch, keep: true });
  t.same(read?.text, storedText(batch.body));
  t.ok(packed.body.length < plain.body.length - 50, `${packed.body.length} and ${plain.body.length} bytes`);
  t.equal(readSlim('paris', packed, { ...memory, find: () => null }), null, 'without the dictionary it cannot be read');
  t.equal(readSlim('paris', packed, { ...memory, arrived: () => null }), null, 'nor without the batch before');
  const compressed = batchOf(8, bodyOf(8, false));
  t.match(readSlim('paris', slimMessage(compressed, dictionary, 'quick')!, nothing), compressed, 'as it is');
  t.equal(readSlim('paris', slimMessage({ ...batch, through: null }, null, 'quick')!, nothing)?.through, null);
  t.end();
});

void t.test('what a slim message cannot say is sent in the usual form', t => {
  const batch = batchOf(7, bodyOf(7));
  const later = grown(null, 8, Buffer.from('x'));
  t.equal(slimMessage(batch, later, 'quick'), null, 'with a dictionary that comes later');
  t.equal(slimMessage({ ...batch, header: { ...batch.header, epoch: 'e1' } }, null, 'quick'), null, 'of such an epoch');
  t.equal(slimMessage(batchOf(70_000, batch.body), grown(null, 2, Buffer.from('x')), 'quick'), null, 'far away');
  t.end();
});

void t.test('a dictionary is the end of what was kept', t => {
  const first = grown(null, 1, Buffer.alloc(MOST_DICTIONARY_BYTES, 'a'));
  const second = grown(first, 2, Buffer.from('bbb'));
  t.equal(second.bytes.length, MOST_DICTIONARY_BYTES);
  t.equal(second.bytes.toString().slice(-4), 'abbb');
  t.end();
});

void t.test('a damaged slim message is refused, and never another batch', t => {
  const batch = batchOf(7, bodyOf(7));
  const dictionary = grown(null, 3, storedText(bodyOf(3))!);
  const { body: message } = slimMessage(batch, dictionary, 'thorough')!;
  let refused = 0;
  for (let at = 0; at < message.length; at += 1) {
    for (const bit of [1, 0x80]) {
      const damaged = Buffer.from(message);
      damaged[at]! ^= bit;
      try {
        const read = readSlim('paris', { body: damaged }, memoryOf(dictionary, batch.header));
        if (read === null) refused += 1;
        else t.equal(read.header.digest, nextDigest(read.header.previous, batch.body), `byte ${at}`);
      } catch (error) {
        t.match(error, { code: 'MESSAGE_INVALID' }, `byte ${at}`);
        refused += 1;
      }
    }
  }
  // The time, and whether it is kept, are not covered by the digest.
  t.ok(refused > 2 * (message.length - 10), `${refused} of ${2 * message.length}`);
  for (const length of [0, 1, 23, 24]) {
    t.throws(() => readSlim('paris', { body: message.subarray(0, length) }, nothing), { code: 'MESSAGE_INVALID' });
  }
  t.end();
});

void t.test('a slim message that would unfold without end is refused', t => {
  const bomb = pack(Buffer.alloc(64 * 1024 * 1024), null, 'quick');
  const { body: message } = slimMessage(batchOf(7, bodyOf(7)), null, 'quick')!;
  const body = Buffer.concat([message.subarray(0, 72), bomb]);
  t.throws(() => readSlim('paris', { body }, nothing), { code: 'MESSAGE_INVALID' });
  t.end();
});

void t.test('what does not unpack with the dictionary that is remembered is asked for again', t => {
  const batch = batchOf(7, bodyOf(7));
  const { body: message } = slimMessage(batch, grown(null, 3, storedText(bodyOf(3))!), 'thorough')!;
  const body = Buffer.concat([message.subarray(0, 24), randomBytes(100)]);
  t.equal(readSlim('paris', { body }, memoryOf(grown(null, 3, randomBytes(500)), batch.header)), null);
  t.end();
});
