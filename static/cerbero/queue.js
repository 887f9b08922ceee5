// The approval queue: time, market and outcomes move; cards never do until they are asked to.
import { clock, duration, environmentLabel, make, number, percent, price, put, statusLabel } from "./format.js";
import { feedState, now, on } from "./feed.js";
import { isTyping } from "./shell.js";

const list = document.getElementById("cards");
const fresh = document.getElementById("fresh");
const cards = [...list.querySelectorAll(".ticket")];
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
  const approve = card.querySelector(".go");
  if (approve && !isGone(card)) approve.disabled = Boolean(why) || card.dataset.sent === "yes";
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
  const answer = await fetch(list.dataset.state, { headers: { Accept: "application/json" } }).catch(() => null);
  if (!answer?.ok || answer.redirected) return;
  const { waiting, decided } = await answer.json();
  const shown = new Set(cards.map((card) => card.dataset.ticket));
  const unseen = Object.keys(waiting).filter((id) => !shown.has(id)).length;
  fresh.hidden = unseen === 0;
  fresh.textContent = `${unseen} new: show`;
  for (const card of cards) {
    const id = card.dataset.ticket;
    if (id in waiting) { card.querySelector(".who").textContent = waiting[id]; continue; }
    const outcome = decided.find((row) => row.id === id);
    end(card, outcome ? `${outcome.decision === "approved" ? "Approved" : "Not approved"}${outcome.by !== "–" ? ` by ${outcome.by}` : ""}${outcome.why ? `: ${outcome.why}` : ""}.` : "It no longer waits.");
  }
  showDecided(decided);
  const badge = document.getElementById("waiting-count");
  if (badge) { badge.textContent = Object.keys(waiting).length; badge.classList.toggle("quiet", !Object.keys(waiting).length); }
}

const refreshSoon = () => { refreshing ??= setTimeout(refresh, 150); };

function select(index) {
  if (!cards.length) return;
  current = Math.min(Math.max(index, 0), cards.length - 1);
  cards.forEach((card, at) => card.classList.toggle("focus", at === current));
  cards[current].focus({ preventScroll: true });
  cards[current].scrollIntoView({ block: "nearest" });
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
  else if (event.key === "n" && !fresh.hidden) fresh.click();
  else if (event.key === "a" && card) card.querySelector(".go:not([disabled])")?.focus();
  else if (event.key === "r" && card) { event.preventDefault(); openReject(card); }
});

list.addEventListener("toggle", (event) => { if (event.target.open) event.target.querySelector("input[name=reason]").focus(); }, true);
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
document.getElementById("keys").addEventListener("click", (event) => { if (event.target.id === "keys") event.target.close(); });

on("tick", () => cards.forEach((card) => { showTime(card); showMarket(card); }));
on("quotes", (quotes) => quotes.forEach(takeQuote));
on("changed", refreshSoon);
// Hints may be lost with Redis; the rows are not.
setInterval(() => { if (!document.hidden) refreshSoon(); }, 10000);
if (cards.length) select(0);
