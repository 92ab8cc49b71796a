// A real server, a real Chromium, and a network between them that can be cut.

import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium, type Browser, type Page } from "playwright-core";
import { expect } from "vitest";

const PROJECT = fileURLToPath(new URL("../../../../", import.meta.url));
const CHROMIUM = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const SECONDS = 30;
/** Folder for pictures of the page, which Git ignores. */
const PICTURES = process.env.TURNSTREAM_PICTURES ?? join(PROJECT, ".tools/pictures");
const SIZES = { desktop: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } } as const;

export interface TestServer {
  readonly url: string;
  readonly port: number;
  readonly folder: string;
  /** End the process at once. */
  kill(): Promise<void>;
  /** Start another process on the same port and database. */
  restart(): Promise<void>;
}

interface ServerOptions {
  readonly model?: string;
  readonly key?: string;
  readonly settings?: string;
  /** Python module that fills the new database, whose URL is its argument. */
  readonly fill?: string;
}

/** Start a server on a new database. */
export async function startServer({ model = "sim/demo", key, settings = "", fill }: ServerOptions = {}): Promise<TestServer> {
  const folder = mkdtempSync(join(tmpdir(), "turnstream-page-"));
  writeFileSync(join(folder, "turnstream.toml"), settings);
  const database = `sqlite:///${folder}/page.sqlite`;
  if (fill !== undefined) execFileSync(join(PROJECT, ".venv/bin/python"), ["-m", fill, database], { cwd: PROJECT, timeout: SECONDS * 1000 });
  let process_: ChildProcess | null = null;
  const start = async (port: number): Promise<number> => {
    const given = ["serve", "--port", String(port), "--default-model", model, "--database-url", database, "--builtin-tools"];
    const environment = { ...process.env };
    delete environment.TURNSTREAM_API_KEY;
    process_ = spawn(join(PROJECT, ".venv/bin/turnstream"), given, {
      cwd: folder,
      env: { ...environment, PYTHONPATH: PROJECT, ...(key !== undefined && { TURNSTREAM_API_KEY: key }) },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const child = process_;
    return new Promise((resolve, reject) => {
      let output = "";
      const timer = setTimeout(() => { reject(new Error(`the server does not listen: ${output}`)); }, SECONDS * 1000);
      const read = (data: Buffer) => {
        output += data.toString();
        const found = /http:\/\/127\.0\.0\.1:(\d+)/.exec(output)?.[1];
        if (found === undefined) return;
        clearTimeout(timer);
        resolve(Number(found));
      };
      child.stdout?.on("data", read);
      child.stderr?.on("data", (data: Buffer) => { output += data.toString(); });
      child.once("exit", (code) => { reject(new Error(`the server ended with ${String(code)}: ${output}`)); });
    });
  };
  const kill = async () => {
    const child = process_;
    process_ = null;
    if (child?.exitCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
  };
  const port = await start(0);
  return { url: `http://127.0.0.1:${port}/`, port, folder, kill, restart: async () => { await start(port); } };
}

export interface CuttingProxy {
  readonly url: string;
  /** Connections that were refused since the start. */
  readonly refused: number;
  /** End all connections, and refuse new ones until `mend`. */
  cut(): void;
  mend(): void;
  close(): Promise<void>;
}

/** Start a proxy in front of a port. */
export async function cuttingProxy(port: number): Promise<CuttingProxy> {
  const sockets = new Set<Socket>();
  let isCut = false;
  let refused = 0;
  const server = createServer((near) => {
    if (isCut) {
      refused += 1;
      near.destroy();
      return;
    }
    const far = connect(port, "127.0.0.1");
    for (const [one, other] of [[near, far], [far, near]] as const) {
      sockets.add(one);
      one.pipe(other);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        sockets.delete(one);
        other.destroy();
      });
    }
  });
  const own = await listen(server);
  const end = () => { for (const socket of sockets) socket.destroy(); };
  return {
    url: `http://127.0.0.1:${own}/`,
    get refused() { return refused; },
    cut() {
      isCut = true;
      end();
    },
    mend() { isCut = false; },
    close: () => {
      end();
      return new Promise((resolve) => server.close(() => { resolve(); }));
    },
  };
}

/** A server that nothing may reach. `requests`: the addresses that were asked for. */
export async function canary(): Promise<{ url: string; requests: string[]; close: () => void }> {
  const requests: string[] = [];
  const server = createHttpServer((request, response) => {
    requests.push(request.url ?? "");
    response.end("alert('canary')");
  });
  const port = await listen(server);
  return { url: `http://127.0.0.1:${port}`, requests, close: () => { server.close(); } };
}

/** Start a browser. `flags`: more of Chromium's flags. */
export function launch(flags: readonly string[] = []): Promise<Browser> {
  const executablePath = CHROMIUM.find((path) => existsSync(path));
  if (executablePath === undefined) throw new Error("there is no Chromium: install Debian's package chromium");
  return chromium.launch({ executablePath, args: ["--no-sandbox", ...flags] });
}

/** Open the page, and return it when it is connected. Its errors fail the test through `faults`. */
export async function open(page: Page, url: string, faults: string[] = []): Promise<void> {
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error" && !/net::ERR|Failed to load resource/.test(message.text())) faults.push(`console: ${message.text()}`);
  });
  await page.goto(url);
  await connected(page);
}

export async function connected(page: Page): Promise<void> {
  await page.getByText("Connected", { exact: true }).waitFor({ state: "attached" });
}

/** Write a question and send it. */
export async function ask(page: Page, text: string): Promise<void> {
  await page.getByLabel("Message").fill(text);
  await page.getByLabel("Message").press("Enter");
  await page.locator(".turn.assistant").last().waitFor();
}

/** Wait until the last answer has ended. */
export async function ended(page: Page, turns = 1): Promise<void> {
  await page.locator(".turn.assistant").nth(turns - 1).locator(".foot").waitFor({ timeout: 60_000 });
}

/** Return the text of the last answer as it is shown, without spaces. */
export async function shownText(page: Page): Promise<string> {
  const texts = await page.locator(".turn.assistant").last().locator(".markdown").allTextContents();
  return squeezed(texts.join(""));
}

/** Let a model answer the questions of a page whose name has options, which is not one of the list. */
export async function answerWith(page: Page, model: string): Promise<void> {
  await page.route("**/turns", async (route) => {
    const body = JSON.parse(route.request().postData() ?? "{}") as Record<string, unknown>;
    await route.continue({ postData: JSON.stringify({ ...body, model }) });
  });
}

/** Wait until the last answer has grown by some characters, or has ended. */
export async function grown(page: Page, characters: number): Promise<void> {
  await page.waitForFunction(
    ([more]) => {
      const answer = [...document.querySelectorAll(".turn.assistant")].at(-1);
      const length = answer?.textContent.length ?? 0;
      const state = window as unknown as { from?: number | undefined };
      state.from ??= length;
      if (length < state.from + more && !answer?.querySelector(".foot")) return false;
      state.from = undefined;
      return true;
    },
    [characters] as const,
    { polling: "raf" },
  );
}

/** Return the stored text of the last answer of the chat that the page shows, without spaces. */
export async function storedText(page: Page, server: string): Promise<string> {
  const chat = chatOf(page);
  const path = (await (await fetch(`${server}api/chats/${chat}/path`)).json()) as { turns: { blocks: { block_type: string; text_content: string | null }[] }[] };
  const blocks = path.turns.at(-1)?.blocks ?? [];
  return squeezed(blocks.map(({ block_type, text_content }) => (block_type === "text" ? (text_content ?? "") : "")).join(""));
}

export function chatOf(page: Page): string {
  return page.url().split("#/chat/")[1] ?? "";
}

/** Print what was measured. The automatic run shows these lines. */
export function report(figures: string): void {
  console.log(`measured: ${figures}`);
}

/** Take a picture of the page as it is. */
export async function picture(page: Page, name: string): Promise<void> {
  mkdirSync(PICTURES, { recursive: true });
  await page.screenshot({ path: join(PICTURES, `${name}.png`) });
}

/** Take pictures of a state, light and dark, on a desktop and on a phone. Nothing may be wider than the window. */
export async function pictures(page: Page, name: string, sizes = Object.keys(SIZES) as (keyof typeof SIZES)[]): Promise<void> {
  const before = page.viewportSize();
  // Animations would be in the pictures half-way.
  await page.emulateMedia({ reducedMotion: "reduce" });
  for (const size of sizes) {
    await page.setViewportSize(SIZES[size]);
    expect(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)).toBe(0);
    for (const colorScheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme });
      await picture(page, `${name}-${size}-${colorScheme}`);
    }
  }
  await page.emulateMedia({ colorScheme: null, reducedMotion: null });
  if (before !== null) await page.setViewportSize(before);
}

function squeezed(text: string): string {
  return text.replace(/\s+/g, "");
}

function listen(server: Server): Promise<number> {
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => { resolve((server.address() as AddressInfo).port); });
  });
}
