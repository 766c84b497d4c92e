/**
 * The reference client of emqx-im: MQTT for what is live, the pull for what is true, nothing lost between.
 *
 * `README.md` has the first message in five minutes; `docs/clients.md` of the project is the protocol.
 */
export { type Group, type GroupSettings, newGroupId } from './commands.js';
export { Device, type Options } from './device.js';
export { Closed, DeviceError, PullRefused, Refused, Unanswered, Unauthorized } from './errors.js';
export { IndexedDBStorage } from './indexeddb.js';
export type { Connect } from './link.js';
export type { DeviceEvent, Json, JsonObject, Message, Report, State } from './messages.js';
export type { Fetch } from './pull.js';
export { MemoryStorage, type Record, type Storage } from './storage.js';
export { firstFree } from './tabs.js';
