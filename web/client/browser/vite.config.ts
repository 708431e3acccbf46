// The page that tests/web drives in Chromium: the package, as a bundler takes it.
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

export default defineConfig({
  root: fileURLToPath(new URL(".", import.meta.url)),
  logLevel: "warn",
  build: {
    outDir: "../dist-browser",
    emptyOutDir: true,
    chunkSizeWarningLimit: 2_000,
    rollupOptions: { input: ["page.html", "uppy.html"].map((name) => fileURLToPath(new URL(name, import.meta.url))) },
  },
});
