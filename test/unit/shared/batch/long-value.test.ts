import { randomBytes } from 'node:crypto';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { decodeBatch } from '../../../../shared/batch/decoder.ts';
import { encodeBatch, encodeFrames } from '../../../../shared/batch/encoder.ts';
import type { BatchBody, Value } from '../../../../shared/batch/batch.ts';
import { LongBytes, LongJsonString, LongText, LongValue, writeJson } from '../../../../shared/batch/long-value.ts';

const MIB = 1024 * 1024;

function body(type: string, values: readonly Value[]): BatchBody {
  return {
    v: 1,
    source: { server: 's', gtidSet: '', file: 'f', offset: 4, committedAt: null },
    transactions: 1,
    part: null,
    tables: [
      {
        schema: 'shop',
        name: 'document',
        columns: [
          { name: 'id', type: 'int', key: 1 },
          { name: 'content', type },
        ],
      },
    ],
    changes: [{ op: 'upsert', table: 0, rows: values.length, values: [values.map((_, i) => i), values] }],
  };
}

function contentOf({ changes }: BatchBody): readonly Value[] {
  const [change] = changes;
  if (change?.op !== 'upsert') throw new Error('no upsert');
  return change.values[1] ?? [];
}

/** Text of every awkward kind: escapes, quotes, characters of two to four bytes. */
function awkward(bytes: number): string {
  return 'quote " slash \\ tab \t line \n bell \u0007 é 漢字 😀 '.repeat(Math.ceil(bytes / 60));
}

await t.test('a long value is the same in a batch and after it, in frames that are unpacked one at a time', t => {
  const stored = randomBytes(9 * MIB + 1);
  const frames = [
    ...encodeFrames(body('longblob', [new LongBytes(stored), 'AAAA', null, new LongBytes(stored.subarray(7))])),
  ];
  t.ok(frames.length > 3);
  const [first, second, third, fourth] = contentOf(decodeBatch(frames));
  t.ok(first instanceof LongValue && Buffer.from(String(first), 'base64').equals(stored));
  t.same([second, third], ['AAAA', null]);
  t.ok(fourth instanceof LongValue && Buffer.from(String(fourth), 'base64').equals(stored.subarray(7)));
  t.end();
});

await t.test('the buffers that a body comes in may end anywhere', t => {
  const stored = randomBytes(9 * MIB);
  const whole = encodeBatch(body('longblob', [new LongBytes(stored)]));
  for (const size of [100_003, 4 * MIB, whole.length]) {
    const parts = Array.from({ length: Math.ceil(whole.length / size) }, (_, i) =>
      whole.subarray(i * size, (i + 1) * size),
    );
    const [value] = contentOf(decodeBatch(parts));
    t.ok(Buffer.from(String(value), 'base64').equals(stored), `${size} bytes each`);
  }
  t.throws(() => decodeBatch(whole.subarray(0, whole.length - 10)), { code: 'BATCH_INVALID' }, 'cut short');
  t.throws(
    () => decodeBatch(Buffer.concat([whole, Buffer.from('more')])),
    { code: 'BATCH_INVALID' },
    'bytes behind it',
  );
  t.end();
});

await t.test('a long value is not kept unpacked', t => {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  // What the first finds, a thread of V8's frees; the second waits for it.
  const collect = (): void => {
    gc();
    gc();
  };
  const whole = encodeBatch(body('longblob', [new LongBytes(randomBytes(24 * MIB))]));
  collect();
  const before = process.memoryUsage().arrayBuffers;
  const [value] = contentOf(decodeBatch(whole));
  collect();
  const kept = process.memoryUsage().arrayBuffers - before;
  t.ok(value instanceof LongValue && value.bytes === 32 * MIB);
  t.ok(kept < 4 * MIB, `${kept} bytes are kept beside the body`);
  t.end();
});

await t.test('long text keeps every character, wherever its pieces end', t => {
  const text = awkward(9 * MIB);
  const [value] = contentOf(decodeBatch(encodeBatch(body('longtext', [new LongText(Buffer.from(text))]))));
  t.ok(value instanceof LongValue);
  t.ok(String(value) === text);
  // The same from an agent that knows nothing of pieces: one frame, one string.
  const [plain] = contentOf(decodeBatch(encodeBatch(body('longtext', [text]))));
  t.ok(plain instanceof LongValue && String(plain) === text);
  t.end();
});

await t.test('an escape or a character that two buffers share is not cut', t => {
  const json = JSON.stringify(awkward(600)).slice(1, -1) + '\\ud83d\\ude00\\u00e9';
  const bytes = Buffer.from(json);
  for (let cut = 1; cut < bytes.length; cut += 1) {
    const value = new LongJsonString([bytes.subarray(0, cut), bytes.subarray(cut)]);
    if (String(value) !== JSON.parse(`"${json}"`)) t.fail(`cut at ${cut}`);
    for (const piece of value.pieces()) if (!piece.isWellFormed()) t.fail(`a half character, cut at ${cut}`);
  }
  t.ok(bytes.length > 600, `${bytes.length - 1} cuts`);
  t.end();
});

await t.test(
  'long values of a hostile branch are refused: no base64, no UTF-8, half characters, raw control characters',
  t => {
    const long = 'A'.repeat(9 * MIB);
    const cases: [string, string, Value][] = [
      ['no base64', 'longblob', `${long}!AAA`],
      ['a length that no base64 has', 'longblob', `${long}A`],
      ['half a character', 'longtext', `${long}\ud800`],
      ['text in a number', 'int', long],
    ];
    for (const [name, type, value] of cases) {
      t.throws(() => decodeBatch(encodeBatch(body(type, [value]))), { code: 'BATCH_INVALID' }, name);
    }
    const raw = new LongJsonString([Buffer.from(`${long}\n`)]);
    t.throws(() => String(raw), SyntaxError);
    t.throws(() => String(new LongJsonString([Buffer.from([0x41, 0xff])])), SyntaxError);
    t.end();
  },
);

await t.test('JSON in pieces is the JSON', t => {
  const long = new LongText(Buffer.from(awkward(3 * MIB)));
  const pieces = [...writeJson({ a: [1, long, 'x'], b: long })];
  t.ok(Buffer.concat(pieces).toString() === JSON.stringify({ a: [1, String(long), 'x'], b: String(long) }));
  t.same([...writeJson({ a: 1 })].join(''), '{"a":1}');
  t.end();
});
