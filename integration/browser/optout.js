// Drives a real browser over opt-out pages. Commands come as JSON lines on stdin, each is answered by one JSON line:
//   {"do": "visit", "url": …, "width": …, "language": …, "scripts": true}   in a fresh browser profile
//   {"do": "press", "name": …, "value": …}                                  the button of that name and value
// The answer tells what is on the page; `complaints` are errors and blocked loads the browser saw since the visit.
'use strict';
const readline = require('readline');
const { chromium } = require('playwright-core');

let context;
let page;
let complaints = [];

async function visit(browser, order) {
  if (context) await context.close();
  complaints = [];
  context = await browser.newContext({
    viewport: { width: order.width, height: 800 },
    locale: order.language,
    javaScriptEnabled: order.scripts,
    reducedMotion: 'reduce',
  });
  page = await context.newPage();
  page.setDefaultTimeout(20000);
  page.on('console', (m) => { if (m.type() === 'error') complaints.push(m.text()); });
  page.on('pageerror', (e) => complaints.push(String(e)));
  page.on('requestfailed', (r) => complaints.push(`${r.url()}: ${r.failure().errorText}`));
  page.on('request', (r) => { if (new URL(r.url()).host !== new URL(order.url).host) complaints.push(`foreign request: ${r.url()}`); });
  return page.goto(order.url);
}

async function press(order) {
  const button = page.locator(`button[name="${order.name}"][value="${order.value}"]`);
  const [response] = await Promise.all([
    page.waitForResponse((r) => r.request().method() === 'POST'),
    button.click(),
  ]);
  await page.waitForLoadState('load');
  return response;
}

// look is what a person sees.
async function look(response) {
  const seen = await page.evaluate(() => ({
    title: document.title,
    heading: document.querySelector('h1').innerText,
    language: document.documentElement.lang,
    text: document.body.innerText,
    buttons: [...document.querySelectorAll('button')].map((b) => ({
      name: b.name, value: b.value, text: b.innerText,
      height: b.getBoundingClientRect().height, right: b.getBoundingClientRect().right,
    })),
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    styled: getComputedStyle(document.querySelector('main')).maxWidth !== 'none',
  }));
  return { status: response.status(), cookies: (await context.cookies()).length, complaints, ...seen };
}

async function main() {
  const browser = await chromium.launch({
    executablePath: process.argv[2],
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  try {
    for await (const line of readline.createInterface({ input: process.stdin })) {
      const order = JSON.parse(line);
      const response = order.do === 'visit' ? await visit(browser, order) : await press(order);
      process.stdout.write(JSON.stringify(await look(response)) + '\n');
    }
  } finally {
    await browser.close();
  }
}

main().catch((e) => { console.error(e); process.exit(1); });
