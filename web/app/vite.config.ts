import { fileURLToPath } from "node:url";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";
import { compressed } from "./compressed";

const client = (file: string) => fileURLToPath(new URL(`../client/src/${file}`, import.meta.url));
const built = fileURLToPath(new URL("../../src/turnstream/server/page/built", import.meta.url));
const server = process.env.TURNSTREAM_URL ?? "http://127.0.0.1:8089";

export default defineConfig({
  // The server may be mounted below a path.
  base: "./",
  plugins: [react(), compressed()],
  resolve: {
    alias: [
      { find: "@turnstream/client/react", replacement: client("react.ts") },
      { find: "@turnstream/client/chat", replacement: client("chat.ts") },
      { find: "@turnstream/client/live", replacement: client("live.ts") },
      { find: "@turnstream/client", replacement: client("index.ts") },
    ],
  },
  build: {
    outDir: process.env.TURNSTREAM_PAGE ?? built,
    emptyOutDir: true,
    target: "es2022",
    // A strict content security policy allows no inline code.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy: { "/api": server } },
  test: { include: ["tests/*.test.ts"], testTimeout: 20_000 },
});
