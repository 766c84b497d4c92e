/** When the device pulls: at each connection, when it is told, and now and then. */
import type { Book, Page } from './book.js';
import { Backoff, between, Flag, now, sleep } from './flow.js';
import type { Health } from './health.js';
import { PullFailed, type Puller } from './pull.js';
import { times } from './times.js';

/** Hands over what is pulled; live messages wait behind it. */
export interface Pulled {
  hold(): void;
  release(): void;
  learn(key: string): void;
  /** Something is written; with `startedAt`, everything that was there at that time. */
  tell(startedAt?: number): void;
}

export class Pulling {
  /** Set once everything has been pulled since this connection began. */
  readonly complete = new Flag();
  /** When the service answered a pull last, and whether it stores nothing for lack of room. */
  answeredAt = -Infinity;
  writesWait = false;
  readonly #wanted = new Flag();
  #hintAt: number | undefined;
  #againAt = 0;

  constructor(
    private readonly puller: Puller,
    private readonly book: Book,
    private readonly pulled: Pulled,
    private readonly health: Health,
  ) {}

  /** A new connection: what is heard on it waits behind what is pulled. */
  begin(): void {
    this.complete.clear();
    this.pulled.hold();
  }

  /** There may be something new. */
  ask(): void {
    this.#wanted.set();
  }

  /** More topics are heard from now on. */
  onSubscribed(): void {
    this.#againAt = now() + times.pullAgain;
    this.ask();
  }

  /** There are messages up to `head`, the service says. */
  askUpTo(head: number): void {
    if (head > this.book.position.cursor) this.ask();
  }

  /** Somebody says that there is something new. Anybody can, and many devices hear it at once. */
  hint(): void {
    if (this.#hintAt !== undefined) return;
    const wait = between(0, times.hint);
    this.#hintAt = now() + wait;
    setTimeout(() => {
      this.#hintAt = undefined;
      this.ask();
    }, wait);
  }

  /** Pulls on one connection, which hears what is sent from now on, until it ends. */
  async keepPulling(signal: AbortSignal): Promise<void> {
    this.onSubscribed();
    for (;;) {
      this.#wanted.clear();
      const settled = await this.#pullToTheEnd(signal);
      this.complete.set();
      // Timers may be a little early.
      await this.#wanted.wait(signal, settled ? between(...times.pullEvery) : this.#againAt - now() + 1);
    }
  }

  /**
   * Live messages wait behind the pages, but not for long where the service is away.
   *
   * Returns false for a pull just after a SUBACK: they wait for the next one, too, which has what was sent before them.
   */
  async #pullToTheEnd(signal: AbortSignal): Promise<boolean> {
    const pauses = new Backoff(times.pauses);
    const startedAt = Date.now();
    const begun = now();
    const heldUntil = begun + times.hold;
    for (let more = true; more; ) {
      this.pulled.hold();
      try {
        const page = await this.puller.page(this.book.position, signal);
        this.health.accepted('pull');
        this.answeredAt = now();
        this.writesWait = page.writes_wait;
        this.pulled.learn(page.key);
        await this.#take(page);
        more = page.more;
        pauses.reset();
        this.pulled.tell();
      } catch (error) {
        if (!(error instanceof PullFailed)) throw error;
        this.health.failed('pull', error.message, error.refused);
        const pause = Math.max(error.retryAfter, pauses.pause());
        const held = Math.min(pause, heldUntil - now());
        await sleep(held, signal);
        if (held < pause) this.pulled.release();
        await sleep(pause - held, signal);
      }
    }
    this.health.works('pull');
    const settled = begun >= this.#againAt;
    if (settled) this.pulled.release();
    this.pulled.tell(startedAt);
    return settled;
  }

  /** A storage that is full keeps the place where it is: the page is asked for again. */
  async #take(page: Page): Promise<void> {
    try {
      await this.book.take(page);
    } catch (error) {
      throw new PullFailed(`the storage keeps nothing: ${error}`);
    }
  }
}
