"""What a newcomer does with the gallery: `python -m tests.gallery.first_photo URL PHOTO`.

One click, then the photo. Ends with 0 when the photo is on the page.
"""

import asyncio
import sys
from pathlib import Path

from playwright.async_api import async_playwright

LIMIT_MS = 120_000.0


async def main(url: str, photo: Path) -> None:
    """Looks around as a guest and adds a photo."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = await browser.new_page()
        page.set_default_timeout(LIMIT_MS)
        await page.goto(url)
        await page.get_by_role("button", name="Look around as a guest").click()
        await page.set_input_files("#files", str(photo))
        await page.locator(f'.tile[data-name="{photo.name}"] img.is-loaded').wait_for()
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
