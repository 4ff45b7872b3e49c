// Keeps this page as new as the code; only `make dev` puts it into pages.
"use strict";
(() => {
  const { stamp, method } = document.currentScript.dataset;
  const own = Object.fromEntries(stamp.split(".").map((part, index) => [["code", "page", "style"][index], Number(part)]));
  const key = `live:${location.pathname}${location.search}`;
  const FRESH = 10 * 60 * 1000; // how long kept input can still be put back

  // One connection for all pages: a browser has six per host, and twenty tabs are not unusual. Of the visible pages,
  // one holds the lock, listens and tells the others; a hidden page catches up later.
  const channel = new BroadcastChannel("live");
  const alone = navigator.locks ? navigator.locks.request.bind(navigator.locks) : (name, options, listen) => listen();
  let asking = null, source = null, release = null, latest = null;

  const listen = () =>
    new Promise((done) => {
      release = done;
      source = new EventSource("/_dev/events");
      source.onmessage = (event) => {
        latest = JSON.parse(event.data);
        channel.postMessage(latest);
        follow(latest);
      };
    });
  const connect = () => {
    if (asking || document.hidden) return;
    asking = new AbortController();
    channel.postMessage("?");
    alone("live", { signal: asking.signal }, listen).catch(() => {}); // no longer asked for
  };
  const disconnect = () => {
    asking?.abort();
    source?.close();
    release?.();
    asking = source = release = null;
  };
  channel.onmessage = ({ data }) => {
    if (data !== "?") return asking && follow(data);
    if (source && latest) channel.postMessage(latest);
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", connect);

  const follow = (news) => {
    if (news.code > own.code || news.page > own.page) return refresh(news);
    if (news.style > own.style) {
      own.style = news.style;
      restyle(news.style);
    }
    tell(news.notices);
  };

  const refresh = (news) => {
    if (method !== "GET") {
      const text = news.broken ? "The code was changed and can't start." : "The code was changed.";
      return tell([`${text} This page answers a form: reload it to send the form again.`]);
    }
    // Once per change: a page that comes back as old as it was must not reload for ever.
    const wanted = `${news.code}.${news.page}`;
    if (sessionStorage.getItem("live:refreshed") === `${key} ${wanted} ${stamp}`) return tell(news.notices);
    sessionStorage.setItem("live:refreshed", `${key} ${wanted} ${stamp}`);
    keep();
    disconnect();
    location.reload();
  };

  const restyle = (version) => {
    for (const link of document.querySelectorAll('link[rel~="stylesheet"][href]')) {
      const address = new URL(link.href);
      if (address.origin !== location.origin) continue;
      address.searchParams.set("live", version);
      const next = link.cloneNode();
      next.href = address.href;
      next.onload = () => link.remove(); // not before, or the page would flash without its style
      next.onerror = () => next.remove();
      link.after(next);
    }
  };

  // What was typed outlives the reload, and an error page in between, except passwords and files.
  const fields = () =>
    [...document.querySelectorAll("input[name], textarea[name], select[name]")].filter(
      (field) => !["password", "file", "hidden", "submit", "button", "image", "reset"].includes(field.type),
    );
  const place = (field) => `${field.form?.getAttribute("action") ?? ""} ${field.name} ${field.type}`;
  const changed = (field) =>
    field.type === "checkbox" || field.type === "radio"
      ? field.checked !== field.defaultChecked
      : field.options
        ? [...field.options].some((option) => option.selected !== option.defaultSelected)
        : field.value !== field.defaultValue;

  const keep = () => {
    const values = fields().map((field, index) => ({ field, index })).filter(({ field }) => changed(field))
      .map(({ field, index }) => ({
        index, place: place(field), value: field.value, checked: field.checked,
        selected: field.options && [...field.options].map((option) => option.selected),
      }));
    if (values.length) sessionStorage.setItem(key, JSON.stringify({ at: Date.now(), values }));
  };

  const putBack = () => {
    const kept = JSON.parse(sessionStorage.getItem(key) ?? "null");
    if (!kept) return;
    if (Date.now() - kept.at > FRESH) return sessionStorage.removeItem(key);
    const all = fields();
    for (const { index, place: name, value, checked, selected } of kept.values) {
      const field = all[index] && place(all[index]) === name ? all[index] : null;
      if (!field) continue;
      if (selected) selected.forEach((each, at) => field.options[at] && (field.options[at].selected = each));
      else if (field.type === "checkbox" || field.type === "radio") field.checked = checked;
      else field.value = value;
      field.dispatchEvent(new Event("input", { bubbles: true }));
      sessionStorage.removeItem(key);
    }
  };

  let bar = null;
  const tell = (notices) => {
    bar?.remove();
    bar = null;
    if (!notices?.length) return;
    bar = document.createElement("aside");
    bar.setAttribute("role", "status");
    bar.setAttribute("aria-label", "Development");
    // Set through the object model, which a policy without inline styles allows.
    bar.style.cssText =
      "all:initial;position:fixed;inset:auto 0 0 0;z-index:2147483647;padding:.6rem 1rem;background:#7a4b00;" +
      "color:#fff;font:14px/1.4 system-ui,sans-serif;white-space:pre-line;box-shadow:0 -2px 8px #0006";
    bar.textContent = notices.join("\n");
    document.body.append(bar);
  };

  putBack();
  connect();
})();
