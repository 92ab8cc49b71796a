import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

const target = process.env.TURNSTREAM_URL ?? "http://127.0.0.1:8089";

// `vite preview` uses the same proxy.
export default defineConfig({ plugins: [react()], server: { proxy: { "/api": target } } });
