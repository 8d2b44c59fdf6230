/** A clock that runs like the machine's, and can be set forward. */
export interface TestClock {
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** @param ms how far it is set forward */
  advance(ms: number): void;
}

export function runningClock(): TestClock {
  let aheadMs = 0;
  return {
    now: () => Date.now() + aheadMs,
    advance: ms => {
      aheadMs += ms;
    },
  };
}
