// The inspector's page: the list follows by itself, and each request opens as a waterfall.
"use strict";
(() => {
  const PATH = "/_dev/requests", KEPT = 200, OFTEN = 5;
  const NAMES = { sql: "SQL", template: "Template", connection: "Connection", log: "Log" };
  const WARNING = 30, MASK = "••••••"; // as logging and page.py have them
  const list = document.querySelector("#list ol"), detail = document.getElementById("detail");
  const state = document.getElementById("state"), filter = document.getElementById("filter");

  // Text is only ever set as text: a request holds what any client sent.
  const make = (name, options = {}, ...children) => {
    const { className, ...attributes } = options;
    const element = document.createElement(name);
    if (className) element.className = className;
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
    return element;
  };
  const ms = (value) => `${value < 100 ? value.toFixed(1) : Math.round(value)} ms`;
  const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
  const status = (code) => {
    const kind = code >= 500 || !code ? "bad" : code >= 400 ? "warned" : code >= 300 ? "moved" : "";
    return make("span", { className: `status ${kind}` }, code ? String(code) : "cut");
  };

  // --- The list

  const links = () => [...list.querySelectorAll("a")].filter((link) => !link.parentElement.hidden);
  const select = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const item of list.children) item.hidden = !words.every((word) => item.textContent.toLowerCase().includes(word));
    document.querySelector("#list .empty").hidden = list.children.length > 0;
    for (const link of list.querySelectorAll("a")) {
      if (link.hash === location.hash) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  const add = (number, request) => {
    const facts = [new Date(request.at * 1000).toLocaleTimeString()];
    if (request.statements) facts.push(` · SQL ${request.statements} in ${ms(request.database_ms)}`);
    if (request.repeated) facts.push(" · ", make("b", {}, `one ${request.repeated} times`));
    if (request.error) facts.push(" · ", make("span", { className: "bad" }, request.error));
    const link = make("a", { href: `#${number}`, "data-id": request.id },
      status(request.status),
      make("span", { className: "path", title: request.path }, `${request.method} ${request.path}`),
      make("span", { className: "ms" }, ms(request.ms)),
      make("small", {}, ...facts));
    list.prepend(make("li", {}, link));
    while (list.children.length > KEPT) list.lastElementChild.remove();
    select();
    if (!detail.dataset.shown && location.hash) open(); // the address names it, and here it is
  };

  let source = null;
  const listen = () => {
    source = new EventSource(`${PATH}/events`);
    source.addEventListener("oldest", ({ data }) => {
      state.textContent = "Live: what the app does appears here.";
      for (const item of [...list.children]) if (Number(item.firstChild.hash.slice(1)) < Number(data)) item.remove();
      select();
    });
    source.onmessage = ({ data, lastEventId }) => {
      if (!list.querySelector(`a[href="#${lastEventId}"]`)) add(lastEventId, JSON.parse(data));
    };
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) state.textContent = "Not connected: reload this page.";
    };
  };
  // A browser has six connections per host: a page that is not looked at holds none.
  document.addEventListener("visibilitychange", () => {
    source?.close();
    source = null;
    if (!document.hidden) listen();
  });

  // --- One request

  const explain = async (button, number, index) => {
    button.disabled = true;
    let plan;
    try {
      plan = await (await fetch(`${PATH}/${number}/${index}`, { method: "POST" })).json();
    } catch {
      plan = { error: "The development server does not answer, or has forgotten this request." };
    }
    button.disabled = false;
    const place = button.nextElementSibling;
    if (plan.error) return place.replaceChildren(make("p", { className: "warn" }, plan.error));
    const lines = plan.lines.flatMap(({ text, scan }) => [scan ? make("mark", {}, text) : text, "\n"]);
    const scans = plan.lines.filter(({ scan }) => scan).length;
    const verdict = scans
      ? `${count(scans, "sequential scan")}: Postgres reads the whole table. With few rows that is right; with many, an index is missing.`
      : "No sequential scan.";
    place.replaceChildren(make("p", { className: scans ? "warn" : "" }, verdict),
      make("pre", { className: "plan", tabindex: "0", "aria-label": "Plan" }, ...lines));
  };

  const more = (event, number, index) => {
    const parts = [make("pre", {}, event.text)];
    if (event.kind !== "sql") return parts;
    if (event.error) parts.push(make("p", { className: "warn" }, event.error));
    const values = Object.entries(event.parameters);
    const rows = values.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value)));
    if (rows.length) parts.push(make("table", { "aria-label": "Parameters" }, make("tbody", {}, ...rows)));
    const masked = values.some(([, value]) => value === MASK);
    const facts = [event.rows >= 0 ? count(event.rows, "row") : "", event.sets > 1 ? `the first of ${event.sets} sets of parameters` : "",
      event.place ? `sent by ${event.place}` : "",
      masked ? "no EXPLAIN, which would show the masked value" : ""];
    parts.push(make("p", {}, facts.filter(Boolean).join(" · ")));
    if (event.explainable) {
      const button = make("button", { type: "button" }, "EXPLAIN");
      button.addEventListener("click", () => explain(button, number, index));
      parts.push(button, make("div", { role: "status" }));
    }
    return parts;
  };

  const row = (event, number, index, total, often) => {
    const bar = make("i");
    bar.style.left = `${Math.min(100, (100 * event.at) / total)}%`;
    if (event.kind !== "log") bar.style.width = `${Math.min(100, (100 * event.ms) / total)}%`;
    const times = event.kind === "sql" && often.get(event.text);
    const bad = event.error || event.level >= WARNING;
    const summary = make("summary", { className: "row" },
      make("span", { className: "kind" }, NAMES[event.kind]),
      make("span", { className: bad ? "what bad" : "what" }, times ? make("b", {}, `${times}× `) : "", event.text.replace(/\s+/g, " ")),
      make("span", { className: "bar", "aria-hidden": "true" }, bar),
      make("span", { className: "ms" }, event.kind === "log" ? `at ${ms(event.at)}` : ms(event.ms)));
    const body = make("div", { className: "more" });
    const row = make("details", { className: event.kind }, summary, body);
    row.addEventListener("toggle", () => row.open && !body.firstChild && body.append(...more(event, number, index)));
    return row;
  };

  const show = (request, number) => {
    const sum = (kind) => request.events.filter((event) => event.kind === kind).reduce((all, event) => all + event.ms, 0);
    const total = Math.max(request.ms, 0.001);
    const often = new Map(request.repeated.map((each) => [each.text, each.count]));
    const facts = {
      "Answered in": ms(request.ms),
      SQL: request.statements ? `${request.statements} in ${ms(request.database_ms)}` : "none",
      "Waiting for a connection": ms(sum("connection")),
      At: new Date(request.at * 1000).toLocaleTimeString(),
      "Request id": make("code", {}, request.id || "none"),
    };
    const heading = make("h2", { tabindex: "-1" }, status(request.status), ` ${request.method} ${request.path}`);
    const back = make("button", { type: "button", id: "back" }, "← All requests");
    back.addEventListener("click", close);
    const parts = [back, heading,
      make("dl", {}, ...Object.entries(facts).map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))))];
    if (request.error) {
      const { kind, message, place, trace, page } = request.error;
      parts.push(make("div", { className: "box bad" },
        make("p", {}, make("b", {}, kind), message ? `: ${message}` : ""),
        place ? make("p", {}, "raised at ", make("code", {}, place)) : "",
        page ? make("p", {}, make("a", { href: page, target: "_blank" }, "Open it in the debugger"), ", with the PIN from the log") : "",
        make("details", {}, make("summary", {}, "Traceback"), make("pre", { className: "trace", tabindex: "0" }, trace))));
    }
    for (const each of request.repeated) {
      parts.push(make("div", { className: "box warned" },
        make("p", { className: "warn" }, `The same statement ${each.count} times, in ${ms(each.ms)}. A query in a loop?`),
        each.place ? make("p", {}, "sent by ", make("code", {}, each.place)) : "", make("code", {}, each.text)));
    }
    const axis = make("div", { className: "row axis", "aria-hidden": "true" }, make("span"), make("span"),
      make("span", { className: "bar" }, make("span", {}, "0"), make("span", {}, ms(total))), make("span"));
    parts.push(make("h3", {}, "What it did"));
    parts.push(request.events.length
      ? make("div", { className: "waterfall" }, axis, ...request.events.map((event, index) => row(event, number, index, total, often)))
      : make("p", {}, "No SQL, no template, no log line."));
    if (request.left_out) parts.push(make("p", { className: "warn" }, `${request.left_out} more are left out: there were too many.`));
    detail.replaceChildren(...parts);
    detail.scrollTop = 0;
  };

  // The address names a request by its number or, as an error page does, by its id.
  const open = async () => {
    const name = decodeURIComponent(location.hash.slice(1));
    const known = list.querySelector(`a[data-id="${CSS.escape(name)}"]`);
    if (known) return history.replaceState(null, "", known.hash), open();
    select();
    document.body.classList.toggle("opened", Boolean(name));
    delete detail.dataset.shown;
    if (!/^\d+$/.test(name) || !list.querySelector(`a[href="#${name}"]`)) return;
    detail.dataset.shown = name;
    const answer = await fetch(`${PATH}/${name}`).catch(() => null);
    if (detail.dataset.shown !== name) return; // another was opened meanwhile
    if (answer?.ok) show(await answer.json(), name);
    else detail.replaceChildren(make("p", { className: "empty" }, "This request is no longer kept."));
  };
  const close = () => {
    const link = links().find((each) => each.hash === location.hash);
    history.replaceState(null, "", PATH);
    document.body.classList.remove("opened");
    delete detail.dataset.shown;
    select();
    (link ?? filter).focus();
  };

  addEventListener("hashchange", open);
  filter.addEventListener("input", select);
  list.addEventListener("click", ({ target }) => target.closest("a") && detail.focus({ preventScroll: true }));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && location.hash) return close();
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || detail.contains(document.activeElement)) return;
    const all = links(), at = all.indexOf(document.activeElement);
    const next = all[at < 0 ? (step > 0 ? 0 : -1) : at + step];
    if (!next) return;
    event.preventDefault();
    next.focus();
    if (matchMedia("(min-width: 56.01rem)").matches) location.replace(next.hash);
  });
  if (!document.hidden) listen();
})();
