/**
 * Applies the rule for a column at the branch, before any of its values reach the spool. A column is kept, left out,
 * sent as NULL or hashed with a key. A text column can also be sent as the bytes of its own character set. Pure.
 *
 * A hash is HMAC-SHA256 over the value as a batch would carry it, in hexadecimal. Branches with the same key give equal
 * values equal hashes. Without the key, nobody can find a value by trying.
 */
import { createCipheriv, createDecipheriv, createHmac, randomBytes } from 'node:crypto';
import type { Value } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import { nameText, tableText } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';

export const COLUMN_CHOICES = ['omit', 'null', 'hash', 'bytes'] as const;
export type ColumnRule = (typeof COLUMN_CHOICES)[number];

/** Whether a column of this wire type can be carried as the bytes of its own character set. */
export function isTextType(type: string): boolean {
  return /^(?:var)?char\(|text$/.test(type);
}

/** The hint for a text whose characters are not in Unicode. */
export function bytesHint(table: TableName, column: string): string {
  const pattern = `${tableText(table)}.${nameText(column)}`;
  return `Or carry the column as the bytes that it holds: tables.columns: { "${pattern}": bytes }, and restart the agent.`;
}

/** The type of a hashed column. */
export const HASH_TYPE = 'char(64)';
/** The minimum length of the key in characters: 128 bits in hexadecimal. */
export const LEAST_HASH_KEY = 32;

const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** Converts a value at the branch into the value that is sent. */
export type Convert = (value: Value) => Value;

export const TO_NULL: Convert = () => null;

/** Hashes columns with the key, and encrypts values that must not be readable without it. */
export class ColumnHasher {
  readonly #key: Buffer;
  readonly #sealingKey: Buffer;
  /** Identifies the key without revealing it. */
  readonly fingerprint: string;

  constructor(key: string) {
    this.#key = derive(key, 'values');
    this.#sealingKey = derive(key, 'cursors');
    this.fingerprint = derive(key, 'fingerprint').toString('hex', 0, 8);
  }

  readonly hash: Convert = value =>
    value === null ? null : createHmac('sha256', this.#key).update(String(value)).digest('hex');

  /** Encrypts a snapshot's progress with this key, if the key of its table is hashed. */
  seal(values: readonly Value[]): Value[] {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', this.#sealingKey, nonce);
    const text = Buffer.concat([cipher.update(JSON.stringify(values), 'utf8'), cipher.final()]);
    return [Buffer.concat([nonce, cipher.getAuthTag(), text]).toString('base64')];
  }

  /** Decrypts the result of `seal`; null if it was encrypted with another key or not at all. */
  open(sealed: readonly Value[]): Value[] | null {
    const bytes = Buffer.from(String(sealed[0]), 'base64');
    if (sealed.length !== 1 || bytes.length < NONCE_BYTES + TAG_BYTES) return null;
    const decipher = createDecipheriv('aes-256-gcm', this.#sealingKey, bytes.subarray(0, NONCE_BYTES));
    decipher.setAuthTag(bytes.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES));
    try {
      const text = Buffer.concat([decipher.update(bytes.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()]);
      return JSON.parse(text.toString('utf8')) as Value[];
    } catch {
      return null;
    }
  }
}

function derive(key: string, purpose: string): Buffer {
  return createHmac('sha256', key).update(`tributary/column-hash/${purpose}`).digest();
}

/**
 * Refuses a rule that the column does not allow: a key must still identify its row, and equal JSON values can have
 * different texts.
 */
export function checkRule(
  table: string,
  column: { readonly name: string; readonly type: string; readonly key?: number },
  choice: ColumnRule | null,
): void {
  const rule = choice === null ? null : faultOfChoice(column, choice);
  if (rule !== null) {
    throw new TributaryError('SOURCE_TABLE', `table ${table}: column ${column.name} ${rule}`, {
      hint: `Change tables.columns for "${table}.${column.name}", or exclude the table.`,
    });
  }
}

function faultOfChoice(column: { readonly type: string; readonly key?: number }, choice: ColumnRule): string | null {
  if (column.key !== undefined && (choice === 'omit' || choice === 'null'))
    return 'is part of the key: it can be hashed, not left out';
  if (column.type === 'json' && choice === 'hash')
    return 'is JSON, which has many texts for one value: it cannot be hashed';
  return null;
}
