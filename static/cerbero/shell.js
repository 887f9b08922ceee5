// Every page: the feed's age in the header, how many tickets wait, and the keys that lead elsewhere.
import { duration } from "./format.js";
import { feedState, isConnected, on } from "./feed.js";
import { fetchWaiting } from "./waiting.js";

const feeds = document.querySelectorAll(".head .feed");
const count = document.getElementById("waiting-count");
let goes = 0;

function showFeed() {
  for (const feed of feeds) {
    const { word, age } = feedState(feed);
    feed.querySelector(".dot").className = `dot ${word}`;
    const heard = age === Infinity ? "Feed down" : `Feed ${duration(age)}`;
    feed.querySelector(".what-feed").textContent = isConnected() ? heard : `Not connected · ${heard.toLowerCase()}`;
  }
}

const countWaiting = () => fetchWaiting(count.dataset.state);

export const isTyping = (event) => event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog");

document.addEventListener("keydown", (event) => {
  if (isTyping(event)) return;
  if (Date.now() - goes < 1500) {
    const link = document.querySelector(`.head nav a[data-key="${CSS.escape(event.key)}"]`);
    goes = 0;
    if (link) { event.stopImmediatePropagation(); event.preventDefault(); link.click(); }
  } else if (event.key === "g") goes = Date.now();
  else if (event.key === "/") {
    const search = document.querySelector("#searchbar, input[type=search]");
    if (search) { event.preventDefault(); search.focus(); }
  } else if (event.key === "?") document.getElementById("keys")?.showModal();
}, true);

document.querySelector(".head nav a[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
on("tick", showFeed);
if (count && !document.getElementById("cards")) {
  on("changed", (what) => what.some((each) => /^(ticket|reconnected)/.test(each)) && countWaiting());
  // Hints may be lost with Redis; the rows are not.
  setInterval(countWaiting, 20000);
}
