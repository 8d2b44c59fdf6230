/** SQL literals of a batch's values, by the column's type. */
import { quoteBytes, quoteString, refuseToQuote } from '../database/sql.ts';
import type { Value } from './batch.ts';
import type { ColumnType } from './column-type.ts';
import { MYSQL_MAX_SCALE, wireKind } from './column-type.ts';
import type { WireKind } from './type-table.ts';

const INTEGER = /^-?\d{1,20}$/;
const DECIMAL = /^-?\d{1,65}(\.\d{1,38})?$/;
const TEMPORAL = /^-?[\d:. -]{5,29}$/;

/**
 * A number as SQL: the shortest text, with −0 kept. The exponent makes it a DOUBLE, so DECIMAL's limits do not apply.
 */
function realLiteral(value: number): string {
  if (!Number.isFinite(value)) refuseToQuote('Not a finite number', String(value));
  if (Object.is(value, -0)) return '-0e0';
  const text = String(value);
  return text.includes('e') ? text : `${text}e0`;
}

/** The functions that write values of a wire kind as literals. None takes NULL. */
const LITERALS: Record<WireKind, (value: string | number) => string> = {
  integer: value => {
    const text = String(value);
    return INTEGER.test(text) ? text : refuseToQuote('Not an integer', value);
  },
  decimal: value =>
    typeof value === 'string' && DECIMAL.test(value) ? value : refuseToQuote('Not a decimal as MySQL prints it', value),
  float: value =>
    value === '-0'
      ? '-0e0'
      : typeof value === 'number'
        ? realLiteral(Math.fround(value))
        : refuseToQuote('Not a float', value),
  double: value =>
    value === '-0' ? '-0e0' : typeof value === 'number' ? realLiteral(value) : refuseToQuote('Not a double', value),
  temporal: value =>
    typeof value === 'string' && TEMPORAL.test(value) ? `'${value}'` : refuseToQuote('Not a date or time', value),
  text: value => (typeof value === 'string' ? quoteString(value) : refuseToQuote('Not a text', value)),
  json: value => (typeof value === 'string' ? quoteString(value) : refuseToQuote('Not a JSON text', value)),
  bytes: value =>
    typeof value === 'string' ? quoteBytes(Buffer.from(value, 'base64')) : refuseToQuote('Not bytes in base64', value),
};

/**
 * Makes the function that writes a column's wire values as literals, for inserts and comparisons. A FLOAT is written as
 * the double that it widens to. The literal 0.1 would not be equal to it, and 3.4028235e38 would be out of range.
 * @param asText whether the column holds the values as text. A number would be compared with it as a double, and one
 * with many digits would be rounded before it became text
 * @throws TributaryError BATCH_INVALID from the function, if a value is not of the type's wire kind
 */
export function literalWriter(type: ColumnType, asText = false): (value: Value) => string {
  const plain = LITERALS[wireKind(type)];
  const isNumber = ['integer', 'decimal'].includes(wireKind(type));
  const digits = type.base === 'year' ? 4 : 0;
  const quoted = asText || (type.base === 'decimal' && type.scale > MYSQL_MAX_SCALE);
  const write = quoted && isNumber ? (value: string | number) => `'${plain(value).padStart(digits, '0')}'` : plain;
  return value => (value === null ? 'NULL' : write(typeof value === 'object' ? value.toString() : value));
}
