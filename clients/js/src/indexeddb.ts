import type { Record, Storage } from './storage.js';

const RECORDS = 'records';

/** Keeps everything in one IndexedDB database of the page's origin; tabs may use it at the same time. */
export class IndexedDBStorage implements Storage {
  readonly #name: string;
  #database: Promise<IDBDatabase> | undefined;

  /** name: of the database; one for each user. */
  constructor(name: string) {
    this.#name = name;
  }

  async read(from: string, to: string, limit = Infinity, last = false): Promise<Record[]> {
    const store = (await this.#open()).transaction(RECORDS).objectStore(RECORDS);
    const range = IDBKeyRange.bound(from, to, false, true);
    const found: Record[] = [];
    await new Promise<void>((resolve, reject) => {
      const cursors = store.openCursor(range, last ? 'prev' : 'next');
      cursors.onerror = () => reject(cursors.error);
      cursors.onsuccess = () => {
        const cursor = cursors.result;
        if (!cursor || found.length >= limit) return resolve();
        found.push([cursor.key as string, cursor.value]);
        cursor.continue();
      };
    });
    return last ? found.reverse() : found;
  }

  async write(changes: ReadonlyMap<string, unknown>, durable: boolean): Promise<void> {
    const durability = durable ? 'strict' : 'relaxed';
    const transaction = (await this.#open()).transaction(RECORDS, 'readwrite', { durability });
    const store = transaction.objectStore(RECORDS);
    const kept = new Promise<void>((resolve, reject) => {
      transaction.oncomplete = () => resolve();
      transaction.onabort = transaction.onerror = () => reject(transaction.error ?? new Error('not written'));
    });
    for (const [key, value] of changes) {
      if (value === undefined) store.delete(key);
      else store.put(value, key);
    }
    await kept;
  }

  async close(): Promise<void> {
    const database = this.#database;
    this.#database = undefined;
    (await database?.catch(() => undefined))?.close();
  }

  /** Opens it, again where the browser has closed it: it does that when the user clears data, or disks fail. */
  #open(): Promise<IDBDatabase> {
    this.#database ??= new Promise<IDBDatabase>((resolve, reject) => {
      const opening = indexedDB.open(this.#name, 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore(RECORDS);
      opening.onerror = () => reject(opening.error);
      opening.onsuccess = () => {
        const database = opening.result;
        database.onclose = () => (this.#database = undefined);
        resolve(database);
      };
    }).catch((error: unknown) => {
      this.#database = undefined;
      throw error;
    });
    return this.#database;
  }
}
