/** Where a device keeps what it must not forget. */

/** A key and its value: anything that JSON can say. */
export type Record = [key: string, value: unknown];

/**
 * A store of keys and values in order. An application may bring its own, over SQLite for instance: a table of two columns.
 *
 * Keys are compared by their UTF-16 code units, as JavaScript compares strings; values are what JSON can say.
 */
export interface Storage {
  /** Returns the records with `from` <= key < `to`, in order; at most `limit`, with `last` those of the end. */
  read(from: string, to: string, limit?: number, last?: boolean): Promise<Record[]>;
  /**
   * Writes all of it or nothing; `undefined` deletes. Resolves when it is kept, rejects when it is not.
   * durable: it must survive a power cut, not only the end of the program.
   */
  write(changes: ReadonlyMap<string, unknown>, durable: boolean): Promise<void>;
  close(): Promise<void>;
}

/** Returns what one key holds. */
export async function get<T>(storage: Storage, key: string): Promise<T | undefined> {
  return (await storage.read(key, `${key}\0`))[0]?.[1] as T | undefined;
}

/** Records in memory, sorted when somebody reads them. */
export class Table {
  #values = new Map<string, unknown>();
  #keys: string[] | undefined = [];

  get size(): number {
    return this.#values.size;
  }

  read(from: string, to: string, limit = Infinity, last = false): Record[] {
    if (to === `${from}\0`) return this.#values.has(from) ? [[from, this.#values.get(from)]] : [];
    this.#keys ??= [...this.#values.keys()].sort();
    let [start, end] = [this.#place(from), this.#place(to)];
    if (last) start = Math.max(start, end - limit);
    else end = Math.min(end, start + limit);
    return this.#keys.slice(start, end).map((key) => [key, this.#values.get(key)]);
  }

  apply(changes: Iterable<readonly [string, unknown]>): void {
    for (const [key, value] of changes) {
      const known = this.#values.has(key);
      if (value === undefined) this.#values.delete(key);
      else this.#values.set(key, value);
      if (this.#keys && known === (value === undefined)) {
        const place = this.#place(key);
        this.#keys.splice(place, known ? 1 : 0, ...(known ? [] : [key]));
      }
    }
  }

  /** Where the key stands or would stand. */
  #place(key: string): number {
    const keys = this.#keys ?? [];
    let [low, high] = [0, keys.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((keys[middle] as string) < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Forgets everything with the page or process. */
export class MemoryStorage implements Storage {
  readonly #table = new Table();

  async read(from: string, to: string, limit?: number, last?: boolean): Promise<Record[]> {
    return structuredClone(this.#table.read(from, to, limit, last));
  }

  async write(changes: ReadonlyMap<string, unknown>): Promise<void> {
    this.#table.apply(structuredClone(changes));
  }

  async close(): Promise<void> {
    // The object is the memory: a device that is opened with it again goes on.
  }
}
