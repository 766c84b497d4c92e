/** Whether this device is alone, or one of several tabs that share it: one of them leads, and the others hear of it. */

export interface Tabs<T> {
  /** Names this tab among those that share the device; empty where it is alone. */
  readonly name: string;
  /** Tells the other tabs. */
  post(message: T): void;
  /** Runs `lead` in one of the tabs, in the next one when that ends. */
  join(hear: (message: T) => void, lead: () => void): void;
  /** Whether the tab of that name is still there. */
  isOpen(name: string): Promise<boolean>;
  leave(): void;
}

export const alone: Tabs<never> = {
  name: '',
  post: () => undefined,
  join: (_, lead) => lead(),
  isOpen: async () => false,
  leave: () => undefined,
};

/** Tabs that know each other by name: a Web Lock says who leads, a BroadcastChannel carries what is told. */
export class Shared<T> implements Tabs<T> {
  readonly name = crypto.randomUUID();
  readonly #channel: BroadcastChannel;
  readonly #lock: string;
  readonly #left = new AbortController();
  #release = (): void => undefined;

  constructor(name: string) {
    this.#lock = `emqx-im/${name}`;
    this.#channel = new BroadcastChannel(this.#lock);
  }

  post(message: T): void {
    this.#channel.postMessage(message);
  }

  join(hear: (message: T) => void, lead: () => void): void {
    this.#channel.onmessage = ({ data }) => hear(data as T);
    const held = (): Promise<void> => {
      lead();
      return new Promise((resolve) => (this.#release = resolve));
    };
    navigator.locks.request(this.#lock, { signal: this.#left.signal }, held).catch(() => undefined);
    const open = new Promise<void>((resolve) => this.#left.signal.addEventListener('abort', () => resolve()));
    void navigator.locks.request(`${this.#lock}/${this.name}`, () => open);
  }

  async isOpen(name: string): Promise<boolean> {
    const { held = [] } = await navigator.locks.query();
    return held.some((lock) => lock.name === `${this.#lock}/${name}`);
  }

  leave(): void {
    this.#left.abort();
    this.#release();
    this.#channel.close();
  }
}

/** Returns the first name of `name`, `name-1`, … that no other tab holds, which is this one's until it is closed. */
export async function firstFree(name: string): Promise<{ name: string; release: () => void }> {
  for (let number = 0; ; number++) {
    const candidate = number ? `${name}-${number}` : name;
    const release = await new Promise<(() => void) | undefined>((answered) => {
      void navigator.locks.request(
        `emqx-im/own/${candidate}`,
        { ifAvailable: true },
        (lock) => new Promise<void>((resolve) => (lock ? answered(resolve) : resolve(answered(undefined)))),
      );
    });
    if (release) return { name: candidate, release };
  }
}
