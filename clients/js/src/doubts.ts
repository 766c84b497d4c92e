/**
 * Topics about which the service says nothing, though it could.
 *
 * EMQX keeps for an hour what it decided about a connection, and MQTT 3.1.1 does not tell who is refused: after a denial of
 * the moment when the service was away, the broker takes what is sent and drops it. Only another connection helps then. It
 * costs a question about each topic that the device hears, so it is not the answer to a service that is away, or slow, or
 * has no room to store anything.
 */
import { Backoff, now } from './flow.js';
import { LinkDown } from './link.js';
import { times } from './times.js';

export class Doubts {
  readonly #longer = new Map<string, Backoff>();
  #deadlines = new Map<string, number>();
  #doubtedAt = new Map<string, number>();
  #lastChance = new Set<string>();

  constructor(private readonly pulling: { answeredAt: number; writesWait: boolean; ask(): void }) {}

  /** A new connection, on which nothing was sent yet. */
  begin(): void {
    this.#deadlines = new Map();
    this.#doubtedAt = new Map();
    this.#lastChance = new Set();
  }

  /** The broker has taken a message for the topic. */
  taken(topic: string): void {
    if (this.#deadlines.has(topic)) return;
    const longer = this.#longer.get(topic) ?? new Backoff(times.answer);
    this.#longer.set(topic, longer);
    this.#deadlines.set(topic, now() + longer.pause());
  }

  /** The service answered, so this connection carries what is sent to the topic. */
  answered(topic: string): void {
    this.#longer.delete(topic);
    this.#deadlines.delete(topic);
    this.#doubtedAt.delete(topic);
    this.#lastChance.delete(topic);
  }

  /** Nothing is expected any more about other topics. */
  keepOnly(topics: Set<string>): void {
    for (const topic of this.#longer.keys()) if (!topics.has(topic)) this.answered(topic);
  }

  /** When `check` is due. */
  nextTime(): number {
    return Math.min(Infinity, ...this.#deadlines.values());
  }

  /** Returns the topics to which everything is to be sent again now. Throws where another connection may help. */
  check(): Set<string> {
    const again = new Set<string>();
    for (const [topic, deadline] of this.#deadlines) {
      if (deadline > now()) continue;
      let pause = times.proof;
      const doubted = this.#doubtedAt.get(topic) ?? now();
      this.#doubtedAt.set(topic, doubted);
      if (this.pulling.answeredAt <= doubted) {
        this.pulling.ask();
      } else if (this.pulling.writesWait) {
        this.#doubtedAt.delete(topic);
        this.#lastChance.delete(topic);
        pause = this.#longer.get(topic)?.pause() ?? pause;
      } else if (this.#lastChance.has(topic)) {
        throw new LinkDown(`no answers on ${topic}`);
      } else {
        this.#lastChance.add(topic);
        again.add(topic);
      }
      this.#deadlines.set(topic, now() + pause);
    }
    return again;
  }
}
