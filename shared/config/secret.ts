/**
 * A password or private key that cannot leak by accident: printing, logging or serialising it shows `[secret]`.
 * Only `reveal()` gives the text, so every place that uses a secret can be found by that word.
 */
import { inspect } from 'node:util';
import { TributaryError } from '../errors.ts';

const MASK = '[secret]';

/** Where a secret comes from that may change while the program runs. */
export interface SecretSource {
  /** The text now; null: it cannot be read at the moment. */
  readonly read: () => string | null;
  /** Whether systemd passes it on as a credential: a copy from when the service started. */
  readonly isCredential: boolean;
}

export class Secret {
  /** As it was last read; null: withheld. */
  #text: string | null;
  readonly #source: SecretSource | null;

  private constructor(text: string | null, source: SecretSource | null = null) {
    this.#text = text;
    this.#source = source;
  }

  static of(text: string): Secret {
    return new Secret(text);
  }

  /** A secret that is read again each time it is used, so that it can be rotated while the program runs. */
  static rotating(text: string, source: SecretSource): Secret {
    return new Secret(text, source);
  }

  /** Stands for a secret that was not read, for commands that need the configuration but not its secrets. */
  static withheld(): Secret {
    return new Secret(null);
  }

  get isCredential(): boolean {
    return this.#source?.isCredential ?? false;
  }

  /** The text itself; as it was last read, where it cannot be read now. Throws INTERNAL for a withheld secret. */
  reveal(): string {
    this.#text = this.#source?.read() ?? this.#text;
    if (this.#text === null) throw new TributaryError('INTERNAL', 'The program uses a secret that it has not read.');
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
