// Runs devices as the conformance cases say, for both programs that do so: in Node, and in a page of a browser.
import { Device } from '../build/device.js';
import { firstFree } from '../build/tabs.js';
import { times } from '../build/times.js';

const devices = new Map();
const [realNow, realTimes] = [Date.now, structuredClone(times)];

/** A storage that is full when the case says so. */
class Filling {
  writes = 0;
  sends = 0;

  constructor(inner) {
    this.inner = inner;
  }

  read(...range) {
    return this.inner.read(...range);
  }

  async write(changes, durable) {
    // Only what is to be sent has to outlast a power cut.
    if (this.writes > 0 || (durable && this.sends > 0)) {
      if (this.writes > 0) this.writes -= 1;
      else this.sends -= 1;
      throw new Error('QuotaExceededError: no space left');
    }
    await this.inner.write(changes, durable);
  }

  close() {
    return this.inner.close();
  }
}

function tokensOf(tokens) {
  const left = [...tokens];
  return async () => {
    const next = left.length > 1 ? left.shift() : left[0];
    if (next === null) throw new Error('there is none now');
    return next;
  };
}

async function open({ device: name, uid, url, tokens, path, clientid, clean, trusted, patience, share, ...ports }) {
  const storage = new Filling(await place.storage(path));
  const options = { uid, token: tokensOf(tokens), broker: place.broker(ports), url, storage, share };
  if (clientid !== undefined) options.clientid = clientid;
  const device = await Device.open({ ...options, cleanSession: clean, trustedSend: trusted, patience });
  const state = { device, storage, ended: undefined };
  devices.set(name, state);
  state.ended = (async () => {
    try {
      for await (const event of device) say({ device: name, event: plain(event) });
    } catch (error) {
      say({ device: name, event: { kind: 'ended', error: error.name } });
    }
  })();
}

function plain(event) {
  if (event.kind === 'received') {
    const { message, confirmed } = event;
    const { topic, conversation, sender, id, type, body, recalled, edited, payload } = message;
    const bytes = payload instanceof Uint8Array ? btoa(String.fromCharCode(...payload)) : undefined;
    return { kind: 'received', topic, conversation, sender, id, type, body, recalled, edited, bytes, confirmed };
  }
  if (event.kind === 'settled') return { ...event, outcome: outcomeOf(event.outcome) };
  return event;
}

const outcomeOf = (outcome) => (typeof outcome === 'number' ? { mid: outcome } : { error: outcome.name, code: outcome.code });

/** place: where the program runs: `storage(path)`, `broker(ports)`, `say(line)`. */
let place;
const say = (line) => place.say(line);

const run = {
  open,
  async close({ device: name }) {
    const { device, storage, ended } = devices.get(name);
    devices.delete(name);
    await device.close();
    await ended;
    await storage.close();
  },
  async call({ device, method, args }) {
    return devices.get(device).device[method](...args);
  },
  async group({ device, gid, method, args }) {
    return devices.get(device).device.group(gid)[method](...args);
  },
  /** Sends so many messages, one after the other. */
  async flood({ device, to, count }) {
    for (let number = 0; number < count; number++) await devices.get(device).device.send(to, number);
  },
  async messages({ device, conversation, limit }) {
    const messages = await devices.get(device).device.messages(conversation, { limit });
    return messages.map(({ sender, body }) => ({ sender, body }));
  },
  /** In pages only. */
  async firstFree({ name }) {
    return (await firstFree(name)).name;
  },
  async unread({ device }) {
    return Object.fromEntries(await devices.get(device).device.unread());
  },
  async states({ device }) {
    return devices.get(device).device.states();
  },
  async full({ device, writes = 0, sends = 0 }) {
    Object.assign(devices.get(device).storage, { writes, sends });
  },
  async clock({ shift }) {
    Date.now = () => realNow() + shift * 1000;
  },
  /** Seconds; what a case does not name is as ever. */
  async times({ seconds }) {
    Object.assign(times, structuredClone(realTimes));
    for (const [name, value] of Object.entries(seconds)) {
      if (!(name in times)) throw new Error(`there is no time ${name}`);
      times[name] = Array.isArray(value) ? value.map((part) => part * 1000) : value * 1000;
    }
  },
  async reset() {
    for (const name of [...devices.keys()]) await run.close({ device: name });
    Date.now = realNow;
  },
};

/** Does what a line says, and says how that went. */
export async function obey({ n, do: verb, ...rest }) {
  try {
    say({ n, result: (await run[verb](rest)) ?? null });
  } catch (error) {
    say({ n, error: error.name, code: error.code, message: String(error.message) });
  }
}

export function runIn(where) {
  place = where;
}
