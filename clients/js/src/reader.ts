/** Between what is kept or heard and the application that reads it: order, repeats, and how far it has read. */
import { digits, type Logged, type Outcome } from './book.js';
import { Refused, Unanswered } from './errors.js';
import { Flag } from './flow.js';
import type { Heard } from './listener.js';
import { content, type DeviceEvent, type Entry, identity, messageOf, type Report } from './messages.js';
import { get, type Storage } from './storage.js';

/** Live messages that wait to be read; what is above it comes by a pull. */
const ROOM = 1000;

/** Messages that were shown live, by which their pulled copies are known. */
const REMEMBERED = 4096;

const OWN = '';
const DEALT = 'dealt';
const SHOWN = 's/';

interface Item {
  event: DeviceEvent;
  /** The place in the log, where it comes from there. */
  seq?: number;
  /** A message that came live. */
  heard?: Heard;
}

/** tab: empty where the device is alone; then what was read stays read over restarts. */
export class Reader {
  readonly arrived = new Flag();
  /** Others' messages that were shown live, by identity; those that every pull since should have brought are forgotten. */
  readonly claims = new Map<string, { conversation: string; at: number }>();
  readonly #live: Heard[] = [];
  readonly #shown = new Map<string, string>();
  readonly #buffer: [seq: number, entry: Logged][] = [];
  #changes = new Map<string, unknown>();
  #dealt = 0;
  #report: Report | undefined;
  #inTrouble = false;
  #inHand: Item | undefined;

  constructor(
    private readonly storage: Storage,
    private readonly own: string,
    private readonly tab: string,
  ) {}

  /** Begins where an earlier run has read to; one of several tabs, at the end. */
  async open(): Promise<void> {
    if (this.tab) {
      const [last] = await this.storage.read('l/', 'l/\uffff', 1, true);
      this.#dealt = last ? Number(last[0].slice(2)) : 0;
      return;
    }
    this.#dealt = (await get<number>(this.storage, DEALT)) ?? 0;
    for (const [key, said] of await this.storage.read(SHOWN, `${SHOWN}\uffff`)) this.#shown.set(key.slice(2), said as string);
  }

  /** Takes a message that came live. Returns false where there is no room: a pull is needed. */
  offer(heard: Heard): boolean {
    if (this.#live.length >= ROOM) return false;
    this.#live.push(heard);
    this.arrived.set();
    return true;
  }

  /** Takes the place of a report that nobody has read yet: however long nobody reads, one waits. */
  report(event: Report): void {
    this.#report = event.kind !== 'recovered' || this.#inTrouble ? event : undefined;
    this.arrived.set();
  }

  /** Another copy of what this device sends is a repeat. */
  sends(entry: Entry): void {
    this.#remember(identity(entry) ?? '', OWN);
  }

  /** Everything that was stored at that time is pulled. */
  pulledUpTo(time: number): void {
    for (const [name, { at }] of this.claims) if (at < time) this.claims.delete(name);
  }

  /** Returns the next event, undefined while there is none; the one before it is dealt with. */
  async next(): Promise<DeviceEvent | undefined> {
    await this.done();
    for (;;) {
      this.arrived.clear();
      if (this.#report) {
        const event = this.#report;
        this.#report = undefined;
        this.#inTrouble = event.kind !== 'recovered';
        return event;
      }
      // What is pulled comes before what was heard meanwhile.
      const item = (await this.#nextLogged()) ?? this.#live.shift();
      if (!item) {
        await this.#keep();
        return undefined;
      }
      const fresh = 'entry' in item ? await this.#judgeHeard(item) : item;
      if (!fresh) continue;
      this.#inHand = fresh;
      return fresh.event;
    }
  }

  /** The event that was read last is dealt with. */
  async done(): Promise<void> {
    const item = this.#inHand;
    if (!item) return;
    this.#inHand = undefined;
    if (item.heard) this.#remember(identity(item.heard.entry), content(item.heard.entry));
    if (item.seq !== undefined) this.#pass(item.seq);
    await this.#keep();
  }

  /** Returns the next entry of the log that is news to this application. */
  async #nextLogged(): Promise<Item | undefined> {
    for (;;) {
      if (!this.#buffer.length) {
        const records = await this.storage.read(`l/${digits(this.#dealt + 1)}`, 'l/\uffff', 100);
        for (const [key, value] of records) this.#buffer.push([Number(key.slice(2)), value as Logged]);
      }
      const next = this.#buffer.shift();
      if (!next) return undefined;
      const [seq, entry] = next;
      // The log is shorter than what this tab has missed.
      if (this.tab && seq > this.#dealt + 1 && this.#dealt) {
        this.#buffer.unshift(next);
        this.#dealt = seq - 1;
        return { event: { kind: 'truncated' } };
      }
      const event = await this.#eventOf(entry);
      if (event) {
        // What is kept says so only when it is dealt with: a crash repeats it.
        this.#dealt = seq;
        return { event, seq };
      }
      this.#pass(seq);
    }
  }

  async #eventOf(entry: Logged): Promise<DeviceEvent | undefined> {
    if (entry.kind === 'settled') {
      return { kind: 'settled', id: entry.id, topic: entry.topic, outcome: outcomeOf(entry.outcome) };
    }
    if (entry.kind === 'event') return entry.tab === this.tab ? undefined : entry.event;
    const message = await get<Entry>(this.storage, entry.key);
    if (!message) return undefined;
    const name = identity(message) ?? '';
    const said = this.#shown.get(name);
    if (said !== undefined) this.#forget(name);
    if (entry.tab === this.tab || said === content(message)) return undefined;
    return { kind: 'received', message: messageOf(message, this.own), confirmed: true };
  }

  /** A live message repeats any with its identity. */
  async #judgeHeard(heard: Heard): Promise<Item | undefined> {
    const { entry, confirmed } = heard;
    const name = identity(entry);
    if (name !== undefined) {
      if (this.#shown.has(name) || (await get(this.storage, `i/${name}`)) !== undefined) return undefined;
    }
    const message = messageOf(entry, this.own);
    if (name !== undefined && entry.qos && entry.from !== this.own && entry.from !== '0') {
      this.claims.set(name, { conversation: message.conversation, at: Date.now() });
    }
    return { event: { kind: 'received', message, confirmed }, heard };
  }

  #pass(seq: number): void {
    this.#dealt = Math.max(this.#dealt, seq);
    if (this.tab) return;
    this.#changes.set(DEALT, seq);
    this.#changes.set(`l/${digits(seq)}`, undefined);
  }

  #remember(name: string | undefined, said: string): void {
    if (name === undefined) return;
    this.#forget(name);
    this.#shown.set(name, said);
    if (!this.tab && said !== OWN) this.#changes.set(SHOWN + name, said);
    if (this.#shown.size > REMEMBERED) this.#forget(this.#shown.keys().next().value as string);
  }

  #forget(name: string): void {
    if (this.#shown.delete(name) && !this.tab) this.#changes.set(SHOWN + name, undefined);
  }

  /** Keeps how far it is. If that fails, the next call keeps it too; after a crash in between events come again. */
  async #keep(): Promise<void> {
    if (this.tab || !this.#changes.size) return;
    const changes = this.#changes;
    this.#changes = new Map();
    try {
      await this.storage.write(changes, false);
    } catch {
      this.#changes = new Map([...changes, ...this.#changes]);
    }
  }
}

export const outcomeOf = (outcome: Outcome): number | Refused | Unanswered =>
  'mid' in outcome
    ? outcome.mid
    : outcome.code
      ? new Refused(outcome.code, outcome.message)
      : new Unanswered(outcome.message);
