import "./style.css";
import { shared } from "./shared.js";

document.getElementById("ui").textContent = shared("loaded");
import("./later.js").then((module) => module.show());
