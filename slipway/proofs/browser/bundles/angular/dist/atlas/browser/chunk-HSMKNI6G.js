export function show(root, path) {
  const heading = Object.assign(document.createElement("h1"), { textContent: path ? "Order 7" : "Every order" });
  const link = Object.assign(document.createElement("a"), { href: "orders/7", textContent: "Order 7" });
  root.replaceChildren(link, heading);
  link.onclick = (event) => {
    event.preventDefault();
    history.pushState({}, "", link.href);
    show(root, "orders/7");
  };
}
