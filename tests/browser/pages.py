"""A person at a browser: finding things, waiting for them, signing in, and what a page owes to everybody."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium here: apt-get install chromium chromium-driver"
)

SECONDS = 30
FLAGS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars")


def open_browser(
    profile: Path, *, size: str = "1280,960", phone: dict[str, Any] | None = None, trusted: str = ""
) -> Any:
    """A browser of its own; the caller quits it.

    `phone` are the metrics of a small screen, `trusted` the hash of a key whose certificate nobody signed.
    """
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for word in (*FLAGS, f"--window-size={size}", f"--user-data-dir={profile}", *_trusting(trusted)):
        options.add_argument(word)
    if phone:
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": phone})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(DRIVER))


def _trusting(key: str) -> list[str]:
    return [f"--ignore-certificate-errors-spki-list={key}"] if key else []


def find(browser: Any, css: str) -> Any:
    """The element, as soon as it is there."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, SECONDS, 0.1).until(
        lambda page: page.find_element(By.CSS_SELECTOR, css), f"no {css}"
    )


def wait_until(browser: Any, what: str, condition: Callable[[Any], Any]) -> Any:
    from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    passing = (NoSuchElementException, StaleElementReferenceException)
    return WebDriverWait(browser, SECONDS, 0.1, ignored_exceptions=passing).until(condition, what)


def sign_in(browser: Any, url: str, name: str, password: str) -> None:
    browser.get(f"{url}/admin/login/")
    browser.delete_all_cookies()
    browser.get(f"{url}/admin/queue/")
    find(browser, "#id_username").send_keys(name)
    find(browser, "#id_password").send_keys(password)
    find(browser, "button.go").click()
    find(browser, "#cards")


def complaints(browser: Any) -> list[str]:
    """What the browser's console says, a refused inline style or script included."""
    return [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]


def barriers(browser: Any) -> list[str]:
    """What keeps somebody out of this page: controls without a name, lost focus, text too faint to read."""
    return [*_nameless(browser), *_misplaced_focus(browser), *too_faint(browser)]


def too_faint(browser: Any) -> list[str]:
    return browser.execute_script(FAINT)


def _nameless(browser: Any) -> Iterator[str]:
    from selenium.common.exceptions import StaleElementReferenceException

    for element in browser.execute_script(CONTROLS):
        # A list that moves on by itself may have replaced a row meanwhile; the next page has others of its kind.
        with suppress(StaleElementReferenceException):
            if element.accessible_name.strip():
                continue
            yield f"no name: {element.get_attribute('outerHTML')[:160]}"


def _misplaced_focus(browser: Any) -> list[str]:
    """Tab through the page: each stop stands after the one before, is visible, and shows that it has the focus."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser.execute_script(FOCUS_START)
    for _ in range(40):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        if not browser.execute_script(FOCUS_STOP):
            break
    return browser.execute_script("return window.focusProblems")


CONTROLS = """
return [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary, progress, meter, img")]
  .filter((each) => each.checkVisibility({ visibilityProperty: true }));
"""

FOCUS_START = """
document.activeElement.blur();
window.focusProblems = []; window.lastStop = null; window.stops = 0;
window.getSelection().removeAllRanges();
document.body.setAttribute("tabindex", "-1"); document.body.focus(); document.body.removeAttribute("tabindex");
"""

FOCUS_STOP = """
const at = document.activeElement, told = (words) => window.focusProblems.push(`${words}: ${at.outerHTML.slice(0, 120)}`);
if (at === document.body || at === document.documentElement) return false;
if (window.lastStop && !(window.lastStop.compareDocumentPosition(at) & Node.DOCUMENT_POSITION_FOLLOWING)) {
  if (window.stops > 3) return false;
  told("focus jumps back");
}
if (at.tabIndex > 0) told("a tabindex of its own");
const box = at.getBoundingClientRect(), style = getComputedStyle(at);
if (!at.checkVisibility({ visibilityProperty: true }) || box.width < 1) told("focus on what is not to be seen");
if (style.outlineStyle === "none" && style.boxShadow === "none" && style.borderStyle === "none") told("focus that does not show");
window.lastStop = at; window.stops += 1;
return true;
"""

# WCAG 2.1, 1.4.3. What is switched off, over, or struck through on purpose is exempt.
FAINT = """
const canvas = document.createElement("canvas"); canvas.width = canvas.height = 1;
const pen = canvas.getContext("2d", { willReadFrequently: true });
const rgba = (colour) => { pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255]; };
const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const ground = (element) => { const above = []; for (let at = element; at; at = at.parentElement) above.unshift(rgba(getComputedStyle(at).backgroundColor)); return above.reduce((below, each) => over(each, below), rgba(getComputedStyle(document.documentElement).colorScheme.includes("dark") ? "black" : "white")); };
const exempt = ":disabled, .btn[disabled], .gone *, .dead .value, .stale .value, .visually-hidden, .visually-hidden *, option, [hidden] *, noscript, script, style, title";
const found = new Map();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement, words = walker.currentNode.textContent.trim();
  if (!words || !element.checkVisibility({ visibilityProperty: true }) || element.closest(exempt)) continue;
  const style = getComputedStyle(element);
  if (style.clipPath !== "none" || element.getBoundingClientRect().width < 1) continue;
  let opacity = 1;
  for (let at = element; at; at = at.parentElement) opacity *= Number(getComputedStyle(at).opacity);
  const below = ground(element), ink = rgba(style.color);
  ink[3] *= opacity;
  const [a, b] = [light(over(ink, below)), light(below)];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const size = parseFloat(style.fontSize), isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  if (ratio < (isLarge ? 3 : 4.5) - 0.01) found.set(`${element.tagName}.${element.className}`, `contrast ${ratio.toFixed(2)}: ${element.tagName.toLowerCase()}.${element.className} "${words.slice(0, 40)}"`);
}
return [...found.values()];
"""
