"""The page in a real browser: it is all there, says nothing in the console, and fits a phone."""

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lightning_debugkit.report import render

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
  const broken = [...page.images].filter(image => !image.naturalWidth);
  document.getElementById("told").textContent =
    `scroll=${{root.scrollWidth > root.clientWidth}} wide=${{wide.length}} images=${{page.images.length}} `
    + `broken=${{broken.length}} styled=${{getComputedStyle(page.querySelector("h3")).fontWeight}}`;
}}</script>"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome is installed")


def browse(page: Path, profile: Path, *options: str) -> tuple[str, list[str]]:
    """Return the document as the browser sees it, and what it wrote to the console."""
    assert BROWSER
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
        "Gradients",
        "Learning rate",
        "The samples",
        "Run the failing step again",
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
    assert told[1] == "scroll=false wide=0 images=5 broken=0 styled=600"
    assert console == []
