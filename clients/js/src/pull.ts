/** The pull endpoint as a client sees it: one page at a time. */
import type { Page, Position } from './book.js';
import { DeviceError, PullRefused, Unauthorized } from './errors.js';
import { Ended } from './flow.js';
import { type Entry, fromBase64, isInteger, isObject, type State } from './messages.js';
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
      throw error instanceof DeviceError ? error : new PullFailed(String((error as Error).message));
    });
    let [status, retryAfter, text] = [0, '', ''];
    let reached = false;
    try {
      const answer = await this.#ask(position, token, signal, () => (reached = true));
      [status, retryAfter, text] = answer;
    } catch (error) {
      // A page that was cut comes through in parts, one that nobody began to answer does not.
      if (reached) this.#limit = Math.max(1, this.#limit >> 1);
      if (signal.aborted) throw new Ended();
      throw new PullFailed(`${this.#url}: ${String(error)}`);
    }
    if (status !== 200) throw this.#failure(status, retryAfter, text);
    const page = parsed(text, position);
    if (typeof page === 'string') throw new PullFailed(`${this.#url} answered what is ${page}: ${text.slice(0, 100)}`);
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
    const end = (): void => inner.abort(new Error('the connection to the broker ended'));
    outer.addEventListener('abort', end);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const heard = (): void => {
      clearTimeout(timer);
      timer = setTimeout(() => inner.abort(new Error('nothing came for too long')), times.silence);
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
      return [response.status, response.headers.get('retry-after') ?? '', await bodyOf(response, heard)];
    } finally {
      clearTimeout(timer);
      outer.removeEventListener('abort', end);
      inner.abort();
    }
  }

  /** Only the service itself, known by its error codes, can say that asking again is of no use. */
  #failure(status: number, retryAfter: string, text: string): Error {
    let code: unknown;
    try {
      code = (JSON.parse(text) as { error: { code: unknown } }).error.code;
    } catch {
      code = undefined;
    }
    const reason = `${this.#url} answered ${status}: ${text.slice(0, 300)}`;
    if (status === 403 && code === 'not_a_uid') return new Unauthorized(reason);
    if (status === 400 && code === 'bad_argument') return new PullRefused(reason);
    const wait = /^\d+$/.test(retryAfter) ? Math.min(Number(retryAfter) * 1000, times.maxRetryAfter) : 0;
    return new PullFailed(reason, wait, status === 401 || status === 403);
  }
}

async function bodyOf(response: Response, heard: () => void): Promise<string> {
  // React Native has no streams: there the silence is that of the whole.
  const reader = response.body?.getReader?.();
  if (!reader) return response.text();
  const decoder = new TextDecoder();
  let [text, length] = ['', 0];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    heard();
    length += value.length;
    if (length > MAX_BYTES) throw new Error(`the answer is over ${MAX_BYTES} bytes`);
    text += decoder.decode(value, { stream: true });
  }
}

/** Returns the page, or what it is instead: what no service of ours says. */
function parsed(text: string, asked: Position): Page | string {
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    return 'not a page';
  }
  if (!isObject(answer)) return 'not a page';
  const { messages, states = [], last_id, epoch, key, more, truncated, reset, writes_wait } = answer;
  if (!isInteger(last_id) || typeof epoch !== 'string' || typeof key !== 'string') return 'not a page';
  if (!Array.isArray(messages) || !messages.every(isEntry) || !Array.isArray(states)) return 'not a page';
  const entries = messages as unknown as (Entry & { last_id: number })[];
  const same = epoch === asked.epoch && reset !== true;
  let place = same ? asked.cursor : -1;
  for (const { last_id: next } of entries) {
    if (next <= place) return 'not in order';
    place = next;
  }
  if (place > last_id) return 'an old page';
  if (more === true && same && last_id === asked.cursor) return 'a page that does not go on';
  return {
    messages: entries,
    states: states.filter(isState) as unknown as State[],
    ...{ last_id, epoch, key },
    ...{ more: more === true, truncated: truncated === true, reset: reset === true, writes_wait: writes_wait === true },
  };
}

function isEntry(entry: unknown): boolean {
  if (!isObject(entry) || typeof entry['topic'] !== 'string' || typeof entry['from'] !== 'string') return false;
  if (!isInteger(entry['last_id']) || !isInteger(entry['mid']) || typeof entry['id'] !== 'string') return false;
  try {
    fromBase64(String(entry['payload_b64'] ?? ''));
    return true;
  } catch {
    return false;
  }
}

/** Says whether it is a state that this client knows. A service of another version may have more kinds. */
export function isState(state: unknown): boolean {
  if (!isObject(state) || !isInteger(state['at'])) return false;
  const { kind, topic, mid, key, uid, on } = state;
  if (kind === 'read') return typeof topic === 'string' && isInteger(mid);
  if (kind === 'setting') return typeof key === 'string' && 'value' in state;
  return kind === 'block' && typeof uid === 'string' && typeof on === 'boolean';
}
