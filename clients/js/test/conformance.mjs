// Runs devices in Node: commands come as lines of JSON, answers and events go the same way.
// clients/conformance/README.md describes the lines.
import { createInterface } from 'node:readline';
import { FileStorage } from '../build/file.js';
import { obey, runIn } from './devices.mjs';

// Nothing that a device still needs may be garbage, whenever Node collects that.
setInterval(globalThis.gc, 100).unref();

runIn({
  storage: (path) => FileStorage.open(path),
  broker: ({ port }) => `mqtt://127.0.0.1:${port}`,
  say: (line) => process.stdout.write(`${JSON.stringify(line)}\n`),
});

for await (const line of createInterface({ input: process.stdin })) void obey(JSON.parse(line));
await obey({ n: 0, do: 'reset' });
