// As Angular does: the path below <base>, inline styles, lazy chunks beside this file.
const { show } = await import("./chunk-HSMKNI6G.js");
document.head.append(Object.assign(document.createElement("style"), { textContent: "h1 { font-style: italic }" }));
show(document.querySelector("app-root"), location.href.slice(document.baseURI.length));
