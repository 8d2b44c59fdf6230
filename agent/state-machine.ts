/** A state that changes in one place only, and only along the transitions that its owner allows. */
import { assert } from '../shared/errors.ts';

/** For each state, the states that may follow it. */
export type Transitions<State extends string> = Readonly<Record<State, readonly State[]>>;

export class StateMachine<State extends string> {
  readonly #owner: string;
  readonly #transitions: Transitions<State>;
  #state: State;

  /** @param owner begins the message of the error about a wrong transition */
  constructor(owner: string, transitions: Transitions<State>, initial: State) {
    this.#owner = owner;
    this.#transitions = transitions;
    this.#state = initial;
  }

  get state(): State {
    return this.#state;
  }

  /** @throws TributaryError INTERNAL if the state may not follow the current one */
  enter(next: State): void {
    const isAllowed = this.#transitions[this.#state].includes(next);
    assert(isAllowed, `${this.#owner} must not go from state ${this.#state} to ${next}.`);
    this.#state = next;
  }
}
