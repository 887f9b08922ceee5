// The watch-list ticks, and the blotter follows the rows in Postgres.
import { duration, environmentLabel, make, number, percent, price, put, statusLabel } from "./format.js";
import { feedState, now, on } from "./feed.js";

const watch = document.getElementById("watch");
const blotter = document.getElementById("blotter");
const trouble = document.getElementById("trouble");
const rows = new Map([...watch.querySelectorAll("tr[data-instrument]")].map((row) => [row.dataset.instrument, row]));
let fetching = null;

const part = (row, name) => row.querySelector(`[data-field="${name}"]`);

function takeQuote(quote) {
  const row = rows.get(quote.id);
  if (!row) return;
  const places = Number(row.dataset.places);
  for (const name of ["bid", "ask", "last"]) put(part(row, name), price(quote[name], places));
  for (const name of ["bid_size", "ask_size"]) put(part(row, name), number(quote[name]), false);
  const [last, close] = [Number(quote.last), Number(quote.prior_close)];
  const change = part(row, "change");
  put(change, percent(quote.last && close ? last - close : null, close), false);
  change.className = `value ${quote.last && close ? (last > close ? "buy" : last < close ? "sell" : "") : ""}`;
  Object.assign(row.dataset, { availability: quote.availability, changedAt: quote.changed_at, halted: quote.is_halted ? "yes" : "" });
}

function showAge(row) {
  const { availability, changedAt, halted } = row.dataset;
  const feed = feedState(row);
  const isDead = availability === "none" || feed.word === "dead";
  row.classList.toggle("dead", Boolean(changedAt) && isDead);
  row.classList.toggle("stale", Boolean(changedAt) && !isDead && feed.word === "stale");
  part(row, "data").textContent = halted ? "halted" : availability || "none";
  const age = changedAt ? `${duration(now() - Number(changedAt))} ago` : "never";
  part(row, "age").textContent = feed.word === "ok" || !changedAt ? age : `${age} · ${feed.age === Infinity ? "feed down" : `feed silent ${duration(feed.age)}`}`;
  return feed;
}

function line(order) {
  const row = make("tr");
  row.dataset.order = order.id;
  row.dataset.version = JSON.stringify(order);
  const [at, account, what, status, filled, average, by] = ["", "", "", "", "num", "num", ""].map((name) => row.appendChild(make("td", name)));
  const time = at.appendChild(make("time", "", order.at));
  time.title = order.at_full;
  account.append(environmentLabel(order.environment), ` ${order.account}`);
  const link = what.appendChild(make("a"));
  link.href = order.url;
  link.append(make("span", order.side, order.side_word), ` ${order.rest}`);
  if (order.text) what.appendChild(make("small", "", order.text));
  status.append(statusLabel(order.status));
  filled.textContent = order.filled;
  average.textContent = order.average;
  by.textContent = order.by;
  return row;
}

async function refresh() {
  fetching = null;
  const answer = await fetch(blotter.dataset.source, { headers: { Accept: "application/json" } }).catch(() => null);
  if (!answer?.ok || answer.redirected) {
    trouble.hidden = false;
    trouble.textContent = "The blotter could not be read again; what stands here may be old. It is tried again every few seconds.";
    return;
  }
  trouble.hidden = true;
  const { orders } = await answer.json();
  const body = blotter.querySelector("tbody");
  const before = new Map([...body.querySelectorAll("tr[data-order]")].map((row) => [row.dataset.order, row]));
  body.replaceChildren(...orders.map((order) => {
    const old = before.get(order.id);
    if (old && old.dataset.version === JSON.stringify(order)) return old;
    const row = line(order);
    if (old?.dataset.version || !old) row.classList.add("changed");
    return row;
  }));
  blotter.querySelector(".empty").hidden = orders.length > 0;
}

const refreshSoon = () => { fetching ??= setTimeout(refresh, 100); };

on("tick", () => {
  const dead = [...rows.values()].map(showAge).filter((feed) => feed.word === "dead");
  const note = document.getElementById("feed-note");
  note.hidden = dead.length === 0;
  if (dead.length) note.textContent = `${dead[0].why} The prices that are struck out are not to be traded on.`;
});
on("quotes", (quotes) => quotes.forEach(takeQuote));
on("changed", refreshSoon);
setInterval(() => { if (!document.hidden) refreshSoon(); }, 5000);
refresh();
