// Acting: the token, asking before anything happens, and telling what came of it.
import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { get } from "./store.js";

const TOKEN = "steading-token";
const OPERATOR = "steading-operator";

const session = {
  token: sessionStorage.getItem(TOKEN) ?? "",
  operator: localStorage.getItem(OPERATOR) ?? "",
  asking: null,
  unlocking: false,
  told: [],
};
const listeners = new Set();
const changed = () => listeners.forEach((listener) => listener());

export function useSession() {
  const [, draw] = useState(0);
  useEffect(() => {
    const listener = () => draw((count) => count + 1);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, []);
  return { canAct: session.token !== "", operator: session.operator };
}

export const openUnlock = () => {
  session.unlocking = true;
  changed();
};

export function lock() {
  session.token = "";
  sessionStorage.removeItem(TOKEN);
  changed();
}

const post = (path, body, token = session.token) =>
  get(path, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      "x-steading-token": token,
      "x-steading-operator": session.operator,
    },
    body: body === undefined ? undefined : JSON.stringify(body),
  });

export function tell(text, bad = false) {
  const entry = { text, bad };
  session.told = [...session.told, entry].slice(-4);
  changed();
  setTimeout(() => {
    session.told = session.told.filter((other) => other !== entry);
    changed();
  }, bad ? 12000 : 5000);
}

// Does something at once; returns the answer, or nothing if it was refused.
export async function act(path, body) {
  if (!session.token) {
    openUnlock();
    return undefined;
  }
  try {
    const answer = await post(path, body);
    if (answer.text) tell(answer.text);
    return answer;
  } catch (error) {
    tell(error.message, true);
    if (error.code === "bad_token") lock();
    return undefined;
  }
}

// Asks first: `{title, text, button, danger, path, body}`.
export function ask(question) {
  if (!session.token) {
    openUnlock();
    return;
  }
  session.asking = question;
  changed();
}

function Dialog({ title, close, children }) {
  const dialog = useRef();
  useEffect(() => {
    dialog.current.showModal();
  }, []);
  return html`<dialog ref=${dialog} onClose=${close} onClick=${(event) => event.target === dialog.current && close()}>
    <form method="dialog" onSubmit=${(event) => event.preventDefault()}>
      <h2>${title}</h2>
      ${children}
    </form>
  </dialog>`;
}

function Unlock() {
  const [error, setError] = useState("");
  const [token, setToken] = useState("");
  const [name, setName] = useState(session.operator);
  const close = () => {
    session.unlocking = false;
    changed();
  };
  const unlock = async () => {
    session.operator = name.trim();
    localStorage.setItem(OPERATOR, session.operator);
    try {
      await post("session", {}, token);
      session.token = token;
      sessionStorage.setItem(TOKEN, token);
      tell("Actions are unlocked on this page");
      close();
    } catch (problem) {
      setError(problem.message);
    }
  };
  return html`<${Dialog} title="Unlock actions" close=${close}>
    <p>Moving, pinning, draining and the like need the Inspector’s token. It stays in this tab.</p>
    <label>Your name, for the log<input name="operator" value=${name} onInput=${(e) => setName(e.target.value)} autocomplete="username" /></label>
    <label>Token<input name="token" type="password" value=${token} onInput=${(e) => setToken(e.target.value)} autocomplete="off" required /></label>
    ${error && html`<p class="bad" role="alert">${error}</p>`}
    <menu><button type="button" onClick=${close}>Cancel</button><button class="primary" onClick=${unlock}>Unlock</button></menu>
  </${Dialog}>`;
}

function Ask({ question }) {
  const [busy, setBusy] = useState(false);
  const close = () => {
    session.asking = null;
    changed();
  };
  const go = async () => {
    setBusy(true);
    await act(question.path, question.body);
    close();
  };
  return html`<${Dialog} title=${question.title} close=${close}>
    <p>${question.text}</p>
    <menu>
      <button type="button" onClick=${close}>Cancel</button>
      <button class=${question.danger ? "danger" : "primary"} data-confirm disabled=${busy} onClick=${go}>${question.button}</button>
    </menu>
  </${Dialog}>`;
}

// The dialogs and the messages; once on the page.
export function Acting() {
  useSession();
  return html`
    ${session.unlocking && html`<${Unlock} />`}
    ${session.asking && html`<${Ask} question=${session.asking} />`}
    <div class="toasts" role="status" aria-live="polite">
      ${session.told.map((entry) => html`<p class=${entry.bad ? "toast bad" : "toast"}>${entry.text}</p>`)}
    </div>`;
}
