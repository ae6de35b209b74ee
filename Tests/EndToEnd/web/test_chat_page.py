#!/usr/bin/python3
"""The chat page in a real headless Chromium: two users, two windows, visible clicks and visible text only.

    test_chat_page.py [--tls] [--screenshot FILE.png]
    test_chat_page.py --base-url http://127.0.0.1:7780/ --user NAME:PASSWORD (three times) [--restart-cmd 'COMMAND']

Without --base-url it starts a suite of its own and kills it with kill -9 where the server has to go away. COMMAND is
run by the shell twice, with the word "stop" and then the word "start" behind it; it returns when the server is gone, and
when it answers again. Needs Chromium, its driver and Selenium (Debian: chromium chromium-driver python3-selenium). Exit
code 0: everything was seen; 1: something was not, with a sentence and pictures; 2: the browser did not work.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness import Certificates, Suite, summary

PATIENCE_S = 20
HISTORY = 120


class Seen(Exception):
    """What should have been seen and was not."""


def browser(language, width=1180, height=760, pin=None):
    options = Options()
    if pin:
        # This one key is trusted; any other certificate that nobody vouches for still is not.
        options.add_argument(f"--ignore-certificate-errors-spki-list={pin}")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", f"--lang={language}",
                     f"--accept-lang={language}", f"--window-size={width},{height}", "--hide-scrollbars",
                     "--force-device-scale-factor=1", f"--user-data-dir={tempfile.mkdtemp(prefix='martlet-page-')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = next((path for path in ("/usr/bin/chromedriver", "/usr/local/bin/chromedriver") if Path(path).exists()),
                  "chromedriver")
    return webdriver.Chrome(service=Service(driver), options=options)


class Window:
    """One user's window. Finds things the way a person does: by what is visible."""

    # The server's key, where it is one that only this test vouches for.
    pin = None

    def __init__(self, name, base_url, language="en-US"):
        self.name = name
        self.base_url = base_url
        self.driver = browser(language, pin=self.pin)

    def close(self):
        self.driver.quit()

    def find(self, css):
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def all(self, css):
        return [node for node in self.driver.find_elements(By.CSS_SELECTOR, css) if node.is_displayed()]

    def until(self, what, check, patience=PATIENCE_S):
        """Waits until `check` is true; what should have been seen is told otherwise."""
        end = time.monotonic() + patience
        while True:
            try:
                result = check()
                if result:
                    return result
            except (StaleElementReferenceException, WebDriverException):
                result = None
            if time.monotonic() > end:
                raise Seen(f"{self.name} does not see {what}")
            time.sleep(0.1)

    def visible_text(self):
        return self.find("body").text

    def log_in(self, password):
        self.driver.get(self.base_url)
        self.until("the login form", lambda: self.find("#login-user").is_displayed())
        self.try_password(password)

    def try_password(self, password):
        for css, text in (("#login-user", self.name), ("#login-password", password)):
            field = self.find(css)
            field.clear()
            field.send_keys(text)
        self.find("#login-button").click()

    def is_in(self):
        self.until("the conversations", lambda: self.find("#start-user").is_displayed())
        self.until("a live connection", lambda: not self.all("#banner"))

    def start_with(self, user):
        field = self.find("#start-user")
        field.clear()
        field.send_keys(user, Keys.ENTER)

    def title_of_open(self):
        return self.find("#peer-name").text

    def bubbles(self):
        """Texts of the visible messages, in order."""
        return [node.text for node in self.all("#messages .bubble .text")]

    def write(self, text, keyboard=False):
        field = self.find("#text")
        field.send_keys(text)
        if keyboard:
            field.send_keys(Keys.ENTER)
        else:
            self.find("#compose button").click()

    def sees(self, text, patience=PATIENCE_S):
        self.until(f"the message {text!r}", lambda: text in self.bubbles(), patience)

    def sees_once(self, text):
        self.sees(text)
        count = self.bubbles().count(text)
        if count != 1:
            raise Seen(f"{self.name} sees {text!r} {count} times")

    def sees_note(self, *words):
        """The words under the newest own message."""
        self.until(f"one of {words} under the newest message", lambda: any(
            node.text in words for node in self.all("#messages .mine .note")))

    def entry(self, user):
        for node in self.all("#list .entry"):
            if node.find_element(By.CSS_SELECTOR, ".name").text.lower() == user.lower():
                return node
        return None

    def badge(self, user):
        node = self.entry(user)
        badges = node.find_elements(By.CSS_SELECTOR, ".badge") if node else []
        return badges[0].text if badges and badges[0].is_displayed() else ""

    def open(self, user):
        self.until(f"the conversation with {user}", lambda: self.entry(user)).click()
        self.until(f"{user}'s messages", lambda: self.title_of_open().lower() == user.lower())

    def scroll_up(self):
        self.find("#scroll").send_keys(Keys.HOME)


class Commands:
    """Somebody else's server, stopped and started by a command."""

    def __init__(self, command):
        self.command = command

    def run(self, word):
        done = subprocess.run(f"{self.command} {word}", shell=True, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise Seen(f"{self.command} {word} failed: {done.stdout}{done.stderr}")

    def stop(self):
        self.run("stop")

    def start(self):
        self.run("start")


class Killed:
    """A suite of our own: it dies without a word."""

    def __init__(self, suite):
        self.suite = suite

    def stop(self):
        self.suite.kill()

    def start(self):
        self.suite.start()


def step(text):
    print(f"- {text}", flush=True)


def wrong_password(window):
    step("a wrong password is refused, in words")
    window.log_in("not-the-password")
    window.until("the refusal", lambda: "Wrong user or password" in window.find("#login-error").text)


def chat_live(one, two, tag):
    step("a message goes there and one comes back, live")
    one.start_with("nobody-of-that-name")
    one.until("that there is no such user", lambda: "There is no user" in one.find("#start-error").text)
    one.start_with(two.name)
    one.until("the open conversation", lambda: one.title_of_open().lower() == two.name)
    one.write(f"{tag} hello, is this thing on?")
    one.sees(f"{tag} hello, is this thing on?")
    one.sees_note("Sent", "Delivered", "Read")
    two.until("an unread badge", lambda: two.badge(one.name) == "1")
    one.sees_note("Delivered")
    two.open(one.name)
    two.sees(f"{tag} hello, is this thing on?")
    two.until("no badge any more", lambda: two.badge(one.name) == "")
    one.sees_note("Read")
    two.write(f"{tag} loud and clear", keyboard=True)
    one.sees(f"{tag} loud and clear")
    one.until("that the other is online", lambda: one.find("#peer-state").text in ("online", "typing…"))
    paste(one, f"{tag} 🎉 你好")
    two.sees(f"{tag} 🎉 你好")
    html = f"{tag} <b>not bold</b> <img src=x onerror=alert(1)>"
    two.write(html, keyboard=True)
    one.sees(html)


def badge_elsewhere(one, two, three, tag):
    step("messages to a conversation that is not open are counted")
    one.start_with(three)
    one.until("the other conversation", lambda: one.title_of_open().lower() == three)
    one.write("Coffee at ten?", keyboard=True)
    one.sees("Coffee at ten?")
    for number in range(3):
        two.write(f"{tag} while you are away {number}", keyboard=True)
    one.until("3 unread", lambda: one.badge(two.name) == "3")
    if f"{tag} while you are away 2" in one.bubbles():
        raise Seen("a message shows in a conversation that it does not belong to")
    one.open(two.name)
    one.sees(f"{tag} while you are away 2")
    one.until("nothing unread", lambda: one.badge(two.name) == "")


def scroll_back(one, two, tag):
    step(f"{HISTORY} messages, and scrolling back through all of them")
    for number in range(HISTORY):
        two.write(f"{tag} line {number}", keyboard=True)
    one.sees(f"{tag} line {HISTORY - 1}", 60)
    one.driver.refresh()
    one.is_in()
    one.until("the same conversation after the reload", lambda: one.title_of_open().lower() == two.name)
    one.sees(f"{tag} line {HISTORY - 1}")
    if f"{tag} line 0" in one.bubbles():
        raise Seen("a reload loads everything at once: nothing is left to scroll back for")
    def back():
        one.scroll_up()
        return f"{tag} line 0" in one.bubbles()
    one.until("the first of the many lines", back, 60)
    lines = [text for text in one.bubbles() if text.startswith(f"{tag} line ")]
    if lines != [f"{tag} line {number}" for number in range(HISTORY)]:
        raise Seen(f"the {HISTORY} lines are not there once each and in order: {len(lines)} of them")


def survive_restart(one, two, server, tag):
    step("the server goes away: the page says so and keeps what is written")
    server.stop()
    one.until("the banner", lambda: "Reconnecting" in one.find("#banner").text)
    one.write(f"{tag} written in the dark")
    one.sees(f"{tag} written in the dark")
    one.sees_note("Sending…")
    step("the server comes back: the message arrives, once")
    server.start()
    one.until("a live connection", lambda: not one.all("#banner"), 60)
    two.until("a live connection", lambda: not two.all("#banner"), 60)
    two.sees_once(f"{tag} written in the dark")
    one.sees_once(f"{tag} written in the dark")
    one.sees_note("Sent", "Delivered", "Read")
    two.write(f"{tag} and it came through", keyboard=True)
    one.sees_once(f"{tag} and it came through")


def reload_with_pending(one, two, server, tag):
    step("a page that is reloaded with a message on its way sends it, once")
    server.stop()
    one.until("the banner", lambda: "Reconnecting" in one.find("#banner").text)
    one.write(f"{tag} survives a reload")
    one.sees_note("Sending…")
    # The page that shows it is left before there is a server; only what the browser kept can send it.
    one.driver.get("about:blank")
    server.start()
    one.driver.get(one.base_url)
    one.is_in()
    one.open(two.name)
    two.sees_once(f"{tag} survives a reload")
    one.sees_once(f"{tag} survives a reload")
    two.driver.refresh()
    two.is_in()
    two.sees_once(f"{tag} survives a reload")


def narrow_and_chinese(base_url, user, password):
    step("a narrow window in Chinese shows one thing at a time")
    window = Window(user, base_url, "zh-CN")
    try:
        window.driver.set_window_size(420, 800)
        window.log_in(password)
        window.until("the Chinese page", lambda: "会话" in window.find(".list-frame").get_attribute("aria-label"))
        window.is_in()
        first = window.until("a conversation", lambda: window.all("#list .entry"))[0]
        first.click()
        window.until("messages instead of the list", lambda: window.all("#messages") and not window.all("#list"))
        window.find("#back").click()
        window.until("the list again", lambda: window.all("#list"))
    finally:
        window.close()


def no_errors(window):
    """The browser's own complaints; those about a server that we stopped ourselves do not count."""
    expected = ("ERR_CONNECTION", "WebSocket connection", "401", "Failed to load resource")
    bad = [entry["message"] for entry in window.driver.get_log("browser")
           if entry["level"] == "SEVERE" and not any(word in entry["message"] for word in expected)]
    if bad:
        raise Seen(f"errors in {window.name}'s browser: {bad[:3]}")


def paste(window, text):
    """Characters beyond the basic plane cannot be typed through the driver; people paste them or use a picker too."""
    window.find("#text").click()
    window.driver.execute_cdp_cmd("Input.insertText", {"text": text})
    window.find("#text").send_keys(Keys.ENTER)


def picture(one, base_url, user, path):
    step("a picture")
    other = Window(user[0], base_url)
    try:
        other.log_in(user[1])
        other.is_in()
        other.open(one.name)
        one.driver.set_window_size(1180, 860)
        one.write("Thanks, talk to you later!", keyboard=True)
        one.open(other.name)
        talk = [
            (other, "Sure. Did the new build make it through the night?"),
            (one, "It did. Every message stored before it was acknowledged."),
            (one, "I killed every service while it ran, twice, just to be sure."),
            (other, "And what you wrote while the server was down?"),
            (one, "Arrived when it came back. Once."),
            (other, "Then let's ship it ☕"),
        ]
        for window, text in talk:
            paste(window, text)
            for each in (one, other):
                each.sees(text)
        time.sleep(2)
        one.driver.save_screenshot(path)
    finally:
        other.close()


def untrusted(base_url):
    step("a browser that does not know the certificate shows no page")
    driver = browser("en-US")
    try:
        driver.get(base_url)
        text = driver.find_element(By.CSS_SELECTOR, "body").text
        if driver.find_elements(By.CSS_SELECTOR, "#login-user") or "ERR_CERT_AUTHORITY_INVALID" not in text:
            raise Seen(f"a page behind a certificate that nobody vouches for: {text[:200]!r}")
    except WebDriverException as error:
        # Some versions make it an error of the driver.
        if "ERR_CERT_AUTHORITY_INVALID" not in str(error):
            raise
    finally:
        driver.quit()


def secure(screenshot):
    """The same over https and wss, with a certificate made now."""
    with tempfile.TemporaryDirectory() as folder:
        certificates = Certificates(folder)
        with Suite(*certificates.options) as suite:
            url = f"https://localhost:{suite.ports['http']}/"
            try:
                untrusted(url)
            except Seen as problem:
                print(f"FAILED: {problem}", file=sys.stderr)
                return 1
            Window.pin = certificates.pin()
            return everything(url, sorted(suite.demo()["users"].items())[:3], Killed(suite), screenshot)


def everything(base_url, users, server, screenshot):
    """0, 1 or 2, the exit code."""
    tag = f"t{int(time.time()) % 100000}"
    windows = []
    try:
        for name, _ in users[:2]:
            windows.append(Window(name, base_url))
        one, two = windows
        wrong_password(one)
        one.try_password(users[0][1])
        one.is_in()
        two.log_in(users[1][1])
        two.is_in()
        chat_live(one, two, tag)
        badge_elsewhere(one, two, users[2][0], tag)
        scroll_back(one, two, tag)
        if server:
            survive_restart(one, two, server, tag)
            reload_with_pending(one, two, server, tag)
        narrow_and_chinese(base_url, *users[2])
        if screenshot:
            picture(one, base_url, users[2], screenshot)
        for window in windows:
            no_errors(window)
    except Seen as problem:
        for window in windows:
            window.driver.save_screenshot(str(Path(tempfile.gettempdir()) / f"martlet-page-{window.name}.png"))
        pictures = f"{tempfile.gettempdir()}/martlet-page-*.png"
        print(f"FAILED: {problem}; pictures of the windows: {pictures}", file=sys.stderr)
        return 1
    except WebDriverException as error:
        print(f"FAILED: the browser: {error}", file=sys.stderr)
        return 2
    finally:
        for window in windows:
            window.close()
    summary("two windows: wrong password, live both ways, badges, scrolling back, kill -9, reload with one pending")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", help="a server that runs already")
    parser.add_argument("--user", action="append", default=[], metavar="NAME:PASSWORD",
                        help="three times; the third is only written to and shown in Chinese")
    parser.add_argument("--restart-cmd", help='run with "stop" and "start" behind it; without it no restart is tested')
    parser.add_argument("--screenshot", help="where to put a picture of the page at the end")
    parser.add_argument("--tls", action="store_true", help="a suite of its own behind https and wss")
    arguments = parser.parse_args()
    if arguments.tls:
        return secure(arguments.screenshot)
    if arguments.base_url:
        if len(arguments.user) < 3:
            parser.error("three users are needed")
        server = Commands(arguments.restart_cmd) if arguments.restart_cmd else None
        users = [user.split(":", 1) for user in arguments.user]
        return everything(arguments.base_url, users, server, arguments.screenshot)
    with Suite() as suite:
        users = sorted(suite.demo()["users"].items())[:3]
        url = f"http://127.0.0.1:{suite.ports['http']}/"
        return everything(url, users, Killed(suite), arguments.screenshot)


if __name__ == "__main__":
    sys.exit(main())
