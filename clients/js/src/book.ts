/** Keeps all that a device knows in one storage: its place, messages, states, unanswered messages, and events. */
import {
  canonical,
  conversationOf,
  type DeviceEvent,
  type Entry,
  identity,
  isInteger,
  isObject,
  type JsonObject,
  type State,
} from './messages.js';
import { Turns } from './flow.js';
import { get, type Storage } from './storage.js';

/** A place in the user's sequence. cursor: microseconds, 0 for the window's start; epoch: of the store. */
export interface Position {
  cursor: number;
  epoch: string;
}

/** A message on its way. created: milliseconds; payload: JSON, the same at every resend; tab: which of several sent it. */
export interface Outgoing {
  id: string;
  topic: string;
  payload: string;
  created: number;
  tab: string;
}

/** How a message ended: its `mid`, or why it has none. */
export type Outcome = { mid: number } | { code: string; message: string };

/** One answer of the service. key: its secret with this user; writes_wait: it stores nothing now, for lack of room. */
export interface Page {
  messages: Entry[];
  states: State[];
  last_id: number;
  epoch: string;
  more: boolean;
  truncated: boolean;
  reset: boolean;
  key: string;
  writes_wait: boolean;
}

/** Events, in the order in which applications read them. tab: the one that knows of it already. */
export type Logged =
  | { kind: 'message'; key: string; tab?: string }
  | { kind: 'event'; event: DeviceEvent; tab?: string }
  | { kind: 'settled'; id: string; topic: string; outcome: Outcome };

/** Entries of the log that are kept for tabs that have not read them. */
const LOGGED = 10_000;

export const digits = (number: number): string => String(number).padStart(16, '0');
const UNSENT = 'q/';
const LOG = 'l/';
const STATE = 'z/';
const END = '\uffff';
const COMMAND = /^((?:single|group|business)\/[^/]+)\/(read|set|block|unblock|recall|edit)$/;
export const messageKey = (conversation: string, mid: number): string => `m/${conversation}\n${digits(mid)}`;
const unreadKey = (conversation: string, mid: number): string => `u/${conversation}\n${digits(mid)}`;

/** Changes that are not written yet, over what the storage has. */
class Draft {
  readonly changes = new Map<string, unknown>();
  #seq: number;

  constructor(
    private readonly storage: Storage,
    seq: number,
  ) {
    this.#seq = seq;
  }

  get seq(): number {
    return this.#seq;
  }

  async get<T>(key: string): Promise<T | undefined> {
    return this.changes.has(key) ? (this.changes.get(key) as T | undefined) : get(this.storage, key);
  }

  log(entry: Logged): void {
    this.changes.set(LOG + digits(++this.#seq), entry);
  }

  async deleteAll(from: string, to: string): Promise<void> {
    for (const [key] of await this.storage.read(from, to)) this.changes.set(key, undefined);
    for (const key of this.changes.keys()) if (key >= from && key < to) this.changes.set(key, undefined);
  }
}

/** own: the user's id. One after the other everything is read, changed and written as a whole. */
export class Book {
  device = '';
  position: Position = { cursor: 0, epoch: '' };
  /** Messages that are not answered yet, in the order of sending, with the keys under which they are kept. */
  readonly unsent = new Map<string, Outgoing & { key: string }>();
  readonly #turns = new Turns();
  /** Messages that are answered, though that could not be written. */
  readonly #answered = new Set<string>();
  readonly #settling = new Map<string, Outgoing>();
  #seq = 0;

  constructor(
    readonly storage: Storage,
    readonly own: string,
  ) {}

  /** Reads what an earlier run has left. */
  async load(): Promise<void> {
    const draft = new Draft(this.storage, 0);
    this.device = (await draft.get<string>('device')) ?? '';
    if (!this.device) {
      this.device = crypto.randomUUID().replaceAll('-', '').slice(0, 16);
      await this.storage.write(new Map([['device', this.device]]), true);
    }
    const place = await draft.get<Position & { seq: number }>('place');
    if (place) {
      this.position = { cursor: place.cursor, epoch: place.epoch };
      this.#seq = place.seq;
    }
    this.unsent.clear();
    await this.loadUnsent();
  }

  /** Takes up what other tabs have added. */
  async loadUnsent(): Promise<void> {
    for (const [key, outgoing] of await this.storage.read(UNSENT, UNSENT + END)) {
      const { id } = outgoing as Outgoing;
      if (!this.unsent.has(id) && !this.#answered.has(id)) this.unsent.set(id, { ...(outgoing as Outgoing), key });
    }
  }

  async add(outgoing: Outgoing, place: number): Promise<void> {
    const key = `${UNSENT}${digits(outgoing.created)}${digits(place)}${outgoing.id}`;
    await this.#turns.take(() => this.storage.write(new Map([[key, outgoing]]), true));
    this.unsent.set(outgoing.id, { ...outgoing, key });
  }

  /** Ends a message's way; what it changed is kept with that. told: somebody waits for the outcome. */
  settle(outgoing: Outgoing & { key: string }, outcome: Outcome, told: boolean): Promise<void> {
    this.unsent.delete(outgoing.id);
    this.#answered.add(outgoing.id);
    this.#settling.set(outgoing.id, outgoing);
    return this.#change(async (draft) => {
      this.#settling.delete(outgoing.id);
      draft.changes.set(outgoing.key, undefined);
      if (!told && outgoing.tab) draft.changes.set(`o/${outgoing.id}`, outcome);
      if ('mid' in outcome) await this.#takeOwn(draft, outgoing, outcome.mid);
      if (!told) draft.log({ kind: 'settled', id: outgoing.id, topic: outgoing.topic, outcome });
    });
  }

  /** Takes a pulled page: messages, states and the new place in one write. */
  take(page: Page): Promise<void> {
    const position = { cursor: page.last_id, epoch: page.epoch };
    return this.#change(async (draft) => {
      if (page.reset) await draft.deleteAll(STATE, STATE + END);
      if (page.truncated) draft.log({ kind: 'event', event: { kind: 'truncated' } });
      for (const state of page.states) await this.#takeState(draft, state);
      for (const entry of page.messages) await this.#takeMessage(draft, entry);
      draft.changes.set('place', { ...position, seq: draft.seq });
    }).then(() => void (this.position = position));
  }

  /** Takes a state that came live: the same will come in a pull. */
  takeState(state: State): Promise<void> {
    return this.#change((draft) => this.#takeState(draft, state));
  }

  /** Returns how many messages of others each conversation has above the user's read mark. claims: live ones, by identity. */
  unread(claims = new Map<string, { conversation: string }>()): Promise<Map<string, number>> {
    return this.#turns.take(async () => {
      const counts = new Map<string, number>();
      const records = await this.storage.read('u/', `u/${END}`);
      const names = records.map(([key]) => key.slice(2, key.indexOf('\n')));
      for (const [name, { conversation }] of claims) {
        // One that was read while a pull was on its way may be in its page.
        if ((await get(this.storage, `i/${name}`)) === undefined) names.push(conversation);
      }
      for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
      return counts;
    });
  }

  /** Forgets the log but its end; for tabs that share it, as nobody knows what each has read. */
  async trim(): Promise<void> {
    const old = await this.storage.read(LOG, LOG + digits(Math.max(0, this.#seq - LOGGED)));
    const outcomes = await this.storage.read('o/', `o/${END}`);
    const changes = [...old, ...outcomes.slice(0, -LOGGED)].map(([key]) => [key, undefined] as const);
    if (changes.length) await this.storage.write(new Map(changes), false);
  }

  async #takeMessage(draft: Draft, entry: Entry): Promise<void> {
    const { topic, from, mid = 0 } = entry;
    const name = `i/${identity(entry)}`;
    const known = await draft.get<string>(name);
    if (known !== undefined) {
      // The user's own message, kept when it was acknowledged, or all of it again after the store was lost.
      const kept = await draft.get<Entry>(known);
      if (kept && kept.mid === mid && newest(kept) <= newest(entry)) draft.changes.set(known, entry);
      return;
    }
    const notice = from === '0' ? String(entry.payload?.['type'] ?? '') : '';
    if (notice === 'im.recalled' || notice === 'im.edited') {
      draft.changes.set(name, '');
      await this.#takeChange(draft, topic, mid, notice, entry.payload?.['body']);
      return;
    }
    const conversation = conversationOf(topic, from, this.own);
    const key = messageKey(conversation, mid);
    draft.changes.set(name, key);
    draft.changes.set(key, entry);
    if (conversation !== topic) draft.changes.set(`x/${digits(mid)}`, key);
    const sent = this.unsent.get(entry.id ?? '') ?? this.#settling.get(entry.id ?? '');
    if (from !== this.own && from !== '0' && !entry.recalled) {
      const mark = await draft.get<State>(`${STATE}read\n${conversation}\n`);
      if (mark?.kind !== 'read' || mark.mid < mid) draft.changes.set(unreadKey(conversation, mid), 1);
    }
    draft.log({ kind: 'message', key, ...(sent?.topic === topic && from === this.own && { tab: sent.tab }) });
  }

  /** Takes a recall or an edit; `at` orders them, and a repeat is not reported again. */
  async #takeChange(draft: Draft, topic: string, at: number, notice: string, body: unknown, tab?: string): Promise<void> {
    if (!isObject(body) || !isInteger(body['mid'])) return;
    const mid = body['mid'];
    // To the sender's devices it comes on their own topic, with the next id.
    if (typeof body['topic'] === 'string') {
      at -= Number(topic !== body['topic']);
      topic = body['topic'];
    }
    const key = (topic === `single/${this.own}` && (await draft.get<string>(`x/${digits(mid)}`))) || messageKey(topic, mid);
    const kept = await draft.get<Entry>(key);
    if (kept && (kept.recalled || newest(kept) >= at)) return;
    const to = tab === undefined ? {} : { tab };
    if (notice === 'im.recalled') {
      const by = String(body['by'] ?? '');
      if (kept) {
        const { payload: _, payload_b64: __, ...rest } = kept;
        draft.changes.set(key, { ...rest, recalled: { by, at } });
        draft.changes.set(`u/${key.slice(2)}`, undefined);
      }
      draft.log({ kind: 'event', event: { kind: 'recalled', topic, mid, by }, ...to });
    } else {
      const type = typeof body['type'] === 'string' ? body['type'] : null;
      if (kept) {
        const { payload_b64: _, ...rest } = kept;
        const payload = { id: kept.id, ...(type !== null && { type }), ...('body' in body && { body: body['body'] }) };
        draft.changes.set(key, { ...rest, payload, edited: at });
      }
      draft.log({ kind: 'event', event: { kind: 'edited', topic, mid, type, body: body['body'] }, ...to });
    }
  }

  /** The newest of each state counts, and the highest read mark; a repeat is not reported again. */
  async #takeState(draft: Draft, state: State, tab?: string): Promise<void> {
    const key = stateKey(state);
    const known = await draft.get<State>(key);
    if (known && (state.kind === 'read' && known.kind === 'read' ? known.mid > state.mid : known.at > state.at)) return;
    draft.changes.set(key, known && known.at > state.at ? { ...state, at: known.at } : state);
    if (known && canonical({ ...known, at: 0 }) === canonical({ ...state, at: 0 })) return;
    if (state.kind === 'read' && state.by === undefined) {
      await draft.deleteAll(unreadKey(state.topic, 0), unreadKey(state.topic, state.mid + 1));
    }
    draft.log({ kind: 'event', event: { kind: 'state', state }, ...(tab !== undefined && { tab }) });
  }

  /** Takes over what the user's own message changed once it is stored: no other message tells this device of it. */
  async #takeOwn(draft: Draft, { id, topic, payload, created, tab }: Outgoing, mid: number): Promise<void> {
    const fields = JSON.parse(payload) as JsonObject;
    const command = COMMAND.exec(topic);
    if (command) {
      const [, about = '', verb = ''] = command;
      if (verb === 'recall') await this.#takeChange(draft, about, mid, 'im.recalled', { ...fields, by: this.own }, tab);
      else if (verb === 'edit') await this.#takeChange(draft, about, mid, 'im.edited', fields, tab);
      else {
        const state = stateOf(about, verb, fields);
        // Its place among others is not known before it is pulled.
        state.at = (await draft.get<State>(stateKey(state)))?.at ?? 0;
        await this.#takeState(draft, state, tab);
      }
      return;
    }
    if (!/^(single|group)\/[^/]+$/.test(topic)) return;
    const entry: Entry = { topic, from: this.own, id, qos: 1, mid, ts: created, payload: fields };
    const name = `i/${identity(entry)}`;
    if ((await draft.get(name)) !== undefined) return;
    const key = messageKey(topic, mid);
    draft.changes.set(name, key);
    draft.changes.set(key, entry);
    draft.log({ kind: 'message', key, tab });
  }

  /** Waits until everything is written. */
  idle(): Promise<void> {
    return this.#turns.take(async () => undefined);
  }

  #change(edit: (draft: Draft) => Promise<void>): Promise<void> {
    return this.#turns.take(async () => {
      const draft = new Draft(this.storage, this.#seq);
      await edit(draft);
      if (draft.seq !== this.#seq && !draft.changes.has('place')) {
        draft.changes.set('place', { ...this.position, seq: draft.seq });
      }
      if (draft.changes.size) await this.storage.write(draft.changes, false);
      this.#seq = draft.seq;
    });
  }
}

const newest = (entry: Entry): number => (entry.recalled ? Infinity : (entry.edited ?? 0));

function stateKey(state: State): string {
  const of =
    state.kind === 'read' ? `${state.topic}\n${state.by ?? ''}` : state.kind === 'setting' ? state.key : state.uid;
  return `${STATE}${state.kind}\n${of}`;
}

/** The state that a command makes. about: the topic that it was sent to, without the verb. */
function stateOf(about: string, verb: string, fields: JsonObject): State {
  const at = 0;
  if (verb === 'read') return { kind: 'read', topic: about, mid: Number(fields['mid']), at };
  if (verb === 'set') return { kind: 'setting', key: String(fields['key']), value: fields['value'] ?? null, at };
  return { kind: 'block', uid: about.replace('single/', ''), on: verb === 'block', at };
}
