// Serves the chat, gives out tokens, and passes pulls on: what a back end of your own would do. For trying out only: anybody
// who asks gets a token for any user.
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const repository = join(here, '../../../..');
const { PORT = '3000', SERVICE = 'http://127.0.0.1:8080', BROKER = 'ws://127.0.0.1:8083/mqtt' } = process.env;
const { EMQX_IM = join(repository, '.venv/bin/emqx-im'), DATA_DIR = join(repository, '.emqx-im') } = process.env;

const client = createRequire(import.meta.url).resolve('@emqx-im/client/package.json');
const mqtt = createRequire(client).resolve('mqtt/package.json');
const FILES = {
  '/': [join(here, 'index.html'), 'text/html; charset=utf-8'],
  '/chat.js': [join(here, 'chat.js'), 'text/javascript'],
  '/client.js': [join(dirname(client), 'dist/esm/index.js'), 'text/javascript'],
  '/mqtt.js': [join(dirname(mqtt), 'dist/mqtt.esm.js'), 'text/javascript'],
};

/** Tokens are for an hour, and given out for half of that: making one takes a second. */
const tokens = new Map();

function token(uid) {
  const known = tokens.get(uid);
  if (known && known.until > Date.now()) return known.token;
  const made = new Promise((resolve, reject) => {
    const args = ['token', '--uid', uid, '--ttl', '3600', '--data-dir', DATA_DIR];
    execFile(EMQX_IM, args, (error, output, complaint) => (error ? reject(new Error(complaint)) : resolve(output.trim())));
  });
  tokens.set(uid, { token: made, until: Date.now() + 1_800_000 });
  made.catch(() => tokens.delete(uid));
  return made;
}

function pull(asked, response) {
  const headers = { authorization: asked.headers.authorization ?? '' };
  const passed = request(SERVICE + asked.url, { headers }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  passed.on('error', () => response.writeHead(502).end());
  response.on('close', () => passed.destroy());
  passed.end();
}

const server = createServer(async (asked, response) => {
  const url = new URL(asked.url, 'http://localhost');
  try {
    if (url.pathname === '/pull') return pull(asked, response);
    if (url.pathname === '/broker') return response.end(BROKER);
    if (url.pathname === '/token') return response.end(await token(url.searchParams.get('uid') ?? ''));
    const [file, type] = FILES[url.pathname] ?? [];
    if (!file) return response.writeHead(404).end();
    response.writeHead(200, { 'Content-Type': type }).end(await readFile(file));
  } catch (error) {
    response.writeHead(500).end(String(error.message));
  }
});
server.listen(Number(PORT), '127.0.0.1', () => console.log(`chat on http://127.0.0.1:${server.address().port}`));
