/** Waiting: for a time, for something that happens, and for whichever ends first. */

/** Thrown by loops that are told to end. */
export class Ended extends Error {}

/** Is set and cleared; loops wait for it. */
export class Flag {
  isSet = false;
  #waiting = new Set<() => void>();

  set(): void {
    this.isSet = true;
    for (const wake of [...this.#waiting]) wake();
  }

  clear(): void {
    this.isSet = false;
  }

  /** Waits until it is set, or for so many milliseconds at most. Throws Ended when `signal` says so. */
  async wait(signal: AbortSignal, milliseconds = Infinity): Promise<void> {
    if (signal.aborted) throw new Ended();
    if (this.isSet) return;
    await new Promise<void>((resolve, reject) => {
      const settle = (then: () => void) => () => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        signal.removeEventListener('abort', end);
        then();
      };
      const wake = settle(resolve);
      const end = settle(() => reject(new Ended()));
      // A timer holds 31 bits. One that fires early makes its loop look at the clock once more.
      const timer = setTimeout(wake, Math.max(0, Math.min(milliseconds, 2 ** 31 - 1)));
      this.#waiting.add(wake);
      signal.addEventListener('abort', end);
    });
  }
}

export const sleep = (milliseconds: number, signal: AbortSignal): Promise<void> => new Flag().wait(signal, milliseconds);

/** Waits for a promise, or until `signal` says to end. */
export function orEnd<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const end = (): void => reject(new Ended());
    if (signal.aborted) end();
    signal.addEventListener('abort', end);
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', end));
  });
}

/** Runs endless loops until one throws; ends the others, waits for them, and throws the failure. */
export async function untilOneFails(
  outer: AbortSignal,
  ...loops: ((signal: AbortSignal) => Promise<void>)[]
): Promise<never> {
  const inner = new AbortController();
  const end = (): void => inner.abort();
  outer.addEventListener('abort', end);
  if (outer.aborted) end();
  let failure: unknown = new Ended();
  let failed = false;
  await Promise.all(
    loops.map((loop) =>
      loop(inner.signal).catch((error: unknown) => {
        if (!failed || failure instanceof Ended) failure = error;
        failed = true;
        end();
      }),
    ),
  );
  outer.removeEventListener('abort', end);
  throw failure;
}

/** Growing pauses of random length: each up to twice the one before. */
export class Backoff {
  next: number;
  readonly #first: number;
  readonly #longest: number;

  constructor([first, longest]: readonly [number, number]) {
    this.next = this.#first = first;
    this.#longest = longest;
  }

  reset(): void {
    this.next = this.#first;
  }

  pause(): number {
    const ceiling = this.next;
    this.next = Math.min(2 * ceiling, this.#longest);
    return ceiling * between(0.5, 1);
  }
}

export const between = (least: number, most: number): number => least + Math.random() * (most - least);

/** A clock that never goes back, in milliseconds, whatever the user does to theirs. */
export const now = (): number => performance.now();

/** Does one thing after the other, in the order in which they were asked for. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  take<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => undefined);
    return result;
  }
}
