import { defineConfig } from "vitest/config";

export default defineConfig({
  build: {
    lib: { entry: { index: "src/index.ts", react: "src/react.ts" }, formats: ["es"] },
    target: "es2022",
    minify: true,
    rolldownOptions: { external: ["react"] },
  },
  test: { include: ["tests/**/*.test.ts", "tests/**/*.test.tsx"], testTimeout: 20_000 },
});
