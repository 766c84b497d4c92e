/** One connection after the other: what is done on each, and how long the device waits before the next. */
import type { Book, Outcome, Outgoing } from './book.js';
import { DeviceError } from './errors.js';
import { Backoff, Ended, Flag, now, orEnd, sleep, untilOneFails } from './flow.js';
import type { Health } from './health.js';
import { type Connect, Link, LinkDown } from './link.js';
import { type Heard, Listener } from './listener.js';
import type { Login } from './login.js';
import { type Fetch, Puller } from './pull.js';
import { Pulling } from './pulling.js';
import { Sender } from './sending.js';
import { Subscriptions } from './subscriptions.js';
import { times } from './times.js';

/** Connections that end soon, one after the other, of which the application is told. */
const TAKEN_OVER = 4;

export interface Wiring {
  uid: string;
  login: Login;
  broker: string;
  url: string;
  clientid: string;
  cleanSession: boolean;
  patience: number;
  trustedSend: boolean;
  fetch: Fetch;
  connect: Connect;
  book: Book;
  health: Health;
  /** Takes what came live; what became of a message; and that something is written. */
  offer(heard: Heard): void;
  onOutcome(outgoing: Outgoing & { key: string }, outcome: Outcome): void;
  tell(startedAt?: number): void;
}

export class Engine {
  readonly pulling: Pulling;
  readonly sender: Sender;
  readonly #listener: Listener;
  readonly #subscriptions = new Subscriptions();
  readonly #pauses = new Backoff(times.pauses);
  /** Connections in a row that stood and ended soon. */
  #short = 0;
  #standing = false;
  readonly #hurry = new Flag();

  constructor(private readonly wiring: Wiring) {
    const { uid, url, login, fetch, book, health, patience, trustedSend } = wiring;
    const listener = new Listener(uid, trustedSend, wiring.offer, wiring.tell);
    this.#listener = listener;
    this.pulling = new Pulling(new Puller(url, login, fetch), book, listener, health);
    this.sender = new Sender(book, this.pulling, patience, trustedSend, wiring.onOutcome);
    listener.parts = { book, pulling: this.pulling, sender: this.sender, subscriptions: this.#subscriptions };
  }

  /** Rejects with DeviceError for what will not mend itself, and Ended; whatever else happens is tried again. */
  async keepConnected(signal: AbortSignal): Promise<never> {
    const { health, clientid } = this.wiring;
    for (;;) {
      this.#standing = false;
      try {
        await this.#useOne(signal);
      } catch (error) {
        if (error instanceof DeviceError || error instanceof Ended) throw error;
        const taken = error instanceof LinkDown && this.#standing && this.#short + 1 >= TAKEN_OVER;
        const again = `is the clientid '${clientid}' used twice? Connections end soon`;
        const reason = error instanceof Error ? error.message : String(error);
        health.failed('broker', taken ? again : reason, error instanceof LinkDown && error.refused);
      }
      this.#short += Number(this.#standing);
      this.#hurry.clear();
      await this.#hurry.wait(signal, this.#pauses.pause());
    }
  }

  /** The network is there again: a pause would be in vain. */
  hurry(): void {
    this.#pauses.reset();
    this.#hurry.set();
  }

  /** One connection, until it breaks. */
  async #useOne(signal: AbortSignal): Promise<void> {
    const { login, uid, clientid, cleanSession, broker, connect, health } = this.wiring;
    const token = await login.token();
    const hear = this.#listener.hear.bind(this.#listener);
    // What a kept session has waiting comes before the first answer, and waits behind the first pull.
    this.pulling.begin();
    const link = new Link(connect, broker, { uid, clientid, token, cleanSession }, hear);
    try {
      await orEnd(link.opened(), signal);
      health.accepted('broker');
      const topics = [`single/${uid}`, 'business/global'];
      const [own, all] = await orEnd(link.subscribe(topics), signal);
      if (!own) throw new LinkDown(`the broker refuses single/${uid}`);
      this.#standing = true;
      this.#subscriptions.begin(all ? topics : topics.slice(0, 1), all ? [] : topics.slice(1));
      await untilOneFails(
        signal,
        (end) => orEnd(link.down, end),
        (end) => this.pulling.keepPulling(end),
        (end) => orEnd(this.sender.keepSending((topic, payload) => link.publish(topic, payload), end), end),
        (end) => orEnd(this.#subscriptions.keepSubscribing(link, () => this.pulling.onSubscribed(), end), end),
        (end) => this.#watch(end),
        (end) => this.#watchClock(end),
      );
    } finally {
      await link.close(signal.aborted);
    }
  }

  /** Tells when the device is up to date. Then the next pause is a short one, unless connections keep ending. */
  async #watch(signal: AbortSignal): Promise<void> {
    const { health } = this.wiring;
    const begun = now();
    await this.pulling.complete.wait(signal);
    await this.#subscriptions.complete.wait(signal);
    if (this.#short < TAKEN_OVER) health.works('broker');
    if (!this.#short) this.#pauses.reset();
    await sleep(Math.max(times.steady, 2 * this.#pauses.next) - (now() - begun), signal);
    this.#short = 0;
    this.#standing = false;
    this.#pauses.reset();
    health.works('broker');
    await sleep(Infinity, signal);
  }

  /** A page or phone that was asleep has lost its connection, whatever it still believes. */
  async #watchClock(signal: AbortSignal): Promise<void> {
    for (;;) {
      const before = Date.now();
      await sleep(times.tick, signal);
      if (Date.now() - before > times.tick + 2 * times.keepalive) throw new LinkDown('this device was asleep');
    }
  }
}
