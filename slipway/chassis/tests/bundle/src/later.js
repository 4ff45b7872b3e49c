import { shared } from "./shared.js";
import url from "./pic.svg";

export function show() {
  const image = document.createElement("img");
  image.src = url;
  image.alt = shared("late");
  document.body.append(image);
}
