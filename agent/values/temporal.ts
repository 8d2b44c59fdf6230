/**
 * Prints the dates and times of row images as the server does (formats: sql-common/my_time.cc).
 *
 * Dates repeat, so small direct-mapped caches keep the last ones. Otherwise most of the cost of decoding a time would
 * be formatting.
 */

const TWO_DIGITS: readonly string[] = Array.from({ length: 100 }, (_, n) => String(n).padStart(2, '0'));

function twoDigits(n: number): string {
  return TWO_DIGITS[n]!;
}

const CACHE_SIZE = 1024;

/** Caches the last results of a pure function from a whole number to text. */
function cached(make: (key: number) => string): (key: number) => string {
  const keys = new Float64Array(CACHE_SIZE).fill(-1);
  const texts: string[] = new Array<string>(CACHE_SIZE).fill('');
  return key => {
    const place = key % CACHE_SIZE;
    if (keys[place] === key) return texts[place]!;
    const text = make(key);
    keys[place] = key;
    texts[place] = text;
    return text;
  };
}

/** `YYYY-MM-DD`; zero parts and impossible days are printed as they are stored. */
function dateText(year: number, month: number, day: number): string {
  return `${String(year).padStart(4, '0')}-${twoDigits(month)}-${twoDigits(day)}`;
}

/** DATE: day, month and year in 5, 4 and 15 bits. */
export const packedDate = cached(packed => dateText(packed >> 9, (packed >> 5) & 15, packed & 31));

/** The date part of DATETIME: year × 13 + month, then 5 bits of day. */
const packedDay = cached(packed => {
  const months = packed >> 5;
  return dateText(Math.floor(months / 13), months % 13, packed & 31);
});

/** DATETIME without its fraction: 22 bits of date, 5 of hours, 6 of minutes, 6 of seconds. */
export const packedDatetime = cached(packed => {
  const clock = packed % 0x20000;
  const day = packedDay((packed - clock) / 0x20000);
  return `${day} ${twoDigits(clock >> 12)}:${twoDigits((clock >> 6) & 63)}:${twoDigits(clock & 63)}`;
});

export const SECONDS_A_DAY = 86_400;

/** A day, counted from 1970-01-01, as `YYYY-MM-DD`. */
export const epochDay = cached(day => new Date(day * SECONDS_A_DAY * 1000).toISOString().slice(0, 10));

/** Seconds since 1970 as `YYYY-MM-DD hh:mm:ss` in UTC; 0 is the zero timestamp. */
export const epochSeconds = cached(seconds => {
  if (seconds === 0) return '0000-00-00 00:00:00';
  const clock = seconds % SECONDS_A_DAY;
  const day = epochDay((seconds - clock) / SECONDS_A_DAY);
  return `${day} ${twoDigits(Math.floor(clock / 3600))}:${twoDigits(Math.floor(clock / 60) % 60)}:${twoDigits(clock % 60)}`;
});

/** A TIME without sign and fraction: 10 bits of hours, 6 of minutes, 6 of seconds. */
export const packedTime = cached(
  packed => `${hoursText(packed >> 12)}:${twoDigits((packed >> 6) & 63)}:${twoDigits(packed & 63)}`,
);

function hoursText(hours: number): string {
  return hours < 100 ? twoDigits(hours) : String(hours);
}

/** The bytes that a fraction of `digits` digits takes. */
export function fractionBytes(digits: number): number {
  return (digits + 1) >> 1;
}

const POWERS = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000] as const;

/**
 * `.ffffff` with exactly `digits` digits; '' for none. An odd number of digits is stored with one more digit, a 0.
 * @param stored the fraction as it is stored
 */
export function fractionText(stored: number, digits: number): string {
  if (digits === 0) return '';
  const value = (digits & 1) === 1 ? Math.floor(stored / 10) : stored;
  return `.${String(POWERS[digits]! + value).slice(1)}`;
}
