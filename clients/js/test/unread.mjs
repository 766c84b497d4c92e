// Keeps pages that a device has pulled, and says what is unread: a line of JSON has the pages, the answer is the counts.
import { createInterface } from 'node:readline';
import { Book } from '../build/book.js';
import { MemoryStorage } from '../build/storage.js';

for await (const line of createInterface({ input: process.stdin })) {
  const { uid, pages } = JSON.parse(line);
  const book = new Book(new MemoryStorage(), uid);
  await book.load();
  for (const page of pages) await book.take(page);
  process.stdout.write(`${JSON.stringify(Object.fromEntries(await book.unread()))}\n`);
}
