/** How long things take, in milliseconds; a pair is the first pause and the longest. docs/clients.md has the reasons. */
export const times = {
  /** For the TCP connection, TLS, and the broker's answer to the login. */
  connect: 30_000,
  /** Without a byte from the broker, after which it is asked whether it is there. */
  keepalive: 30_000,
  /** For leaving in an orderly way. */
  goodbye: 3_000,
  /** Between connections, and between tries of a pull. */
  pauses: [500, 60_000] as [number, number],
  /** A connection that lasts this long is not a sign of another device with the same clientid. */
  steady: 10_000,
  /** Without a byte of a page, or for an HTTP connection. */
  silence: 30_000,
  /** The most that a service may ask to wait. */
  maxRetryAfter: 300_000,
  /** After a SUBACK, until a pull begins once more, for which live messages wait: it has what was routed before. */
  pullAgain: 2_000,
  /** How long live messages wait for a pull that fails: what it brings is earlier. */
  hold: 10_000,
  /** Between pulls that nothing asked for. */
  pullEvery: [240_000, 360_000] as [number, number],
  /** At most until a pull that a hint of anybody's asks for: many devices hear the same hint. */
  hint: 1_000,
  /** How long one SUBSCRIBE should take. */
  subscribe: 3_000,
  /** Until refused topics are asked for again, and until that is tried on another connection. */
  subscribeAgain: [30_000, 600_000] as [number, number],
  subscribeAnew: [300_000, 3_600_000] as [number, number],
  /** Until a message is sent again. */
  resend: [4_000, 60_000] as [number, number],
  /** Without any answer about a topic, after which the connection is doubted; and what a proof may take. */
  answer: [40_000, 900_000] as [number, number],
  proof: 10_000,
  /** Without sending anything after `rate`, where the service does not say how long. */
  rate: 30_000,
  /** How long refusals last before the application is told that the login is refused. */
  login: 180_000,
  /** Between looks at the clock: one that has jumped further than `keepalive` was asleep. */
  tick: 5_000,
};
