import { defineConfig } from "vite";

// Named as the proxy and the chassis expect it: eight hexadecimal digits before the suffix.
const hashed = {
  hashCharacters: "hex",
  entryFileNames: "[name].[hash:8].js",
  chunkFileNames: "[name].[hash:8].js",
  assetFileNames: "[name].[hash:8][extname]",
};

export default defineConfig({
  base: "./", // wherever the service's static files are
  publicDir: false,
  build: {
    manifest: true,
    outDir: "../src/web/static/ui",
    emptyOutDir: true,
    assetsInlineLimit: 0, // the Content-Security-Policy admits no data: URL
    rollupOptions: { input: ["src/main.js", "src/other.js"], output: hashed },
  },
  server: { port: 5173, strictPort: true, origin: "http://localhost:5173" },
});
