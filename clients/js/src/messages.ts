/** Events of a device: messages, as they come live or pulled, and a few others. */
import type { Refused, Unanswered } from './errors.js';

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
export type JsonObject = { [name: string]: Json };

/** A message as the pull gives it and the storage keeps it. mid, last_id: microseconds; ts: milliseconds. */
export interface Entry {
  topic: string;
  from: string | null;
  id: string | null;
  qos: number;
  ts?: number;
  mid?: number;
  last_id?: number;
  payload?: JsonObject;
  payload_b64?: string;
  recalled?: { by: string; at: number };
  edited?: number;
}

/**
 * One message. A live message has no `mid`, and its sender is what it says; with trusted sending, what the broker says.
 * payload: the JSON object that was published, the bytes where it was none, null where it was recalled.
 * conversation: where a user finds it: `single/<the other one>` for private messages, else the topic.
 */
export interface Message {
  topic: string;
  conversation: string;
  sender: string | null;
  id: string | null;
  type: string | null;
  body: Json | undefined;
  payload: JsonObject | Uint8Array | null;
  qos: number;
  ts?: number;
  mid?: number;
  lastId?: number;
  recalled?: { by: string; at: number };
  edited?: number;
}

/** A read mark (`by`: of somebody else), a setting or a block, which holds until it changes. */
export type State =
  | { kind: 'read'; topic: string; by?: string; mid: number; at: number }
  | { kind: 'setting'; key: string; value: Json; at: number }
  | { kind: 'block'; uid: string; on: boolean; at: number };

/** Trouble: the device is not up to date, and goes on trying. LoginRefused: for minutes, because of user or token. */
export type Report =
  | { kind: 'trouble'; reason: string }
  | { kind: 'loginRefused'; reason: string }
  | { kind: 'recovered' };

export type DeviceEvent =
  /** confirmed: the sender is the truth. Otherwise a claim, which a pull repeats only if it was wrong. */
  | { kind: 'received'; message: Message; confirmed: boolean }
  | { kind: 'recalled'; topic: string; mid: number; by: string }
  | { kind: 'edited'; topic: string; mid: number; type: string | null; body: Json | undefined }
  | { kind: 'state'; state: State }
  /** The device was away for longer than messages are kept: what follows starts at the window's edge. */
  | { kind: 'truncated' }
  /** Tells what became of a message that nobody waits for any more; outcome: its `mid`, or why it has none. */
  | { kind: 'settled'; id: string; topic: string; outcome: number | Refused | Unanswered }
  | Report;

const utf8 = new TextDecoder('utf-8', { fatal: true });

/** A message as the broker delivered it; `from` and `id` are its own claims. */
export function live(topic: string, payload: Uint8Array, qos: number): Entry {
  const fields = objectIn(payload);
  if (!fields) return { topic, from: null, id: null, qos, payload_b64: toBase64(payload) };
  const { from, id } = fields;
  const sender = typeof from === 'string' ? from : typeof from === 'number' ? String(from) : null;
  return { topic, from: sender, id: typeof id === 'string' ? id : null, qos, payload: fields };
}

/** Returns the JSON object in the payload, undefined where there is none. */
export function objectIn(payload: Uint8Array): JsonObject | undefined {
  try {
    const fields = JSON.parse(utf8.decode(payload)) as Json;
    return isObject(fields) ? fields : undefined;
  } catch {
    return undefined;
  }
}

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export const isInteger = (value: unknown): value is number => Number.isSafeInteger(value);

/** Makes what the application sees. own: the user's id. */
export function messageOf(entry: Entry, own: string): Message {
  const { from: sender, last_id: lastId, payload, payload_b64: bytes, ...rest } = entry;
  return {
    ...rest,
    ...(lastId !== undefined && { lastId }),
    conversation: conversationOf(entry.topic, sender, own),
    sender,
    type: typeof payload?.['type'] === 'string' ? payload['type'] : null,
    body: payload?.['body'],
    payload: entry.recalled ? null : bytes === undefined ? (payload ?? {}) : fromBase64(bytes),
  };
}

export const conversationOf = (topic: string, from: string | null, own: string): string =>
  topic === `single/${own}` && from !== null ? `single/${from}` : topic;

/** Returns what makes two copies the same message; undefined for a live one that does not say. */
export const identity = ({ topic, from, id }: Entry): string | undefined =>
  from === null || id === null ? undefined : `${topic}\n${from}\n${id}`;

/** Returns what was said: the same text for the live and the pulled copy of one message. */
export const content = ({ payload, payload_b64: bytes, recalled }: Entry): string =>
  recalled ? 'recalled' : (bytes ?? canonical(payload ?? {}));

export function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    isObject(inner) ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1))) : inner,
  );
}

export const isTheServices = (entry: Entry): boolean => String(entry.payload?.['type'] ?? '').startsWith('im.');

export const toBase64 = (bytes: Uint8Array): string =>
  btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));

/** Throws where it is no base64. */
export const fromBase64 = (text: string): Uint8Array => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));

/** Says whether one can publish to it: MQTT's bounds, and no wildcards. */
export const isTopic = (topic: unknown): topic is string =>
  typeof topic === 'string' && topic !== '' && new TextEncoder().encode(topic).length <= 0xffff && !/[+#\0]/.test(topic);
