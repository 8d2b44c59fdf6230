/**
 * Prints MariaDB's UUID, INET4 and INET6 from the bytes of a record, as the server does. Pure.
 *
 * Source: MariaDB 11.8, plugin/type_uuid/sql_type_uuid.h, plugin/type_inet/sql_type_inet.cc; compared with a server by
 * test/integration/types.test.ts.
 */

/** The places of a UUID's parts, from the first on, if they are stored in reverse order. */
const REVERSED = [
  [12, 16],
  [10, 12],
  [8, 10],
  [6, 8],
  [0, 6],
] as const;
const PARTS = [
  [0, 4],
  [4, 6],
  [6, 8],
  [8, 10],
  [10, 16],
] as const;

/**
 * UUIDs of versions 1 to 5 (of the usual variant) are stored with their parts reversed, so that they sort by their
 * time.
 */
export function uuidText(record: Buffer): string {
  const reversed = (record[6]! & 0x80) !== 0 && record[8]! > 0 && record[8]! < 0x60;
  return (reversed ? REVERSED : PARTS).map(([from, to]) => record.toString('hex', from, to)).join('-');
}

export function inet4Text(record: Buffer): string {
  return [...record].join('.');
}

export function inet6Text(record: Buffer): string {
  const words = Array.from({ length: 8 }, (_, i) => record.readUInt16BE(i * 2));
  const gap = longestGap(words);
  // IPv4 addresses within IPv6: ::1.2.3.4 and ::ffff:1.2.3.4.
  const mapped = gap.at === 0 && (gap.length === 6 || (gap.length === 5 && words[5] === 0xffff));
  let text = '';
  for (let i = 0; i < 8; i++) {
    if (i === gap.at) {
      text += i === 0 ? '::' : ':';
      i += gap.length - 1;
    } else if (i === 6 && mapped) {
      return text + inet4Text(record.subarray(12));
    } else {
      text += words[i]!.toString(16) + (i === 7 ? '' : ':');
    }
  }
  return text;
}

/** The longest run of zeros; the first one if several are equally long. */
function longestGap(words: readonly number[]): { readonly at: number; readonly length: number } {
  let best = { at: -1, length: 0 };
  let run = 0;
  words.forEach((word, i) => {
    run = word === 0 ? run + 1 : 0;
    if (run > best.length) best = { at: i - run + 1, length: run };
  });
  return best;
}
