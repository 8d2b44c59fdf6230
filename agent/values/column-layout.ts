/**
 * The layout of a column's bytes in a row image, and its wire type.
 */
import type { ColumnType } from '../../shared/batch/column-type.ts';
import { BLOBS, TEXTS } from '../../shared/batch/type-table.ts';
import type { Base } from '../../shared/batch/type-table.ts';
import { assert } from '../../shared/errors.ts';
import { charsetFacts } from './charsets.ts';
import type { Charset, ForeignCharset } from './charsets.ts';
import { TYPE } from './type-codes.ts';

export interface ColumnLayout {
  /** One of TYPE. ENUM and SET have their own codes here, not that of CHAR. */
  readonly code: number;
  /**
   * The type's metadata: maximum bytes (VARCHAR, CHAR, BINARY; one more if COMPRESSED), width of the length prefix
   * (BLOB, JSON, GEOMETRY, VECTOR), bits (BIT), fractional digits (times), precision × 256 + scale (DECIMAL), width of
   * the number (ENUM, SET).
   */
  readonly meta: number;
  /** `binary` if the column has none. */
  readonly charset: Charset | ForeignCharset;
  readonly unsigned: boolean;
  /** Only ENUM and SET have any. */
  readonly members: readonly string[];
  /**
   * Set for an ENUM in a key that has the member ''. Its error value has the same text, so two rows would get one key.
   */
  readonly refusesErrorValue?: boolean;
  /** For VECTOR. */
  readonly dimensions: number;
}

/**
 * A column's type on the wire; null if it has none. If text can take more bytes in utf8mb4 than in the column's
 * character set, a TEXT becomes one size larger, so that its longest values fit.
 */
export function wireType(layout: ColumnLayout): ColumnType | null {
  const { code, meta, charset, unsigned, members } = layout;
  const characters = Math.floor(meta / charsetFacts(charset).maxBytes);
  switch (code) {
    case TYPE.tiny:
      return { base: 'tinyint', unsigned };
    case TYPE.short:
      return { base: 'smallint', unsigned };
    case TYPE.int24:
      return { base: 'mediumint', unsigned };
    case TYPE.long:
      return { base: 'int', unsigned };
    case TYPE.longlong:
      return { base: 'bigint', unsigned };
    case TYPE.decimal:
      return { base: 'decimal', precision: meta >> 8, scale: meta & 0xff };
    case TYPE.float:
      return meta === 4 ? { base: 'float' } : null;
    case TYPE.double:
      return meta === 8 ? { base: 'double' } : null;
    case TYPE.bit:
      return { base: 'bit', length: meta };
    case TYPE.year:
      return { base: 'year' };
    case TYPE.date:
    case TYPE.newDate:
      return { base: 'date' };
    case TYPE.time2:
      return { base: 'time', fraction: meta };
    case TYPE.datetime2:
      return { base: 'datetime', fraction: meta };
    case TYPE.timestamp2:
      return { base: 'timestamp', fraction: meta };
    case TYPE.string:
      return charset === 'binary' ? { base: 'binary', length: meta } : { base: 'char', length: characters };
    case TYPE.varcharCompressed:
      // One byte of the length says how a value is packed.
      return wireType({ ...layout, code: TYPE.varchar, meta: meta - 1 });
    case TYPE.blobCompressed:
      return wireType({ ...layout, code: TYPE.blob });
    case TYPE.varchar:
      return charset === 'binary' ? { base: 'varbinary', length: meta } : { base: 'varchar', length: characters };
    case TYPE.blob: {
      const size = meta - 1;
      const base =
        charset === 'binary' ? BLOBS[size] : TEXTS[charsetFacts(charset).growsInUtf8 ? Math.min(size + 1, 3) : size];
      return base === undefined ? null : { base };
    }
    case TYPE.enum:
      return { base: 'enum', members };
    case TYPE.set:
      return { base: 'set', members };
    case TYPE.json:
      return { base: 'json' };
    case TYPE.geometry:
      return { base: 'geometry' };
    case TYPE.vector:
      return { base: 'vector', length: layout.dimensions };
    default:
      // The old TIMESTAMP, TIME and DATETIME (MySQL 5.5, MariaDB 5.3): the binlog does not hold their precision.
      return null;
  }
}

/** The name of a column's wire type. */
export function baseOf(layout: ColumnLayout): Base {
  const type = wireType(layout);
  assert(type !== null, `the column type ${layout.code} has no wire type`);
  return type.base;
}

/**
 * The width of the length prefix: for a string it follows from the maximum length, for a BLOB the table map says it.
 */
export function lengthBytes({ code, meta }: ColumnLayout): number {
  const isString = code === TYPE.string || code === TYPE.varchar || code === TYPE.varcharCompressed;
  return isString ? (meta > 255 ? 2 : 1) : meta;
}
