"""A live decision from beginning to end: a passkey made, confirmed by a second person, and an order signed with it."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyotp
import pytest

from tests.browser.house import PASSWORD, clear_live, let_in, open_house
from tests.browser.pages import barriers, complaints, find, needs_chromium, sign_in, wait_until
from tests.orders import world
from tests.people.desk import LiveDesk
from tests.simulator_process import SimulatorProcess, start_simulator

pytestmark = needs_chromium


@pytest.fixture
def live_simulator(tmp_path: Path) -> Iterator[SimulatorProcess]:
    running = start_simulator(tmp_path / "simulator", "--live")
    running.config(fill_delay=[0.01, 0.02], questions=[])
    yield running
    running.stop()


def set_up_codes(browser: Any, url: str) -> None:
    """A code app, and with its first code the step-up of this session."""
    browser.get(f"{url}/admin/me/codes/")
    find(browser, "form .btn.go").click()
    app = pyotp.TOTP(find(browser, "#secret").text)
    find(browser, "#code").send_keys(app.now())
    find(browser, "main form .btn.go").click()
    find(browser, "#recovery-codes")


def add_passkey(browser: Any, url: str) -> None:
    browser.get(f"{url}/admin/me/")
    find(browser, "#passkey-name").send_keys("desk key")
    find(browser, "#add-passkey .btn.go").click()
    wait_until(
        browser,
        "the passkey was not taken",
        lambda _: "waits for an Administrator" in find(browser, "#passkeys").text,
    )


def plug_in(browser: Any) -> Any:
    """An authenticator inside the machine, whose owner's finger is on it."""
    from selenium.webdriver.common.virtual_authenticator import VirtualAuthenticatorOptions

    browser.add_virtual_authenticator(
        VirtualAuthenticatorOptions(
            transport="internal", has_resident_key=True, has_user_verification=True, is_user_verified=True
        )
    )
    return browser


def test_a_live_order_is_signed_with_a_passkey_and_reaches_the_book(
    live_simulator: SimulatorProcess,
    fresh_database: Any,
    redis_url: str,
    settings: Any,
    tmp_path: Path,
    browsers: Any,
) -> None:
    with open_house(fresh_database, tmp_path, settings) as house:
        floor = world.connect(live_simulator, environment="live")
        erin, _ = clear_live(floor.account)
        let_in(erin, floor.people["bob"])

        browser, second = browsers(house.trusted), browsers(house.trusted)

        # Bob makes a key; it is of no use until another Administrator has confirmed it.
        sign_in(plug_in(browser), house.url, "bob", PASSWORD)
        set_up_codes(browser, house.url)
        add_passkey(browser, house.url)
        sign_in(second, house.url, "erin", PASSWORD)
        set_up_codes(second, house.url)
        second.get(f"{house.url}/admin/people/changes/")
        assert "a new passkey, desk key, for bob" in find(second, "article.card").text
        find(second, "article.card .btn.go").click()
        wait_until(
            second, "the passkey was not confirmed", lambda _: "Nothing waits." in find(second, "main").text
        )

        # A day has not passed: the key counts, his yes does not.
        ticket = floor.place(limit_price=floor.near() + 1)
        press = f"#t-{ticket.pk} button.go"
        browser.get(f"{house.url}/admin/queue/")
        assert "LIVE" in find(browser, f"#t-{ticket.pk}").text
        approve = find(browser, press)
        assert approve.text.startswith("Approve with passkey")
        wait_until(browser, "approving stayed off", lambda _: approve.is_enabled())
        approve.click()
        note = f"#t-{ticket.pk} .passkey-note"
        wait_until(browser, "the bar was not told", lambda _: "changed" in find(browser, note).text)
        LiveDesk(floor, {}, fresh_database).a_day_later()

        # Nor does it count without his finger.
        browser.set_user_verified(False)
        find(browser, press).click()
        wait_until(
            browser, "the refusal was not told", lambda _: "Nothing was sent" in find(browser, note).text
        )
        assert floor.at_broker() == []
        browser.set_user_verified(True)
        find(browser, press).click()
        assert "Approved: Buy 10 AAPL" in find(browser, ".messages").text
        state = f"#decided tr[data-ticket='{ticket.pk}'] .order"
        wait_until(browser, "the fill never showed", lambda _: "filled" in find(browser, state).text)
        (order,) = floor.at_broker()
        assert (order["symbol"], order["side"], Decimal(order["quantity"])) == ("AAPL", "BUY", 10)
        assert barriers(browser) == []
        # The refusal at the first press is an answer of the server, and the only thing that the console notes.
        assert [line for line in complaints(browser) if "challenge" not in line] == []
