// Calls of the service. Every call that changes something carries the session's token against cross-site requests.
export let session = null;
const listeners = { away: () => {}, out: () => {} };

/** Sets who is told that the service is away or back, and that the session is over. */
export const listen = (given) => Object.assign(listeners, given);

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export async function loadSession() {
  session = null;
  try {
    session = await call('GET', '/console/session');
  } catch (error) {
    if (error.status !== 401) throw error;
  }
  return session;
}

export const mayChange = () => session?.role === 'operator';
export const get = (path, query = {}) => call('GET', `/admin/${path}${search(query)}`);
export const post = (path, body = {}, query = {}) => call('POST', `/admin/${path}${search(query)}`, body);
export const put = (path, body = {}) => call('PUT', `/admin/${path}`, body);
export const remove = (path, query = {}) => call('DELETE', `/admin/${path}${search(query)}`);
export const at = (...parts) => parts.map(encodeURIComponent).join('/');

function search(query) {
  const given = Object.entries(query).filter(([, value]) => value !== '' && value !== null && value !== undefined);
  return given.length ? `?${new URLSearchParams(given)}` : '';
}

export async function call(method, path, body) {
  return read(...(await asked(method, path, body)));
}

/** Returns the text of one of the console's own files. */
export async function file(path) {
  const [status, text] = await asked('GET', path);
  return status < 300 ? text : read(status, text);
}

async function asked(method, path, body) {
  const headers = method === 'GET' ? {} : { 'X-CSRF-Token': session?.csrf ?? '', 'Content-Type': 'application/json' };
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    listeners.away(true);
    throw new ApiError(0, 'away', '');
  }
  listeners.away(answer.status === 502 || answer.status === 504);
  return [answer.status, await answer.text()];
}

/** Sends a file, and tells how much of it is there (0 to 1). */
export function upload(method, path, file, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, `/admin/${path}`);
    request.setRequestHeader('X-CSRF-Token', session?.csrf ?? '');
    request.setRequestHeader('Content-Type', 'text/plain');
    request.upload.onprogress = (event) => progress(event.loaded / Math.max(event.total, 1));
    request.onerror = () => {
      listeners.away(true);
      reject(new ApiError(0, 'away', ''));
    };
    request.onload = () => {
      try {
        resolve(read(request.status, request.responseText));
      } catch (error) {
        reject(error);
      }
    };
    request.send(file);
  });
}

function read(status, text) {
  let found = null;
  try {
    found = text ? JSON.parse(text) : null;
  } catch {
    throw new ApiError(status, 'error', text.slice(0, 200));
  }
  if (status < 300) return found;
  if (status === 401 && session) listeners.out();
  throw new ApiError(status, found?.error?.code ?? 'error', found?.error?.message ?? String(status));
}
