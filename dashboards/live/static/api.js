// The server's answers, and a connection that comes back by itself.

async function get(path) {
  try {
    return await fetch(`api/${path}`);
  } catch {
    throw new Error("The server does not answer.");
  }
}

export async function askText(path) {
  const answer = await get(path);
  if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
  return answer.text();
}

export async function ask(path) {
  const answer = await get(path);
  const text = await answer.text();
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    throw new Error(text.trim() || `The server answered ${answer.status}.`);
  }
  if (!answer.ok) throw new Error(body.error);
  return body;
}

export function link(state) {
  const place = document.getElementById("link");
  place.textContent = state;
  place.classList.toggle("lost", state.startsWith("lost"));
}

const RETRY_MS = 1000;

export function follow(id, onRun, onTrouble) {
  let source, timer, stopped = false;
  const open = () => {
    source = new EventSource(`api/runs/${encodeURIComponent(id)}/events`);
    source.addEventListener("open", () => link("live"));
    source.addEventListener("run", (event) => onRun(JSON.parse(event.data)));
    source.addEventListener("trouble", (event) => onTrouble(JSON.parse(event.data).error));
    source.addEventListener("error", () => {
      source.close();
      if (stopped) return;
      link("lost the server, trying again…");
      timer = setTimeout(open, RETRY_MS);
    });
  };
  open();
  return () => {
    stopped = true;
    clearTimeout(timer);
    source.close();
    link("");
  };
}
