// A reader of the status page in Chromium. It does what it is told, one JSON array a line,
// and answers each with one JSON value a line.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [origin, pictures] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PATIENCE = 30_000;
const VIEWS = { wide: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } };

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: [
    ...(process.getuid() === 0 ? ["--no-sandbox"] : []),
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});

let page;
const seen = { loads: 0, errors: [], elsewhere: [] };

// What is wrong with the page as it is shown now.
async function check(where) {
  const wrong = [];
  const [scrolls, fits] = await page.evaluate(() => [
    document.documentElement.scrollWidth,
    document.documentElement.clientWidth,
  ]);
  if (scrolls > fits) wrong.push(`${where}: ${scrolls} pixels wide, and ${fits} fit`);
  // Evaluated from outside, so that the page's own policy stays in force.
  await page.evaluate(axe);
  const found = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  for (const { id, impact, nodes } of found.violations) {
    if (impact !== "serious" && impact !== "critical") continue;
    wrong.push(`${where}: ${impact} ${id}: ${nodes[0].html} ${nodes[0].failureSummary}`);
  }
  return wrong;
}

const acts = {
  async open(path, script = true) {
    await page?.context().close();
    const context = await browser.newContext({ javaScriptEnabled: script, viewport: VIEWS.wide });
    page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    page.on("load", () => (seen.loads += 1));
    page.on("pageerror", (error) => seen.errors.push(String(error)));
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) seen.errors.push(message.text());
    });
    page.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(`${origin}/`) && !url.startsWith("data:")) seen.elsewhere.push(url);
    });
    const answer = await page.goto(origin + path);
    return answer.status();
  },
  // Takes it in both schemes, wide and on a phone, and says what is wrong with it.
  async picture(name) {
    const wrong = [];
    await page.evaluate(() => document.activeElement.blur());
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      for (const [view, size] of Object.entries(VIEWS)) {
        await page.setViewportSize(size);
        const where = `${name}-${colorScheme}-${view}`;
        wrong.push(...(await check(where)));
        await page.screenshot({ path: `${pictures}/${where}.png`, fullPage: true });
      }
    }
    await page.emulateMedia({ colorScheme: null });
    await page.setViewportSize(VIEWS.wide);
    return wrong;
  },
  // Waits until an element has this text.
  async until(selector, text) {
    await page.locator(selector).filter({ hasText: text }).first().waitFor();
    return true;
  },
  async gone(selector) {
    await page.locator(selector).first().waitFor({ state: "detached" });
    return true;
  },
  async click(selector) {
    await page.locator(selector).first().click();
    return true;
  },
  async fill(selector, text) {
    await page.locator(selector).fill(text);
    return true;
  },
  // What an expression is in the page.
  async value(expression) {
    return (await page.evaluate(expression)) ?? null;
  },
  async seen() {
    return seen;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [act, ...rest] = JSON.parse(line);
  let answer;
  try {
    answer = { ok: await acts[act](...rest) };
  } catch (error) {
    answer = { error: `${line}: ${error.message}` };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
