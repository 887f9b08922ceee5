// Passkeys: a form with data-challenge is signed before it leaves, one with data-register makes a new key.
const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const keys = (list) => (list ?? []).map((each) => ({ ...each, id: bytes(each.id) }));

async function ask(form, address) {
  const answer = await fetch(address, { method: "POST", body: new FormData(form), headers: { Accept: "application/json" } });
  if (answer.redirected) { location.assign(answer.url); throw new Error("Say that it is you first."); }
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.error?.message ?? `The server answered ${answer.status}.`);
  return { ...told, challenge: bytes(told.challenge) };
}

function plain(credential, names) {
  const response = Object.fromEntries(names.map((name) => [name, text(credential.response[name])]));
  return { id: credential.id, rawId: text(credential.rawId), type: credential.type, response };
}

async function sign(form) {
  const options = await ask(form, form.dataset.challenge);
  options.allowCredentials = keys(options.allowCredentials);
  const made = await navigator.credentials.get({ publicKey: options });
  return plain(made, ["clientDataJSON", "authenticatorData", "signature"]);
}

async function register(form) {
  const options = await ask(form, form.dataset.register);
  options.user.id = bytes(options.user.id);
  options.excludeCredentials = keys(options.excludeCredentials);
  const made = await navigator.credentials.create({ publicKey: options });
  const credential = plain(made, ["clientDataJSON", "attestationObject"]);
  credential.response.transports = made.response.getTransports?.() ?? [];
  return credential;
}

function say(form, words) {
  let note = form.querySelector(".passkey-note");
  if (!note) {
    note = document.createElement("p");
    note.className = "note bad passkey-note";
    note.setAttribute("role", "alert");
    form.append(note);
  }
  note.textContent = words;
}

// In the capture phase: nothing else may take the form for sent before it is signed.
document.addEventListener("submit", async (event) => {
  const form = event.target;
  const act = form.dataset.challenge ? sign : form.dataset.register ? register : null;
  const button = event.submitter;
  // A no needs no signature.
  if (!act || form.elements.assertion.value || button?.hasAttribute("data-unsigned")) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  if (form.dataset.asking === "yes") return;
  form.dataset.asking = "yes";
  try {
    form.elements.assertion.value = JSON.stringify(await act(form));
    form.requestSubmit(button);
  } catch (problem) {
    say(form, problem.name === "NotAllowedError" ? "The passkey was not used, or not in time. Nothing was sent." : problem.message);
  } finally {
    delete form.dataset.asking;
  }
}, true);
