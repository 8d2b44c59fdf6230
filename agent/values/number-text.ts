/**
 * Exact texts of numbers for which JavaScript has no type: DECIMAL from its packed bytes, and the shortest decimal of a
 * float32.
 *
 * DECIMAL format (strings/decimal.cc, decimal2bin): groups of nine digits, big-endian, in four bytes each. The partial
 * groups at either end take as few bytes as they need. The first bit is inverted. Negative numbers have all bits
 * inverted.
 */

/** The bytes that 0 … 9 decimal digits take. */
const DIGIT_BYTES = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4] as const;

/** The bytes that a DECIMAL(precision, scale) takes. */
export function decimalSize(precision: number, scale: number): number {
  const whole = precision - scale;
  return Math.floor(whole / 9) * 4 + DIGIT_BYTES[whole % 9]! + Math.floor(scale / 9) * 4 + DIGIT_BYTES[scale % 9]!;
}

/**
 * Reads `width` bytes at `at`, big-endian, each xored with `mask`. In the `first` group the sign bit is inverted too.
 */
function readGroup(bytes: Uint8Array, at: number, width: number, mask: number, first: boolean): number {
  let value = (bytes[at]! ^ mask ^ (first ? 0x80 : 0)) & 0xff;
  for (let i = 1; i < width; i++) value = value * 256 + ((bytes[at + i]! ^ mask) & 0xff);
  return value;
}

/** The text of a packed DECIMAL as the server prints it, with exactly `scale` fractional digits. */
export function decimalText(bytes: Uint8Array, start: number, precision: number, scale: number): string {
  const negative = bytes[start]! < 0x80;
  const mask = negative ? 0xff : 0;
  const whole = precision - scale;
  let at = start;
  let text = '';
  let first = true;
  const lead = whole % 9;
  if (lead > 0) {
    const width = DIGIT_BYTES[lead]!;
    const group = readGroup(bytes, at, width, mask, first);
    first = false;
    at += width;
    if (group > 0) text = String(group);
  }
  for (let groups = Math.floor(whole / 9); groups > 0; groups--) {
    const group = readGroup(bytes, at, 4, mask, first);
    first = false;
    at += 4;
    if (text !== '') text += String(group).padStart(9, '0');
    else if (group > 0) text = String(group);
  }
  if (text === '') text = '0';
  if (scale > 0) {
    text += '.';
    for (let groups = Math.floor(scale / 9); groups > 0; groups--) {
      text += String(readGroup(bytes, at, 4, mask, first)).padStart(9, '0');
      first = false;
      at += 4;
    }
    const rest = scale % 9;
    if (rest > 0) text += String(readGroup(bytes, at, DIGIT_BYTES[rest]!, mask, first)).padStart(rest, '0');
  }
  return negative ? `-${text}` : text;
}

/**
 * The double that prints as the shortest decimal which reads back as this float32: 0.1 for the float32 nearest to 0.1.
 * @param single a value that is exactly a float32
 */
export function shortestFloat(single: number): number {
  if (Math.trunc(single) === single && single > -1e7 && single < 1e7) return single;
  // Prices and rates have few decimals. Two different decimals of six significant digits are never the same float32.
  if (single > -1000 && single < 1000) {
    for (let power = 10; power <= 1000; power *= 10) {
      const rounded = Math.round(single * power) / power;
      if (Math.fround(rounded) === single) return rounded;
    }
  }
  for (let digits = Math.abs(single) < 1.2e-38 ? 1 : 6; digits < 9; digits++) {
    const rounded = Number(single.toPrecision(digits));
    if (Math.fround(rounded) === single) return rounded;
  }
  return Number(single.toPrecision(9));
}
