import { defineConfig } from "vite";

export default defineConfig({
  base: "./", // wherever the service's static files are
  publicDir: false,
  build: {
    manifest: true,
    outDir: "../src/web/static/ui",
    emptyOutDir: true,
    assetsInlineLimit: 0, // the Content-Security-Policy admits no data: URL
    rollupOptions: { input: ["src/main.js", "src/other.js"] },
  },
  server: { port: 5173, strictPort: true, origin: "http://localhost:5173" },
});
