/** The pull endpoint as a client sees it: one page at a time. */
import type { Page, Position } from './book.js';
import { DeviceError, PullRefused, Unauthorized } from './errors.js';
import { Ended } from './flow.js';
import { type Entry, isInteger, isObject, type State } from './messages.js';
import { times } from './times.js';
import type { Login } from './login.js';

/** Messages asked for at a time, where the way carries them. Half as many after each page that was cut. */
const PAGE = 200;

/** No answer of the service is nearly as long; what another sends in its place must not fill the memory. */
const MAX_BYTES = 64 * 1024 * 1024;

export type Fetch = (url: string, options: RequestInit) => Promise<Response>;

/** There is no page now. retryAfter: milliseconds to wait at least; refused: the token is not taken. */
export class PullFailed extends Error {
  constructor(
    reason: string,
    readonly retryAfter = 0,
    readonly refused = false,
  ) {
    super(reason);
  }
}

export class Puller {
  readonly #url: string;
  #limit = PAGE;

  constructor(
    url: string,
    private readonly login: Login,
    private readonly fetch: Fetch,
  ) {
    this.#url = `${url.replace(/\/+$/, '')}/pull`;
  }

  /** Asks for what comes after `position`. Throws PullFailed for what may pass by itself, DeviceError for what cannot. */
  async page(position: Position, signal: AbortSignal): Promise<Page> {
    const token = await this.login.token().catch((error: unknown) => {
      throw error instanceof DeviceError ? error : new PullFailed((error as Error).message);
    });
    let reached = false;
    const [status, retryAfter, text] = await this.#ask(position, token, signal, () => (reached = true)).catch((error) => {
      // A page that was cut comes through in parts, one that nobody began to answer does not.
      if (reached) this.#limit = this.#limit >> 1 || 1;
      if (signal.aborted) throw new Ended();
      throw new PullFailed(`${this.#url}: ${error}`);
    });
    if (status !== 200) throw this.#failure(status, retryAfter, text);
    const page = parsed(text, position);
    if (!page) throw new PullFailed(`${this.#url} answered no next page: ${text.slice(0, 100)}`);
    this.#limit = Math.min(PAGE, 2 * this.#limit);
    return page;
  }

  /** Returns status, Retry-After and body. Silence ends it, and time alone does not. */
  async #ask(
    { cursor, epoch }: Position,
    token: string,
    outer: AbortSignal,
    onAnswer: () => void,
  ): Promise<[number, string, string]> {
    const inner = new AbortController();
    const end = (): void => inner.abort();
    outer.addEventListener('abort', end);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const heard = (): void => {
      clearTimeout(timer);
      timer = setTimeout(() => inner.abort(new Error('nothing comes')), times.silence);
    };
    heard();
    try {
      const response = await this.fetch(
        `${this.#url}?last_id=${cursor}&limit=${this.#limit}${epoch && `&epoch=${encodeURIComponent(epoch)}`}`,
        {
          headers: { Authorization: `Bearer ${token}` },
          // The service does not redirect, and the token is not for others.
          redirect: 'error',
          cache: 'no-store',
          credentials: 'omit',
          signal: inner.signal,
        },
      );
      onAnswer();
      heard();
      return [response.status, response.headers.get('retry-after') ?? '', await bodyOf(response, heard, inner.signal)];
    } finally {
      clearTimeout(timer);
      outer.removeEventListener('abort', end);
      inner.abort();
    }
  }

  /** Only the service itself, known by its error codes, can say that asking again is of no use. */
  #failure(status: number, retryAfter: string, text: string): Error {
    const code = (json(text) as { error?: { code?: unknown } } | null | undefined)?.error?.code;
    const reason = `${this.#url} answered ${status}: ${text.slice(0, 300)}`;
    if (status === 403 && code === 'not_a_uid') return new Unauthorized(reason);
    if (status === 400 && code === 'bad_argument') return new PullRefused(reason);
    const wait = /^\d+$/.test(retryAfter) ? Math.min(Number(retryAfter) * 1000, times.maxRetryAfter) : 0;
    return new PullFailed(reason, wait, status === 401 || status === 403);
  }
}

async function bodyOf(response: Response, heard: () => void, signal: AbortSignal): Promise<string> {
  // React Native has no streams: there the silence is that of the whole.
  const reader = response.body?.getReader?.();
  if (!reader) return response.text();
  // Node's `fetch` forgets the signal once garbage was collected.
  signal.onabort = () => reader.cancel().catch(() => undefined);
  const decoder = new TextDecoder();
  let [text, length] = ['', 0];
  for (;;) {
    const { done, value } = await reader.read();
    if (signal.aborted) throw signal.reason;
    if (done) return text + decoder.decode();
    heard();
    length += value.length;
    if (length > MAX_BYTES) throw new Error('the answer has no end');
    text += decoder.decode(value, { stream: true });
  }
}

/** Returns the page; undefined for what no service of ours says, and for an old page of a cache. */
function parsed(text: string, asked: Position): Page | undefined {
  const answer = json(text);
  if (!isObject(answer)) return undefined;
  const { messages, states = [], last_id, epoch, key, more, truncated, reset, writes_wait } = answer;
  if (!isInteger(last_id) || typeof epoch !== 'string' || typeof key !== 'string') return undefined;
  if (!Array.isArray(messages) || !messages.every(isEntry) || !Array.isArray(states)) return undefined;
  const entries = messages as unknown as (Entry & { last_id: number })[];
  const same = epoch === asked.epoch && reset !== true;
  let place = same ? asked.cursor : -1;
  for (const { last_id: next } of entries) {
    if (next <= place) return undefined;
    place = next;
  }
  if (place > last_id || (more === true && same && last_id === asked.cursor)) return undefined;
  return {
    messages: entries,
    states: states.filter(isState) as unknown as State[],
    ...{ last_id, epoch, key },
    ...{ more: more === true, truncated: truncated === true, reset: reset === true, writes_wait: writes_wait === true },
  };
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const has = (value: unknown, types: object): boolean =>
  isObject(value) && Object.entries(types).every(([name, type]) => typeof value[name] === type);

const isEntry = (entry: unknown): boolean =>
  has(entry, { topic: 'string', from: 'string', id: 'string', last_id: 'number', mid: 'number' }) &&
  /^[\w+/]*=*$/.test(String((entry as Entry).payload_b64 ?? ''));

const STATES: { [kind: string]: object } = {
  read: { topic: 'string', mid: 'number' },
  setting: { key: 'string' },
  block: { uid: 'string', on: 'boolean' },
};

/** Says whether it is a state that this client knows. A service of another version may have more kinds. */
export const isState = (state: unknown): boolean =>
  has(state, { kind: 'string', at: 'number', ...STATES[String((state as State | null)?.kind)] }) &&
  String((state as State).kind) in STATES;
