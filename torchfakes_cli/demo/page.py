"""Gradio page of the demo: a visitor's file in, a report out. Gradio has no telemetry, sharing or downloads here."""

from __future__ import annotations

import base64
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torchfakes_cli.demo.config import DemoConfig
from torchfakes_cli.errors import TorchfakesError, UsageError
from torchfakes_cli.report.formatting import safe
from torchfakes_cli.report.summary import CAVEAT, Summary, summarize
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.pages import Pages
from torchfakes_cli.scan.scanner import Scanner
from torchfakes_cli.video.options import PICTURE_SUFFIXES, VIDEO_SUFFIXES

if TYPE_CHECKING:
    import gradio

logger = logging.getLogger(__name__)

#: Called with (stage of the work, items done, total items if known).
Progress = Callable[[str, int, int | None], None]

#: Environment variables, set before Gradio is imported, that turn off telemetry and update checks.
_ENVIRONMENT = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}

#: Seconds after which an upload that was never scanned is deleted, and seconds between checks.
_FORGOTTEN_S = 900
_LOOK_EACH_S = 60

#: Largest number of visitors waiting while another one's file is scanned.
_MOST_WAITING = 8

_STYLE = """
.finding { border: 1px solid var(--border-color-primary); border-left: .5rem solid var(--tone); border-radius: .4rem;
  padding: .7rem 1rem; font-size: 1.1rem; color: var(--body-text-color); background: var(--background-fill-primary); }
.finding p { margin: .25rem 0; } .finding .word { font-size: 1.6rem; font-weight: 700; }
.finding .word span:last-child { font-weight: 400; margin-left: .6rem; }
.finding.fake { --tone: #a3360a; } .finding.real { --tone: #00614d; } .finding.inconclusive { --tone: #6b5900; }
.dark .finding.fake { --tone: #ff9a6b; } .dark .finding.real { --tone: #5fd3b3; }
.dark .finding.inconclusive { --tone: #e6cf5a; }
#verdict { min-height: 7rem; }
.finding.error { --tone: #b3261e; } .finding.waiting { --tone: #8a8a94; }
iframe.report { width: 100%; min-height: 70vh; border: 1px solid var(--border-color-primary); border-radius: .4rem;
  background: #fefefe; }
:focus-visible { outline: 3px solid #0b57a4; outline-offset: 2px; }
#given .or { color: inherit; }
#shown img, #shown video { display: block; max-width: 100%; max-height: 22rem; margin: 0 auto; border-radius: .4rem; }
#report a.download { display: inline-block; margin: 0 0 .7rem; color: var(--body-text-color); font-weight: 600;
  text-decoration: underline; }
footer { display: none !important; }
"""

#: Script in the head of the page. The preview of a chosen file is played from the visitor's own disk, so that it stays
#: when the upload is deleted.
_HEAD = """<script>
document.documentElement.lang = 'en';
const preview = (file) => {
  const place = document.getElementById('shown');
  if (!file || !place) return;
  const kind = file.type.startsWith('image/') ? 'img' : 'video';
  const shown = Object.assign(document.createElement(kind), {src: URL.createObjectURL(file)});
  if (kind === 'img') shown.alt = 'The chosen picture'; else shown.controls = shown.muted = true;
  shown.setAttribute('aria-label', 'Preview of ' + file.name);
  shown.onerror = () => place.replaceChildren('This browser shows no preview of such files.');
  place.replaceChildren(shown);
};
document.addEventListener('change', (event) => {
  if (event.target.closest && event.target.closest('#given')) preview(event.target.files && event.target.files[0]);
}, true);
document.addEventListener('drop', (event) => {
  if (event.target.closest && event.target.closest('#given')) preview(event.dataTransfer.files[0]);
}, true);
</script>"""

_MARKS = {"fake": "\u25b2", "real": "\u25cf", "inconclusive": "\u25c6"}

#: Script that hides the verdict of the report, which stands above it, and fits the height of the frame, also after
#: parts of the report are unfolded.
_FITTED = (
    "const page = this.contentDocument.documentElement, frame = this;"
    "page.querySelector('section.verdict').hidden = true;"
    "const fit = () => { frame.style.height = (page.scrollHeight + 4) + 'px'; };"
    "fit(); page.addEventListener('toggle', () => { frame.style.height = '0'; fit(); }, true);"
)

_WAITING = "<div class='finding waiting' role='status'><p>The verdict will stand here.</p></div>"


class Finding(NamedTuple):
    """Result of an examination: name of the file, verdict in words, and report as an HTML document."""

    name: str
    summary: Summary
    report: str


class Examiner:
    """Scanner of visitors' files, one at a time, which keeps its networks and decoders until it is closed.

    Args:
        limits: limits on uploads.
        config: configuration of the scans; None for the defaults.
        model: path or name of a checkpoint; None for the shipped one.
    """

    def __init__(
        self, limits: DemoConfig, config: ScanConfig | None = None, *, model: str | PathLike[str] | None = None
    ) -> None:
        self._limits = limits
        self._scanner = Scanner(replace(config or ScanConfig(), max_length_s=60 * limits.most_minutes), model=model)
        self._pages = Pages(self._scanner)
        self.load = self._pages.load
        self.close = self._scanner.close

    def examine(self, path: str | PathLike[str], tell: Progress) -> Finding:
        """Scan a file and make its report, which shows only the file's name.

        Raises:
            UsageError: the file is larger than allowed.
            TorchfakesError: another error of a scan, such as that the video is longer than allowed.
        """
        tell("opening", 0, None)
        size_mb = Path(path).stat().st_size / 1e6
        if size_mb > self._limits.most_mb:
            raise UsageError(f"it has {size_mb:.1f} MB, and {self._limits.most_mb} may be given here")
        result = self._scanner.scan(path, lambda done, wanted: tell("looking at frames", done, wanted))
        tell("gathering the evidence", 0, None)
        name = Path(path).name
        return Finding(name, summarize(result), self._pages.page(result, name=name))


def serve(examiner: Examiner, limits: DemoConfig, *, ready: Callable[[str], None], wait: Callable[[], None]) -> None:
    """Serve the page until ``wait`` returns or is interrupted; uploads are deleted then at the latest.

    Args:
        examiner: examiner of the uploaded files.
        limits: address of the page, and limits on uploads.
        ready: called with the address once the page is served.
        wait: blocks until the page should end.

    Raises:
        UsageError: Gradio isn't installed, or the address can't be served.
    """
    os.environ.update(_ENVIRONMENT)
    folder = tempfile.mkdtemp(prefix="torchfakes-demo-")
    os.environ["GRADIO_TEMP_DIR"] = folder
    try:
        page = build(examiner, limits)
        try:
            _, address, _ = page.launch(
                server_name=limits.host,
                server_port=limits.port,
                max_file_size=limits.most_mb * 1_000_000,
                css=_STYLE,
                head=_HEAD,
                theme=_theme(),
                prevent_thread_lock=True,
                quiet=True,
                share=False,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                enable_monitoring=False,
                footer_links=[],
                run_history=False,
            )
        except OSError as error:
            raise UsageError(
                f"{limits.host}:{limits.port} can't be served: {error}", advice="Choose another --port or --host."
            ) from error
        try:
            ready(address)
            wait()
        finally:
            page.close(verbose=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def build(examiner: Examiner, limits: DemoConfig) -> gradio.Blocks:
    """Build the page without serving it.

    Raises:
        UsageError: Gradio isn't installed.
    """
    try:
        import gradio as gr
    except ImportError as error:
        raise UsageError("the page needs Gradio", advice="Install it: pip install 'torchfakes[demo]'.") from error

    def scan(path: str | None, progress: gradio.Progress = gr.Progress()) -> tuple[object, str, str]:  # noqa: B008
        def tell(what: str, done: int, wanted: int | None) -> None:
            progress((done, wanted) if wanted else 0, desc=what, unit="frames")

        if path is None:  # the visitor removed the file
            return None, _trouble("Choose a file first."), ""
        try:
            found = examiner.examine(path, tell)
        except TorchfakesError as error:
            return None, _trouble(f"{Path(path).name}: {error.cause}. {error.advice}"), ""
        except Exception:
            logger.exception("unexpected")
            return None, _trouble(f"{Path(path).name}: something unexpected went wrong; the log tells more."), ""
        finally:
            shutil.rmtree(Path(path).parent, ignore_errors=True)  # Gradio gives each upload a folder
        return None, _headline(found), _report(found)

    page: gradio.Blocks = gr.Blocks(
        title="torchfakes: is this face synthetic?", analytics_enabled=False, delete_cache=(_LOOK_EACH_S, _FORGOTTEN_S)
    )
    with page:
        gr.Markdown(_introduction(limits))
        given = gr.File(
            label=f"A video or a picture, up to {limits.most_mb} MB and {limits.most_minutes:g} minutes",
            file_types=sorted(VIDEO_SUFFIXES | PICTURE_SUFFIXES),
            elem_id="given",
        )
        start = gr.Button("Scan it", variant="primary", interactive=False, elem_id="start")
        # Below the button, which would otherwise come after the controls of the video for the keyboard.
        gr.HTML("<div id='shown'></div>", label="Preview")
        headline = gr.HTML(_WAITING, label="Verdict", elem_id="verdict")
        report = gr.HTML("", label="Report", elem_id="report")
        given.change(
            lambda path: gr.Button(interactive=path is not None),
            given,
            start,
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )
        start.click(
            scan,
            given,
            [given, headline, report],
            show_progress_on=headline,
            concurrency_limit=1,
            api_visibility="private",
        )
    page.queue(max_size=_MOST_WAITING, api_open=False)
    return page


def _theme() -> gradio.themes.Base:
    # Fonts of the visitor's system, because those of other themes are downloaded.
    from gradio.themes import Base

    theme = Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    # The default blue has too little contrast to white text.
    return theme.set(button_primary_background_fill="#1d4ed8", button_primary_background_fill_hover="#1e3a8a")


def _introduction(limits: DemoConfig) -> str:
    place = "on this machine" if limits.is_loopback else "on the machine that serves this page"
    return (
        "# Is this face synthetic?\n\n"
        f"Your file is scanned {place} and deleted afterwards; nothing is sent elsewhere. **{CAVEAT}** "
        "Swapped faces and animated portraits are looked for, in single frames; sound, movement and fully generated "
        "scenes are not. Don't accuse anyone by this alone."
    )


def _headline(found: Finding) -> str:
    summary = found.summary
    word = summary.verdict.value
    lines = [summary.headline, summary.proof, summary.measured, f"Next: {summary.next_step}"]
    score = f" <span>score {summary.score}</span>" if summary.score else ""
    return (
        f"<div class='finding {word}' role='status'><p class='word'><span aria-hidden='true'>{_MARKS[word]}</span> "
        f"{word.capitalize()}{score}</p>"
        f"{''.join(f'<p>{escape(line)}</p>' for line in lines if line)}</div>"
    )


def _trouble(text: str) -> str:
    return f"<div class='finding error' role='alert'><p>{escape(safe(text.strip()))}</p></div>"


def _report(found: Finding) -> str:
    """Return the report in a sandboxed frame that can't run scripts, below a link that saves it.

    The link holds the report itself, so that nothing stays on this machine.
    """
    data = base64.b64encode(found.report.encode()).decode("ascii")
    return (
        f'<a class="download" download="{escape(safe(Path(found.name).stem))}.report.html" '
        f'href="data:text/html;base64,{data}">Download the report</a>'
        f'<iframe class="report" title="Report with the timeline, the representative faces and the limits" '
        f'sandbox="allow-same-origin" onload="{escape(_FITTED)}" srcdoc="{escape(found.report)}"></iframe>'
    )
