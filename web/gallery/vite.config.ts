// The page is committed as built, so that `assetlane-server local` needs no Node: `make gallery` builds it.
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  root: here("."),
  logLevel: "warn",
  build: {
    outDir: process.env["GALLERY_OUT"] ?? here("../../server/assetlane_server/gallery/page"),
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0, // a data URL is against the page's Content-Security-Policy
    modulePreload: { polyfill: false },
    license: { fileName: "licenses.md" },
  },
});
