import { lazy, Suspense } from "react";
import { createRoot } from "react-dom/client";
import { BrowserRouter, Link, Route, Routes } from "react-router";
import picture from "./picture.svg";

const Order = lazy(() => import("./order.jsx"));

createRoot(document.getElementById("app")).render(
  <BrowserRouter basename={import.meta.env.BASE_URL}>
    <img src={picture} alt="" />
    <Link to="/orders/7">Order 7</Link>
    <Suspense>
      <Routes>
        <Route index element={<h1>Every order</h1>} />
        <Route path="orders/:id" element={<Order />} />
      </Routes>
    </Suspense>
  </BrowserRouter>,
);
