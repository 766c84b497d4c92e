/** Trusted sending: users publish to `send/…`, and the broker says in what it delivers who sent it. */
import { type Entry, fromBase64, isInteger, isObject, objectIn, toBase64 } from './messages.js';

const RECEIVER = /^(single|group)\/[^/]+$/;

/** Where a message for the receiver's topic is published; commands and business topics stay as they are. */
export const sendingTopic = (topic: string): string => (RECEIVER.test(topic) ? `send/${topic}` : topic);

/** Returns the receiver's topic of a message that may have been published to `send/…`. */
export const receiverTopic = (topic: string): string => topic.replace(/^send\//, '');

/**
 * Returns the user's message in what the broker delivers; undefined where it is none: the service's own, a business
 * message. A message without an `id` of its own has the broker's, as in the pull.
 */
export function delivered(topic: string, payload: Uint8Array, qos: number): Entry | undefined {
  const wrapped = RECEIVER.test(topic) ? objectIn(payload) : undefined;
  const { from, guid, ts, message, message_b64: encoded } = wrapped ?? {};
  if (typeof from !== 'string' || typeof guid !== 'string' || !isInteger(ts)) return undefined;
  const about = { topic, from, qos, ts };
  const named = (fields: typeof wrapped) => (typeof fields?.['id'] === 'string' ? fields['id'] : guid);
  if (isObject(message)) return { ...about, id: named(message), payload: message };
  if (typeof encoded !== 'string') return undefined;
  try {
    const bytes = fromBase64(encoded);
    const fields = objectIn(bytes);
    return { ...about, id: named(fields), ...(fields ? { payload: fields } : { payload_b64: toBase64(bytes) }) };
  } catch {
    return undefined;
  }
}
