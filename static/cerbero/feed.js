// The one websocket of a page. The server's clock rules: ages never depend on this computer's.
export const STALE_MS = 5000;
export const DEAD_MS = 15000;

const header = document.getElementById("console");
const listeners = { quotes: new Set(), changed: new Set(), tick: new Set() };
const clock = { server: Number(header?.dataset.now || Date.now()), local: performance.now() };
const feeds = new Map();
const link = { connected: false, wait: 500 };

export const now = () => clock.server + performance.now() - clock.local;
export const isConnected = () => link.connected;
export const on = (what, listener) => listeners[what].add(listener);

// "ok", "stale" or "dead", how old in milliseconds, and why, in words. `element` names its login's feed.
export function feedState(element) {
  const { login, feedAt } = element.dataset;
  const at = feeds.has(login) ? feeds.get(login) : Number(feedAt || 0);
  const age = at ? now() - at : Infinity;
  if (age <= DEAD_MS) return { word: age > STALE_MS ? "stale" : "ok", age, why: "" };
  if (!at) return { word: "dead", age, why: "The broker's feed is down." };
  const seconds = Math.floor(age / 1000);
  const why = link.connected ? `The feed has been silent for ${seconds} s.` : `This page lost its connection; its newest word from the feed is ${seconds} s old.`;
  return { word: "dead", age, why };
}

function tell(what, value) {
  for (const listener of listeners[what]) listener(value);
}

function take(socket, frame) {
  clock.server = frame.now;
  clock.local = performance.now();
  for (const [login, at] of Object.entries(frame.feeds)) feeds.set(login, at);
  if (frame.quotes.length) tell("quotes", frame.quotes);
  if (frame.changed.length) tell("changed", frame.changed);
  // The next frame comes once this one was seen: a slow page gets fewer, never old ones.
  socket.send(JSON.stringify({ seen: frame.frame }));
}

function connect() {
  const url = new URL(header.dataset.socket, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  if (!document.querySelector("[data-instrument]")) url.searchParams.set("quotes", "none");
  const socket = new WebSocket(url);
  socket.addEventListener("open", () => { link.connected = true; link.wait = 500; tell("changed", ["reconnected"]); });
  socket.addEventListener("message", (event) => take(socket, JSON.parse(event.data)));
  socket.addEventListener("close", () => {
    link.connected = false;
    setTimeout(connect, link.wait);
    link.wait = Math.min(link.wait * 2, 15000);
  });
}

if (header?.dataset.socket) connect();
setInterval(() => tell("tick"), 250);
