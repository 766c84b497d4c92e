// Moves pages of Chromium as it is told by lines of JSON: `{"n", "do", "page", "selector", "value"}`. Pages whose names begin alike, up
// to a colon, are tabs of one browser profile. Started with CHROMIUM, the command.
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const args = ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'];
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args });
const profiles = new Map();
const pages = new Map();

async function pageOf(name) {
  const [profile] = name.split(':');
  if (!profiles.has(profile)) profiles.set(profile, browser.newContext());
  const context = await profiles.get(profile);
  if (!pages.has(name)) {
    const page = await context.newPage();
    page.on('pageerror', (error) => console.error(`${name}: ${error}`));
    page.on('console', (message) => message.type() === 'error' && console.error(`${name}: ${message.text()}`));
    pages.set(name, page);
  }
  return pages.get(name);
}

const run = {
  goto: (page, _, url) => page.goto(url).then(() => null),
  fill: (page, selector, value) => page.fill(selector, value),
  press: (page, selector, key) => page.press(selector, key),
  click: (page, selector) => page.click(selector),
  texts: (page, selector) => page.locator(selector).allInnerTexts(),
  shut: (page) => page.close(),
  eval: (page, _, value) => page.evaluate(value),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { n, do: verb, page, selector, value } = JSON.parse(line);
  pageOf(page)
    .then((found) => run[verb](found, selector, value))
    .then(
      (result) => say({ n, result: result ?? null }),
      (error) => say({ n, error: error.name, message: String(error.message) }),
    );
}
await browser.close();
