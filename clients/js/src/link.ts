/** One MQTT connection, on MQTT.js. It ends when the broker is silent, however long anything else takes. */
import mqtt, { type IClientOptions, type ISubscriptionGrant, type MqttClient } from 'mqtt';
import { times } from './times.js';

/** Makes the connection; what MQTT.js's `connect` takes and gives. */
export type Connect = (url: string, options: IClientOptions) => MqttClient;

/** CONNACK codes for a refused password or user, of MQTT 3.1.1 and 5. */
const BAD_LOGIN = [4, 5, 134, 135];

/** There is no connection, or no longer. refused: the broker takes neither user nor token, or does not yet. */
export class LinkDown extends Error {
  constructor(
    reason: string,
    readonly refused = false,
  ) {
    super(reason);
  }
}

export interface Login {
  uid: string;
  clientid: string;
  token: string;
  cleanSession: boolean;
}

export class Link {
  /** Rejects when the connection ends. */
  readonly down: Promise<never>;
  readonly #client: MqttClient;
  readonly #up: Promise<void>;

  /** hear: takes each delivery. */
  constructor(
    connect: Connect,
    url: string,
    login: Login,
    hear: (topic: string, payload: Uint8Array, qos: number) => void,
  ) {
    const client = (this.#client = connect(url, {
      clientId: login.clientid,
      username: login.uid,
      password: login.token,
      clean: login.cleanSession,
      protocolVersion: 4,
      // The device has its own pauses, topics and unsent messages.
      reconnectPeriod: 0,
      resubscribe: false,
      queueQoSZero: false,
      connectTimeout: times.connect,
      keepalive: times.keepalive / 1000,
      will: { topic: `im/will/${login.uid}`, payload: '', qos: 1, retain: false } as IClientOptions['will'] & object,
    }));
    let reason = '';
    client.on('message', (topic, payload, { qos }) => hear(topic, payload, qos));
    this.#up = new Promise((resolve) => client.once('connect', () => resolve()));
    this.down = new Promise((_, reject) => {
      client.on('error', (error) => {
        reason = `: ${error.message}`;
        const { code } = error as { code?: unknown };
        if (!BAD_LOGIN.includes(code as number)) return;
        reject(new LinkDown(`the broker refuses user ${login.uid}${reason}`, true));
      });
      client.once('close', () => reject(new LinkDown(`no connection to the broker at ${url}${reason}`)));
    });
    this.down.catch(() => undefined);
  }

  /** Waits for the broker's answer to the login. */
  opened(): Promise<void> {
    return Promise.race([this.#up, this.down]);
  }

  /** Asks for the topics with QoS 1; returns which of them are granted. */
  subscribe(topics: string[]): Promise<boolean[]> {
    return this.#answered<boolean[]>((done) =>
      this.#client.subscribe(topics, { qos: 1 }, (error, granted, packet) => {
        // MQTT.js takes one refusal for the failure of all.
        const codes = (packet as { granted?: number[] } | undefined)?.granted ?? (error ? undefined : granted?.map(qosOf));
        if (codes?.length === topics.length) done(null, codes.map((code) => code < 2));
        else done(error ?? new Error('odd SUBACK'));
      }),
    );
  }

  unsubscribe(topics: string[]): Promise<void> {
    return this.#answered<void>((done) => this.#client.unsubscribe(topics, {}, (error) => done(error ?? null)));
  }

  /** Publishes with QoS 1; resolves when the broker has it. */
  publish(topic: string, payload: string): Promise<void> {
    return this.#answered<void>((done) => this.#client.publish(topic, payload, { qos: 1 }, (error) => done(error ?? null)));
  }

  /** Leaves. orderly: says so to the broker, where it listens. */
  async close(orderly: boolean): Promise<void> {
    const closed = this.down.catch(() => undefined);
    const timer = setTimeout(() => this.#client.end(true), orderly ? times.goodbye : 0);
    // MQTT.js would wait for answers to what was sent.
    if (orderly && this.#client.connected) this.#client.end(false, { reasonCode: 0 });
    await closed;
    clearTimeout(timer);
    this.#client.end(true);
  }

  #answered<T>(ask: (done: (error: Error | null, result?: T) => void) => void): Promise<T> {
    const answer = new Promise<T>((resolve, reject) => {
      ask((error, result) => (error ? reject(new LinkDown(error.message)) : resolve(result as T)));
    });
    return Promise.race([answer, this.down]);
  }
}

const qosOf = ({ qos }: ISubscriptionGrant): number => qos;

export const connect: Connect = (url, options) => mqtt.connect(url, options);
