"""The page in a real browser: it is all there, says nothing in the console, and fits a phone."""

import html
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lightning_debugkit.report import render
from lightning_debugkit.report.palette import PALETTE

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--v=0",
)
# The page itself stays as it is: a frame of a phone's width holds it, and the page around it measures.
FRAME = """<!DOCTYPE html><body><iframe width="{width}" height="800" srcdoc="{page}"></iframe><pre id="told"></pre>
<script>onload = () => {{
  const page = document.querySelector("iframe").contentDocument;
  const root = page.documentElement;
  const scrolled = element => element.closest(".scroll, pre");
  const wide = [...page.querySelectorAll("body *")].filter(
    element => !scrolled(element) && element.getBoundingClientRect().right > root.clientWidth + 1);
  const cut = [...page.querySelectorAll("svg text")].filter(text => {{
    const ends = text.getBoundingClientRect(), whole = text.closest("svg").getBoundingClientRect();
    return ends.left < whole.left - 1 || ends.right > whole.right + 1
      || ends.top < whole.top - 1 || ends.bottom > whole.bottom + 1; }});
  const broken = [...page.images].filter(image => !image.naturalWidth);
  document.getElementById("told").textContent =
    `scroll=${{root.scrollWidth > root.clientWidth}} wide=${{wide.length}} images=${{page.images.length}} `
    + `broken=${{broken.length}} plots=${{page.querySelectorAll("svg").length}} cut=${{cut.length}} `
    + `styled=${{getComputedStyle(page.querySelector("h3")).fontWeight}}`;
}}</script>"""

needs_browser = pytest.mark.skipif(
    BROWSER is None and "REQUIRE_BROWSER" not in os.environ,
    reason="no chromium, chromium-browser or google-chrome is installed",
)
pytestmark = needs_browser


def browse(page: Path, profile: Path, *options: str) -> tuple[str, list[str]]:
    """Return the document as the browser sees it, and what it wrote to the console."""
    assert BROWSER, "REQUIRE_BROWSER is set, and there is none"
    command = [BROWSER, *OPTIONS, f"--user-data-dir={profile}", *options, "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("scheme", ["0", "1"], ids=["dark", "light"])
def test_the_console_is_silent_and_the_content_is_there(rich: Path, tmp_path: Path, scheme: str) -> None:
    render(rich)
    blink = f"--blink-settings=preferredColorScheme={scheme}"
    dom, console = browse(rich / "report.html", tmp_path / "profile", blink)
    assert console == []
    assert "<h1>The run broke: loss is inf at step 24: log(0) in training_step, sample 9 of the batch.</h1>" in dom
    assert re.findall(r"<h2[^>]*>([^<]+)</h2>", dom) == [
        "Findings",
        "Loss",
        "The samples",
        "Run the failing step again",
        "Gradients",
        "Learning rate",
        "Files",
        "The run",
    ]
    assert "<code>t = torch.log(wh)</code>" in dom
    assert "<script" not in dom
    assert "onerror=" not in re.sub(r">[^<]*<", "><", dom)


def test_the_console_is_heard(rich: Path, tmp_path: Path) -> None:
    """The test above would see what the page's own policy refuses."""
    render(rich)
    text = (rich / "report.html").read_text().replace("</main>", "<script>1</script></main>")
    (rich / "bad.html").write_text(text)
    assert "Content Security Policy" in "".join(browse(rich / "bad.html", tmp_path / "profile")[1])


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_screen(rich: Path, tmp_path: Path, width: int) -> None:
    render(rich)
    page = html.escape((rich / "report.html").read_text())
    (rich / "frame.html").write_text(FRAME.format(page=page, width=width))
    dom, console = browse(rich / "frame.html", tmp_path / "profile", "--window-size=1400,900")
    told = re.search(r'<pre id="told">(.*?)</pre>', dom)
    assert told
    assert told[1] == "scroll=false wide=0 images=4 broken=0 plots=3 cut=0 styled=600"
    assert console == []


@pytest.mark.parametrize(("scheme", "is_light"), [("0", False), ("1", True)], ids=["dark", "light"])
def test_figures_have_the_colours_of_the_page(rich: Path, tmp_path: Path, scheme: str, is_light: bool) -> None:
    """Also where no variable is known, an SVG paints itself: it must not be black on black by oversight."""
    render(rich)
    asks = """<script>onload = () => {
      const page = document.querySelector("iframe").contentDocument;
      const ink = getComputedStyle(page.querySelector("svg text")).fill;
      const text = getComputedStyle(page.body).color;
      const size = parseFloat(getComputedStyle(page.querySelector("svg text")).fontSize);
      document.getElementById("told").textContent = `${ink} ${text} ${size}`;
    }</script>"""
    page = html.escape((rich / "report.html").read_text())
    (rich / "ask.html").write_text(
        f'<!DOCTYPE html><iframe width="390" srcdoc="{page}"></iframe><pre id="told"></pre>{asks}'
    )
    dom, _ = browse(rich / "ask.html", tmp_path / "profile", f"--blink-settings=preferredColorScheme={scheme}")
    told = re.search(r'<pre id="told">rgb\((.*?)\) rgb\((.*?)\) (.*?)</pre>', dom)
    assert told
    assert told[1] == told[2]
    assert (told[1] == ", ".join(str(int(PALETTE.ink[at : at + 2], 16)) for at in (1, 3, 5))) is is_light
    assert float(told[3]) == pytest.approx(1.3 * 9)
