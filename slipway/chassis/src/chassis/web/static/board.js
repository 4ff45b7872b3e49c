// Refreshes the board's parts (data-live) from the page that the script's data-from names, while the page is visible.

const INTERVAL = 5000; // milliseconds
const TIMEOUT = 10000;
const source = document.querySelector("script[data-from]").dataset.from;
const trouble = document.getElementById("trouble");
let timer;

document.getElementById("still").hidden = true;

function renew(fresh) {
  const chosen = getSelection();
  for (const part of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(part.id);
    const inUse = !chosen.isCollapsed && part.contains(chosen.anchorNode); // text is being copied
    if (next && !inUse && next.innerHTML !== part.innerHTML) part.replaceChildren(...next.childNodes);
  }
  document.title = fresh.title;
}

async function look() {
  clearTimeout(timer);
  try {
    const answer = await fetch(source, { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(TIMEOUT) });
    if (!answer.ok) throw new Error(answer.status);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!fresh.getElementById("replicas")) return location.reload(); // the sign-in has expired
    renew(fresh);
    trouble.hidden = true;
  } catch {
    if (trouble.hidden) {
      trouble.textContent = `No answer since ${new Date().toLocaleTimeString()}. The figures below are older; the page keeps trying.`;
      trouble.hidden = false;
    }
  }
  wait();
}

function wait() {
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(look, INTERVAL);
}

document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : look()));
wait();
