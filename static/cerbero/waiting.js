// What waits, on every page: the count in the header and in the title, and the browser's own notifications.
const count = document.getElementById("waiting-count");
const toggle = document.getElementById("notify-toggle");
const WANTED = "cerbero.notify";
const TOLD = "cerbero.told";
const TOLD_MAX = 200;
let asking = null;

const isPossible = () => "Notification" in window && window.isSecureContext;
const isOn = () => isPossible() && localStorage.getItem(WANTED) === "yes" && Notification.permission === "granted";

// The state of the queue, or null where it could not be read. Several who ask at once share one request.
export async function fetchWaiting(url) {
  asking ??= fetch(url, { headers: { Accept: "application/json" } }).catch(() => null);
  const answer = (await asking)?.clone();
  asking = null;
  if (!answer?.ok || answer.redirected) return null;
  const state = await answer.json();
  const amendments = Object.fromEntries(Object.entries(state.amendments).map(([id, each]) => [id, { ...each, mark: "a" }]));
  const all = { ...state.waiting, ...amendments };
  show(Object.keys(all).length);
  tell(all);
  return state;
}

function show(number) {
  if (count) {
    count.textContent = number;
    count.classList.toggle("quiet", number === 0);
  }
  const title = document.title.replace(/^\(\d+\) /, "");
  document.title = number ? `(${number}) ${title}` : title;
}

// Once for each ticket, whatever number of pages is open: the tag is the ticket's id.
function tell(waiting) {
  const told = new Set(JSON.parse(localStorage.getItem(TOLD) || "[]"));
  const fresh = Object.entries(waiting).filter(([id]) => !told.has(id));
  if (!fresh.length) return;
  localStorage.setItem(TOLD, JSON.stringify([...told, ...fresh.map(([id]) => id)].slice(-TOLD_MAX)));
  if (!isOn()) return;
  for (const [id, ticket] of fresh) if (ticket.is_mine) notify(id, ticket);
}

function notify(id, ticket) {
  const title = `${(ticket.environment || "unknown").toUpperCase()}: a decision waits`;
  try {
    const shown = new Notification(title, { body: ticket.sentence, tag: id, icon: "/static/cerbero/icon.svg" });
    shown.addEventListener("click", () => { window.focus(); location.href = `/admin/queue/#${ticket.mark || "t"}-${id}`; shown.close(); });
  } catch {
    // Some phones show none from a page; the count in the title is still right.
    localStorage.removeItem(WANTED);
    showToggle();
  }
}

function showToggle() {
  if (!toggle) return;
  toggle.hidden = !isPossible();
  toggle.setAttribute("aria-pressed", String(isOn()));
  const isBlocked = isPossible() && Notification.permission === "denied";
  toggle.textContent = isBlocked ? "Notifications are blocked by this browser" : isOn() ? "Stop notifying me here" : "Notify me here of decisions";
}

toggle?.addEventListener("click", async () => {
  if (isOn()) localStorage.removeItem(WANTED);
  else if (await Notification.requestPermission() === "granted") localStorage.setItem(WANTED, "yes");
  showToggle();
});
showToggle();
