// Keeps pages that a device has pulled, and says what is unread: a line of JSON has the pages, the answer is the counts.
// live: what they bring was heard and read while they were on their way.
import { createInterface } from 'node:readline';
import { Book } from '../build/book.js';
import { conversationOf, identity } from '../build/messages.js';
import { MemoryStorage } from '../build/storage.js';

for await (const line of createInterface({ input: process.stdin })) {
  const { uid, pages, live } = JSON.parse(line);
  const book = new Book(new MemoryStorage(), uid);
  await book.load();
  for (const page of pages) await book.take(page);
  const others = pages.flatMap(({ messages }) => messages).filter(({ from }) => live && from !== uid && from !== '0');
  const claims = others.map((entry) => [identity(entry), { conversation: conversationOf(entry.topic, entry.from, uid) }]);
  process.stdout.write(`${JSON.stringify(Object.fromEntries(await book.unread(new Map(claims))))}\n`);
}
