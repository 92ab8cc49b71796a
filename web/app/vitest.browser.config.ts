import { defineConfig } from "vitest/config";

// Tests of the built page in a real browser, against a real server. They run one after the other.
export default defineConfig({
  test: {
    include: ["tests/browser/**/*.test.ts"],
    testTimeout: 90_000,
    hookTimeout: 60_000,
    fileParallelism: false,
    expect: { poll: { timeout: 15_000 } },
    reporters: ["default"],
  },
});
