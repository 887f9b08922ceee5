// Numbers and times as the server writes them. For showing only: nothing computed here is ever sent.
export const MISSING = "–";
const MINUS = "\u2212";

export function price(text, places) {
  if (text === null || text === undefined || text === "") return MISSING;
  const own = (String(text).split(".")[1] || "").replace(/0+$/, "").length;
  return number(text, Math.max(places, own));
}

export function number(text, places) {
  if (text === null || text === undefined || text === "") return MISSING;
  const digits = places === undefined ? { maximumFractionDigits: 8 } : { minimumFractionDigits: places, maximumFractionDigits: places };
  return Number(text).toLocaleString("en-US", digits).replace("-", MINUS);
}

export function percent(part, whole) {
  if (!whole || part === null || Number.isNaN(part)) return MISSING;
  const value = (part / whole) * 100;
  return `${value > 0.005 ? "+" : ""}${number(value.toFixed(2) === "-0.00" ? 0 : value, 2)} %`;
}

export function duration(milliseconds) {
  const seconds = Math.max(milliseconds, 0) / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.floor(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${String(whole % 60).padStart(2, "0")} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${String(Math.floor(whole / 60) % 60).padStart(2, "0")} m`;
  return `${Math.floor(whole / 86400)} d ${Math.floor(whole / 3600) % 24} h`;
}

export function clock(milliseconds) {
  const whole = Math.max(Math.floor(milliseconds / 1000), 0);
  const [hours, minutes, seconds] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const end = `${String(seconds).padStart(2, "0")}`;
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${end}` : `${minutes}:${end}`;
}

// Sets text, and flashes once where it says something new.
export function put(element, text, flash = true) {
  if (!element || element.textContent === text) return;
  element.textContent = text;
  if (!flash) return;
  element.classList.remove("changed");
  void element.offsetWidth;
  element.classList.add("changed");
}

export function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

export function statusLabel(status) {
  return make("span", `status ${status}`, String(status).replaceAll("_", " "));
}

export function environmentLabel(environment) {
  const word = environment || "unknown";
  return make("span", `env ${word}`, word.toUpperCase());
}
