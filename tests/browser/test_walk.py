"""A person at a real browser, real processes behind it: sign in, see a tick, approve, see the fill."""

import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.browser import pages
from tests.browser.pages import SECONDS, barriers, complaints, find, needs_chromium, too_faint, wait_until

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from cerbero.stack import running_stack

    with running_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


def sign_in(browser: Any, running: Any, name: str) -> None:
    password = next(each["password"] for each in running.demo["people"] if each["username"] == name)
    pages.sign_in(browser, running.web_url, name, password)


def propose(running: Any, price_of: str, key: str, reason: str) -> dict[str, Any]:
    """A limit order to buy, a little above the ask, as the bot; asked again while quotes are missing."""
    order = {
        "account": running.demo["accounts"][0],
        "symbol": "AAPL",
        "side": "buy",
        "quantity": "10",
        "order_type": "limit",
        "limit_price": f"{Decimal(price_of) * Decimal('1.005'):.2f}",
        "idempotency_key": key,
        "reason": reason,
    }
    headers = {"Authorization": f"Bearer {running.demo['token']}", "X-Bot-Tag": "browser-test"}
    deadline = time.monotonic() + SECONDS
    while True:
        answer = httpx.post(f"{running.tools_url}/tools/place_order", json=order, headers=headers, timeout=20)
        if answer.status_code == 200:
            return answer.json()
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.5)


def ask_of(browser: Any, running: Any) -> str:
    """AAPL's ask, once it has ticked in front of us."""
    browser.get(f"{running.web_url}/live/")
    css = "#watch tr[data-instrument]:first-of-type"
    value = f"{css} [data-field=ask]"
    first = wait_until(browser, "no quote came", lambda _: find(browser, value).text.strip("–"))
    wait_until(browser, "the quote never changed", lambda _: find(browser, value).text != first)
    assert find(browser, f"{css} .symbol").text.startswith("AAPL")
    return find(browser, value).text.replace(",", "")


def test_sign_in_see_a_tick_approve_and_see_the_fill(running: Any, browser: Any) -> None:
    sign_in(browser, running, "bob")
    ask = ask_of(browser, running)
    browser.get(f"{running.web_url}/admin/queue/")
    order = propose(running, ask, "browser-1", "<b>looks</b> cheap")
    # It waits behind the bar until it is asked for, so that nothing moves under the pointer.
    fresh = find(browser, "#fresh")
    wait_until(browser, "the new ticket was not announced", lambda _: fresh.is_displayed())
    assert fresh.text == "1 new: show"
    fresh.click()
    card = find(browser, f"#t-{order['ticket_id']}")
    assert "PAPER" in card.text
    assert "<b>looks</b> cheap" in card.text
    approve = find(browser, f"#t-{order['ticket_id']} button.go")
    wait_until(browser, "approving stayed off", lambda _: approve.is_enabled())
    approve.click()
    assert "Approved: Buy 10 AAPL" in find(browser, ".messages").text
    state = f"#decided tr[data-ticket='{order['ticket_id']}'] .order"
    wait_until(browser, "the fill never showed", lambda _: "filled" in find(browser, state).text)
    wait_until(browser, "not all of it filled", lambda _: "10 of 10" in find(browser, state).text)
    browser.get(f"{running.web_url}/live/")
    row = f"#blotter tr[data-order='{order['order_id']}']"
    wait_until(browser, "the blotter lacks it", lambda _: "filled" in find(browser, row).text)
    assert complaints(browser) == []


def test_keys_move_and_reject_and_the_owner_has_no_button(running: Any, browser: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    sign_in(browser, running, "bob")
    ask = ask_of(browser, running)
    order = propose(running, ask, "browser-2", "again")
    browser.get(f"{running.web_url}/admin/queue/")
    find(browser, f"#t-{order['ticket_id']}.focus")
    ActionChains(browser).send_keys("r").perform()
    ActionChains(browser).send_keys("too soon", Keys.ENTER).perform()
    find(browser, ".messages")
    assert "too soon" in find(browser, f"#decided tr[data-ticket='{order['ticket_id']}']").text
    order = propose(running, ask, "browser-3", "and again")
    sign_in(browser, running, "alice")
    card = find(browser, f"#t-{order['ticket_id']}")
    assert "owner of the bot" in card.text
    assert not card.find_elements("css selector", "button")


PAGES = (
    "/admin/queue/",
    "/live/",
    "/admin/",
    "/admin/halt/",
    "/admin/resume/",
    "/admin/policy/",
    "/admin/policy/simulate/",
    "/admin/mandates/",
    "/admin/mandates/new/",
    "/admin/tickets/new/",
    "/admin/me/",
    "/admin/duty/",
    "/admin/orders/order/",
    "/admin/health/",
)


def test_every_page_can_be_named_reached_and_read(running: Any, browser: Any) -> None:
    sign_in(browser, running, "bob")
    propose(running, ask_of(browser, running), "browser-read", "read me")
    found = {}
    for theme, look in (("light", barriers), ("dark", too_faint)):
        browser.execute_script("localStorage.setItem('theme', arguments[0])", theme)
        for path in PAGES:
            browser.get(running.web_url + path)
            if problems := look(browser):
                found[theme, path] = problems
    assert found == {}
    assert complaints(browser) == []


def test_the_page_lives_without_a_reload(running: Any, browser: Any) -> None:
    """The title counts, the broker's preview arrives, a notification is shown to who asked, and keys reach all."""
    from selenium.webdriver.common.action_chains import ActionChains

    def press(keys: str) -> None:
        ActionChains(browser).send_keys(keys).perform()

    sign_in(browser, running, "bob")
    ask = ask_of(browser, running)
    first = propose(running, ask, "browser-live-1", "one")["ticket_id"]
    browser.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["notifications"], "origin": running.web_url}
    )
    browser.get(f"{running.web_url}/admin/queue/")
    wait_until(browser, "the title does not count", lambda _: browser.title.startswith("("))
    waiting = int(browser.title[1 : browser.title.index(")")])
    preview = f"#t-{first} [data-field=preview]"
    wait_until(browser, "no preview came", lambda _: "Commission" in find(browser, preview).text)

    find(browser, ".head .me summary").click()
    find(browser, "#notify-toggle").click()
    wait_until(
        browser, "not opted in", lambda _: find(browser, "#notify-toggle").text == "Stop notifying me here"
    )
    browser.execute_script(
        "window.told = []; window.Notification = class extends EventTarget {"
        " static permission = 'granted'; constructor(title, how) { super(); window.told.push([title, how.body]); } }"
    )
    second = propose(running, ask, "browser-live-2", "two")["ticket_id"]
    wait_until(browser, "nothing was told", lambda _: browser.execute_script("return window.told.length"))
    ((title, body),) = browser.execute_script("return window.told")
    assert title == "PAPER: a decision waits"
    assert body.startswith("Buy 10 AAPL limit")
    assert browser.title.startswith(f"({waiting + 1})")
    assert find(browser, "#fresh").text == "1 new: show"
    assert not browser.find_elements("css selector", f"#t-{second}")

    find(browser, ".head .me summary").click()
    press("n")
    find(browser, f"#t-{second}")
    cards = [each.get_attribute("id") for each in browser.find_elements("css selector", ".ticket")]
    assert cards[-2:] == [f"t-{first}", f"t-{second}"]
    press("j")
    wait_until(
        browser, "j moves not", lambda _: find(browser, ".ticket.focus").get_attribute("id") == cards[1]
    )
    press("k")
    wait_until(
        browser, "k moves not", lambda _: find(browser, ".ticket.focus").get_attribute("id") == cards[0]
    )
    press("?")
    assert "other terms" in find(browser, "#keys[open]").text
    press("\ue00c")
    press("c")
    wait_until(browser, "c leads nowhere", lambda _: browser.current_url.endswith("/counter/"))
    assert complaints(browser) == []


def test_several_are_picked_by_key_shown_with_their_facts_and_decided_one_by_one(
    running: Any, browser: Any
) -> None:
    """A batch of two; the market of both is delayed by then, so that each is confirmed by its own box."""
    from selenium.webdriver.common.action_chains import ActionChains

    sign_in(browser, running, "bob")
    ask = ask_of(browser, running)
    ids = [propose(running, ask, f"browser-batch-{n}", "one of several")["ticket_id"] for n in (1, 2)]
    data_is(running, "DpB")
    browser.get(f"{running.web_url}/admin/queue/")
    wait_until(
        browser, "the delay was not told", lambda _: "Approving asks once more" in note(browser, ids[0])
    )
    # The other order of the last hour stands on each card.
    for ticket in ids:
        assert "Buy 10 AAPL limit" in find(browser, f"#t-{ticket} .checks .look").text
        browser.execute_script("arguments[0].focus()", find(browser, f"#t-{ticket}"))
        ActionChains(browser).send_keys("x").perform()
    assert "2 selected" in find(browser, "#batch").text
    find(browser, "#batch button").click()
    for ticket in ids:
        facts = find(browser, f"#decide #t-{ticket}").text.lower()
        assert all(word in facts for word in ("notional", "order value", "share of account"))
    assert barriers(browser) == []
    find(browser, f"#t-{ids[1]} .sure input").click()
    find(browser, "#decide button[value=approve]").click()
    told = find(browser, ".messages").text
    assert "Approved: Buy 10 AAPL" in told
    assert "confirmation_needed" in told
    state = f"#decided tr[data-ticket='{ids[1]}'] .order"
    wait_until(browser, "it never went out", lambda _: "filled" in find(browser, state).text)

    # What is left is approved alone: the key leads to the button, and the button asks once more.
    browser.execute_script("arguments[0].focus()", find(browser, f"#t-{ids[0]}"))
    find(browser, f"#t-{ids[0]}.focus")
    wait_until(browser, "approving stayed off", lambda _: find(browser, f"#t-{ids[0]} .go").is_enabled())
    ActionChains(browser).send_keys("a").perform()
    assert browser.switch_to.active_element.text.startswith("Approve")
    browser.switch_to.active_element.click()
    assert "nothing has been decided yet" in find(browser, "h1").text
    assert "Approving now is final" in note(browser, ids[0])
    button = find(browser, f"#t-{ids[0]} .go")
    assert button.text.startswith("Approve all the same")
    wait_until(browser, "approving stayed off", lambda _: button.is_enabled())
    button.click()
    assert "Approved: Buy 10 AAPL" in find(browser, ".messages").text
    data_is(running, "RpB")
    assert complaints(browser) == []


def data_is(running: Any, availability: str) -> None:
    """What the broker calls its market data from now on."""
    answer = httpx.post(f"{running.simulator_url}/_sim/config", json={"availability": availability})
    assert answer.status_code == 200, answer.text


def note(browser: Any, ticket: str) -> str:
    return find(browser, f"#t-{ticket} .doubt-note").text


def test_a_dead_feed_strikes_the_prices_and_turns_approving_off(running: Any, browser: Any) -> None:
    sign_in(browser, running, "bob")
    ask = ask_of(browser, running)
    order = propose(running, ask, "browser-4", "before the feed dies")
    browser.get(f"{running.web_url}/admin/queue/")
    approve = find(browser, f"#t-{order['ticket_id']} button.go")
    wait_until(browser, "approving stayed off", lambda _: approve.is_enabled())
    running.supervisor.stop(["relay"])
    wait_until(browser, "approving stayed on", lambda _: not approve.is_enabled())
    assert "The feed has been silent" in find(browser, f"#t-{order['ticket_id']} .feed-note").text
    struck = find(browser, f"#t-{order['ticket_id']} .market.dead .value")
    assert "line-through" in struck.value_of_css_property("text-decoration-line")
