// Makes the API page's forms send what is in them, and shows the answer below. Without this script they stay hidden.

function target(form) {
  const fields = [...form.querySelectorAll("[data-in]")];
  const query = new URLSearchParams(fields.filter((each) => each.dataset.in === "query" && each.value).map((each) => [each.name, each.value]));
  const path = form.dataset.path.replace(/{(\w+)}/g, (_, name) => encodeURIComponent(form.elements[name].value));
  return path + (query.size ? `?${query}` : "");
}

async function send(form) {
  const body = form.elements.body?.value;
  const headers = { Accept: "application/json", ...(body && { "Content-Type": "application/json" }) };
  const answer = await fetch(target(form), { method: form.dataset.method, headers, body });
  const text = await answer.text();
  const json = answer.headers.get("Content-Type")?.includes("json");
  return `${answer.status} ${answer.statusText}\n\n${json ? JSON.stringify(JSON.parse(text), null, 2) : text}`.trim();
}

for (const form of document.querySelectorAll(".try")) {
  form.parentElement.hidden = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const shown = Object.assign(document.createElement("pre"), { className: "stack", tabIndex: 0 });
    shown.textContent = await send(form).catch((error) => `No answer: ${error.message}`);
    form.querySelector("[role=status]").replaceChildren(shown);
  });
}
