// Runs devices in pages of Chromium: commands come as lines of JSON, answers and events go the same way.
// A command may name its `page`, one of a context's; `offline` cuts a page off, `quota` says how many bytes it may keep (null: as many as
// ever), `shut` closes it. Started with CHROMIUM, the command.
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, extname, join, normalize } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const mqtt = join(dirname(createRequire(import.meta.url).resolve('mqtt/package.json')), 'dist/mqtt.esm.js');
const PAGE = `<!doctype html><script type="importmap">{"imports": {"mqtt": "/mqtt.js"}}</script>
<script type="module">
  import { IndexedDBStorage } from '/build/indexeddb.js';
  import { obey, runIn } from '/test/devices.mjs';
  runIn({
    storage: async (path) => new IndexedDBStorage(path),
    broker: ({ ws }) => 'ws://127.0.0.1:' + ws + '/mqtt',
    say: (line) => window.say(line),
  });
  window.obey = obey;
</script>`;

const server = createServer(async ({ url }, response) => {
  const path = normalize(url);
  const file = path === '/mqtt.js' ? mqtt : join(root, path);
  const type = extname(path) === '' ? 'text/html' : 'text/javascript';
  const content = path === '/' ? PAGE : await readFile(file).catch(() => undefined);
  response.writeHead(content === undefined ? 404 : 200, { 'Content-Type': type }).end(content);
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const args = ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'];
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args });
const contexts = new Map();
const pages = new Map();

/** Pages whose names begin alike, up to a colon, share what is kept and told. */
async function pageOf(name) {
  if (!pages.has(name)) {
    const [group] = name.split(':');
    if (!contexts.has(group)) contexts.set(group, browser.newContext());
    const opening = contexts.get(group).then(async (context) => {
      const page = await context.newPage();
      await page.exposeFunction('say', say);
      await page.goto(`http://127.0.0.1:${server.address().port}/`);
      await page.waitForFunction(() => window.obey !== undefined);
      return page;
    });
    pages.set(name, opening);
  }
  return pages.get(name);
}

async function obey({ page: name = 'page', ...command }) {
  const page = await pageOf(name);
  if (command.do === 'offline') await page.context().setOffline(command.on);
  else if (command.do === 'quota') {
    const session = await page.context().newCDPSession(page);
    const bytes = command.bytes === null ? {} : { quotaSize: command.bytes };
    await session.send('Storage.overrideQuotaForOrigin', { origin: new URL(page.url()).origin, ...bytes });
  } else if (command.do === 'shut') {
    pages.delete(name);
    await page.close();
  } else return page.evaluate((line) => window.obey(line), command);
  say({ n: command.n, result: null });
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  obey(command).catch((error) => say({ n: command.n, error: 'BrowserError', message: String(error) }));
}
await browser.close();
server.close();
