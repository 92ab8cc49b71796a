import { defineConfig } from "vitest/config";

export default defineConfig({
  build: {
    lib: { entry: ["index", "chat", "live", "event_source", "react"].map((name) => `src/${name}.ts`), formats: ["es"] },
    target: "es2022",
    minify: true,
    rolldownOptions: { external: ["react"], output: { minify: true } },
  },
  test: { include: ["tests/**/*.test.ts", "tests/**/*.test.tsx"], testTimeout: 20_000 },
});
