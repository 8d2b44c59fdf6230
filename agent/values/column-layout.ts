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
  /** One of TYPE; ENUM and SET as themselves. */
  readonly code: number;
  /**
   * The type's metadata: most bytes (VARCHAR, CHAR, BINARY; one more where COMPRESSED), width of the length (BLOB,
   * JSON, GEOMETRY, VECTOR), bits (BIT), fractional digits (times), precision × 256 + scale (DECIMAL), width of the
   * number (ENUM, SET).
   */
  readonly meta: number;
  /** `binary` where the column has none. */
  readonly charset: Charset | ForeignCharset;
  readonly unsigned: boolean;
  /** Of ENUM and SET. */
  readonly members: readonly string[];
  /** An ENUM in a key with the member '': its error value, which has the same text, would be taken for the same row. */
  readonly refusesErrorValue?: boolean;
  /** Of VECTOR. */
  readonly dimensions: number;
}

/**
 * The type with which a column travels; null where it has none. A TEXT whose character set can grow in utf8mb4 is
 * declared one size up, as its longest values would not fit there.
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
      // One byte says how a value is packed.
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
      // TIMESTAMP, TIME and DATETIME of MySQL 5.5 and MariaDB 5.3: their precision is not in the binlog.
      return null;
  }
}

/** The name of a column's wire type. */
export function baseOf(layout: ColumnLayout): Base {
  const type = wireType(layout);
  assert(type !== null, `the column type ${layout.code} has no wire type`);
  return type.base;
}

/** Bytes of the length before a value: of a string by the longest value that fits, of a BLOB as the table map says. */
export function lengthBytes({ code, meta }: ColumnLayout): number {
  const isString = code === TYPE.string || code === TYPE.varchar || code === TYPE.varcharCompressed;
  return isString ? (meta > 255 ? 2 : 1) : meta;
}
