// Takes pictures of an answer whose page is reloaded twice: node reload_pictures.ts FOLDER

import { spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const PROJECT = fileURLToPath(new URL("../../../../", import.meta.url));
const PICTURES = 64;
const RELOADS = new Set([20, 40]);
const [, , folder] = process.argv;
if (folder === undefined) throw new Error("give a folder for the pictures");

const database = join(mkdtempSync(join(tmpdir(), "turnstream-pictures-")), "page.sqlite");
const options = ["serve", "--port", "0", "--default-model", "sim/story:events=190,pace=0.055,seed=5", "--database-url", `sqlite:///${database}`];
const server = spawn(join(PROJECT, ".venv/bin/turnstream"), options, { stdio: ["ignore", "pipe", "inherit"] });
try {
  const url = await new Promise<string>((resolve, reject) => {
    server.stdout.on("data", (data: Buffer) => {
      const found = /http:\/\/127\.0\.0\.1:\d+/.exec(data.toString());
      if (found !== null) resolve(found[0]);
    });
    server.once("exit", (code) => { reject(new Error(`the server ended with ${String(code)}`)); });
  });
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
  const page = await browser.newPage({ viewport: { width: 760, height: 480 }, colorScheme: "light" });
  await page.goto(url);
  await page.getByText("Connected", { exact: true }).waitFor({ state: "attached" });
  await page.getByLabel("Message").fill("Tell me a story while I reload the page");
  let number = 0;
  const take = () => page.screenshot({ path: join(folder, `${String((number += 1)).padStart(3, "0")}.png`) });
  await take();
  await page.getByLabel("Message").press("Enter");
  await page.locator(".turn.assistant").waitFor();
  const end = page.locator(".turn.assistant .foot");
  while (number < PICTURES && (await end.count()) === 0) {
    await take();
    if (RELOADS.has(number)) {
      await page.goto("about:blank");
      await take();
      await take();
      await page.goBack({ waitUntil: "commit" });
    }
  }
  await end.waitFor({ timeout: 60_000 });
  await take();
  await browser.close();
} finally {
  server.kill();
}
