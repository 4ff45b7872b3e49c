import vue from "@vitejs/plugin-vue";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [vue()],
  build: { assetsInlineLimit: 0 }, // the Content-Security-Policy admits no data: URL
});
