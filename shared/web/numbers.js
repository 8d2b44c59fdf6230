/** Numbers, sizes, durations and names as people read them. */
import { LANGUAGE } from '/assets/language.js';

const numbers = new Intl.NumberFormat(LANGUAGE);

/** @param {number | null | undefined} value */
export function count(value) {
  return value === null || value === undefined ? '–' : numbers.format(value);
}

/**
 * @param {number} value
 * @param {string} one
 * @param {string} many
 */
export function plural(value, one, many) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/**
 * A table as people type it, as `tableText` of shared/table-name.ts has it: a name with a dot stands in backquotes.
 * @param {{ readonly schema: string, readonly name: string }} table
 */
export function tableText({ schema, name }) {
  const part = (/** @type {string} */ text) => (/[.`]/.test(text) ? `\`${text.replaceAll('`', '``')}\`` : text);
  return `${part(schema)}.${part(name)}`;
}

/** @param {number} value */
export function bytes(value) {
  let amount = value;
  for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
    if (amount < 1024)
      return `${amount >= 100 || Number.isInteger(amount) ? Math.round(amount) : amount.toFixed(1)} ${unit}`;
    amount /= 1024;
  }
  return `${amount.toFixed(1)} TiB`;
}

/**
 * A rate with as many digits as matter; null: as good as none.
 * @param {number} perSecond
 * @param {string} unit
 */
export function rate(perSecond, unit) {
  if (perSecond < 0.05) return null;
  const shown = perSecond >= 10 ? count(Math.round(perSecond)) : perSecond.toFixed(1);
  return `${shown} ${unit}/s`;
}

/**
 * Seconds in the one or two largest units.
 * @param {number} seconds
 */
export function duration(seconds) {
  if (seconds < 1) return 'under 1 s';
  const whole = Math.floor(seconds);
  /** @type {[number, string][]} */
  const parts = [
    [Math.floor(whole / 86400), 'd'],
    [Math.floor(whole / 3600) % 24, 'h'],
    [Math.floor(whole / 60) % 60, 'min'],
    [whole % 60, 's'],
  ];
  const first = parts.findIndex(([amount]) => amount > 0);
  return parts
    .slice(first, first + 2)
    .filter(([amount]) => amount > 0)
    .map(([amount, unit]) => `${amount} ${unit}`)
    .join(' ');
}
