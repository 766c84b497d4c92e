/** Hears live messages: users' are for the application, the service's own for the device. */
import type { Book } from './book.js';
import { type Entry, isInteger, isObject, isTheServices, live, type State } from './messages.js';
import { isState } from './pull.js';
import type { Pulled, Pulling } from './pulling.js';
import type { Sender } from './sending.js';
import type { Subscriptions } from './subscriptions.js';
import { delivered } from './trusted.js';

/** How many live messages wait for a page. The rest comes by a later pull. */
const ROOM = 1000;

/** A message that came live. confirmed: its sender is the truth. */
export interface Heard {
  entry: Entry;
  confirmed: boolean;
}

export interface Parts {
  book: Book;
  pulling: Pulling;
  sender: Sender;
  subscriptions: Subscriptions;
}

export class Listener implements Pulled {
  parts!: Parts;
  readonly #own: string;
  #key: string | undefined;
  #unjudged: Entry[] = [];
  #held: Heard[] | undefined;

  /** offer: takes what is for the application; tell: something is written. */
  constructor(
    uid: string,
    private readonly trustedSend: boolean,
    private readonly offer: (heard: Heard) => void,
    readonly tell: (startedAt?: number) => void,
  ) {
    this.#own = `single/${uid}`;
  }

  /** From now on live messages wait until `release`, behind what is being pulled. */
  hold(): void {
    this.#held ??= [];
  }

  release(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    held.forEach(this.offer);
  }

  /** Takes the service's secret with this user, by which its messages are known. */
  learn(key: string): void {
    this.#key = key;
    for (const entry of this.#unjudged.splice(0)) this.#judge(entry);
  }

  /** Takes one delivery. */
  hear(topic: string, payload: Uint8Array, qos: number): void {
    const sent = this.trustedSend ? delivered(topic, payload, qos) : undefined;
    if (!sent) this.#judge(live(topic, payload, qos));
    // The broker says who sent it; a user who plays the service is not heard.
    else if (!isTheServices(sent)) this.#take({ entry: sent, confirmed: true });
  }

  /** The service's own messages are true only with its secret, which the first pull brings. */
  #judge(entry: Entry): void {
    if (!isTheServices(entry)) return this.#take({ entry, confirmed: false });
    const type = entry.payload?.['type'] as string;
    if (type === 'im.recalled' || type === 'im.edited') {
      // Anybody can say so, and the pull knows.
      this.parts.pulling.hint();
    } else if (this.#key === undefined) {
      if (this.#unjudged.length < ROOM) this.#unjudged.push(entry);
    } else if (entry.topic !== this.#own) {
      // What a group is told, without a key: true once it is pulled.
      if (/^im\.group\./.test(type)) this.parts.pulling.hint();
    } else if (entry.payload?.['key'] === this.#key) {
      const { body } = entry.payload;
      if (!this.#obey(type, isObject(body) ? body : {})) this.#take({ entry, confirmed: true });
    }
  }

  /** Returns false for messages to the application. Types of other versions of the service are passed over. */
  #obey(type: string, body: Entry['payload'] & object): boolean {
    const { pulling, sender, subscriptions, book } = this.parts;
    const topics = Array.isArray(body['topics'])
      ? body['topics'].map((entry) => (isObject(entry) ? entry['topic'] : undefined))
      : [];
    if (type === 'im.ack') sender.acknowledged(body);
    else if (type === 'im.error') sender.refused(body);
    else if (type === 'im.subscribe') subscriptions.add(topics);
    else if (type === 'im.unsubscribe') subscriptions.remove(topics);
    else if (type === 'im.state') {
      // One that cannot be kept comes by the next pull.
      if (isState(body)) book.takeState(body as unknown as State).then(() => this.tell(), () => pulling.ask());
    } else if (type !== 'im.sync') return false;
    // What another device has read came live, perhaps, and is unread here until it is pulled.
    const head = type === 'im.state' && !body['by'] ? body['mid'] : body['head'];
    if (type !== 'im.unsubscribe' && isInteger(head)) pulling.askUpTo(head);
    return true;
  }

  #take(heard: Heard): void {
    if (!this.#held) this.offer(heard);
    else if (this.#held.length < ROOM) this.#held.push(heard);
    else this.parts.pulling.ask();
  }
}
