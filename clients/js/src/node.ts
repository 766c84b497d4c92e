/** Everything for Node: what browsers have, and a storage in a file. */
export { StateDamaged, StateInUse } from './errors.js';
export { FileStorage } from './file.js';
export * from './index.js';
