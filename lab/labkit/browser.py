# SPDX-License-Identifier: Apache-2.0
"""A server's VNC console in a real browser: noVNC in headless Chromium.

``/usr/bin/python3 -m labkit.browser URL FILE.png TEXT`` waits until the page
shows the guest's screen, types TEXT there, and saves what the browser then
shows. URL is what ``openstack console url show --novnc SERVER`` prints; it is
to be run in the lab's network namespace. It needs :data:`PACKAGES`.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import pathlib
import sys
from typing import TYPE_CHECKING

from labkit import config
from labkit import util

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

PACKAGES = ('chromium', 'chromium-driver', 'python3-selenium')

#: Seconds until the guest's screen is there, until what was typed can be seen,
#: and for all of it: everything in the lab is slow.
SCREEN_TIMEOUT = 180
TYPED_TIMEOUT = 60
LIMIT = 600

#: Pixels of one character, which a blinking cursor changes by itself.
_CURSOR = 9 * 16

#: How many pixels differ from the first one or, where a picture was kept, from
#: that; its argument says whether to keep this one. noVNC draws on a canvas,
#: which is not there before it is connected.
_PICTURE = '''
const canvas = document.querySelector('canvas');
if (!canvas || !canvas.width || !canvas.height) { return 0; }
const pixels = new Uint32Array(canvas.getContext('2d').getImageData(
    0, 0, canvas.width, canvas.height).data.buffer);
const kept = window.keptPicture;
if (arguments[0]) { window.keptPicture = pixels; }
return pixels.reduce((count, pixel, index) =>
    count + (pixel !== (kept ? kept[index] : pixels[0])), 0);
'''


@contextlib.contextmanager
def chromium(width: int = 1024, height: int = 900) -> Iterator[Chrome]:
    """Debian's Chromium, without a window, for Debian's Python."""
    # Debian's package, which only Debian's Python has.
    from selenium import webdriver  # noqa: PLC0415
    from selenium.webdriver.chrome import service  # noqa: PLC0415

    options = webdriver.ChromeOptions()
    options.binary_location = '/usr/bin/chromium'
    for argument in (
            '--headless=new', f'--window-size={width},{height}',
            '--no-first-run',
            # The lab is root; Chromium's sandbox is not for root.
            '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
            # There is no Internet to ask.
            '--disable-background-networking', '--no-proxy-server'):
        options.add_argument(argument)
    options.ignore_local_proxy_environment_variables()
    # Told where it is, selenium does not download another.
    driver = webdriver.Chrome(
        options=options, service=service.Service('/usr/bin/chromedriver'))
    try:
        yield driver
    finally:
        driver.quit()


def type_on_screen(driver: Chrome, text: str) -> int:
    """Wait for a guest's screen in the page, or the frame, and type there.

    :returns: how many pixels have changed by that.
    :raises util.LabError: the screen did not come or did not change.
    """
    from selenium.webdriver.common import action_chains  # noqa: PLC0415

    def differing(keep: bool = False) -> int:
        return int(driver.execute_script(_PICTURE, keep))

    counts = [0]

    def changed() -> int:
        # And no longer changing: characters come one by one.
        counts.append(differing())
        return counts[-1] if counts[-2] == counts[-1] > _CURSOR else 0

    util.wait_for('picture in the browser', differing, SCREEN_TIMEOUT)
    differing(keep=True)
    canvas = driver.find_element('css selector', 'canvas')
    # The click gives the canvas the keyboard.
    action_chains.ActionChains(driver).click(canvas).send_keys(text).perform()
    return util.wait_for('what was typed in the browser', changed,
                         TYPED_TIMEOUT)


def _look(url: str, path: pathlib.Path, text: str) -> int:
    """Do what the module says; returns how many pixels have changed."""
    with chromium() as driver:
        try:
            driver.get(url)
            return type_on_screen(driver, text)
        finally:
            # Of a failure, too.
            path.parent.mkdir(parents=True, exist_ok=True)
            driver.save_screenshot(str(path))


def look(url: str, path: pathlib.Path, text: str) -> None:
    """Look at a console, type and save a screenshot, by Debian's Python.

    :param url: what Nova answers for novnc.
    :param path: the PNG file.
    :param text: what to type; ten characters or more, so that they are not
        taken for a cursor.
    :raises util.LabError: the guest's screen did not come or did not change.
    """
    util.run([config.PYTHON, '-m', 'labkit.browser', url, path, text],
             env={'PYTHONPATH': str(config.LAB)}, timeout=LIMIT)


def main() -> int:
    """Run the module as a command."""
    if len(sys.argv) != 4:
        print('usage: python3 -m labkit.browser URL FILE.png TEXT',
              file=sys.stderr)
        return 2
    url, path, text = sys.argv[1:]
    try:
        pixels = _look(url, pathlib.Path(path), text)
    except util.LabError as error:
        print(f'no picture: {error}', file=sys.stderr)
        return 1
    print(f'{path}: {pixels} pixels have changed')
    return 0


if __name__ == '__main__':
    sys.exit(main())
