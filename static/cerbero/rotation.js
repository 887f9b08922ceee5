// Shows a rotation's next state when there is one, unless somebody is typing.
const shown = document.getElementById("rotation");

async function look() {
  const answer = await fetch(shown.dataset.url, { headers: { Accept: "application/json" } });
  if (!answer.ok) return;
  const { state } = await answer.json();
  const isTyping = [...document.querySelectorAll("#rotation :is(input, textarea)")].some((each) => each.type !== "hidden" && each.value);
  if (state !== shown.dataset.state && !isTyping) location.reload();
}

if (shown?.dataset.url) setInterval(() => look().catch(() => {}), 3000);
