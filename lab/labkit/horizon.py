# SPDX-License-Identifier: Apache-2.0
"""Horizon's pages in headless Chromium, as a person uses them.

Chromium is driven by Debian's Python: ``/usr/bin/python3 -m labkit.horizon URL
DIRECTORY`` reads what to do, line by line, as :class:`Visit` writes it. Each
step leaves a picture in DIRECTORY. It needs ``browser.PACKAGES``.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING
from typing import Any
from typing import Self

from labkit import browser
from labkit import config
from labkit import util

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

#: Seconds for a page, or a part of it: beside an emulated host.
PAGE_TIMEOUT = 120
#: Seconds for what Nova does meanwhile.
TASK_TIMEOUT = 900
#: Seconds after which a person loads a page again.
RELOAD_SECONDS = 20

#: What lies in front while something else is looked for.
_DIALOG = "//*[contains(@class, 'modal-content')]"


def row(name: str) -> str:
    """The XPath of the row of a table that shows a name in a cell."""
    return (f"//tr[td[normalize-space()='{name}' "
            f"or .//a[normalize-space()='{name}']]]")


class Pages:
    """A person in front of Horizon.

    :param driver: a browser.
    :param url: of Horizon.
    :param directory: for the pictures.
    """

    def __init__(self, driver: Chrome, url: str,
                 directory: pathlib.Path) -> None:
        self._driver = driver
        self._url = url.rstrip('/')
        self._directory = directory
        self._pictures = 0

    # What a person does

    def log_in(self, user: str, password: str) -> None:
        """Log in, and see the first page."""
        self._driver.get(f'{self._url}/')
        self._fill('username', user)
        self._fill('password', password)
        self.picture('login')
        self._click("//*[@id='loginBtn']")
        self._text("//*[@id='sidebar-drawer' or @id='sidebar']")
        self.picture('overview')

    def launch(self, name: str, image: str, flavor: str, network: str,
               key_pair: str) -> None:
        """Launch an instance by the wizard.

        :param network: the only one that there is, which the wizard takes by
            itself; as ``key_pair``.
        """
        self._open('project/instances')
        self._click("//*[@id='instances__action_launch-ng']")
        self._type(f"{_DIALOG}//input[@id='name']", name)

        def go_to(step: str) -> None:
            self._click(f"{_DIALOG}//li[starts-with(normalize-space(),"
                        f" '{step}')]/a")

        def table(part: str) -> str:
            return f"{_DIALOG}//div[contains(@class, 'transfer-{part}')]"

        for step, wanted in ('Source', image), ('Flavor', flavor):
            go_to(step)
            self._click(f'{table("available")}{row(wanted)}//button')
            self._text(f'{table("allocated")}{row(wanted)}')
            self.picture(f'launch-{step.lower()}')
        for step, wanted in ('Networks', network), ('Key Pair', key_pair):
            go_to(step)
            self._text(f'{table("allocated")}{row(wanted)}')
        self.picture('launch-key-pair')
        self._click(f"{_DIALOG}//button[contains(@class, 'finish')]")
        self._text(row(name))
        self.picture('launched')

    def wait_for_row(self, page: str, name: str, text: str) -> str:
        """Wait until a row shows a text; returns all that it shows.

        :param page: path of the page with the table; loaded again and again.
        """
        def look() -> str:
            self._open(page)
            try:
                return self._text(row(name), text, RELOAD_SECONDS)
            except util.LabError:
                return ''

        shown = util.wait_for(f'"{text}" of {name}', look, TASK_TIMEOUT)
        self.picture(f'{page.rpartition("/")[2]}-{text.lower()}')
        return shown

    def type_on_console(self, name: str, text: str) -> int:
        """Open the tab with an instance's screen, and type there.

        :returns: how many pixels have changed by that.
        """
        with self._console(name, 'screen'):
            return browser.type_on_screen(self._driver, text)

    def read_console(self, name: str, text: str) -> str:
        """Open the tab with an instance's serial console: it shows a text.

        :returns: all that it shows.
        """
        with self._console(name, 'serial-console'):
            return self._text("//*[@id='terminalNode']", text)

    @contextlib.contextmanager
    def _console(self, name: str, title: str) -> Iterator[None]:
        """Be in the frame with an instance's console."""
        self._open('project/instances')
        self._choose(name, 'Console')
        frame = self._wait(
            lambda: self._find("//iframe[@id='console_embed']"), 'the console')
        self._driver.execute_script('arguments[0].scrollIntoView()', frame)
        self._driver.switch_to.frame(frame)
        try:
            yield
        finally:
            self._driver.switch_to.default_content()
            self.picture(title)

    def create_snapshot(self, name: str, snapshot: str) -> None:
        """Make a snapshot of an instance."""
        self._open('project/instances')
        self._choose(name, 'Create Snapshot')
        self._fill('name', snapshot)
        self.picture('snapshot')
        self._submit()
        # The page of images comes by itself.
        self._text(row(snapshot))
        self.picture('snapshot-begins')

    def rebuild(self, name: str, image: str) -> str:
        """Rebuild an instance of an image; returns Horizon's message."""
        self._open('project/instances')
        self._choose(name, 'Rebuild Instance')
        self._click(f"{_DIALOG}//select[@id='id_image']"
                    f"/option[starts-with(normalize-space(), '{image} ')]")
        self.picture('rebuild')
        self._submit()
        return self._message('rebuild-begins')

    def act(self, name: str, action: str) -> str:
        """Choose an action of an instance; returns Horizon's message."""
        self._open('project/instances')
        self._choose(name, action)
        return self._message(action.lower().replace(' ', '-'))

    def delete_image(self, name: str) -> None:
        """Delete an image."""
        self._open('project/images')
        self._choose(name, 'Delete Image')
        self.picture('delete-image')
        self._click(f"{_DIALOG}//button[normalize-space()='Delete Image']")
        self._wait(lambda: not self._driver.find_elements('xpath', row(name)),
                   f'{name} to be gone')
        self.picture('image-deleted')

    def disable_host(self, host: str, reason: str) -> str:
        """Disable a host's compute service; returns what its row shows."""
        self._hosts()
        self._choose(host, 'Disable Service')
        self._fill('reason', reason)
        self.picture('disable-host')
        self._submit()
        # Before that, Nova may not have heard of it.
        self._message('host-disables')
        self._hosts()
        shown = self._text(row(host), 'Disabled')
        self.picture('host-disabled')
        return shown

    def migrate_host(self, host: str) -> str:
        """Migrate all instances of a disabled host; returns the message."""
        self._hosts()
        self._choose(host, 'Migrate Host')
        self._click(f"{_DIALOG}//button[contains(@class, 'dropdown-toggle')]")
        self._click(f"{_DIALOG}//a[@data-select-value='cold_migrate']")
        self.picture('migrate-host')
        self._submit()
        return self._message('host-migrates')

    def enable_host(self, host: str) -> str:
        """Enable it; returns what its row shows."""
        self._hosts()
        self._choose(host, 'Enable Service')
        self._message('host-enables')
        self._hosts()
        shown = self._text(row(host), 'Enabled')
        self.picture('host-enabled')
        return shown

    def picture(self, title: str) -> None:
        """Save what the browser shows."""
        self._pictures += 1
        self._directory.mkdir(parents=True, exist_ok=True)
        self._driver.save_screenshot(str(
            self._directory / f'{self._pictures:02}-{title}.png'))

    # How

    def _open(self, page: str) -> None:
        self._driver.get(f'{self._url}/{page}/')

    def _hosts(self) -> None:
        self._open('admin/hypervisors')
        self._click("//a[normalize-space()='Compute Host']")

    def _wait(self, condition: Callable[[], Any], what: str,
              timeout: float = PAGE_TIMEOUT) -> Any:
        """Wait; what a page does not have, or not yet, does not matter."""
        from selenium.common import exceptions  # noqa: PLC0415
        from selenium.webdriver.support import ui  # noqa: PLC0415

        try:
            return ui.WebDriverWait(
                self._driver, timeout, ignored_exceptions=(
                    exceptions.NoSuchElementException,
                    exceptions.StaleElementReferenceException,
                    exceptions.ElementNotInteractableException,
                    exceptions.ElementClickInterceptedException,
                )).until(lambda _: condition())
        except exceptions.TimeoutException:
            raise util.LabError(
                f'waited {timeout:.0f} s in vain on '
                f'{self._driver.current_url}: {what}') from None

    def _find(self, path: str) -> WebElement:
        """The first such part of the page that can be seen.

        There are others, in tabs that are not open.
        """
        from selenium.common import exceptions  # noqa: PLC0415

        for element in self._driver.find_elements('xpath', path):
            if element.is_displayed():
                return element
        raise exceptions.NoSuchElementException(path)

    def _text(self, path: str, wanted: str = '',
              timeout: float = PAGE_TIMEOUT) -> str:
        """Wait until something shows a text; returns all that it shows."""
        def shown() -> str:
            text: str = self._find(path).text
            return text if wanted in text else ''

        found: str = self._wait(shown, f'"{wanted}" in {path}', timeout)
        return found

    def _click(self, path: str) -> None:
        def clicked() -> bool:
            element = self._find(path)
            # A click on a button that is disabled does nothing.
            if not element.is_enabled():
                return False
            element.click()
            return True

        self._wait(clicked, f'a click on {path}')

    def _choose(self, name: str, action: str) -> None:
        """Choose an action of a row, in its menu if it is there."""
        def chosen() -> bool:
            line = self._find(row(name))
            item = line.find_element(
                'xpath', ".//*[self::a or self::button]"
                         f"[normalize-space(.)='{action}' or "
                         f"normalize-space(@title)='{action}']")
            if not item.is_displayed():
                line.find_element('css selector', '.dropdown-toggle').click()
                return False
            item.click()
            return True

        self._wait(chosen, f'"{action}" of {name}')

    def _type(self, path: str, text: str) -> None:
        def typed() -> bool:
            field = self._find(path)
            field.clear()
            field.send_keys(text)
            return bool(field.get_attribute('value') == text)

        self._wait(typed, f'a field at {path}')

    def _fill(self, field: str, text: str) -> None:
        self._type(f"//input[@id='id_{field}']", text)

    def _submit(self) -> None:
        """Send the form in the dialog."""
        self._click(f"{_DIALOG}//input[@type='submit']")

    def _message(self, title: str) -> str:
        """Wait for Horizon's message, which fades, and return it."""
        said = self._text("//*[contains(@class, 'messages')]"
                          "//*[contains(@class, 'alert')]")
        self.picture(title)
        return ' '.join(said.split())


class Visit:
    """A visit to Horizon, for a test: :class:`Pages` by another Python.

    :param url: of Horizon.
    :param directory: for the pictures.
    """

    def __init__(self, url: str, directory: pathlib.Path) -> None:
        self._process = subprocess.Popen(
            [config.PYTHON, '-m', 'labkit.horizon', url, directory],
            env={**os.environ, 'PYTHONPATH': str(config.LAB)}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # It ends, with its browser, at the end of its input.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=PAGE_TIMEOUT)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def do(self, what: str, **arguments: Any) -> Any:
        """Call a method of :class:`Pages`; returns what that does.

        :raises util.LabError: as that does, or the browser has ended.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin and stdout  # noqa: S101
        stdin.write(json.dumps([what, arguments]) + '\n')
        stdin.flush()
        if not select.select([stdout], [], [], 2 * TASK_TIMEOUT)[0]:
            raise util.LabError(f'{what}: the browser hangs')
        answer = stdout.readline()
        if not answer:
            raise util.LabError(f'{what}: the browser has ended')
        result, error = json.loads(answer)
        if error:
            raise util.LabError(f'{what}: {error}')
        return result


def main() -> int:
    """Run the module as a command."""
    from selenium.common import exceptions  # noqa: PLC0415

    if len(sys.argv) != 3:
        print('usage: python3 -m labkit.horizon URL DIRECTORY',
              file=sys.stderr)
        return 2
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr), \
            browser.chromium(1400, 1000) as driver:
        pages = Pages(driver, sys.argv[1], pathlib.Path(sys.argv[2]))
        for line in sys.stdin:
            what, arguments = json.loads(line)
            result, error = None, ''
            try:
                result = getattr(pages, what)(**arguments)
            except (util.LabError, exceptions.WebDriverException) as e:
                error = str(e)
                pages.picture(f'failed-{what}')
            print(json.dumps([result, error]), file=answers, flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
