/** The device itself, as an application uses it. */
import { Book, messageKey, type Outcome, type Outgoing } from './book.js';
import { Commands } from './commands.js';
import { Engine } from './engine.js';
import { Closed, DeviceError } from './errors.js';
import { Ended, Flag, sleep } from './flow.js';
import { Health } from './health.js';
import { connect, type Connect } from './link.js';
import type { Heard } from './listener.js';
import { Login } from './login.js';
import {
  type DeviceEvent,
  type Entry,
  isTopic,
  type Message,
  messageOf,
  type Report,
  type State,
} from './messages.js';
import type { Fetch } from './pull.js';
import { outcomeOf, Reader } from './reader.js';
import { get, type Storage } from './storage.js';
import { alone, Shared, type Tabs } from './tabs.js';
import { times } from './times.js';

export interface Options {
  /** The user's id. */
  uid: string | number;
  /** Called for a JWT at each connection and each pull, so that it may be renewed. */
  token: () => string | Promise<string>;
  /** Where MQTT is spoken: `mqtt://host:1883`, or `wss://host/mqtt` as in all browsers. */
  broker: string;
  /** The service's address, without `/pull`. */
  url: string;
  /** Keeps what the device must not forget. Each device needs its own. */
  storage: Storage;
  /** A name that all tabs that share this device and its storage have in common. */
  share?: string;
  /** Names the device among all of the user's; by default an id that the storage keeps. */
  clientid?: string;
  /** False lets the broker keep messages for the device while it is away. */
  cleanSession?: boolean;
  /** Seconds until a message is given up: less than the service recognises repeats. */
  patience?: number;
  /** The service and its broker run with IM_TRUSTED_SEND. */
  trustedSend?: boolean;
  fetch?: Fetch;
  connect?: Connect;
}

type Told =
  | { kind: 'written'; startedAt?: number }
  | { kind: 'heard'; heard: Heard }
  | { kind: 'report'; event: Report }
  | { kind: 'outcome'; id: string; outcome: Outcome }
  | { kind: 'failed'; reason: string }
  | { kind: 'sent' }
  | { kind: 'ask' }
  | { kind: 'leads' };

interface Waiting {
  resolve(mid: number): void;
  reject(error: Error): void;
}

/** One device of one user, connected from `open` to `close`; iterate over it for its events. */
export class Device extends Commands implements AsyncIterable<DeviceEvent> {
  readonly uid: string;
  readonly #options: Options;
  readonly #book: Book;
  readonly #reader: Reader;
  readonly #tabs: Tabs<Told>;
  readonly #end = new AbortController();
  readonly #waiting = new Map<string, Waiting>();
  readonly #pulled = new Set<(startedAt: number) => void>();
  readonly #hurry = (): void => this.#engine?.hurry();
  #engine: Engine | undefined;
  #running: Promise<void> | undefined;
  #failure: Error | undefined;
  #sent = 0;

  private constructor(options: Options) {
    super();
    this.uid = String(options.uid);
    this.#options = options;
    this.#book = new Book(options.storage, this.uid);
    this.#tabs = options.share === undefined ? (alone as Tabs<Told>) : new Shared(options.share);
    this.#reader = new Reader(options.storage, this.uid, this.#tabs.name);
  }

  /** Reads the storage, and begins. Rejects where that cannot be read. */
  static async open(options: Options): Promise<Device> {
    const device = new Device(options);
    await device.#reader.open();
    await device.#book.load();
    for (const { topic, id } of device.#book.unsent.values()) device.#expect(topic, id);
    device.#tabs.join(
      (told) => device.#hear(told),
      () => (device.#running = device.#lead()),
    );
    // The browser says when the network is there again.
    globalThis.addEventListener?.('online', device.#hurry);
    return device;
  }

  /** Ends the device. Messages without an answer are kept for the next run, and callers that wait for one are told. */
  async close(): Promise<void> {
    globalThis.removeEventListener?.('online', this.#hurry);
    this.#end.abort();
    await this.#running;
    this.#fail(new Closed('the device is closed'));
    await this.#reader.done();
    await this.#book.idle();
    this.#tabs.leave();
  }

  /** Gives the events one after the other; asking for the next says that the one before is dealt with. */
  async *[Symbol.asyncIterator](): AsyncGenerator<DeviceEvent, void, void> {
    for (;;) {
      const event = await this.#reader.next();
      if (event) yield event;
      else if (this.#failure instanceof Closed) return;
      else if (this.#failure) throw this.#failure;
      else await this.#reader.arrived.wait(new AbortController().signal);
    }
  }

  /**
   * Sends a message and waits until it is stored: its `mid`. It is sent again until then.
   *
   * Rejects with Refused, Unanswered, Unauthorized, TypeError for a topic that nobody can publish to, and with the
   * storage's error where it cannot be kept: then it is not sent. To keep an order, wait for one before the next.
   */
  send(topic: string, body: unknown, { type = 'text' }: { type?: string } = {}): Promise<number> {
    return this.publish(topic, { type, body });
  }

  /** Sends as `send` does, with any fields. `id`, `from` and `ack` are the device's. */
  async publish(topic: string, fields: object): Promise<number> {
    if (this.#failure) throw this.#failure;
    if (!isTopic(topic)) throw new TypeError(`not a topic: ${topic}`);
    const id = crypto.randomUUID();
    const own = { id, from: this.uid };
    const payload = JSON.stringify({ ...own, ...fields, ...own, ack: true });
    this.#expect(topic, id);
    const answer = new Promise<number>((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    // The caller hears of a failure below; until then nobody listens.
    answer.catch(() => undefined);
    try {
      const created = Date.now();
      await this.#book.add({ id, topic, payload, created, tab: this.#tabs.name }, this.#sent++);
    } catch (error) {
      this.#waiting.delete(id);
      throw error;
    }
    this.#hear({ kind: 'sent' });
    if (!this.#engine) this.#tabs.post({ kind: 'sent' });
    return answer;
  }

  /** Returns a conversation's messages that a pull has brought, the newest `limit` before `before` (a `mid`), in order. */
  async messages(conversation: string, { before, limit = 50 }: { before?: number; limit?: number } = {}): Promise<Message[]> {
    const end = before === undefined ? `m/${conversation}\n\uffff` : messageKey(conversation, before);
    const records = await this.#options.storage.read(`m/${conversation}\n`, end, limit, true);
    return records.map(([, entry]) => messageOf(entry as Entry, this.uid));
  }

  /** Returns the conversations that have messages, each with its last one. */
  async conversations(): Promise<{ conversation: string; last: Message }[]> {
    const found: { conversation: string; last: Message }[] = [];
    for (let from = 'm/'; ; ) {
      const [first] = await this.#options.storage.read(from, 'm/\uffff', 1);
      if (!first) return found;
      const conversation = first[0].slice(2, first[0].indexOf('\n'));
      const [last] = await this.messages(conversation, { limit: 1 });
      if (last) found.push({ conversation, last });
      from = `m/${conversation}\n\uffff`;
    }
  }

  /** Returns how many messages of others each conversation has above the user's read mark. */
  async unread(): Promise<Map<string, number>> {
    return this.#book.unread(this.#reader.claims);
  }

  /** Returns read marks, settings and blocks, the newest of each. */
  async states(): Promise<State[]> {
    return (await this.#options.storage.read('z/', 'z/\uffff')).map(([, state]) => state as State);
  }

  /** Marks the conversation as read up to `mid`, by default all of it. */
  async read(conversation: string, mid?: number): Promise<void> {
    let upTo = mid;
    if (upTo === undefined) {
      // What came live has no `mid` before a pull brings it.
      if ([...this.#reader.claims.values()].some((claim) => claim.conversation === conversation)) await this.#nextPull();
      const unread = `u/${conversation}\n`;
      const [last] = await this.#options.storage.read(unread, `${unread}\uffff`, 1, true);
      if (!last) return;
      upTo = Number(last[0].slice(unread.length));
    }
    await this.publish(`${conversation}/read`, { mid: upTo });
  }

  /** Connects and pulls until the end, as the only one of the tabs that share the device. */
  async #lead(): Promise<void> {
    const { url, broker, cleanSession = true, patience = 3600, trustedSend = false } = this.#options;
    const health = new Health((event) => this.#tell({ kind: 'report', event }));
    try {
      await this.#load(health);
      const engine = (this.#engine = new Engine({
        ...{ uid: this.uid, url, broker, cleanSession, trustedSend, health, book: this.#book },
        patience: patience * 1000,
        clientid: this.#options.clientid ?? this.#book.device,
        login: new Login(this.uid, this.#options.token),
        fetch: this.#options.fetch ?? ((address, options) => fetch(address, options)),
        connect: this.#options.connect ?? connect,
        offer: (heard) => this.#tell({ kind: 'heard', heard }),
        onOutcome: (outgoing, outcome) => void this.#settle(outgoing, outcome, health),
        tell: (startedAt) => this.#tell({ kind: 'written', ...(startedAt !== undefined && { startedAt }) }),
      }));
      this.#tell({ kind: 'leads' });
      await engine.keepConnected(this.#end.signal);
    } catch (error) {
      if (!(error instanceof Ended)) {
        this.#fail(error as Error);
        this.#tabs.post({ kind: 'failed', reason: String(error) });
      }
    }
  }

  /** Reads what the tab that led before has left. */
  async #load(health: Health): Promise<void> {
    if (!this.#tabs.name) return;
    for (;;) {
      try {
        await this.#book.load();
        return await this.#book.trim();
      } catch (error) {
        health.failed('storage', String(error));
        await sleep(times.pauses[1], this.#end.signal);
      }
    }
  }

  async #settle(outgoing: Outgoing & { key: string }, outcome: Outcome, health: Health): Promise<void> {
    const told = this.#waiting.has(outgoing.id) || this.#tabs.isOpen(outgoing.tab);
    try {
      await this.#book.settle(outgoing, outcome, await told);
      health.works('storage');
    } catch (error) {
      // The caller is told all the same: a later run only asks once more.
      health.failed('storage', `the storage keeps nothing: ${error}`);
    }
    this.#tell({ kind: 'outcome', id: outgoing.id, outcome });
  }

  #tell(told: Told): void {
    this.#hear(told);
    this.#tabs.post(told);
  }

  #hear(told: Told): void {
    switch (told.kind) {
      case 'heard':
        if (!this.#reader.offer(told.heard)) this.#engine?.pulling.ask();
        break;
      case 'report':
        this.#reader.report(told.event);
        break;
      case 'outcome':
        this.#answer(told.id, told.outcome);
        this.#reader.arrived.set();
        break;
      case 'failed':
        this.#fail(new DeviceError(told.reason));
        break;
      case 'sent':
        void this.#book.loadUnsent().then(() => this.#engine?.sender.wake());
        break;
      case 'ask':
        this.#engine?.pulling.ask();
        break;
      case 'leads':
        void this.#askAgain();
        break;
      case 'written':
        if (told.startedAt !== undefined) {
          this.#reader.pulledUpTo(told.startedAt);
          for (const pulled of this.#pulled) pulled(told.startedAt);
        }
        this.#reader.arrived.set();
    }
  }

  /** Another tab leads: what it was not told of is asked again, and what it has not told is looked up. */
  async #askAgain(): Promise<void> {
    for (const id of this.#waiting.keys()) {
      const outcome = await get<Outcome>(this.#options.storage, `o/${id}`);
      if (outcome) this.#answer(id, outcome);
    }
    this.#reader.arrived.set();
  }

  #answer(id: string, outcome: Outcome): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    const result = outcomeOf(outcome);
    if (typeof result === 'number') waiting?.resolve(result);
    else waiting?.reject(result);
  }

  #expect(topic: string, id: string): void {
    this.#reader.sends({ topic, from: this.uid, id, qos: 1 });
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const { reject } of this.#waiting.values()) reject(this.#failure);
    this.#waiting.clear();
    this.#reader.arrived.set();
  }

  /** Waits for a pull that begins from now on, but not for long. */
  async #nextPull(): Promise<void> {
    const asked = Date.now();
    const done = new Flag();
    const pulled = (startedAt: number): void => void (startedAt >= asked && done.set());
    this.#pulled.add(pulled);
    this.#hear({ kind: 'ask' });
    this.#tabs.post({ kind: 'ask' });
    await done.wait(new AbortController().signal, times.proof);
    this.#pulled.delete(pulled);
  }
}
