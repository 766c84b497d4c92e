/** Refusals that are final. Whatever may pass by itself, such as a refused login, is tried again instead. */

/** The device cannot go on, or its message was not accepted. */
export class DeviceError extends Error {
  override name = 'DeviceError';
}

/** The token is another user's, or belongs to nobody who is a user. */
export class Unauthorized extends DeviceError {
  override name = 'Unauthorized';
}

/** The service says that what is asked of it is wrong: the saved place is not one. */
export class PullRefused extends DeviceError {
  override name = 'PullRefused';
}

/** Another process has this storage open. */
export class StateInUse extends DeviceError {
  override name = 'StateInUse';
}

/** The storage does not hold what a device wrote. */
export class StateDamaged extends DeviceError {
  override name = 'StateDamaged';
}

/** The service refused a message (`im.error`). code: as in the table of error codes. */
export class Refused extends DeviceError {
  override name = 'Refused';
  readonly code: string;

  constructor(code: string, message: string) {
    super(`${code}: ${message}`);
    this.code = code;
  }
}

/** Neither acknowledged nor refused for so long that sending it again could store it twice. */
export class Unanswered extends DeviceError {
  override name = 'Unanswered';
}

/** The device was closed before the service answered. The message is kept, and the next run sends it. */
export class Closed extends DeviceError {
  override name = 'Closed';
}
