// A session in headless Chromium: the page is served from here and uses the browser's own WebSocket.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { chromium } from 'playwright-core';
import { same } from './client.mjs';
import { api, befriend, run, token, ws } from './deployment.mjs';

const FILES = { '/': ['browser.html', 'text/html'], '/client.mjs': ['client.mjs', 'text/javascript'] };
const origin = `http://127.0.0.1:${process.env.NEARCAST_PAGE_PORT}`;

const server = createServer((request, response) => {
  const [file, type] = FILES[request.url] ?? [];
  if (!file) return response.writeHead(404).end();
  return response.writeHead(200, { 'Content-Type': type }).end(readFileSync(new URL(file, import.meta.url)));
});
await new Promise((resolve) => server.listen(process.env.NEARCAST_PAGE_PORT, '127.0.0.1', resolve));

/** A page that writes down its console's errors and whatever it asks for. */
async function visit(context) {
  const page = await context.newPage();
  const [errors, asked] = [[], []];
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && errors.push(message.text()));
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('request', (request) => asked.push(request.url()));
  page.on('websocket', (socket) => asked.push(socket.url()));
  await page.goto(origin);
  await page.waitForFunction(() => window.play !== undefined);
  return { page, errors, asked };
}

async function play(context, step) {
  const [alice, bob] = ['browser-alice', 'browser-bob'];
  await befriend(alice, bob);
  const { page, errors, asked } = await visit(context);
  await page.exposeFunction('passed', (name) => step(name, () => {}));
  const tokens = { [alice]: token(alice), [bob]: token(bob) };
  await page.evaluate((with_) => window.play(with_), { ws, api, alice, bob, tokens });
  await step('the console has no error, and nobody else was asked for anything', () => {
    same(errors, []);
    const hosts = [...new Set(asked.map((url) => new URL(url).host))].sort();
    same(hosts, [origin, api, ws].map((url) => new URL(url).host).sort());
  });
  await step('a refused upgrade ends with 1006', async () => {
    const { page: other, errors: seen } = await visit(context);
    const end = await other.evaluate(([to, by]) => window.refused(to, by), [ws, ['nearcast.v1', 'bearer.no.jwt']]);
    same(end, { code: 1006, wasClean: false });
    // The console tells it too, with whatever words this version has.
    same([seen.length, seen[0]?.includes(ws)], [1, true], seen);
  });
}

async function browse(step) {
  // Without a name the profile is a new one, which is removed at the end.
  const context = await chromium.launchPersistentContext('', {
    executablePath: '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'],
    timeout: 30_000,
  });
  context.setDefaultTimeout(30_000);
  try {
    await play(context, step);
  } finally {
    await context.close();
  }
}

await run('chromium', { JSON: browse });
