/** A file that keeps what a device must not forget: for Node. */
import { closeSync, fsyncSync, ftruncateSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { dirname, resolve } from 'node:path';
import { StateDamaged, StateInUse } from './errors.js';
import { type Record, type Storage, Table } from './storage.js';

/** A journal with so many times the lines that it needs, and more than this, is written anew. */
const ROOMY = 4;
const LONG = 10_000;

/**
 * One file of lines, each a write as a whole; a process killed at any moment leaves all of a write or nothing of it.
 *
 * It holds messages, so only its owner may read it. Everything that is kept is in memory, too.
 */
export class FileStorage implements Storage {
  readonly #path: string;
  readonly #table = new Table();
  readonly #lock: Server;
  #file: number;
  #length = 0;
  #lines = 0;

  private constructor(path: string, lock: Server) {
    this.#path = path;
    this.#lock = lock;
    try {
      this.#load();
      this.#file = openSync(path, 'a', 0o600);
      ftruncateSync(this.#file, this.#length);
    } catch (error) {
      lock.close();
      throw error;
    }
  }

  /** Rejects with StateInUse while another process has the file, StateDamaged, or the system's error. */
  static async open(path: string): Promise<FileStorage> {
    const whole = resolve(path);
    mkdirSync(dirname(whole), { recursive: true, mode: 0o700 });
    return new FileStorage(whole, await lock(whole));
  }

  async read(from: string, to: string, limit?: number, last?: boolean): Promise<Record[]> {
    return structuredClone(this.#table.read(from, to, limit, last));
  }

  async write(changes: ReadonlyMap<string, unknown>, durable: boolean): Promise<void> {
    const line = encode(changes);
    try {
      append(this.#file, line);
    } catch (error) {
      // Half a line, where the disk is full, must not stand before the next one.
      ftruncateSync(this.#file, this.#length);
      throw error;
    }
    this.#length += line.length;
    this.#lines += changes.size;
    this.#table.apply(structuredClone(changes));
    if (durable) fsyncSync(this.#file);
    if (this.#lines > Math.max(LONG, ROOMY * this.#table.size)) this.#shorten();
  }

  async close(): Promise<void> {
    closeSync(this.#file);
    await new Promise((closed) => this.#lock.close(closed));
  }

  /** Reads the lines, without a last one that is not whole: its write was never confirmed to anybody. */
  #load(): void {
    let content: Buffer;
    try {
      content = readFileSync(this.#path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      throw error;
    }
    this.#length = content.lastIndexOf('\n') + 1;
    const lines = content.subarray(0, this.#length).toString().split('\n');
    for (const line of lines.slice(0, -1)) {
      try {
        const changes = JSON.parse(line) as [string, unknown?][];
        this.#table.apply(changes.map(([key, value]) => [key, value] as const));
        this.#lines += changes.length;
      } catch {
        throw new StateDamaged(`${this.#path} is damaged: move it away to start from the oldest message kept`);
      }
    }
  }

  #shorten(): void {
    const fresh = `${this.#path}.new`;
    rmSync(fresh, { force: true });
    const file = openSync(fresh, 'ax', 0o600);
    const records = this.#table.read('', '\uffff');
    let length = 0;
    try {
      for (let start = 0; start < records.length; start += 1000) {
        length += append(file, encode(records.slice(start, start + 1000)));
      }
      fsyncSync(file);
      renameSync(fresh, this.#path);
    } catch {
      // The long file stays in use, and is shortened when there is room.
      closeSync(file);
      return;
    }
    closeSync(this.#file);
    [this.#file, this.#length, this.#lines] = [file, length, records.length];
  }
}

/** One line; a deleted key stands alone. */
function encode(changes: Iterable<readonly [string, unknown]>): Buffer {
  return Buffer.from(`${JSON.stringify([...changes].map(([key, value]) => (value === undefined ? [key] : [key, value])))}\n`);
}

function append(file: number, content: Buffer): number {
  for (let written = 0; written < content.length; ) written += writeSync(file, content, written);
  return content.length;
}

/** Listens beside the file for as long as the process lives, so that a lock whose process was killed is none. */
async function lock(path: string): Promise<Server> {
  const address = process.platform === 'win32' ? `\\\\.\\pipe\\${path.replaceAll(/\W/g, '-')}` : `${path}.lock`;
  for (let tries = 0; ; tries++) {
    const server = createServer((socket) => socket.destroy());
    const code = await new Promise<string | undefined>((answered) => {
      server.once('error', (error: NodeJS.ErrnoException) => answered(error.code ?? 'error'));
      server.listen(address, () => answered(undefined));
    });
    if (code === undefined) {
      server.unref();
      return server;
    }
    if (code !== 'EADDRINUSE') throw new Error(`${address} cannot be used as a lock: ${code}`);
    const alive = await new Promise<boolean>((answered) => {
      const asking = connect(address, () => answered(true)).once('error', () => answered(false));
      asking.once('close', () => asking.destroy());
    });
    if (alive || tries > 2) throw new StateInUse(`${path} is in use by another process`);
    rmSync(address, { force: true });
  }
}
