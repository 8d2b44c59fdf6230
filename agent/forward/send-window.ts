/**
 * How much may be in flight. More than the link can carry only fills the socket. A hello would wait behind it, and
 * after a lost connection all of it would be sent again. So the limit grows while confirms come quickly and shrinks
 * while they are slow, between a floor that keeps a poor link busy and the configured ceiling. Pure: times are passed
 * in.
 */

/** A few pieces of a slow line (cutting.ts): some on the wire while the confirms of others are on their way back. */
const FLOOR_BYTES = 64 * 1024;
/** The first batch is sent whatever its size. While confirms come quickly, the window doubles with each round trip. */
const START_BYTES = 256 * 1024;
const QUICK_MS = 1_000;
const SLOW_MS = 4_000;

export class SendWindow {
  readonly #ceilingBytes: number;
  readonly #maxMessages: number;
  #limitBytes: number;
  #probing = false;

  constructor(ceilingBytes: number, maxMessages: number) {
    this.#ceilingBytes = Math.max(FLOOR_BYTES, ceilingBytes);
    this.#maxMessages = maxMessages;
    this.#limitBytes = Math.min(START_BYTES, this.#ceilingBytes);
  }

  get limitBytes(): number {
    return this.#limitBytes;
  }

  /** Whether one more batch may be sent. The first one always may, whatever its size. */
  admits(inFlightMessages: number, inFlightBytes: number): boolean {
    if (inFlightMessages === 0) return true;
    if (this.#probing) return false;
    return inFlightMessages < this.#maxMessages && inFlightBytes < this.#limitBytes;
  }

  confirmed(bytes: number, tookMs: number): void {
    this.#probing = false;
    if (tookMs < QUICK_MS) this.#limitBytes = Math.min(this.#ceilingBytes, this.#limitBytes + bytes);
    else if (tookMs > SLOW_MS) this.#limitBytes = Math.max(FLOOR_BYTES, this.#limitBytes - bytes);
  }

  /** After a refusal: admits one batch at a time until one is confirmed. */
  probe(): void {
    this.#probing = true;
    this.#limitBytes = Math.min(START_BYTES, this.#ceilingBytes);
  }
}
