import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [react()],
  base: "/shop/", // the service's path; "/" on a host of its own
  build: { assetsInlineLimit: 0 }, // the Content-Security-Policy admits no data: URL
});
