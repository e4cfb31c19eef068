// Looks at mail bodies as a reader does. Each line on stdin is {"html": …, "phrase": …}; each is answered by one line
// with what keeps the text that holds the phrase from being read, at desktop and phone width, in light and dark.
// {"html": …, "picture": file, "width": …, "quality": …} makes a picture of the whole page instead.
'use strict';
const readline = require('readline');
const { chromium } = require('playwright-core');

// faults runs in the page.
function faults(phrase) {
  const words = (s) => s.replace(/\s+/g, ' ');
  const holders = [...document.querySelectorAll('div[lang][dir]')].filter((e) => words(e.textContent).includes(phrase));
  if (holders.length !== 1) return [`${holders.length} notices`];
  const box = holders[0];
  const out = new Set();
  const rgba = (c) => {
    const m = c.match(/[\d.]+/g).map(Number);
    return { r: m[0], g: m[1], b: m[2], a: m.length > 3 ? m[3] : 1 };
  };
  const over = (top, under) => ({
    r: top.r * top.a + under.r * (1 - top.a), g: top.g * top.a + under.g * (1 - top.a), b: top.b * top.a + under.b * (1 - top.a), a: 1,
  });
  const luminance = (c) => {
    const [r, g, b] = [c.r, c.g, c.b].map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (e) => {
    const layers = [];
    for (; e; e = e.parentElement) {
      const c = rgba(getComputedStyle(e).backgroundColor);
      layers.push(c);
      if (c.a === 1) break;
    }
    return layers.reverse().reduce((under, c) => over(c, under), { r: 255, g: 255, b: 255, a: 1 });
  };
  let seen = 0;
  const walk = document.createTreeWalker(box, NodeFilter.SHOW_TEXT);
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    if (!node.data.trim()) continue;
    const e = node.parentElement;
    const what = words(node.data).trim().slice(0, 30);
    const css = getComputedStyle(e);
    if (parseFloat(css.fontSize) < 11) out.add(`font size ${css.fontSize}: ${what}`);
    if (css.visibility !== 'visible') out.add(`visibility ${css.visibility}: ${what}`);
    let opacity = 1;
    for (let up = e; up; up = up.parentElement) opacity *= getComputedStyle(up).opacity;
    const bg = behind(e);
    const ink = rgba(css.webkitTextFillColor);
    const fg = over({ ...ink, a: ink.a * opacity }, bg);
    const [hi, lo] = [luminance(fg), luminance(bg)].sort((a, b) => b - a);
    if ((hi + 0.05) / (lo + 0.05) < 4.5) out.add(`contrast ${((hi + 0.05) / (lo + 0.05)).toFixed(1)}: ${what}`);
    const range = document.createRange();
    range.selectNodeContents(node);
    const rects = [...range.getClientRects()].filter((r) => r.width > 1 && r.height > 5);
    if (!rects.length) out.add(`no box: ${what}`);
    for (let i = 0; i < rects.length; i++) {
      e.scrollIntoView({ block: 'center', inline: 'nearest', behavior: 'instant' });
      let r = [...range.getClientRects()].filter((q) => q.width > 1 && q.height > 5)[i];
      if (!r) continue;
      window.scrollBy(0, r.top - innerHeight / 2);
      r = [...range.getClientRects()].filter((q) => q.width > 1 && q.height > 5)[i];
      if (r.left + scrollX < 0 || r.top + scrollY < 0 || r.left + scrollX >= document.documentElement.scrollWidth) out.add(`outside of the page: ${what}`);
      for (const x of [r.left + 1, (r.left + r.right) / 2, r.right - 1]) {
        if (x < 0 || x >= innerWidth) continue; // to be scrolled to
        const hit = document.elementFromPoint(x, (r.top + r.bottom) / 2);
        if (hit && box.contains(hit)) seen++;
        else out.add(`covered or cut off by ${hit && hit.outerHTML.slice(0, 60)}: ${what}`);
      }
    }
  }
  if (!seen) out.add('nothing of it is seen');
  const r = box.getBoundingClientRect();
  if (r.width < 200) out.add(`only ${Math.round(r.width)} pixels wide`);
  return [...out];
}

async function main() {
  const browser = await chromium.launch({
    executablePath: process.argv[2],
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--hide-scrollbars'],
  });
  try {
    const context = await browser.newContext({ javaScriptEnabled: false, reducedMotion: 'reduce', deviceScaleFactor: 1 });
    // No network; a grey box stands for each image.
    const grey = '<svg xmlns="http://www.w3.org/2000/svg" width="600" height="240"><rect width="100%" height="100%" fill="#d8dce0"/></svg>';
    await context.route('**/*', (route) => (route.request().resourceType() === 'image' ? route.fulfill({ contentType: 'image/svg+xml', body: grey }) : route.abort()));
    const page = await context.newPage();
    page.setDefaultTimeout(20000);
    for await (const line of readline.createInterface({ input: process.stdin })) {
      const order = JSON.parse(line);
      const answer = [];
      if (order.picture) {
        await page.setViewportSize({ width: order.width, height: 800 });
        await page.setContent(order.html);
        await page.screenshot({ path: order.picture, fullPage: true, type: 'jpeg', quality: order.quality });
      } else {
        await page.setContent(order.html, { waitUntil: 'domcontentloaded' });
        for (const width of [1280, 375]) {
          await page.setViewportSize({ width, height: 800 });
          for (const colorScheme of ['light', 'dark']) {
            await page.emulateMedia({ colorScheme });
            for (const f of await page.evaluate(faults, order.phrase)) answer.push(`${width} ${colorScheme}: ${f}`);
          }
        }
      }
      process.stdout.write(JSON.stringify(answer) + '\n');
    }
  } finally {
    await browser.close();
  }
}

main().catch((e) => { console.error(e); process.exit(1); });
