import { crc32 as runtimeCrc32 } from 'node:zlib';
import fc from 'fast-check';
import t from 'tap';
import { crc32 } from '../../../../agent/values/crc32.ts';

void t.test('the sum of any part of a buffer is what zlib says, also when it goes on from another', t => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 600 }),
      fc.nat(),
      fc.nat(),
      fc.nat({ max: 0xffffffff }),
      (array, a, b, before) => {
        const bytes = Buffer.from(array);
        const start = Math.min(a, b) % (bytes.length + 1);
        const end = Math.max(start, Math.max(a, b) % (bytes.length + 1));
        return crc32(bytes, start, end, before) === runtimeCrc32(bytes.subarray(start, end), before);
      },
    ),
    { numRuns: 2000 },
  );
  t.end();
});
