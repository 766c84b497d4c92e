/** Messages on their way: sent at once and in order, then each again until the service acknowledges or refuses it. */
import type { Book, Outcome, Outgoing } from './book.js';
import { Doubts } from './doubts.js';
import { Backoff, Flag, now } from './flow.js';
import { isInteger, type JsonObject } from './messages.js';
import type { Pulling } from './pulling.js';
import { times } from './times.js';
import { receiverTopic, sendingTopic } from './trusted.js';

/** Codes that say nothing about other messages to the same topic. All devices of a user hear a refusal. */
const ABOUT_ONE_MESSAGE =
  /^(bad_command|bad_id|bad_json|bad_type|internal|payload_too_large|reserved_type|wrong_from)$/;

export class Sender {
  readonly #changed = new Flag();
  readonly #doubts: Doubts;
  #due = new Map<string, number>();
  #pauses = new Map<string, Backoff>();
  #heldUntil = 0;
  /** How many of the first unsent messages may be on their way; undefined: all. It grows again after a hold. */
  #pace: number | undefined;
  /** Why messages wait, while the pace is bounded. */
  #overBudget: Outcome | undefined;
  /** When each is given up, by a clock that never goes back. */
  readonly #ends = new WeakMap<Outgoing, number>();

  /** onOutcome: takes what became of a message. */
  constructor(
    private readonly book: Book,
    pulling: Pulling,
    private readonly patience: number,
    private readonly trustedSend: boolean,
    private readonly onOutcome: (outgoing: Outgoing & { key: string }, outcome: Outcome) => void,
  ) {
    this.#doubts = new Doubts(pulling);
  }

  /** There is something new to send. */
  wake(): void {
    this.#changed.set();
  }

  /** Takes the body of an `im.ack`. */
  acknowledged(body: JsonObject): void {
    if (isInteger(body['mid'])) this.#answered(String(body['id']), { mid: body['mid'] });
  }

  /** Takes the body of an `im.error`; without a `ref` it is about everything that waits for its `topic`. */
  refused(body: JsonObject): void {
    const { ref, topic, retry_after: retryAfter } = body;
    const code = String(body['code'] ?? '');
    const outcome = { code, message: String(body['message'] ?? '') };
    if (code === 'rate') return this.#hold(retryAfter, outcome);
    if (typeof ref === 'string' && ref) return this.#answered(ref, outcome);
    if (typeof topic !== 'string' || ABOUT_ONE_MESSAGE.test(code)) return;
    for (const outgoing of this.#unsent()) {
      if (receiverTopic(outgoing.topic) === receiverTopic(topic)) this.#answered(outgoing.id, outcome);
    }
  }

  /** Sends on a new connection until it ends. publish: resolves when the broker has it. */
  async keepSending(publish: (topic: string, payload: string) => Promise<void>, signal: AbortSignal): Promise<void> {
    this.#due = new Map();
    this.#pauses = new Map();
    this.#doubts.begin();
    for (;;) {
      this.#changed.clear();
      const pace = this.#pace;
      for (const outgoing of this.#unsent().slice(0, pace)) {
        if (this.#pace !== pace || signal.aborted) break;
        if (this.#isUnsent(outgoing) && this.#nextTime(outgoing) <= now()) await this.#send(publish, outgoing);
      }
      this.#forgetSettled();
      const next = this.#unsent().slice(0, this.#pace).map((outgoing) => this.#nextTime(outgoing));
      const ends = this.#unsent().map((outgoing) => this.#ends.get(outgoing) ?? Infinity);
      const due = Math.min(this.#doubts.nextTime(), ...next, ...ends) - now();
      await this.#changed.wait(signal, due + 1);
      if (this.#changed.isSet) continue;
      const again = this.#doubts.check();
      for (const { id, topic } of this.#unsent()) if (again.has(topic)) this.#due.delete(id);
    }
  }

  async #send(publish: (topic: string, payload: string) => Promise<void>, outgoing: Outgoing): Promise<void> {
    const { id, topic, payload } = outgoing;
    await publish(this.trustedSend ? sendingTopic(topic) : topic, payload);
    if (!this.#isUnsent(outgoing) || this.#heldUntil > now()) return;
    this.#doubts.taken(topic);
    const known = this.#pauses.get(id);
    // Unanswered, but not over the budget: it keeps back no others.
    if (known) this.#quicken();
    const pauses = known ?? new Backoff(times.resend);
    this.#pauses.set(id, pauses);
    this.#due.set(id, now() + pauses.pause());
  }

  /** Returns what is to be sent, in order; gives up what has waited for too long. */
  #unsent(): (Outgoing & { key: string })[] {
    for (const outgoing of this.book.unsent.values()) {
      const age = Date.now() - outgoing.created;
      const end = this.#ends.get(outgoing) ?? now() + this.patience - Math.max(0, age);
      this.#ends.set(outgoing, end);
      // The one clock is set wrongly at times, the other stops while a machine sleeps.
      if (age <= this.patience && now() <= end) continue;
      const message = `no answer to ${outgoing.id} in ${this.patience / 1000} s`;
      this.onOutcome(outgoing, this.#overBudget ?? { code: '', message });
    }
    return [...this.book.unsent.values()];
  }

  #isUnsent(outgoing: Outgoing): boolean {
    return this.book.unsent.has(outgoing.id);
  }

  #answered(id: string, outcome: Outcome): void {
    const outgoing = this.book.unsent.get(id);
    if (!outgoing) return;
    this.#doubts.answered(outgoing.topic);
    this.#due.delete(id);
    this.#pauses.delete(id);
    this.onOutcome(outgoing, outcome);
    this.#quicken();
  }

  /** Keeps everything for so many seconds: the budget is the user's, whatever the topic and the device. */
  #hold(retryAfter: unknown, outcome: Outcome): void {
    const wait = typeof retryAfter === 'number' && retryAfter > 0 ? retryAfter * 1000 : times.rate;
    this.#heldUntil = Math.max(this.#heldUntil, now() + wait);
    this.#overBudget = outcome;
    this.#pace = 1;
    // It is not known which messages were refused: all that were sent are sent again, and none is in doubt.
    this.#due.clear();
    this.#pauses.clear();
    this.#doubts.keepOnly(new Set());
    this.#changed.set();
  }

  /** Lets one more message be on its way: nothing says that the sender is still over the budget. */
  #quicken(): void {
    if (this.#pace === undefined || this.#heldUntil > now()) return;
    if (++this.#pace > this.book.unsent.size) this.#pace = this.#overBudget = undefined;
    this.#changed.set();
  }

  #nextTime({ id }: Outgoing): number {
    return Math.max(this.#due.get(id) ?? 0, this.#heldUntil);
  }

  #forgetSettled(): void {
    for (const map of [this.#due, this.#pauses]) {
      for (const id of map.keys()) if (!this.book.unsent.has(id)) map.delete(id);
    }
    this.#doubts.keepOnly(new Set(this.#unsent().map(({ topic }) => topic)));
  }
}
