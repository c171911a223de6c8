// The server's answers, and a connection that is opened again when it is lost.

const RETRY_MS = 1000;
export const NOT_FOUND = 404;

export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function get(path) {
  try {
    return await fetch(`api/${path}`);
  } catch {
    throw new Error("The server does not answer.");
  }
}

export async function askText(path) {
  const answer = await get(path);
  if (!answer.ok) throw new Refused(`The server answered ${answer.status}.`, answer.status);
  return answer.text();
}

export async function ask(path) {
  const answer = await get(path);
  const text = await answer.text();
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    throw new Refused(text.trim() || `The server answered ${answer.status}.`, answer.status);
  }
  if (!answer.ok) throw new Refused(body.error, answer.status);
  return body;
}

export const run = (id) => `runs/${encodeURIComponent(id)}`;

// Whether we hear of what happens: "live", "lost", or nothing for what is over.
export function link(words, state = words) {
  const place = document.getElementById("link");
  if (place.textContent === words) return;
  place.textContent = words;
  place.className = words ? `status ${state}` : "";
}

// In the header, why an answer did not come.
export function linkTrouble(error) {
  if (error instanceof Refused && error.status === NOT_FOUND) link("");
  else if (error instanceof Refused) link("no answer from the ledger", "lost");
  else link("lost the server, trying again…", "lost");
}

let aheadMs = 0; // the server's clock, less ours
export const serverNow = () => Date.now() + aheadMs;

// Hears of a run until stopped; a hidden page holds no connection, for a browser has only six.
export function follow(id, { onRun, onTrouble }) {
  let source,
    timer,
    stopped = false;
  const close = () => {
    clearTimeout(timer);
    source?.close();
    source = undefined;
  };
  const open = () => {
    close();
    if (stopped || document.hidden) return;
    source = new EventSource(`api/${run(id)}/events`);
    source.addEventListener("run", (event) => {
      link("live");
      onRun(JSON.parse(event.data));
    });
    source.addEventListener("clock", (event) => {
      aheadMs = Number(event.data) - Date.now();
    });
    source.addEventListener("trouble", (event) => {
      link("no answer from the ledger", "lost");
      onTrouble(new Refused(JSON.parse(event.data).error, 503));
    });
    source.addEventListener("error", retry);
  };
  const retry = async () => {
    close();
    try {
      await ask(run(id));
    } catch (error) {
      if (stopped) return;
      linkTrouble(error);
      if (error instanceof Refused) onTrouble(error);
    }
    if (!stopped) timer = setTimeout(open, RETRY_MS);
  };
  document.addEventListener("visibilitychange", open);
  open();
  return () => {
    stopped = true;
    document.removeEventListener("visibilitychange", open);
    close();
    link("");
  };
}
