/**
 * Which topics the device hears, beside its own: those that the service names, asked for a few at a time.
 *
 * The broker asks the service about each topic, one after the other, and answers nothing else meanwhile. So a packet has
 * as many topics as were answered in a few seconds: nobody takes the broker for dead and begins again.
 */
import { Backoff, Flag, now } from './flow.js';
import { LinkDown, type Link } from './link.js';
import { isTopic } from './messages.js';
import { times } from './times.js';

const FIRST = 4;
const MOST = 100;

export class Subscriptions {
  /** Set while no topic waits for its first answer on this connection. */
  readonly complete = new Flag();
  readonly #changed = new Flag();
  readonly #longer = new Backoff(times.subscribeAnew);
  #pauses = new Backoff(times.subscribeAgain);
  #size = FIRST;
  #granted = new Set<string>();
  #refused = new Set<string>();
  #waiting = new Set<string>();
  #asked = new Set<string>();
  #unwanted = new Set<string>();
  #againAt: number | undefined;
  #anewAt: number | undefined;

  /** A new connection, on which so much is granted or refused already. */
  begin(granted: string[], refused: string[]): void {
    this.#granted = new Set(granted);
    this.#refused = new Set(refused);
    this.#waiting = new Set();
    this.#asked = new Set();
    this.#unwanted = new Set();
    this.#pauses = new Backoff(times.subscribeAgain);
    this.#againAt = this.#anewAt = undefined;
    this.complete.clear();
    this.#changed.set();
  }

  /** Takes topics that the service names. Those that are granted or asked for already are not asked for again. */
  add(topics: unknown[]): void {
    for (const topic of topics) {
      if (!isTopic(topic) || this.#granted.has(topic) || this.#asked.has(topic)) continue;
      this.#refused.delete(topic);
      this.#waiting.add(topic);
      this.complete.clear();
    }
    this.#changed.set();
  }

  /** The service takes topics away. */
  remove(topics: unknown[]): void {
    for (const topic of topics) {
      if (typeof topic !== 'string') continue;
      this.#waiting.delete(topic);
      this.#refused.delete(topic);
      const granted = this.#granted.delete(topic);
      if (this.#asked.delete(topic) || granted) this.#unwanted.add(topic);
    }
    this.#changed.set();
  }

  /** Asks on one connection until it ends. onGranted: called when all is answered, and something is granted. */
  async keepSubscribing(link: Link, onGranted: () => void, signal: AbortSignal): Promise<void> {
    let fresh = false;
    for (;;) {
      this.#changed.clear();
      if (this.#unwanted.size) {
        const topics = [...this.#unwanted].slice(0, MOST);
        for (const topic of topics) this.#unwanted.delete(topic);
        await link.unsubscribe(topics);
      } else if (this.#waiting.size) {
        fresh = (await this.#ask(link)) || fresh;
      } else {
        if (fresh) {
          onGranted();
          if (!this.#refused.size) this.#longer.reset();
        }
        fresh = false;
        this.complete.set();
        await this.#wait(signal);
      }
    }
  }

  /** Asks for as many topics as are answered in time. Returns whether any is granted. */
  async #ask(link: Link): Promise<boolean> {
    const topics = [...this.#waiting].slice(0, this.#size);
    for (const topic of topics) {
      this.#waiting.delete(topic);
      this.#asked.add(topic);
    }
    const started = now();
    const answers = await link.subscribe(topics).catch((error: unknown) => {
      this.#size = Math.max(1, topics.length >> 1);
      throw error;
    });
    const fitting = Math.floor((topics.length * times.subscribe) / Math.max(now() - started, 1));
    if (fitting < topics.length) this.#size = Math.max(1, fitting);
    else this.#size = Math.max(this.#size, Math.min(fitting, 4 * topics.length, MOST));
    let granted = false;
    topics.forEach((topic, place) => {
      // What is not asked for any more was taken away meanwhile.
      if (!this.#asked.delete(topic)) return;
      (answers[place] ? this.#granted : this.#refused).add(topic);
      granted ||= answers[place] === true;
    });
    return granted;
  }

  /** Waits until there is something to do; what is refused is asked for again after a while. */
  async #wait(signal: AbortSignal): Promise<void> {
    if (!this.#refused.size) {
      this.#againAt = this.#anewAt = undefined;
      this.#pauses.reset();
      return this.#changed.wait(signal);
    }
    this.#againAt ??= now() + this.#pauses.pause();
    this.#anewAt ??= now() + this.#longer.pause();
    if (this.#anewAt <= now()) throw new LinkDown(`the broker refuses ${[...this.#refused]}`);
    await this.#changed.wait(signal, this.#againAt - now());
    if (this.#changed.isSet || this.#againAt > now()) return;
    this.#againAt = undefined;
    this.#waiting = new Set([...this.#waiting, ...this.#refused]);
    this.#refused.clear();
  }
}
