/**
 * When two names are the same for MySQL, the head office's server. Pure.
 *
 * Names of columns, indexes and constraints are the same if their lower-case forms are, letter by letter, by the table of
 * MySQL's collation utf8mb3_tolower_ci. JavaScript's toLowerCase differs: `İ` becomes two characters, the last Σ of a
 * word becomes ς, `ẞ` becomes ß, and letters that Unicode has added since are folded too. Names of tables and schemas are
 * the same if their bytes are, unless the server runs with lower_case_table_names.
 *
 * Source: LOWER() of each character of the Basic Multilingual Plane on MySQL 9.7. test/integration/identifiers.test.ts
 * compares the table with a server.
 */

/** From, to (inclusive), the step, and what to add to get the lower-case letter. */
const LOWER_CASE: readonly (readonly [from: number, to: number, step: number, add: number])[] = [
  [0xc0, 0xd6, 1, 32],
  [0xd8, 0xde, 1, 32],
  [0x100, 0x12e, 2, 1],
  [0x130, 0x130, 1, -199],
  [0x132, 0x136, 2, 1],
  [0x139, 0x147, 2, 1],
  [0x14a, 0x176, 2, 1],
  [0x178, 0x178, 1, -121],
  [0x179, 0x17d, 2, 1],
  [0x181, 0x181, 1, 210],
  [0x182, 0x184, 2, 1],
  [0x186, 0x186, 1, 206],
  [0x187, 0x187, 1, 1],
  [0x189, 0x18a, 1, 205],
  [0x18b, 0x18b, 1, 1],
  [0x18e, 0x18e, 1, 79],
  [0x18f, 0x18f, 1, 202],
  [0x190, 0x190, 1, 203],
  [0x191, 0x191, 1, 1],
  [0x193, 0x193, 1, 205],
  [0x194, 0x194, 1, 207],
  [0x196, 0x196, 1, 211],
  [0x197, 0x197, 1, 209],
  [0x198, 0x198, 1, 1],
  [0x19c, 0x19c, 1, 211],
  [0x19d, 0x19d, 1, 213],
  [0x19f, 0x19f, 1, 214],
  [0x1a0, 0x1a4, 2, 1],
  [0x1a6, 0x1a6, 1, 218],
  [0x1a7, 0x1a7, 1, 1],
  [0x1a9, 0x1a9, 1, 218],
  [0x1ac, 0x1ac, 1, 1],
  [0x1ae, 0x1ae, 1, 218],
  [0x1af, 0x1af, 1, 1],
  [0x1b1, 0x1b2, 1, 217],
  [0x1b3, 0x1b5, 2, 1],
  [0x1b7, 0x1b7, 1, 219],
  [0x1b8, 0x1b8, 1, 1],
  [0x1bc, 0x1bc, 1, 1],
  [0x1c4, 0x1c4, 1, 2],
  [0x1c5, 0x1c5, 1, 1],
  [0x1c7, 0x1c7, 1, 2],
  [0x1c8, 0x1c8, 1, 1],
  [0x1ca, 0x1ca, 1, 2],
  [0x1cb, 0x1db, 2, 1],
  [0x1de, 0x1ee, 2, 1],
  [0x1f1, 0x1f1, 1, 2],
  [0x1f2, 0x1f4, 2, 1],
  [0x1f6, 0x1f6, 1, -97],
  [0x1f7, 0x1f7, 1, -56],
  [0x1f8, 0x21e, 2, 1],
  [0x222, 0x232, 2, 1],
  [0x386, 0x386, 1, 38],
  [0x388, 0x38a, 1, 37],
  [0x38c, 0x38c, 1, 64],
  [0x38e, 0x38f, 1, 63],
  [0x391, 0x3a1, 1, 32],
  [0x3a3, 0x3ab, 1, 32],
  [0x3da, 0x3ee, 2, 1],
  [0x400, 0x40f, 1, 80],
  [0x410, 0x42f, 1, 32],
  [0x460, 0x480, 2, 1],
  [0x48c, 0x4be, 2, 1],
  [0x4c1, 0x4c3, 2, 1],
  [0x4c7, 0x4c7, 1, 1],
  [0x4cb, 0x4cb, 1, 1],
  [0x4d0, 0x4f4, 2, 1],
  [0x4f8, 0x4f8, 1, 1],
  [0x531, 0x556, 1, 48],
  [0x1e00, 0x1e94, 2, 1],
  [0x1ea0, 0x1ef8, 2, 1],
  [0x1f08, 0x1f0f, 1, -8],
  [0x1f18, 0x1f1d, 1, -8],
  [0x1f28, 0x1f2f, 1, -8],
  [0x1f38, 0x1f3f, 1, -8],
  [0x1f48, 0x1f4d, 1, -8],
  [0x1f59, 0x1f5f, 2, -8],
  [0x1f68, 0x1f6f, 1, -8],
  [0x1f88, 0x1f8f, 1, -8],
  [0x1f98, 0x1f9f, 1, -8],
  [0x1fa8, 0x1faf, 1, -8],
  [0x1fb8, 0x1fb9, 1, -8],
  [0x1fba, 0x1fbb, 1, -74],
  [0x1fbc, 0x1fbc, 1, -9],
  [0x1fc8, 0x1fcb, 1, -86],
  [0x1fcc, 0x1fcc, 1, -9],
  [0x1fd8, 0x1fd9, 1, -8],
  [0x1fda, 0x1fdb, 1, -100],
  [0x1fe8, 0x1fe9, 1, -8],
  [0x1fea, 0x1feb, 1, -112],
  [0x1fec, 0x1fec, 1, -7],
  [0x1ff8, 0x1ff9, 1, -128],
  [0x1ffa, 0x1ffb, 1, -126],
  [0x1ffc, 0x1ffc, 1, -9],
  [0x2126, 0x2126, 1, -7517],
  [0x212a, 0x212a, 1, -8383],
  [0x212b, 0x212b, 1, -8262],
  [0x2160, 0x216f, 1, 16],
  [0x24b6, 0x24cf, 1, 26],
  [0xff21, 0xff3a, 1, 32],
];

const LOWER = new Map(
  LOWER_CASE.flatMap(([from, to, step, add]) =>
    Array.from({ length: (to - from) / step + 1 }, (_, index): [string, string] => {
      const letter = from + index * step;
      return [String.fromCharCode(letter), String.fromCharCode(letter + add)];
    }),
  ),
);
const ASCII = /^[\0-\x7f]*$/;

/** Two columns are the same for the server exactly if these keys are equal. */
export function columnKey(name: string): string {
  if (ASCII.test(name)) return name.toLowerCase();
  let key = '';
  for (const letter of name) key += letter < '\x80' ? letter.toLowerCase() : (LOWER.get(letter) ?? letter);
  return key;
}

/** Two tables of a schema are the same for the server exactly if these are equal. @param folds lower_case_table_names > 0 */
export function foldedName(name: string, folds: boolean): string {
  return folds ? columnKey(name) : name;
}
