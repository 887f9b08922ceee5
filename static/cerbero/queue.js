// The approval queue: time, market and outcomes move; cards never do until they are asked to.
import { clock, duration, environmentLabel, make, number, percent, price, put, statusLabel } from "./format.js";
import { feedState, now, on } from "./feed.js";
import { isTyping } from "./shell.js";
import { fetchWaiting } from "./waiting.js";

const DOUBTS = {
  delayed: "The data is delayed by the broker: this is not the market of this moment.",
  frozen: "The prices are frozen: the market is closed, or the broker sends nothing new.",
};

const list = document.getElementById("cards");
const fresh = document.getElementById("fresh");
const batch = document.getElementById("batch");
const cards = [...list.querySelectorAll(".ticket")];
const changes = [...document.querySelectorAll(".amendment")];
let current = -1;
let refreshing = null;

const part = (card, name) => card.querySelector(`[data-field="${name}"]`);
const isGone = (card) => card.classList.contains("gone");

function end(card, outcome) {
  if (isGone(card)) return;
  card.classList.add("gone");
  card.querySelector(".act").dataset.outcome = outcome;
  card.querySelectorAll("button, input").forEach((control) => { control.disabled = true; });
}

function showTime(card) {
  if (isGone(card)) return;
  const left = Number(card.dataset.expiresAt) - now();
  card.querySelector(".timer b").textContent = clock(left);
  card.querySelector("progress").value = Math.max(left / 1000, 0);
  card.classList.toggle("late", left < 60000);
  if (left <= 0) end(card, "Its time ran out; it was refused.");
}

function showMarket(card) {
  const market = card.querySelector(".market");
  const { availability, changedAt } = market.dataset;
  const feed = feedState(market);
  const noQuote = !changedAt ? "There is no quote for this instrument yet." : availability === "none" ? "The broker gives no data for this instrument." : "";
  const why = noQuote || (feed.word === "dead" ? feed.why : "");
  market.classList.toggle("void", !changedAt);
  market.classList.toggle("dead", Boolean(why));
  market.classList.toggle("stale", !why && feed.word === "stale");
  market.querySelector(".dot").className = `dot ${why ? "dead" : feed.word}`;
  const changed = changedAt ? `${availability} data · changed ${duration(now() - Number(changedAt))} ago` : "no quote yet";
  const silent = !why && feed.word === "stale" ? ` · feed silent ${duration(feed.age)}` : "";
  part(card, "age").textContent = why && !noQuote ? why : changed + silent;
  const note = card.querySelector(".feed-note");
  note.hidden = !why || isGone(card);
  note.textContent = `${why} Approving is off meanwhile; rejecting is not.`;
  showDoubt(card, why, availability);
  const approve = card.querySelector(".go");
  const isFirstForAnother = Boolean(part(card, "not_yet")?.textContent.trim());
  if (approve && !isGone(card)) approve.disabled = Boolean(why) || isFirstForAnother || card.dataset.sent === "yes";
}

// A market that is closed or delayed is said before the button is pressed; the server asks once more.
function showDoubt(card, why, availability) {
  const note = card.querySelector(".doubt-note");
  if (note.dataset.availability !== availability) {
    note.dataset.availability = availability;
    note.textContent = DOUBTS[availability] ? `${DOUBTS[availability]} Approving asks once more.` : "";
  }
  note.hidden = Boolean(why) || isGone(card) || !note.textContent.trim();
}

// The broker's own preview of the order, as soon as it has said one.
function showPreview(card, { rows, notes, at }) {
  const age = part(card, "previewed");
  if (!age || (age.dataset.at === at && part(card, "broker_notes").childElementCount === notes.length)) return;
  age.dataset.at = at;
  part(card, "preview").replaceChildren(...rows.flatMap(([word, value]) => [make("dt", "", word), make("dd", "", value)]));
  part(card, "broker_notes").replaceChildren(...notes.map(([isBad, words]) => make("p", isBad ? "note bad" : "note", words)));
}

// Relative under an hour; beyond, the server's absolute time stands.
function showAges(card) {
  for (const age of card.querySelectorAll("[data-at]")) {
    const since = now() - Number(age.dataset.at);
    if (age.dataset.at && since < 3600000) age.textContent = `${duration(since)} ago`;
  }
}

function takeQuote(quote) {
  for (const market of list.querySelectorAll(`.market[data-instrument="${CSS.escape(quote.id)}"]`)) {
    const card = market.closest(".ticket");
    const places = Number(market.dataset.places);
    for (const name of ["bid", "ask", "last"]) put(part(card, name), price(quote[name], places));
    for (const name of ["bid_size", "ask_size"]) put(part(card, name), number(quote[name]), false);
    Object.assign(market.dataset, { availability: quote.availability, changedAt: quote.changed_at });
    const mid = quote.bid && quote.ask ? (Number(quote.bid) + Number(quote.ask)) / 2 : null;
    const seen = Number(market.dataset.seenMid);
    put(part(card, "moved"), percent(mid === null || !seen ? null : mid - seen, seen), false);
    put(part(card, "limit_from_mid"), percent(mid === null ? null : Number(market.dataset.limit) - mid, mid), false);
  }
}

function showDecided(rows) {
  const body = document.querySelector("#decided tbody");
  if (!body) return;
  body.replaceChildren(...rows.map((row) => {
    const line = make("tr");
    line.dataset.ticket = row.id;
    const [order, account, by, decision, state] = ["", "", "", "decision", "order"].map((name) => line.appendChild(make("td", name)));
    const link = order.appendChild(make("a", "", row.sentence));
    link.href = row.url;
    account.append(environmentLabel(row.environment), ` ${row.account}`);
    by.textContent = row.by;
    decision.append(statusLabel(row.decision), ...(row.why ? [make("small", "", row.why)] : []));
    state.append(statusLabel(row.status), ...(row.filled ? [make("small", "", row.filled)] : []));
    return line;
  }));
}

async function refresh() {
  refreshing = null;
  const state = await fetchWaiting(list.dataset.state);
  if (!state) return;
  const { waiting, amendments, decided } = state;
  const shown = new Set([...cards.map((card) => card.dataset.ticket), ...changes.map((card) => card.dataset.amendment)]);
  const unseen = [...Object.keys(waiting), ...Object.keys(amendments)].filter((id) => !shown.has(id)).length;
  for (const card of changes) if (!(card.dataset.amendment in amendments)) card.querySelectorAll("button, input").forEach((control) => { control.disabled = true; });
  if (fresh) {
    fresh.hidden = unseen === 0;
    fresh.textContent = `${unseen} new: show`;
  }
  for (const card of cards) {
    const id = card.dataset.ticket;
    if (id in waiting) {
      const notYet = part(card, "not_yet");
      if (notYet) notYet.textContent = waiting[id].not_yet;
      for (const name of ["decided", "seen"]) card.querySelector(`.who .${name}`).textContent = waiting[id][name === "seen" ? "seen" : "who"];
      showPreview(card, waiting[id].broker);
      continue;
    }
    const outcome = decided.find((row) => row.id === id);
    end(card, outcome ? `${outcome.decision === "approved" ? "Approved" : "Not approved"}${outcome.by !== "–" ? ` by ${outcome.by}` : ""}${outcome.why ? `: ${outcome.why}` : ""}.` : "It no longer waits.");
  }
  showDecided(decided);
  showPicked();
}

const refreshSoon = () => { refreshing ??= setTimeout(refresh, 150); };

function select(index) {
  if (!cards.length) return;
  current = Math.min(Math.max(index, 0), cards.length - 1);
  cards.forEach((card, at) => card.classList.toggle("focus", at === current));
  cards[current].focus({ preventScroll: true });
  cards[current].scrollIntoView({ block: "nearest" });
}

// Several cards at once: the bar counts them and leads to a page that shows each with its own facts.
const picks = () => [...list.querySelectorAll(".pick input")];

function showPicked() {
  if (!batch) return;
  const number = picks().filter((pick) => pick.checked && !pick.disabled).length;
  batch.classList.toggle("some", number > 0);
  batch.querySelector("button").disabled = number === 0;
  batch.querySelector("[data-field=picked]").textContent = number ? `${number} selected` : "Tick cards, or press x, to decide several on one page, each by its own facts.";
}

// A card has been seen when most of it stood on a screen that somebody had before them.
const toSay = new Set();
let saying = null;

function seeCards() {
  if (!list.dataset.seen) return;
  const onScreen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) if (isIntersecting && !document.hidden) { onScreen.unobserve(target); toSay.add(target.dataset.ticket); saying ??= setTimeout(saySeen, 1000); }
  }, { threshold: 0.6 });
  cards.forEach((card) => onScreen.observe(card));
  document.addEventListener("visibilitychange", () => { if (!document.hidden) cards.forEach((card) => { onScreen.unobserve(card); onScreen.observe(card); }); });
}

async function saySeen() {
  saying = null;
  const token = document.querySelector("input[name=csrfmiddlewaretoken]").value;
  const body = new URLSearchParams([["csrfmiddlewaretoken", token], ...[...toSay].map((id) => ["ticket", id])]);
  toSay.clear();
  await fetch(list.dataset.seen, { method: "POST", body }).catch(() => null);
}

function openReject(card) {
  const details = card.querySelector(".act details");
  if (details) { details.open = true; details.querySelector("input[name=reason]").focus(); }
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") { const open = event.target.closest(".act details"); if (open) { open.open = false; select(current); } }
  if (isTyping(event)) return;
  const card = cards[current];
  if (event.key === "j") select(current + 1);
  else if (event.key === "k") select(current - 1);
  else if (event.key === "n" && fresh && !fresh.hidden) fresh.click();
  else if (event.key === "x" && card) card.querySelector(".pick input")?.click();
  else if (event.key === "a" && card) card.querySelector(".go:not([disabled])")?.focus();
  else if (event.key === "c" && card) card.querySelector(".terms")?.click();
  else if (event.key === "r" && card) { event.preventDefault(); openReject(card); }
});

list.addEventListener("toggle", (event) => { if (event.target.open) event.target.querySelector("input[name=reason]")?.focus(); }, true);
list.addEventListener("focusin", (event) => {
  const index = cards.indexOf(event.target.closest(".ticket"));
  if (index >= 0 && index !== current) { current = index; cards.forEach((card, at) => card.classList.toggle("focus", at === index)); }
});
// One press is one decision, however impatient the finger.
list.addEventListener("submit", (event) => {
  const card = event.target.closest(".ticket");
  if (card.dataset.sent === "yes") { event.preventDefault(); return; }
  card.dataset.sent = "yes";
  setTimeout(() => { event.target.querySelector("button").disabled = true; });
});
document.getElementById("keys")?.addEventListener("click", (event) => { if (event.target.id === "keys") event.target.close(); });

on("tick", () => cards.forEach((card) => { showTime(card); showMarket(card); showAges(card); }));
on("quotes", (quotes) => quotes.forEach(takeQuote));
on("changed", refreshSoon);
// Hints may be lost with Redis; the rows are not.
setInterval(refreshSoon, 10000);
list.addEventListener("change", showPicked);
showPicked();
seeCards();
const asked = cards.findIndex((card) => `#${card.id}` === location.hash);
if (cards.length) select(Math.max(asked, 0));
