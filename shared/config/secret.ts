/**
 * A password or private key that cannot leak by accident: printing, logging or serialising it shows `[secret]`.
 * Only `reveal()` gives the text, so every place that uses a secret can be found by that word.
 */
import { inspect } from 'node:util';
import { TributaryError } from '../errors.ts';

const MASK = '[secret]';

export class Secret {
  readonly #text: string | null;

  private constructor(text: string | null) {
    this.#text = text;
  }

  static of(text: string): Secret {
    return new Secret(text);
  }

  /** Stands for a secret that was not read, for commands that need the configuration but not its secrets. */
  static withheld(): Secret {
    return new Secret(null);
  }

  /** The text itself. Throws INTERNAL for a withheld secret. */
  reveal(): string {
    if (this.#text === null) throw new TributaryError('INTERNAL', 'a secret is used that was not read');
    return this.#text;
  }

  toString(): string {
    return MASK;
  }

  toJSON(): string {
    return MASK;
  }

  [inspect.custom](): string {
    return MASK;
  }
}
