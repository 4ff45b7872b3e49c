import { createApp } from "vue";
import { createRouter, createWebHistory } from "vue-router";
import App from "./App.vue";
import Orders from "./Orders.vue";

const router = createRouter({
  history: createWebHistory(import.meta.env.BASE_URL),
  routes: [
    { path: "/", component: Orders },
    { path: "/orders/:id", component: () => import("./Order.vue") },
  ],
});

createApp(App).use(router).mount("#app");
